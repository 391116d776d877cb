"""One queue for all viewers: equal settings are trained once, the rest waits, a broken process is replaced."""

from __future__ import annotations

import dataclasses
import sys
import threading
import time

import numpy as np
import pytest

from cl_core.playground import PlaygroundConfig, train
from cl_core.playground.frontier import row_of
from cl_core.store import RunFolder
from cl_core.summary import summarise
from dashboard import playground_jobs as jobs

SHORT = PlaygroundConfig(tasks=2, epochs=1)
ECHO = """
import json, sys, time
for line in sys.stdin:
    asked = json.loads(line)
    time.sleep({delay})
    for place, _ in enumerate(asked.get("configs", [])):
        said = {{"id": asked["id"], "place": place, "task": 0, "rows": {{"r": [1.0]}}, "free": [1.0], "spectra": []}}
        print(json.dumps(said))
    print(json.dumps({{"id": asked["id"], "done": 0.1}}), flush=True)
"""


def seeded(seed: int) -> PlaygroundConfig:
    return dataclasses.replace(SHORT, seed=seed)


def test_what_the_process_says_is_what_training_gives():
    lab = jobs.Laboratory()
    job = lab.train([SHORT])
    assert job.wait(60) and not job.trouble
    assert np.nanmax(np.abs(job.outcomes[0].matrix() - train([SHORT])[0].matrix())) < 0.01
    assert lab.train([SHORT]) is job, "trained once"
    assert [o.config for o in lab.trained(seeded(1), [SHORT, seeded(1), seeded(2)])] == [SHORT]


def test_thirty_viewers_share_and_wait(monkeypatch):
    monkeypatch.setattr(jobs, "WORKER", (sys.executable, "-c", ECHO.format(delay=0.05)))
    lab, found = jobs.Laboratory(), []

    def pupil(seed: int) -> None:
        found.append(lab.train([seeded(seed % 10)]))

    pupils = [threading.Thread(target=pupil, args=(seed,)) for seed in range(30)]
    for thread in pupils:
        thread.start()
    for thread in pupils:
        thread.join()
    assert len({id(job) for job in found}) == 10, "equal settings are one job"
    last = max(found, key=lab.ahead)
    assert lab.waiting() <= 10 and last.wait(30) and all(job.wait(30) and not job.trouble for job in found)
    assert lab.waiting() == 0 or (not time.sleep(0.2) and lab.waiting() == 0)


def test_a_frontier_keeps_nobody_from_the_slider(monkeypatch):
    monkeypatch.setattr(jobs, "WORKER", (sys.executable, "-c", ECHO.format(delay=0.4)))
    lab = jobs.Laboratory()
    frontier, single = lab.train(row_of(SHORT)), lab.train([SHORT])
    assert lab.ahead(single) == 0 and len(frontier.configs) == 27
    assert single.wait(30) and frontier.wait(30)


def test_a_full_line_refuses_in_a_sentence(monkeypatch):
    monkeypatch.setattr(jobs, "WORKER", (sys.executable, "-c", ECHO.format(delay=0.3)))
    monkeypatch.setattr(jobs, "WAITING", 3)
    lab = jobs.Laboratory()
    with pytest.raises(jobs.Busy, match="are already waiting; try again"):
        for seed in range(10):
            lab.train([seeded(seed)])


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(jobs, "WORKER", (sys.executable, "-c", ECHO.format(delay=0)))
    monkeypatch.setattr(jobs, "KEPT", 5)
    lab = jobs.Laboratory()
    for seed in range(12):
        assert lab.train([seeded(seed)]).wait(30)
    assert len(lab._known) <= 6 and lab.known([seeded(0)]) is None and lab.known([seeded(11)]) is not None


def test_a_process_that_dies_fails_one_job_and_is_replaced(monkeypatch):
    lab = jobs.Laboratory()
    monkeypatch.setattr(jobs, "WORKER", (sys.executable, "-c", "import sys; sys.stdin.readline()"))
    job = lab.train([SHORT])
    assert job.wait(30) and "try again" in job.trouble
    monkeypatch.setattr(jobs, "WORKER", (sys.executable, "-c", ECHO.format(delay=0)))
    again = lab.train([SHORT])
    assert again is not job and again.wait(30) and not again.trouble


def test_a_run_is_kept_by_the_process(tmp_path):
    lab = jobs.Laboratory()
    job = lab.keep(SHORT, tmp_path, "mine")
    assert job.wait(60) and not job.trouble and job.run == "mine"
    assert summarise(RunFolder(tmp_path / "mine")).state == "finished"
    refused = lab.keep(SHORT, tmp_path, "mine")
    assert refused.wait(60) and "is taken" in refused.trouble
