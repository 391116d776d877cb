"""Conducting a sweep: what is handed out, in what order, and how it ends. The engine here is a list, not processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest

from cl_core.config import ConfigError
from cl_core.store import RunFolder, StoreError, hold
from cl_core.sweeps import ask_to_stop, known_sweeps, sweep_status
from cl_core.sweeps.executor import Engine
from cl_core.sweeps.local import LocalEngine, _environment, cores
from cl_core.sweeps.scheduler import conduct
from cl_core.sweeps.spec import sweep_folder
from cl_core.sweeps.worker import Job, Outcome, check, new_run
from tests.recorded_sweep import softness, trade, write_run


class Listing(Engine):
    """Writes each run at once instead of training it; runs whose place is in `bad` fail."""

    threads = 1

    def __init__(self, sweep, runs, workers=2, bad=(), reason=""):
        self.points = {point.fingerprint: (place, point) for place, point in enumerate(sweep.points)}
        self.runs, self.workers, self.bad, self.reason = runs, workers, bad, reason
        self.given: list[Job] = []
        self.waiting: list[Job] = []
        self.most = 0

    def check(self, configs: Sequence[dict[str, Any]]) -> str:
        return self.reason

    def free(self) -> bool:
        return len(self.waiting) < self.workers

    def submit(self, work: Job) -> None:
        self.given.append(work)
        self.waiting.append(work)
        self.most = max(self.most, len(self.waiting))

    def ended(self, timeout: float) -> list[Outcome]:
        if not self.waiting:
            return []
        work = self.waiting.pop(0)
        place, point = self.points[work.key]
        if place in self.bad:
            write_run(self.runs, point, [], "failed", "the sky fell")
            return [Outcome(work.key, point.config.name, "failed", "the sky fell")]
        write_run(self.runs, point, trade(point))
        return [Outcome(work.key, point.config.name, "finished")]

    @property
    def busy(self) -> int:
        return len(self.waiting)

    def close(self, *, at_once: bool = False) -> None: ...


def test_every_run_is_handed_out_once_and_never_more_than_there_are_workers(tmp_path):
    sweep, seen = softness(), []
    engine = Listing(sweep, tmp_path)
    ended = conduct(sweep, tmp_path, engine, on_outcome=seen.append)
    assert ended.state == "finished" and not ended.failed and len(seen) == 6 and engine.most == 2
    assert [work.key for work in engine.given] == [point.fingerprint for point in sweep.points]
    assert sweep_status(sweep, tmp_path).finished == 6


def test_finished_runs_are_not_repeated_and_a_larger_grid_trains_what_is_new(tmp_path):
    conduct(softness(), tmp_path, Listing(softness(), tmp_path))
    again = Listing(softness(), tmp_path, reason="never asked, nothing is left")
    assert conduct(softness(), tmp_path, again).state == "finished" and not again.given
    wider = softness(values="0,0.25,0.5,1")
    engine = Listing(wider, tmp_path)
    assert conduct(wider, tmp_path, engine).state == "finished"
    assert {work.config["settings"]["eta_affinity"] for work in engine.given} == {0.25} and len(engine.given) == 2


def test_a_failed_run_ends_nothing_and_is_tried_again(tmp_path):
    sweep = softness()
    ended = conduct(sweep, tmp_path, Listing(sweep, tmp_path, bad=(1,)))
    assert ended.state == "failed" and len(ended.outcomes) == 6
    assert [outcome.reason for outcome in ended.failed] == ["the sky fell"]
    place = sweep.points[1].config.name
    engine = Listing(sweep, tmp_path)
    with pytest.raises(StoreError, match="is taken"):  # this engine makes folders; a real one goes on in the old one
        conduct(sweep, tmp_path, engine)
    assert [work.folder for work in engine.given] == [place]


def test_a_stop_keeps_what_is_finished_and_hands_out_nothing_more(tmp_path):
    sweep, seen = softness(), []

    def after_two(outcome):
        seen.append(outcome)
        if len(seen) == 2:
            ask_to_stop(tmp_path, sweep.name)

    engine = Listing(sweep, tmp_path, workers=1)
    assert conduct(sweep, tmp_path, engine, on_outcome=after_two).state == "stopped" and len(engine.given) == 2
    rest = Listing(sweep, tmp_path)
    assert conduct(sweep, tmp_path, rest).state == "finished" and len(rest.given) == 4, "an old stop is forgotten"


def test_settings_that_cannot_be_used_are_refused_before_anything_is_written(tmp_path):
    runs = tmp_path / "runs"
    with pytest.raises(ConfigError, match="no such setting"):
        conduct(softness(), runs, Listing(softness(), runs, reason="no such setting"))
    assert not runs.exists() and known_sweeps(runs) == []


def test_a_worker_names_the_first_setting_that_cannot_be_used():
    pytest.importorskip("torch")
    good = softness().points[0].config.to_dict()
    bad = {**good, "settings": {**good["settings"], "eta_afinity": 1.0}}
    assert check([good]) == "" and "Did you mean eta_affinity?" in check([good, bad])
    assert "cannot use backbone" in check([{**good, "backbone": "micro-clip"}])


def test_one_sweep_has_one_conductor(tmp_path):
    sweep = softness()
    conduct(sweep, tmp_path, Listing(sweep, tmp_path))
    with hold(sweep_folder(tmp_path, sweep.name)), pytest.raises(StoreError, match="being worked on already"):
        conduct(sweep, tmp_path, Listing(sweep, tmp_path))


def test_a_taken_name_gets_a_number(tmp_path):
    config = softness().points[0].config
    (tmp_path / config.name).mkdir()
    assert new_run(tmp_path, config.to_dict()).name == f"{config.name}-2"
    assert RunFolder(tmp_path / f"{config.name}-2").config().group == "sweep softness"


def test_cores_are_shared_out_and_the_environment_is_put_back(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert LocalEngine(1).threads == cores() and LocalEngine(10_000).threads == 1
    with _environment(3):
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "3"
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ
    with pytest.raises(ConfigError, match="workers must be at least 1, got 0"):
        LocalEngine(0)
