"""A kept network is an ordinary run: the same numbers, read by everything that reads runs."""

from __future__ import annotations

import dataclasses
from contextlib import closing

import numpy as np
import pytest

from cl_core.playground import PlaygroundConfig, train
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


def test_split_digits_keep_both_readouts(tmp_path):
    told = summarise(keep(PlaygroundConfig(stream="split-digits", tasks=2, epochs=1), tmp_path, "split"))
    assert "task-incremental" in told.readouts


def test_a_failure_leaves_no_half_run(tmp_path, monkeypatch):
    def broken(self):
        yield from ()
        raise StoreError("no space left")

    monkeypatch.setattr(Recorded, "moments", broken)
    with pytest.raises(StoreError, match="no space left"):
        keep(SHORT, tmp_path, "half")
    assert not (tmp_path / "half").exists()
