"""The rules of the playground by hand-made cases: known rank, known angle, known numbers."""

from __future__ import annotations

import numpy as np
import pytest

from cl_core.playground.algebra import (
    complement,
    energy_rank,
    extended,
    gram,
    importance,
    leading_directions,
    null_directions,
    tail_directions,
)
from cl_core.playground.network import Network
from cl_core.playground.rules.adam_nscl import AdamNSCL
from cl_core.playground.rules.ewc import EWC
from cl_core.playground.rules.gpm import GPM
from cl_core.playground.rules.sgp import SGP
from cl_core.playground.settings import PlaygroundConfig
from cl_core.playground.streams import tasks_of

CASE = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, 1], [0, 0, 0, 0]], float)  # columns of the card's X, as rows


def bank(kind: type, **settings):
    """A rule over one small network, and the network."""
    config = PlaygroundConfig(width=8, depth=1, tasks=2, **settings)
    network = Network([64, 8, 10], [config.seed])
    return kind([config], network), network


def test_the_energy_rule_takes_the_fewest_directions_that_reach_the_share():
    energies = np.array([9.0, 4.0, 1.0, 0.25, 0.01])  # cumulative shares .631 .912 .982 .9993 1
    assert [energy_rank(energies, share) for share in (0, 0.6, 0.631, 0.7, 0.97, 0.99, 1)] == [0, 1, 1, 2, 3, 4, 5]
    assert energy_rank(energies, 0.5, total=2 * energies.sum(), start=energies.sum()) == 0, "covered already"
    assert energy_rank(np.zeros(3), 0.9) == 0


def test_a_basis_grows_by_what_it_lacks():
    basis = np.eye(4)[:, :2]
    new, values = leading_directions(gram(CASE), basis, 0.99)
    assert new.shape == (4, 1) and values == pytest.approx([np.sqrt(5)])
    assert np.abs(new[:, 0]) == pytest.approx(np.array([0, 0, 2, 1]) / np.sqrt(5))
    grown = extended(basis, new)
    assert grown.T @ grown == pytest.approx(np.eye(3))
    assert complement(grown) @ np.array([1.0, 2, 3, 4]) == pytest.approx([0, 0, -1, 2])


def test_known_rank_and_known_angle():
    random = np.random.default_rng(0)
    plane, _ = np.linalg.qr(random.standard_normal((12, 3)))
    inputs = random.standard_normal((200, 3)) @ plane.T
    found, _ = leading_directions(gram(inputs), np.zeros((12, 0)), 1 - 1e-9)
    assert found.shape == (12, 3) and found @ found.T == pytest.approx(plane @ plane.T, abs=1e-9)
    angle = 0.3
    first, second = np.array([1.0, 0, 0]), np.array([np.cos(angle), np.sin(angle), 0])
    basis, _ = leading_directions(gram(np.tile(first, (5, 1))), np.zeros((3, 0)), 0.99)
    asked = 1 - np.cos(angle) ** 2  # what the old direction leaves of the new one's energy
    turned = gram(np.tile(second, (5, 1)))
    assert leading_directions(turned, basis, 1 - asked - 1e-9)[0].shape[1] == 0
    assert leading_directions(turned, basis, 1 - asked + 1e-6)[0].shape[1] == 1


def test_importance_of_scaled_projection():
    values = np.array([3.0, 2.0, 1.0])
    assert importance(values, 10) == pytest.approx([1, 0.956522, 0.846154], abs=1e-6)
    assert importance(values, 3) == pytest.approx([1, 0.888889, 0.666667], abs=1e-6)
    assert importance(values, 0) == pytest.approx(values / 3)
    assert importance(np.zeros(2), 10).tolist() == [0, 0] and importance(np.zeros(0), 10).size == 0


def test_scaled_projection_after_a_second_task():
    rule, _ = bank(SGP, rule="sgp", sgp_alpha=1.0)
    rule.bases[0][0], rule.importances[0][0] = np.eye(5)[:, :3], np.array([1, 0.8, 0.5])
    second = np.array([[0, 0.1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0.05]])
    rule.add_classes(0, 0, gram(second), 0.97)
    assert rule.bases[0][0].shape == (5, 4)
    assert rule.importances[0][0] == pytest.approx([1, 0.981818, 0.5, 1], abs=1e-6)
    assert rule.projector(0, 0) @ np.array([1.0, 2, 3, 4, 5]) == pytest.approx([0, 0.036364, 1.5, 0, 5], abs=1e-6)


def test_null_space_up_to_a_multiple_of_the_smallest_eigenvalue():
    moment = np.diag([100.0, 10, 2, 1, 1])
    free = null_directions(moment, 10)
    assert free.shape[1] == 4 and free @ free.T == pytest.approx(np.diag([0, 1, 1, 1, 1]))
    assert null_directions(np.diag([1.0, 1e-14, 0]), 10).shape[1] == 2, "rounding is floored, not taken for structure"
    assert tail_directions(moment, 0.95).shape[1] == 3 and tail_directions(moment, 0).shape[1] == 5


@pytest.mark.parametrize(("rule", "name"), [(GPM, "gpm"), (SGP, "sgp"), (AdamNSCL, "adam-nscl")])
def test_a_projected_step_is_orthogonal_to_the_protected_directions(rule, name):
    made, network = bank(rule, rule=name, energy=0.9, sgp_alpha=1e9)  # α → ∞ is GPM
    task = tasks_of(made.config, 0)[0]
    inputs, _ = network.forward(task.images[None])
    made.begin_task(0)
    made.end_task(0, inputs, [gram(rows) for rows in inputs], task)
    step = [np.random.default_rng(1).standard_normal(w.shape).astype(np.float32) for w in network.weights]
    assert made.projectors is not None, "a projector exists from the second task on"
    for layer, (free, allowed) in enumerate(zip(made.free()[0], made.constrain(step))):
        assert 0 < free < 1
        _, vectors = np.linalg.eigh(inputs[layer][0].T.astype(float) @ inputs[layer][0].astype(float))
        protected = vectors[:, -round((1 - free) * len(vectors)) :]
        assert np.linalg.norm(protected.T @ allowed[0]) < 1e-6 * np.linalg.norm(step[layer])


def test_adam_is_projected_after_its_moments():
    made, network = bank(AdamNSCL, rule="adam-nscl", adam_rate=0.1)
    made.begin_task(0)
    gradient = [np.full(w.shape, -3.0, np.float32) for w in network.weights]
    for step in made.propose(gradient):
        assert step == pytest.approx(-0.1, rel=1e-5), "the first step has the length of the rate"


def test_ewc_penalty_is_the_implicit_step():
    made, network = bank(EWC, rule="ewc", ewc_lambda=4.0, learning_rate=0.5)
    for fisher, anchor in zip(made.fisher, made.anchor):
        fisher[...], anchor[...] = 2.0, 2.0 * 0.25  # one task, at W = 0.25
    for weight in network.weights:
        weight[...] = 1.0
    made.settle()
    for weight in network.weights:
        assert weight == pytest.approx((1 + 2 * 2 * 0.25) / (1 + 2 * 2))
    assert bank(EWC, rule="ewc", ewc_lambda=1e9)[0].strength[0, 0, 0] > 1e7


def test_fisher_is_the_mean_of_squared_gradients_of_single_images():
    made, network = bank(EWC, rule="ewc")
    task = tasks_of(made.config, 0)[0]
    few = type(task)(task.images[:7], task.labels[:7], task.test_images, task.test_labels, task.classes)
    inputs, _ = network.forward(few.images[None])
    found = made.squared_gradients(inputs, few)
    for layer, squares in enumerate(found):
        one_by_one = []
        for image, label in zip(few.images, few.labels):
            alone, logits = network.forward(image[None, None])
            p = np.exp(logits - logits.max())
            p /= p.sum()
            p[0, 0, label] -= 1
            one_by_one.append(network.gradients(alone, p)[layer] ** 2)
        assert squares == pytest.approx(np.mean(one_by_one, axis=0), rel=1e-3, abs=1e-8)
