"""Whole streams: gradients, determinism, and the trade-off that the page is about."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from cl_core.config import ConfigError
from cl_core.playground import PlaygroundConfig, at_strength, slider_of, train
from cl_core.playground.algebra import gram
from cl_core.playground.network import Network, cross_entropy, cross_entropy_error, softmax
from cl_core.playground.settings import RULES
from cl_core.playground.streams import PIXELS, onehot, permutation, tasks_of
from cl_core.playground.training import Laboratory, banks

SHORT = PlaygroundConfig(tasks=3, epochs=3)


@pytest.mark.parametrize("activation", ["relu", "leaky", "tanh"])
def test_gradients_equal_torchs(activation):
    network = Network([64, 9, 7, 10], [0, 5], activation)
    random = np.random.default_rng(0)
    images = random.standard_normal((2, 11, 64)).astype(np.float32)
    targets = onehot(random.integers(10, size=11))[None].repeat(2, 0)
    inputs, logits = network.forward(images)
    probabilities = softmax(logits)
    found = network.gradients(inputs, cross_entropy_error(probabilities, targets))
    phi = {"relu": torch.relu, "tanh": torch.tanh, "leaky": torch.nn.LeakyReLU(0.01)}[activation]
    for n in range(2):
        weights = [torch.tensor(w[n], requires_grad=True) for w in network.weights]
        a = torch.tensor(images[n])
        for weight in weights[:-1]:
            a = phi(a @ weight)
        loss = torch.nn.functional.cross_entropy(a @ weights[-1], torch.tensor(targets[n]))
        loss.backward()
        assert cross_entropy(probabilities, targets)[n] == pytest.approx(loss.item(), rel=1e-5)
        for ours, weight in zip(found, weights):
            assert ours[n] == pytest.approx(weight.grad.numpy(), rel=1e-4, abs=1e-6)


def test_classes_that_do_not_compete_get_no_gradient():
    competing = np.zeros((1, 1, 10), bool)
    competing[..., [2, 7]] = True
    p = softmax(np.random.default_rng(0).standard_normal((1, 4, 10)).astype(np.float32), competing)
    assert p[..., [2, 7]].sum(-1) == pytest.approx(1) and p[..., 0].max() == 0


@pytest.mark.parametrize("rule", list(RULES))
def test_equal_settings_equal_bits_alone_or_side_by_side(rule):
    config = dataclasses.replace(SHORT, rule=rule)
    slider = slider_of(config)
    others = [at_strength(config, slider.positions[1])] if slider else []
    row = [config, *others, dataclasses.replace(config, seed=1)]
    together, alone = train(row), [train([c])[0] for c in row]
    for first, second in zip(together, alone, strict=True):
        assert np.array_equal(first.matrix(), second.matrix(), equal_nan=True)
        for a, b in zip(first.tasks, second.tasks, strict=True):
            assert a.free == b.free and all(np.array_equal(x, y) for x, y in zip(a.spectra, b.spectra, strict=True))
    assert not np.array_equal(alone[0].matrix(), alone[-1].matrix(), equal_nan=True), "another seed, another run"


def test_the_whole_trade_off():
    """The table of the documentation: an optimum strictly inside, room that runs out, plasticity that dies."""
    base, shares, seeds = PlaygroundConfig(), (0.0, 0.8, 0.92, 0.99, 0.999), (0, 1, 2)
    outcomes = train([dataclasses.replace(base, energy=e, seed=s) for e in shares for s in seeds])
    numbers = [o.numbers() for o in outcomes]

    def mean(share: float, name: str) -> float:
        place = shares.index(share)
        return float(np.mean([n[name] for n in numbers[3 * place : 3 * place + 3]]))

    final = {share: mean(share, "final_average_accuracy") for share in shares}
    best = max(final, key=lambda share: final[share])
    assert best not in (shares[0], shares[-1])
    assert final[best] > final[0.0] + 20 and final[best] > final[0.999] + 20
    assert mean(0.0, "learning_accuracy") > 90 > 50 > mean(0.999, "learning_accuracy")
    assert mean(0.0, "forgetting") > 50 > 5 > mean(0.999, "forgetting")
    for outcome in outcomes[6:9]:  # 0.92
        free = np.array([task.free for task in outcome.tasks])
        assert (np.diff(free, axis=0) < 0).all(), "every task takes directions in every layer"
        assert free[-1, 0] < free[-1, 1] < free[-1, 2], "the first layer runs out first"


def test_nothing_protected_is_plain_training():
    plain = train([dataclasses.replace(SHORT, rule="none")])[0].matrix()
    for same in ({"rule": "gpm", "energy": 0.0}, {"rule": "ewc", "ewc_lambda": 0.0}, {"rule": "replay", "images": 0}):
        assert np.array_equal(train([dataclasses.replace(SHORT, **same)])[0].matrix(), plain, equal_nan=True), same


def test_similar_tasks_use_up_less_room_and_are_forgotten_less():
    apart, alike = train([SHORT])[0], train([dataclasses.replace(SHORT, similarity=0.8)])[0]
    assert min(np.array(alike.tasks[-1].free) - np.array(apart.tasks[-1].free)) > 0
    assert alike.numbers()["forgetting"] < apart.numbers()["forgetting"]


def test_upper_reference_and_replay_forget_less_than_nothing():
    joint, replay, none = (
        train([dataclasses.replace(SHORT, rule=rule)])[0].numbers() for rule in ("joint", "replay", "none")
    )
    assert joint["final_average_accuracy"] > replay["final_average_accuracy"] > none["final_average_accuracy"]


def test_permutations_depend_on_seed_and_task_alone():
    assert permutation(0.0, 3, 0).tolist() == list(range(PIXELS)), "the first task is as drawn"
    whole, half = permutation(0.0, 3, 2), permutation(0.5, 3, 2)
    assert sorted(whole) == sorted(half) == list(range(PIXELS))
    assert (half == np.arange(PIXELS)).sum() >= PIXELS // 2 > (whole == np.arange(PIXELS)).sum()
    assert permutation(1.0, 3, 2).tolist() == list(range(PIXELS))
    five, ten = tasks_of(PlaygroundConfig(tasks=5), 3), tasks_of(PlaygroundConfig(tasks=10), 3)
    assert all(np.array_equal(a.images, b.images) for a, b in zip(five, ten))


def test_rotated_and_split_streams():
    rotated = tasks_of(PlaygroundConfig(stream="rotated-digits", tasks=3), 0)
    upside_down = rotated[2].images.reshape(-1, 8, 8)
    assert upside_down == pytest.approx(rotated[0].images.reshape(-1, 8, 8)[:, ::-1, ::-1], abs=1e-5)
    split = tasks_of(PlaygroundConfig(stream="split-digits", tasks=5), 0)
    assert sorted(c for task in split for c in task.classes) == list(range(10))
    outcome = train([PlaygroundConfig(stream="split-digits", tasks=3, epochs=2)])[0]
    assert outcome.readouts == ["task-incremental", "class-incremental"] and len(outcome.tasks) == 3
    assert outcome.tasks[-1].free[-1] == 1.0, "heads of their own need no protection"


def test_a_threshold_for_each_layer():
    by_layer = dataclasses.replace(SHORT, energy=(0.0, 0.9, 0.0))
    free = np.array(train([by_layer])[0].tasks[-1].free)
    assert free[0] == free[2] == 1 and free[1] < 1
    equal = train([dataclasses.replace(SHORT, energy=(0.9, 0.9, 0.9))])[0].matrix()
    assert np.array_equal(equal, train([dataclasses.replace(SHORT, energy=0.9)])[0].matrix(), equal_nan=True)


def test_the_threshold_grows_with_the_task():
    rule = Laboratory([dataclasses.replace(SHORT, energy=0.9, energy_growth=0.1)]).rule
    flat = Laboratory([dataclasses.replace(SHORT, energy=0.9)]).rule
    inputs = [np.random.default_rng(0).standard_normal((1, 300, d)) for d in (64, 64, 64)]
    for made in (rule, flat):
        made.end_task(1, inputs, [gram(rows) for rows in inputs], None)
    assert (rule.free() == 0).all() and (flat.free() > 0).all(), "0.9 + 0.1 · 1 protects everything"


def test_banks_hold_what_can_be_trained_side_by_side():
    a, b = SHORT, dataclasses.replace(SHORT, energy=0.5)
    other_seed, longer = dataclasses.replace(SHORT, seed=4), dataclasses.replace(SHORT, epochs=4)
    assert banks([a, other_seed, b, longer]) == [[0, 2], [1], [3]]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rule": "nps"}, "rule must be one of"),
        ({"energy": 1.2}, r"energy is a share from 0 to 1, got 1\.2"),
        ({"energy": (0.9, 0.9)}, "one a layer: 3 for 2 hidden layers"),
        ({"energy": ("a", 0.1, 0.1)}, "energy is a share"),
        ({"stream": "split-digits", "tasks": 6}, "tasks must be at most 5"),
        ({"stream": "split-digits", "tasks": 5, "similarity": 0.5}, "has no similarity"),
        ({"tasks": 21}, r"tasks must lie in \[2, 20\]"),
        ({"widht": 3}, "Did you mean width"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(settings, said):
    with pytest.raises(ConfigError, match=said):
        PlaygroundConfig.of(settings)
