"""CODE-CL against its formulas: what a conceptor lets through of a step, and how conceptors of tasks add up."""

import numpy as np
import pytest
import torch

from cl_core.linalg import conceptor_or, second_moment
from tests.stopped import until

SETTINGS = {"rate": 0.5, "head_rate": 0.5, "temperature": 1.0, "aperture": 1.0, "held": 0.9}


@pytest.fixture
def code(tiny_trainer):
    return lambda tasks=2, **settings: tiny_trainer("code_cl", settings={**SETTINGS, **settings}, tasks=tasks)


def moments_of(trainer, task):
    """R of every block's attention inputs on a task's training images: [L, d, d] in double precision."""
    batch = next(trainer.stream[task].ordered("train", 10_000))
    taps = [("normed", layer) for layer in range(trainer.backbone.depth)]
    with torch.no_grad():
        found = trainer.method.features(trainer.backbone, batch.images, taps).taps
    return torch.stack([second_moment(found[tap].flatten(0, 1).double()) for tap in taps])


def fitted(moment, start=1.0, held=0.9):
    """B of one R by the rule, anew: the aperture grows by tenths until enough gets through."""
    aperture, d = start / np.sqrt(np.trace(moment) / len(moment)), len(moment)
    while True:
        b = moment @ np.linalg.inv(moment + np.eye(d) / aperture**2)
        if np.sqrt(np.trace(b @ moment @ b) / np.trace(moment)) >= held:
            return b
        aperture *= 1.1


def without_weak(matrix, threshold=0.2):
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.where(values < threshold, 0, values)) @ vectors.T


def test_conceptors_of_tasks_are_joined_by_or_and_weak_directions_dropped(code):
    trainer = until(code(), 0, "measure")
    first = torch.stack([torch.from_numpy(without_weak(fitted(r.numpy()))) for r in moments_of(trainer, 0)])
    torch.testing.assert_close(trainer.method.past, first, atol=1e-4, rtol=0)
    until(trainer, 1, "measure")
    second = torch.stack([torch.from_numpy(fitted(r.numpy())) for r in moments_of(trainer, 1)])
    joined = torch.stack([torch.from_numpy(without_weak(c.numpy())) for c in conceptor_or(first, second)])
    torch.testing.assert_close(trainer.method.past, joined, atol=1e-3, rtol=0)
    assert float(torch.linalg.eigvalsh(trainer.method.past).max()) <= 1


def test_the_first_tasks_steps_are_plain_gradient_descent(code):
    trainer = until(code(), 0)
    assert trainer.method.constraints() == {}
    before = trainer.method.shift.detach().clone()
    next(trainer.run())
    step = -0.5 * trainer.method.shift.grad
    assert step.any()
    torch.testing.assert_close(trainer.method.shift.detach() - before, step, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_later_steps_lose_what_the_past_uses(code, optimiser):
    trainer = until(code(optimiser=optimiser, rate=0.01 if optimiser == "adam" else 0.5), 1)
    method, before = trainer.method, trainer.method.shift.detach().double().clone()
    (event,) = next(trainer.run())
    gradient = method.shift.grad.double()
    step = -0.5 * gradient if optimiser == "sgd" else -0.01 * gradient / (gradient.abs() + 1e-8)
    expected = torch.stack([s @ (torch.eye(48) - c) for s, c in zip(step, method.past, strict=True)])
    tolerance = 2e-3 * float(expected.abs().max()) + 2e-8
    torch.testing.assert_close(method.shift.detach().double() - before, expected, atol=tolerance, rtol=1e-3)
    assert event.applied_norm["shift"] < 0.9 * event.proposed_norm["shift"]


def test_of_a_projector_the_map_is_gradient_projection(code, seeded):
    """With eigenvalues 0 and 1 alone a step keeps exactly its part outside the past's span (GPM)."""
    method = code().method
    basis = torch.linalg.qr(torch.randn(48, 7, generator=seeded(0), dtype=torch.float64)).Q
    method.past.copy_((basis @ basis.mT).expand_as(method.past))
    method.tasks.fill_(1)
    method.double()
    method.refresh()
    step = torch.randn(method.shift.shape, generator=seeded(1), dtype=torch.float64)
    mapped = method.constraints()["shift"].step(step)
    torch.testing.assert_close(mapped, step - step @ basis @ basis.mT, atol=1e-10, rtol=0)
    assert float((mapped @ basis).abs().max()) < 1e-10


def test_without_projection_nothing_is_held_back(code):
    trainer = until(code(project="none"), 1)
    (event,) = next(trainer.run())
    assert trainer.method.constraints() == {} and event.applied_norm == event.proposed_norm


def test_capacity_never_falls_and_says_what_the_matrices_say(code):
    trainer = code(tasks=5, threshold=0.0)
    said = [event for moment in trainer.run() for event in moment if event.kind == "ConceptorMeasured"]
    for layer in range(trainer.backbone.depth):
        found = [e for e in said if e.layer == layer]
        assert [e.clock.task for e in found] == list(range(5))
        sizes = [e.capacity for e in found]
        assert sizes == sorted(sizes) and all(e.capacity >= e.own - 1e-6 for e in found)
        assert all(e.capacity == pytest.approx(float(e.eigenvalues.mean()), abs=1e-5) for e in found)
        assert found[-1].capacity == pytest.approx(float(trainer.method.past[layer].trace()) / 48)


def test_a_coming_task_is_surveyed_before_its_first_step_and_the_past_is_not(code):
    said = [event for moment in code().run() for event in moment]
    surveyed = [i for i, e in enumerate(said) if e.kind == "InputsSurveyed"]
    first_step = next(i for i, e in enumerate(said) if e.kind == "StepEnded" and e.clock.task == 1)
    assert len(surveyed) == 2 and max(surveyed) < first_step
    assert all(said[i].clock.task == 1 and 0 < said[i].shared <= 1 and 0 < said[i].capacity < 1 for i in surveyed)
    assert not [e for moment in code(survey=False).run() for e in moment if e.kind == "InputsSurveyed"]


def test_inputs_without_energy_are_no_past_and_hold_nothing_back(code):
    method = code().method
    own, aperture = method.fitted(torch.zeros(2, 48, 48, dtype=torch.float64))
    assert torch.equal(own, torch.zeros_like(own)) and torch.isfinite(aperture).all()


def test_a_threshold_that_empties_the_past_leaves_nothing_to_share(code):
    trainer = code(threshold=1.0)
    said = [event for moment in trainer.run() for event in moment]
    assert not trainer.method.past.any()
    assert [e.shared for e in said if e.kind == "InputsSurveyed"] == [0.0, 0.0]
    assert all(np.isfinite(v) for e in said if e.kind == "StepEnded" for v in e.losses.values())


def test_a_larger_aperture_lets_less_of_a_step_through(code):
    def kept(aperture):
        (event,) = next(until(code(aperture=aperture, held=0.0), 1).run())
        return event.applied_norm["shift"] / event.proposed_norm["shift"]

    assert 1 > kept(0.1) > kept(1.0) > kept(10.0) > 0
