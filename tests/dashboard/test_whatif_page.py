"""The What if page: the plain slider, the bars, the fork, and what it says where something is missing."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from cl_core.config import ConfigError
from cl_core.events import Clock, SpectrumMeasured, UpdateByDirection
from cl_core.store import RunFolder, RunReader, RunWriter, StoreError, create_run
from cl_core.whatif import Threshold, best, boundaries, predict
from dashboard import launch
from tests import invented_run, recorded_clip_runs, recorded_runs
from tests.dashboard.reading import drawn, figures, foot, numbers, opened, words

LABEL = "Computed from stored spectra, not retrained"


def bars(app) -> dict:
    return next(f for f in drawn(app) if "steps" in f)


def boundary(folder, **where):
    reader = RunReader(folder)
    events = [s.event for s in reader.since()]
    reader.close()
    return best(
        boundaries(
            [e for e in events if isinstance(e, SpectrumMeasured)],
            (),
            [e for e in events if isinstance(e, UpdateByDirection)],
        ),
        **where,
    )


def test_the_newest_boundary_with_a_learned_task_is_shown_and_labelled(runs_folder, open_page):
    recorded_runs.finished(runs_folder)
    app = open_page("whatif", run="finished")
    assert LABEL in words(app) and "The spectrum after T2, T3 is next" in words(app)
    assert not figures(app), "the bars lead"
    assert figures(opened(app, "whatif-more")).keys() == {"At equal freedom"}  # a knee has no value to move along
    assert {"Left free", "Share passed", "Interference"} <= set(numbers(app))


def test_a_moved_threshold_changes_the_numbers_to_those_of_the_prediction(runs_folder, open_page):
    folder = recorded_runs.finished(runs_folder)
    app = open_page("whatif", run="finished", rule="energy share")
    assert "Against the threshold" not in figures(app)
    opened(app, "whatif-more")
    slider = app.select_slider(key="tau")
    assert "Against the threshold" in figures(app)
    for chosen in ("0.8", "0.99"):
        slider.set_value(chosen).run()
        assert not app.exception
        there = boundary(folder, space="affinity")
        expected = predict(there, Threshold("energy", float(chosen), 0.97, "frobenius"))
        assert numbers(app)["Share passed"] == f"{100 * expected.passed.mean():.1f} %"
        assert numbers(app)["Left free"] == f"{100 * expected.nullity.mean() / there.width:.1f} %"
        shown = bars(app)
        assert shown["steps"][shown["at"]] == chosen
        assert shown["nullity"][shown["at"]] == expected.nullity.tolist()
        np.testing.assert_allclose(shown["passed"][shown["at"]], 100 * expected.passed, atol=0.051)
        assert all(len(shown[name]) == len(shown["steps"]) for name in ("nullity", "passed", "interference"))


def test_a_number_that_did_not_move_has_no_arrow():
    def page():
        from dashboard.widgets.threshold_fork import accuracies

        then = {"final_average_accuracy": 80.0, "learning_accuracy": 90.0, "forgetting": 2.0}
        accuracies("stored statistics", then, {**then, "learning_accuracy": 90.04, "forgetting": 1.0})

    app = AppTest.from_function(page).run()
    assert [metric.delta for metric in app.metric] == ["the same as the other run"] * 2 + [
        "-1.0 pp compared with the other run"
    ]
    directions = [metric.proto.direction for metric in app.metric]
    assert directions[0] == directions[1] != directions[2]


def test_what_is_dragged_in_the_browser_reaches_the_plain_slider(runs_folder, monkeypatch, open_page):
    """The browser's half is tried in a browser; here its answer is played."""
    from dashboard.widgets import thresholdbars

    said = {}
    monkeypatch.setattr(
        thresholdbars, "_mount", lambda *, data, key, height, on_chosen_change: said.update(change=on_chosen_change)
    )
    recorded_runs.finished(runs_folder)
    app = open_page("whatif", run="finished", rule="share left free")
    import streamlit as st

    class State(dict):
        pass

    state = State({"bars-free": {"chosen": {"step": "0.25", "move": 1}}})
    monkeypatch.setattr(st, "session_state", state)
    said["change"]()
    assert state["tau"] == "0.25"
    state["bars-free"] = {"chosen": {"step": "not a position", "move": 2}}
    said["change"]()
    assert state["tau"] == "0.25"
    assert app.select_slider(key="tau").options[25] == "0.25"


def test_the_last_boundary_has_directions_and_no_update(runs_folder, open_page):
    folder = recorded_runs.finished(runs_folder)
    writer, last = RunWriter(folder), boundary(folder, space="affinity", task=1)
    writer.append(
        [SpectrumMeasured(Clock(2, 1, 17), 0, "affinity", last.spectra[0], 3, "elbow", True, 0.9, 2.0, 0.5, 0.03)]
    )
    writer.close()
    app = open_page("whatif", run="finished", task="T3")
    assert "no task has been learned after this one" in words(app)
    assert numbers(app)["Share passed"] == "–" and numbers(app)["Left free"] != "–"


def test_a_recording_from_before_updates_were_stored_says_so(runs_folder, open_page, monkeypatch):
    monkeypatch.setattr(invented_run, "_by_direction", lambda clock, plan, space: invented_run.TaskEnded(clock, 0.0, 0))
    recorded_runs.finished(runs_folder)
    assert "recorded before updates were stored by direction" in words(open_page("whatif", run="finished"))


@pytest.mark.parametrize(("state", "words_of_it"), [("unmeasured", "has no spectra"), ("waiting", "has no spectra")])
def test_without_spectra_the_page_says_how_to_have_them(state, words_of_it, runs_folder, open_page):
    recorded_runs.STATES[state](runs_folder)
    assert words_of_it in words(open_page("whatif", run=state))


def test_weights_have_their_own_rule_and_limit(runs_folder, open_page):
    folder = recorded_clip_runs.written(runs_folder)
    writer = RunWriter(folder)
    for task in range(3):
        for tower, depth in (("image", 3), ("text", 2)):
            energies = np.tile(np.eye(16)[-1] + 0.1, (depth, 1)).astype(np.float32)
            writer.append(
                [
                    UpdateByDirection(
                        Clock(task, 1, 4 * task + 3), f"{tower}.q", list(range(depth)), energies, "net change"
                    )
                ]
            )
    writer.close()
    app = open_page("whatif", run="clip-written", space="image q")
    assert not app.exception and "were never used" in words(app)
    assert {s.key for s in app.select_slider} == {"rmax", "tau"}
    before = numbers(app)["Left free"]
    app.select_slider(key="rmax").set_value("2").run()
    assert numbers(app)["Left free"] != before == "25.0 %"


# ---------------------------------------------------------------- try it for real


def with_checkpoint(folder) -> None:
    """A boundary checkpoint after T2, as far as a reader can tell."""
    place = folder.checkpoints / "00000001"
    place.mkdir()
    state = {"seq": 1, "boundary": True, "task": 2, "state": {"$items": []}}
    (place / "state.json").write_text(json.dumps(state), "utf-8")
    (place / "done").write_bytes(b"")


def test_the_button_says_why_it_cannot_be_pressed(runs_folder, open_page):
    folder = recorded_runs.finished(runs_folder)
    app = open_page("whatif", run="finished", rule="energy share", tau="0.8")
    assert app.button(key="whatif-fork").disabled and "there is no checkpoint after T2" in words(app)
    with_checkpoint(folder)
    app.run()
    assert not app.button(key="whatif-fork").disabled
    app = open_page("whatif", run="finished", rule="share left free")
    assert app.button(key="whatif-fork").disabled and "cannot be set to the rule free" in words(app)


def test_the_button_forks_with_the_chosen_threshold(runs_folder, open_page, monkeypatch):
    with_checkpoint(recorded_runs.finished(runs_folder))
    asked = []

    def fork(folder: RunFolder, after_task: int, settings: dict, name: str = "") -> RunFolder:
        asked.append((folder.name, after_task, settings))
        return folder

    monkeypatch.setattr(launch, "fork", fork)
    app = open_page("whatif", run="finished", rule="energy share", tau="0.8")
    app.button(key="whatif-fork").click().run()
    assert asked == [("finished", 2, {"rule": "energy", "energy_affinity": 0.8})]


def test_the_quick_form_starts_a_pair_with_prompts_in_the_last_block_and_stays_on_the_page(
    runs_folder, open_page, monkeypatch
):
    folder, asked = recorded_runs.finished(runs_folder), []
    assert folder.config().settings["prompt_blocks"] == 0

    def start(runs, config):
        asked.append(config)
        return create_run(runs, replace(config, name=f"quick{len(asked)}"))

    monkeypatch.setattr(launch, "start", start)
    app = open_page("whatif", run="finished", rule="energy share", tau="0.8")
    assert app.button(key="whatif-fork").disabled  # there is no checkpoint to fork from; a new run needs none
    app.button(key="whatif-quick").click().run()
    usual, config = asked
    before = folder.config()
    assert usual.settings == {**before.settings, "prompt_blocks": 1}
    assert config.settings == {**before.settings, "rule": "energy", "energy_affinity": 0.8, "prompt_blocks": 1}
    assert (config.method, config.stream, config.seed, config.name) == (before.method, before.stream, before.seed, "")
    assert foot(app).selectbox(key="run").value == "finished"
    assert ": rule=energy, energy_affinity=0.8, prompts only in the last block" in words(app)
    app.button(key="whatif-quick").click().run()
    assert len(asked) == 4, "runs that nobody has trained are no answer"


def test_the_pair_that_trains_in_seconds_is_judged_and_not_trained_twice(runs_folder, open_page, monkeypatch):
    folder, asked = recorded_runs.finished(runs_folder), []

    def start(runs, config):
        asked.append(config)
        made = recorded_runs.finished(runs, f"quick{len(asked)}", recorded_runs.Plan(seed=len(asked)))
        made.config_file.write_text(json.dumps(config.to_dict()), "utf-8")
        return made

    monkeypatch.setattr(launch, "start", start)
    app = open_page("whatif", run="finished", rule="energy share", tau="0.8")
    app.button(key="whatif-quick").click().run()
    assert not app.exception and len(asked) == 2
    assert "Predicted and measured" in figures(app) and "Interference in T3: predicted" in words(app)
    app.button(key="whatif-quick").click().run()
    assert not app.exception and len(asked) == 2 and folder.config().settings["prompt_blocks"] == 0


@pytest.mark.parametrize("error", [StoreError("no checkpoint there"), ConfigError("rho must stay")])
def test_a_refused_fork_is_a_sentence(error, runs_folder, open_page, monkeypatch):
    with_checkpoint(recorded_runs.finished(runs_folder))

    def fork(*arguments, **others):
        raise error

    monkeypatch.setattr(launch, "fork", fork)
    app = open_page("whatif", run="finished", rule="energy share", tau="0.8")
    app.button(key="whatif-fork").click().run()
    assert not app.exception and str(error)[1:] in words(app).replace("\\", "")


def note_fork(folder: RunFolder) -> None:
    """Make a run a fork of "finished" after T2, as its note says."""
    changed = {"rule": ["elbow", "energy"], "energy_affinity": [0.95, 0.8]}
    folder.fork_file.write_text(
        json.dumps({"parent": "finished", "after_task": 2, "seq": 1, "changed": changed}), "utf-8"
    )


def test_a_fork_is_followed_beside_its_button_while_it_trains(runs_folder, open_page):
    with_checkpoint(recorded_runs.finished(runs_folder))
    folder = recorded_runs.running(runs_folder, "its-fork")
    note_fork(folder)
    with recorded_runs.held(folder):
        app = open_page("whatif", run="finished", rule="energy share", tau="0.8")
        (bar,) = (b.proto.text for b in app.get("progress") if "its-fork" in b.proto.text)
        assert "running" in bar and "task 2 of 3" in bar
        assert app.button(key="whatif-fork").disabled and "is being trained" in words(app)
        assert "Numbers appear when T3 has been learned in it" in words(app)
    time.sleep(0.3)  # longer than a status is good for
    app.run()
    assert not app.exception and not [b for b in app.get("progress") if "its-fork" in b.proto.text]
    assert not app.button(key="whatif-fork").disabled


def test_a_fork_is_judged_against_what_was_predicted(runs_folder, open_page):
    recorded_runs.finished(runs_folder)
    folder = recorded_runs.finished(runs_folder, "its-fork", recorded_runs.Plan(seed=1))
    note_fork(folder)
    app = open_page("whatif", run="finished")
    assert "Predicted and measured" in figures(app) and "Interference in T3: predicted" in words(app)
    assert re.search(r"forgetting by stored statistics went from \d+\.\d to 4\.2 points", words(app)), (
        "what is protected"
    )
    assert {"Final average accuracy", "Learning accuracy", "Forgetting"} <= set(numbers(app))
    figure = figures(app)["Predicted and measured"]
    assert [bar["name"] for bar in figure["data"]] == ["in the parent", "predicted", "measured in the fork"]
