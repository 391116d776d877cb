"""GPM and SGP on keys and values: what is stored, what of a step is left, and what figures are told."""

import itertools

import numpy as np
import pytest
import torch

from cl_core.linalg import first_directions, held_back
from cl_core.methods.sgp import SGP
from tests.stopped import until

SETTINGS = {"rate": 0.1, "head_rate": 0.1, "energy": 0.8, "growth": 0.02}


def grams_of(trainer, task):
    method, backbone = trainer.method, trainer.backbone
    batch = next(trainer.stream[task].ordered("train", 10_000))
    taps = [("normed", layer) for layer in range(backbone.depth)]
    with torch.no_grad():
        found = method.features(backbone, batch.images, taps).taps
    rows = torch.stack([found[tap].flatten(0, 1) for tap in taps]).double()
    return rows.mT @ rows


def test_the_first_task_stores_the_leading_directions_of_its_inputs(tiny_trainer):
    trainer = until(tiny_trainer("gpm", settings=SETTINGS, tasks=2), 0, "measure")
    for layer, gram in enumerate(grams_of(trainer, 0)):
        values = np.linalg.eigvalsh(gram.numpy())[::-1]
        basis = trainer.method.stored.basis(str(layer))
        assert basis.shape[1] == max((np.cumsum(values) / values.sum() < 0.8).sum(), 1)
        assert float(((gram @ basis) * basis).sum() / gram.trace()) == pytest.approx(
            values[: basis.shape[1]].sum() / values.sum(), rel=1e-5
        )


def test_later_tasks_hold_a_rising_share_of_their_own_inputs(tiny_trainer):
    trainer = tiny_trainer("gpm", settings=SETTINGS, tasks=5)
    counts = []
    for task in range(1, 5):
        until(trainer, task, "measure")
        counts.append(trainer.method.stored.counts())
        for layer, gram in enumerate(grams_of(trainer, task)):
            basis = trainer.method.stored.basis(str(layer))
            assert ((gram @ basis) * basis).sum() / gram.trace() >= 0.8 + 0.02 * task - 1e-5
            torch.testing.assert_close(basis.mT @ basis, torch.eye(basis.shape[1], dtype=torch.float64))
    for first, then in itertools.pairwise(counts):
        assert all(a <= b for a, b in zip(first, then, strict=True))


@pytest.mark.parametrize("optimiser", [{"optimiser": "sgd", "momentum": 0.9}, {"optimiser": "adam", "rate": 0.01}])
def test_nothing_of_a_later_task_is_written_along_stored_directions(tiny_trainer, optimiser):
    trainer = until(tiny_trainer("gpm", settings={**SETTINGS, **optimiser}, tasks=2), 1)
    before = trainer.method.shift.detach().clone()
    bases = [trainer.method.stored.basis(place).clone() for place in trainer.method.places]
    said = [event for moment in trainer.run() for event in moment]
    change = (trainer.method.shift.detach() - before).double()
    assert change.abs().max() > 1e-5
    for own, basis in zip(change, bases, strict=True):
        assert (own @ basis).norm() < 1e-5 * own.norm()
    updates = [e for e in said if e.kind == "UpdateMeasured"]
    assert len(updates) == trainer.backbone.depth and all(e.leak["kv"] < 1e-5 for e in updates)
    assert all(0 < e.residual["kv"] < e.isotropic["kv"] for e in updates)


def test_without_projection_steps_are_those_of_plain_training(tiny_trainer):
    free, held = (until(tiny_trainer("gpm", settings={**SETTINGS, **s}, tasks=2), 1) for s in ({"project": "none"}, {}))
    assert not free.method.constraints() and list(held.method.constraints()) == ["shift"]
    assert torch.equal(free.method.shift, held.method.shift)  # the first task is unprotected
    for trainer in (free, held):
        for _ in trainer.run():
            pass
    assert not torch.equal(free.method.shift, held.method.shift)


def test_spectra_show_the_inputs_of_all_tasks_and_what_is_stored_of_them(tiny_trainer):
    trainer = tiny_trainer("gpm", settings=SETTINGS, tasks=5)
    said = [event for moment in trainer.run() for event in moment]
    spectra = [e for e in said if e.kind == "SpectrumMeasured"]
    assert len(spectra) == 5 * trainer.backbone.depth and not [e for e in said if e.kind == "MeasurementStopped"]
    for event in spectra:
        assert (event.space, event.used, event.gain_free, event.gain_protected) == ("kv", True, 1.0, 0.0)
        assert event.rule == f"energy {0.8 + 0.02 * event.clock.task:g}"
    last = [e for e in spectra if e.clock.task == 4]
    assert [e.nullity for e in last] == [trainer.backbone.width - k for k in trainer.method.stored.counts()]
    assert all(e.protected_energy > 0.79 for e in last)


# ---------------------------------------------------------------- SGP


@pytest.fixture
def soft(tiny_trainer):
    """A method of width 5 with one place, whose second task begins with what the card's case has stored."""
    method = tiny_trainer("sgp", settings={"alpha": 1.0, "energy": 0.97, "growth": 0.0}).method
    from cl_core.methods.parts.stored_directions import StoredDirections

    method.stored = StoredDirections({"0": 5})
    method.stored.add("0", torch.eye(5, dtype=torch.float64)[:, :3], torch.tensor([1.0, 0.8, 0.5], dtype=torch.float64))
    method.tasks.fill_(1)
    return method


def test_importance_adds_up_along_old_directions_and_starts_along_new_ones(soft):
    x = torch.zeros(5, 3, dtype=torch.float64)
    x[1, 0], x[3, 1], x[4, 2] = 0.1, 1.0, 0.05
    soft.store("0", x @ x.mT)
    assert soft.stored.held("0").tolist() == pytest.approx([1, 0.981818, 0.5, 1], abs=1e-6)
    through = held_back(soft.stored.basis("0"), soft.stored.held("0"))
    step = torch.tensor([1.0, 2, 3, 4, 5], dtype=torch.float64) @ through
    assert step.tolist() == pytest.approx([0, 0.036364, 1.5, 0, 5], abs=1e-6)
    hard = held_back(soft.stored.basis("0"), torch.ones(4, dtype=torch.float64))
    assert (torch.tensor([1.0, 2, 3, 4, 5], dtype=torch.float64) @ hard).tolist() == pytest.approx([0, 0, 0, 0, 5])


def test_a_first_task_whose_leading_direction_holds_everything_stores_it(tiny_trainer):
    method = tiny_trainer("sgp").method
    gram = torch.zeros(48, 48, dtype=torch.float64)
    gram[3, 3] = 1
    method.store("0", gram)
    assert method.stored.held("0").tolist() == [1.0]


def test_the_soft_form_stores_the_directions_of_the_hard_one_and_lets_more_through(tiny_trainer):
    soft, hard = (until(tiny_trainer(name, settings=SETTINGS, tasks=2), 1) for name in ("sgp", "gpm"))
    for layer, place in enumerate(hard.method.places):
        torch.testing.assert_close(soft.method.stored.basis(place), hard.method.stored.basis(place))
        gram = grams_of(hard, 0)[layer]
        assert soft.method.stored.basis(place).shape == first_directions(gram, 0.8).shape
        held = soft.method.stored.held(place)
        assert held.max() == 1 and (held > 0).all() and (held <= 1).all()
    assert isinstance(soft.method, SGP)


def test_importances_never_fall(tiny_trainer):
    trainer, before = tiny_trainer("sgp", settings=SETTINGS, tasks=5), None
    for task in range(1, 5):
        until(trainer, task)
        held = [trainer.method.stored.held(place).clone() for place in trainer.method.places]
        for now, then in zip(held, before or [], strict=False):
            assert (now[: len(then)] >= then).all()
        before = held
