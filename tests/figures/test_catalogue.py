"""The catalogue: entries read what they name, keys tell figures apart, and an invented event draws itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cl_core.config import RunConfig
from cl_core.events import KINDS, AccuracyMeasured, Clock, Event, FeaturesCompared, RunStarted, StateChanged, StepEnded
from cl_core.store import RunFolder, RunStatus, StoredEvent
from dashboard.figures import catalogue, generic
from dashboard.figures.catalogue import FIGURES, SECTIONS, Figure, contents, figures_of, in_report, unclaimed
from dashboard.run_log import RunLog, Snapshot
from tests import recorded_clip_runs, recorded_pool_runs, recorded_rare_runs, recorded_runs, recorded_subspace_runs
from tests.figures.conftest import assert_complete
from tests.recording import ENVIRONMENT, recorded

RUNS = {
    "prompts": recorded_runs.finished,
    "clip": recorded_clip_runs.protected,
    "weights": recorded_clip_runs.written,
    "pool": lambda runs: recorded_pool_runs.record(runs, "pool"),
    "spaces": lambda runs: recorded_subspace_runs.written(runs, name="spaces"),
    "rare": recorded_rare_runs.finished,
}


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    found = {name: RunLog(make(runs)).snapshot(force=True) for name, make in RUNS.items()}
    moved = [StoredEvent(t + 1, 0.0, FeaturesCompared(Clock(t), 0, 0.1 * t, 0.2 * t)) for t in range(4)]
    return {**found, "recorded": Snapshot.holding(RunFolder(runs / "recorded"), moved)}


@pytest.mark.parametrize("name", RUNS)
def test_every_figure_of_a_run_is_drawn_from_what_its_entry_names(snapshots, name):
    """`Figure.drawn` refuses a kind of event that the entry does not name; without it a cached figure could be old."""
    run = snapshots[name]
    drawn = {
        f"{figure.id}-{place}": made
        for figure in figures_of(run).values()
        for place, made in enumerate(in_report(run, figure))
    }
    assert len(drawn) > 3
    assert_complete(drawn)


def test_every_entry_is_drawn_by_some_run_and_says_what_it_asks(snapshots):
    there = {id for run in snapshots.values() for id, figure in FIGURES.items() if figure.there(run)}
    assert set(FIGURES) - there == set()
    for figure in FIGURES.values():
        assert figure.question.endswith("?") and figure.section in SECTIONS and figure.title, figure.id


def test_an_entry_that_reads_more_than_it_names_is_refused(snapshots):
    run = snapshots["prompts"]
    careless = Figure("x", "X", "?", "other", (StepEnded,), lambda run: run.events(AccuracyMeasured))
    with pytest.raises(LookupError, match="AccuracyMeasured"):
        careless.drawn(run, {})
    with pytest.raises(TypeError, match="no control layer"):
        FIGURES["losses"].drawn(run, {"layer": 1})


def test_a_key_changes_with_the_events_it_needs_the_controls_and_nothing_else(snapshots):
    run, losses, matrix = snapshots["prompts"], FIGURES["losses"], FIGURES["accuracy-matrix"]
    earlier = run.until(run.of(StepEnded)[-1].seq - 1)
    assert losses.key(run, {}) != losses.key(earlier, {})
    last = run.of(StateChanged)[-1].seq
    assert matrix.key(run, {}) == matrix.key(run.until(last - 1), {})
    left = FIGURES["directions-left"]
    assert left.key(run, {"layer": 0, "space": "affinity"}) != left.key(run, {"layer": 1, "space": "affinity"})


@pytest.mark.parametrize(
    ("state", "first", "most"), [("running", 20_000, 3), ("running", 100, 50), ("finished", 20_000, 50)]
)
def test_a_long_run_in_training_is_not_drawn_anew_for_every_step(state, first, most):
    stored = [StoredEvent(n + 1, 0.0, StepEnded(Clock(0, 0, n), {}, {}, {}, {}, 0.0, 0.1)) for n in range(first + 50)]
    run = Snapshot.holding(RunFolder(Path("run")), stored)
    run._status = RunStatus(state, "", 0.0, 1)
    keys = {FIGURES["losses"].key(run.until(seq), {}) for seq in range(first, first + 50)}
    assert len(keys) <= most and (most < 50 or len(keys) == 50)


@dataclass(frozen=True)
class SharpnessMeasured(Event):
    """How sharp the loss is around the weights."""

    layer: int
    space: str
    curvature: float
    spread: float | None = None


@dataclass(frozen=True)
class NoiseMeasured(Event):
    """Noise of the gradient at a step."""

    scale: float
    parts: dict[str, float]
    by_batch: np.ndarray


@pytest.fixture
def invented(monkeypatch, tmp_path):
    for kind in (SharpnessMeasured, NoiseMeasured):
        monkeypatch.setitem(KINDS, kind.__name__, kind)
    tasks = [{"name": f"T{t + 1}", "classes": ["a", "b"], "train": 1, "test": 1} for t in range(2)]
    moments = [(RunStarted(Clock(), tasks, "class-incremental", 2, 8, 1, {"name": "x"}, ENVIRONMENT),)]
    for task in (0, 1):
        for step in range(4 * task, 4 * task + 4):
            noise = np.arange(3, dtype=np.float32) - step
            moments.append((NoiseMeasured(Clock(task, 0, step), 0.1 * step, {"head": 1.0, "prompts": -step}, noise),))
        told = (SharpnessMeasured(Clock(task, 0, 4), layer, "keys", layer + 10.0 * task) for layer in range(3))
        moments.append(tuple(told))
    return recorded(tmp_path, RunConfig(method="joint", name="invented"), moments)


def test_an_invented_event_appears_by_itself(invented):
    run = RunLog(invented).snapshot(force=True)
    assert unclaimed(run) == [NoiseMeasured, SharpnessMeasured]
    figures = figures_of(run)
    assert set(figures) == {
        "SharpnessMeasured-curvature (keys)",
        "NoiseMeasured-scale",
        "NoiseMeasured-parts",
        "NoiseMeasured-by_batch",
    }
    drawn = {id: figure.drawn(run, {}) for id, figure in figures.items()}
    assert_complete(drawn)
    assert drawn["SharpnessMeasured-curvature (keys)"].data[0].z.tolist() == [[0, 10], [1, 11], [2, 12]]
    parts = drawn["NoiseMeasured-parts"]
    assert [trace.name for trace in parts.data] == ["Head", "Prompts"]
    assert parts.data[1].x.tolist() == list(range(8)) and parts.data[1].y.tolist() == [-s for s in range(8)]
    by_batch = drawn["NoiseMeasured-by_batch"].data[0]
    assert np.asarray(by_batch.z).shape == (3, 8) and by_batch.zmin == -by_batch.zmax
    assert [section for section, _ in contents(run)] == ["other"]


def test_a_figure_for_it_is_a_function_and_an_entry_and_it_leaves_the_page_of_the_rest(invented, monkeypatch):
    run = RunLog(invented).snapshot(force=True)
    entry = Figure(
        "sharpness", "Sharpness", "How sharp is the loss?", "training", (SharpnessMeasured,),
        lambda run, layer: generic.draw(
            [e for e in run.events(SharpnessMeasured) if e.layer == layer], "curvature (keys)"),
        controls=("layer",), in_report=lambda run: [{"layer": 2}],
    )  # fmt: skip
    monkeypatch.setitem(catalogue.FIGURES, "sharpness", entry)
    assert unclaimed(run) == [NoiseMeasured]
    assert dict(contents(run))["training"] == [entry]
    (made,) = in_report(run, entry)
    assert np.nanmax(np.asarray(made.data[0].z)) == 12
