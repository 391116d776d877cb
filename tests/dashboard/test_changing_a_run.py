"""Changing a setting of a living run, forking one that stands, and both drawn where they happened."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import replace

import pytest

from cl_core.commands import ChangeSetting
from cl_core.events import CheckpointSaved, Clock, KnobTurned, RunFailed, RunForked, StateChanged
from cl_core.store import RunReader, RunWriter, StoreError, fork_of, note_of, take
from dashboard import launch, method_settings, runs
from dashboard.library import run_names
from dashboard.run_log import log_of
from tests import recorded_runs
from tests.dashboard.reading import figures, words
from tests.invented_run import Plan

ROWS = [
    {"name": "eta_affinity", "default": 0.97, "low": 0.0, "high": 1.0, "choices": None, "live": True, "fixed": "",
     "help": "η₁"},
    {"name": "rule", "default": "elbow", "low": None, "high": None, "choices": ["elbow", "energy"], "live": True,
     "fixed": "", "help": "the cut"},
    {"name": "prompt_rate", "default": 0.01, "low": 0.0, "high": 10.0, "choices": None, "live": False, "fixed": "",
     "help": "rate"},
    {"name": "prompt_length", "default": 4, "low": 0, "high": 64, "choices": None, "live": False,
     "fixed": "sets shapes", "help": "prompts"},
]  # fmt: skip


@pytest.fixture(autouse=True)
def quick_settings(monkeypatch):
    monkeypatch.setattr(method_settings, "method_settings", lambda method: ROWS)


@pytest.fixture
def whole(runs_folder):
    """A finished run of three tasks with a checkpoint after each."""
    return with_boundaries(recorded_runs.finished(runs_folder, "whole"))


def with_boundaries(folder):
    """What its events say was saved, as checkpoints that hold nothing."""
    with closing(RunReader(folder)) as reader:
        for task, stored in enumerate(reader.since(kinds=(CheckpointSaved.__name__,))):
            path = folder.checkpoints / f"{stored.seq:08d}"
            path.mkdir(parents=True)
            record = {"seq": stored.seq, "boundary": True, "task": task + 1, "state": {}}
            (path / "state.json").write_text(json.dumps(record))
            (path / "done").touch()
    return folder


def test_a_living_run_offers_its_live_settings_alone_and_turn_orders_what_was_changed(runs_folder, open_page):
    folder = recorded_runs.paused(runs_folder)
    with recorded_runs.held(folder):
        app = open_page("run", run="paused")
        assert not [t for t in app.toggle if t.key == "fork-open"]
        app.toggle(key="turn-open").set_value(True).run()
        assert not app.exception and {s.label for s in app.slider} == {"eta affinity"}
        assert "prompt length" not in {w.label for w in (*app.number_input, *app.slider)}
        assert app.button(key="turn-now").disabled
        app.slider(key="turn-paused-eta_affinity").set_value(0.5).run()
        app.button(key="turn-now").click().run()
        assert not app.exception and take(folder) == [ChangeSetting("eta_affinity", 0.5)]


def test_what_was_turned_is_said_and_is_where_the_slider_stands(runs_folder, open_page):
    folder = recorded_runs.paused(runs_folder)
    with closing(RunWriter(folder)) as writer:
        writer.append([KnobTurned(Clock(1, 0, 8), "eta_affinity", 0.97, 0.25)])
    with recorded_runs.held(folder):
        app = open_page("run", run="paused")
        app.toggle(key="turn-open").set_value(True).run()
        assert app.slider(key="turn-paused-eta_affinity").value == 0.25
        assert "Changed in T2, before step 9" in words(app)
        assert "Dash-dotted: a setting was changed (eta_affinity 0.97 → 0.25 in T2)" in words(app)


def test_a_method_without_live_settings_says_so(runs_folder, open_page, monkeypatch):
    monkeypatch.setattr(method_settings, "method_settings", lambda method: ROWS[2:])
    with recorded_runs.held(recorded_runs.paused(runs_folder)):
        app = open_page("run", run="paused")
        app.toggle(key="turn-open").set_value(True).run()
        assert "has no live settings" in words(app)


def test_a_finished_run_is_forked_with_what_was_changed_and_the_page_follows(whole, open_page, monkeypatch):
    monkeypatch.setattr(launch, "WORKER", (sys.executable, "-c", ""))
    app = open_page("run", run="whole")
    assert not [t for t in app.toggle if t.key == "turn-open"]
    app.toggle(key="fork-open").set_value(True).run()
    assert "Everything up to T2 is kept; T3 will be trained again" in words(app)
    assert "Without changes the fork repeats its parent exactly" in words(app)
    assert "prompt length" not in {w.label for w in app.number_input}
    app.number_input(key="fork-whole-2-eta_affinity").set_value(0.5).run()
    app.number_input(key="fork-training-whole-2-epochs").set_value(4).run()
    assert "Changed: eta_affinity = 0.5, epochs = 4." in words(app).replace("\\", "")
    app.text_input(key="fork-name").set_value("child").run()
    app.button(key="fork-now").click().run()
    assert not app.exception
    made = runs.runs_index(fresh=True).own["child"]
    fork = fork_of(made)
    assert (fork.parent, fork.after_task) == ("whole", 2)
    assert {key: new for key, (_, new) in fork.changed.items()} == {"eta_affinity": 0.5, "epochs": 4}
    assert app.session_state["run"] == "child" and note_of(made).title == "child"
    assert f"Forked from {run_names(runs.runs_index())['whole']} after T2" in words(app)


def test_parent_and_fork_are_drawn_together_from_either_side(whole, open_page, monkeypatch):
    monkeypatch.setattr(method_settings, "method_settings", lambda method: ROWS)
    monkeypatch.setattr(launch, "WORKER", (sys.executable, "-c", ""))
    assert "This run and its forks" not in figures(open_page("run", run="whole"))
    launch.fork(whole, 2, {"eta_affinity": 0.5}, "child")
    runs.runs_index(fresh=True)
    for name in ("whole", "child"):
        assert "This run and its forks" in figures(open_page("run", run=name))


def test_a_fork_is_refused_in_one_sentence(whole, open_page):
    app = open_page("run", run="whole")
    app.toggle(key="fork-open").set_value(True).run()
    app.text_input(key="fork-name").set_value("whole").run()
    app.button(key="fork-now").click().run()
    assert not app.exception and "is taken" in words(app)


@pytest.fixture
def cramped(runs_folder):
    """`cramped(until)`: a run whose memory did not do after so many moments; batches of 16 were tried and fitted."""

    def make(until):
        said = RunFailed(Clock(1, 0, 7), "out of memory with 64 images", "Traceback", fits=16)
        ending = (said, StateChanged(Clock(1, 0, 7), "failed", said.reason))
        return with_boundaries(recorded_runs.record(runs_folder, "cramped", until=until, then=ending))

    return make


def test_where_memory_did_not_do_a_button_forks_after_the_last_task_with_batches_that_fit(
    cramped, open_page, monkeypatch
):
    monkeypatch.setattr(launch, "WORKER", (sys.executable, "-c", ""))
    cramped(1 + recorded_runs.moments_a_task(Plan()) + 3)
    app = open_page("run", run="cramped")
    assert app.button(key="smaller-batch").label == "Fork from after T1 with batches of 16"
    app.button(key="smaller-batch").click().run()
    assert not app.exception
    fork = fork_of(runs.runs_index(fresh=True).own[app.session_state["run"]])
    assert (fork.parent, fork.after_task) == ("cramped", 1)
    assert {key: new for key, (_, new) in fork.changed.items()} == {"batch_size": 16}


def test_where_no_task_was_finished_it_starts_anew_with_batches_that_fit(cramped, open_page, monkeypatch):
    monkeypatch.setattr(launch, "WORKER", (sys.executable, "-c", ""))
    before = cramped(3).config()
    app = open_page("run", run="cramped")
    assert app.button(key="smaller-batch").label == "Start again with batches of 16"
    app.button(key="smaller-batch").click().run()
    assert not app.exception and app.session_state["run"] != "cramped"
    made = runs.runs_index(fresh=True).own[app.session_state["run"]].config()
    assert made.training == replace(before.training, batch_size=16) and made.settings == before.settings


def test_a_run_that_failed_for_another_reason_offers_no_smaller_batch(runs_folder, open_page):
    recorded_runs.failed(runs_folder)
    app = open_page("run", run="failed")
    assert "became NaN" in words(app) and not [b for b in app.button if b.key == "smaller-batch"]


def test_a_run_without_checkpoints_offers_no_fork(runs_folder, open_page):
    recorded_runs.finished(runs_folder)
    assert not [t for t in open_page("run", run="finished").toggle if t.key == "fork-open"]


def test_a_forks_plan_counts_its_own_steps(whole, monkeypatch):
    monkeypatch.setattr(launch, "WORKER", (sys.executable, "-c", ""))
    made = launch.fork(whole, 1, {"training.epochs": 7}, "child")
    with closing(RunWriter(made)) as writer:
        writer.append([RunForked(Clock(0), "whole", 1, {"epochs": [2, 7]}, 99)])
    log = log_of(made)
    log.advance(force=True)
    assert log.started().total_steps == 99 and log_of(whole).folder == whole


def test_a_fork_beyond_the_last_task_is_refused(whole):
    with pytest.raises(StoreError, match="nothing left to train"):
        launch.fork(whole, 3, {})
