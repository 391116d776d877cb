"""Each alert on a run made to show it, and silence beside it."""

from __future__ import annotations

import numpy as np
import pytest

from cl_core.analysis.alerts import alerts
from cl_core.events import (
    AccuracyMeasured,
    AttentionCompared,
    Clock,
    SelectionMeasured,
    SpectrumMeasured,
    StepEnded,
    UpdateMeasured,
)
from dashboard.figures.catalogue import FIGURES
from dashboard.run_log import RunLog
from tests import recorded_runs


def of(*events):
    """What the alerts say of these events."""
    found = alerts(lambda kind: [event for event in events if isinstance(event, kind)])
    for alert in found:
        assert alert.figure in FIGURES and alert.sentence.endswith(".") and alert.remedy.endswith(".")
    return {alert.name: alert for alert in found}


def spectrum(task, nullity, used=True, layer=0):
    return SpectrumMeasured(Clock(task), layer, "affinity", np.ones(100, np.float32), nullity, "x", used, 1, 1, 1, 0)


def accuracy(readout, task, *row):
    return AccuracyMeasured(Clock(task), readout, list(row))


def compared(task, mass):
    zero = np.zeros(2, np.float32)
    return AttentionCompared(Clock(task), 0, zero, zero, zero, np.array(mass, np.float32), 0.0, np.zeros((1, 2, 1, 3)))


def selected(task, counts, of=""):
    counts = np.array(counts, np.float32)
    return SelectionMeasured(Clock(task), 0, of, counts, [-1] * counts.shape[1], None)


def steps(sizes, losses):
    pairs = enumerate(zip(sizes, losses, strict=True))
    return [StepEnded(Clock(0, 0, n), {"total": b}, {}, {"w": a}, {"w": a}, 50.0, 0.1) for n, (a, b) in pairs]


def test_room_that_is_nearly_gone_is_named_by_its_tightest_layer():
    found = of(spectrum(0, 40), spectrum(1, 30), spectrum(1, 7, layer=2))
    assert "Layer 3 has 7 of 100 directions left" in found["room nearly gone"].sentence
    assert not of(spectrum(0, 3), spectrum(1, 10)) and not of(spectrum(1, 3, used=False))


def test_updates_at_chance_level_inside_the_protected_space():
    update = lambda leak: UpdateMeasured(Clock(1), 0, 0.1, {}, {}, {"affinity": leak})
    assert "a random one has 60 %" in of(spectrum(0, 64), update(0.58))["updates inside the protected space"].sentence
    assert not of(spectrum(0, 64), update(0.3)) and not of(spectrum(0, 64, used=False), update(0.58))


def test_heads_that_compete_over_features_that_are_fine():
    kept = [accuracy("task-incremental", 0, 98.0, None), accuracy("task-incremental", 1, 97.5, 99.0)]
    own = [accuracy("class-incremental", 0, 98.0, None), accuracy("class-incremental", 1, 60.0, 90.0)]
    found = of(*own, *kept)["heads compete, features are fine"]
    assert "T1 fell 38 points, 38 of them" in found.sentence and found.value == 38
    assert not of(*own, kept[0], accuracy("task-incremental", 1, 70.0, 99.0))
    assert not of(own[0], accuracy("class-incremental", 1, 92.0, 90.0), *kept)


def test_zero_shot_that_collapses_before_it_is_learned():
    before = accuracy("zero-shot", -1, 50.0, 60.0, 70.0)
    found = of(before, accuracy("task-incremental", 0, 90.0, 45.0, 55.0))["zero-shot collapses"]
    assert found.value == 15 and "WiSE-FT" in found.remedy
    assert not of(before, accuracy("task-incremental", 0, 90.0, 55.0, 65.0))


def test_prompts_that_nobody_looks_at():
    assert "0.4 %" in of(compared(0, [0.2, 0.2]), compared(1, [0.004, 0.001]))["prompts unused"].sentence
    assert not of(compared(1, [0.3, 0.001])) and not of(compared(1, [0.0, 0.0])), "a model without prompts"


def test_a_pool_that_collapsed_onto_few_entries():
    one = np.eye(10)[[0, 0, 0]]
    assert "Of 10 entries about 1.0 are in use" in of(selected(0, one))["pool collapsed"].sentence
    assert not of(selected(0, np.eye(10))) and not of(selected(0, one, of="task"))


def test_steps_that_grow_while_the_loss_rises():
    found = of(*steps(np.geomspace(1, 100, 40), np.linspace(1, 9, 40)))["loss may not stay finite"]
    assert found.value > found.threshold and "T1" in found.sentence
    assert not of(*steps(np.geomspace(1, 100, 40), np.linspace(9, 1, 40)))
    assert not of(*steps(np.ones(40), np.linspace(1, 9, 40))) and not of(*steps([1, 100], [1, 9]))


@pytest.mark.parametrize("method", ["nsp2", "sequential"])
def test_a_whole_run_has_few(tmp_path, method):
    folder = recorded_runs.finished(tmp_path, method, recorded_runs.Plan(method=method))
    assert len(alerts(RunLog(folder).snapshot(force=True).events)) <= 3
