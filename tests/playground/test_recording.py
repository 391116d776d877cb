"""A kept network is an ordinary run: the same numbers, read by everything that reads runs."""

from __future__ import annotations

import dataclasses
from contextlib import closing

import numpy as np
import pytest

from cl_core.analysis.ledger import ledger, rows_of
from cl_core.playground import PlaygroundConfig, train
from cl_core.playground.algebra import discriminant
from cl_core.playground.recording import SPACE, Recorded, keep, playground_config, run_config
from cl_core.playground.settings import RULES
from cl_core.store import RunReader, StoreError
from cl_core.summary import summarise
from cl_core.whatif import boundaries

SHORT = PlaygroundConfig(tasks=3, epochs=2, energy=0.9)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return keep(SHORT, tmp_path_factory.mktemp("runs"), "kept")


def events(folder, kind):
    with closing(RunReader(folder)) as reader:
        return [stored.event for stored in reader.since(kinds=(kind,))]


def test_its_numbers_are_those_that_were_shown(kept):
    shown, told = train([SHORT])[0], summarise(kept)
    assert told.state == "finished" and told.method == "playground-gpm" and told.backbone == "mlp"
    matrix = [[np.nan if v is None else v for v in row] for row in told.accuracy_matrix]
    assert np.array_equal(matrix, shown.matrix(), equal_nan=True)
    for name, value in shown.numbers().items():
        assert getattr(told, name) == pytest.approx(value)
    spectra = events(kept, "SpectrumMeasured")
    assert len(spectra) == SHORT.tasks * SHORT.layers and {e.space for e in spectra} == {SPACE}
    for event in spectra:
        outcome = shown.tasks[event.clock.task]
        assert event.nullity == round(outcome.free[event.layer] * 64) and event.used
        assert event.eigenvalues == pytest.approx(outcome.spectra[event.layer], rel=1e-5, abs=1e-9)


def test_every_step_is_there(kept):
    steps, started = events(kept, "StepEnded"), events(kept, "RunStarted")[0]
    assert [e.clock.step for e in steps] == list(range(started.total_steps))
    assert len(events(kept, "EpochEnded")) == SHORT.tasks * SHORT.epochs
    first, later = steps[0], steps[-1]
    assert first.applied_norm == first.proposed_norm
    assert all(0 < later.applied_norm[k] < later.proposed_norm[k] for k in later.applied_norm)


def test_updates_stay_out_of_the_protected_space(kept):
    for event in events(kept, "UpdateMeasured"):
        if event.clock.task:
            assert event.leak[SPACE] < 1e-5 and event.residual[SPACE] < event.isotropic[SPACE]
    found = boundaries(events(kept, "SpectrumMeasured"), (), events(kept, "UpdateByDirection"))
    assert [b.task for b in found] == [0, 1, 2] and found[0].energies is not None


def test_its_settings_lead_back_to_the_playground():
    rules = [PlaygroundConfig(rule=rule) for rule in RULES]
    for config in (SHORT, dataclasses.replace(SHORT, energy=(0.5, 0.9, 0.95)), *rules):
        assert playground_config(run_config(config)) == config
        assert playground_config(run_config(config).completed()) == config, "as a run's folder stores it"
        assert playground_config(type(run_config(config)).from_dict(run_config(config).to_dict())) == config


@pytest.mark.parametrize("rule", ["none", "sgp", "adam-nscl", "ewc", "replay", "joint"])
def test_every_rule_can_be_kept(rule, tmp_path):
    config = PlaygroundConfig(rule=rule, tasks=2, epochs=1)
    told = summarise(keep(config, tmp_path, rule))
    assert told.state == "finished" and told.accuracy_matrix[1][0] is not None
    assert events(keep(config, tmp_path, f"{rule}-2"), "TaskEnded")[-1].kept_bytes >= 0


@pytest.mark.parametrize("stream", ["permuted-digits", "split-digits"])
def test_why_it_forgot_is_told_for_every_test_image(stream, tmp_path):
    folder = keep(PlaygroundConfig(rule="none", stream=stream, tasks=3, epochs=2), tmp_path, "split")
    assert "task-incremental" in summarise(folder).readouts
    rows = rows_of(events(folder, "AccuracyMeasured"), events(folder, "RefitMeasured"))
    found = ledger(rows, 0, 2)
    assert None not in found.parts.values() and found.drop > 10
    assert sum(found.parts.values()) == pytest.approx(found.drop, abs=1e-9)
    names = [name for task in events(folder, "RunStarted")[0].tasks for name in task["classes"]]
    stored = {event.clock.task: event for event in events(folder, "ImagesStored")}
    for event in events(folder, "ImagesClassified"):
        labels = stored[event.evaluated].labels
        own = (
            set(range(len(names)))
            if stream == "split-digits"
            else set(range(10 * event.evaluated, 10 * event.evaluated + 10))
        )
        assert set(map(int, labels)) <= own and set(np.unique(event.predicted).tolist()) <= own
        for place, readout in enumerate(event.readouts):
            right = event.predicted[place] == labels
            assert 100 * right.mean() == pytest.approx(rows[readout][event.clock.task][event.evaluated])
            assert ((np.asarray(event.margins[place], float) > 0) <= right).all()


def test_old_tasks_are_looked_at_within_new_ones(kept):
    looks = events(kept, "OldTasksMeasured")
    assert {e.clock.task for e in looks} == {1, 2} and {e.images for e in looks} == {64}
    steps = [e.clock.step for e in looks if e.clock.task == 1]
    assert len(steps) >= 16 and set(np.diff(steps)) == {looks[0].every}
    first, last = looks[0], [e for e in looks if e.clock.task == 1][-1]
    assert last.loss > first.loss, "the second task costs the first one something"


def test_a_failure_leaves_no_half_run(tmp_path, monkeypatch):
    def broken(self):
        yield from ()
        raise StoreError("no space left")

    monkeypatch.setattr(Recorded, "moments", broken)
    with pytest.raises(StoreError, match="no space left"):
        keep(SHORT, tmp_path, "half")
    assert not (tmp_path / "half").exists()


def test_the_refitted_head_is_the_one_of_other_runs(seeded):
    torch = pytest.importorskip("torch")
    from cl_core.observers.lda_readout import ClassStatistics

    features, labels = torch.randn(60, 5, generator=seeded(0)), torch.arange(60) % 4
    statistics = ClassStatistics(4, 5)
    statistics.add(features, labels)
    weights, offsets = discriminant(features.numpy(), labels.numpy(), 0.1)
    np.testing.assert_allclose(features.numpy() @ weights - offsets, statistics.classifier(0.1)(features), rtol=1e-6)
