"""Every page in every state: drawn without an exception, with the sentence that belongs there."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import replace

import pytest

from cl_core import assets
from cl_core.events import Clock, StateChanged
from cl_core.store import RunFolder, RunWriter
from dashboard import launch, runs, view_state
from dashboard.figures import catalogue
from dashboard.view_state import page_file
from tests import recorded_clip_runs, recorded_runs
from tests.dashboard.conftest import SHOWN
from tests.dashboard.reading import PAGES, drawn, figures, foot, opened, when_it_says, words


def contents(folder: RunFolder) -> dict[str, bytes]:
    """What a reader must not change; SQLite's own files come and go beside the database."""
    files = (path for path in folder.path.iterdir() if path.is_file() and not path.name.endswith(("-wal", "-shm")))
    return {path.name: path.read_bytes() for path in files}


def turned_to(app, page):
    """The same visitor on another page."""
    app.switch_page(str(page_file(f"pages/{page}.py"))).run()
    assert not app.exception, (page, [e.value for e in app.exception])
    return words(app)


@pytest.mark.parametrize("state", recorded_runs.STATES)
def test_every_page_opens_every_run_and_changes_nothing_in_it(state, runs_folder, open_page):
    folder = recorded_runs.STATES[state](runs_folder)
    before, app = contents(folder), open_page(PAGES[0], run=state)
    for page in PAGES:
        said = turned_to(app, page)
        assert "Traceback" not in said.replace("Traceback (most recent call last):\n  …\nFloatingPointError", ""), page
        assert len(said) > 40, page
    assert contents(folder) == before


def test_a_figure_that_cannot_be_drawn_costs_no_page(runs_folder, open_page, monkeypatch):
    def draw(run, **controls):
        raise IndexError("no layer")

    monkeypatch.setattr(catalogue.Figure, "shown", SHOWN)
    monkeypatch.setitem(catalogue.FIGURES, "accuracy-matrix", replace(catalogue.FIGURES["accuracy-matrix"], draw=draw))
    recorded_runs.finished(runs_folder, "whole")
    said = turned_to(open_page(PAGES[0], run="whole"), "run")
    assert "This figure cannot be drawn from the events of this run (IndexError)." in said and "Losses" in said


def test_every_page_opens_without_any_run(open_page):
    app = open_page(PAGES[0])
    assert all(len(turned_to(app, page)) > 40 for page in PAGES)


def test_an_unknown_run_in_the_url_is_said_on_every_page_and_another_is_shown(runs_folder, open_page):
    recorded_runs.finished(runs_folder)
    app = open_page(PAGES[0], run="nowhere")
    for page in PAGES:
        app.query_params["run"] = "nowhere"
        assert "There is no run `nowhere`" in turned_to(app, page), page
        assert foot(app).selectbox(key="run").value == "finished", page


def test_a_path_in_the_url_opens_nothing(runs_folder, tmp_path, open_page):
    recorded_runs.finished(runs_folder)
    recorded_runs.finished(tmp_path / "elsewhere", "secret")
    app = open_page("run", run="../elsewhere/secret")
    assert "There is no run" in words(app) and foot(app).selectbox(key="run").value == "finished"


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("failed", "Failed at T2"),
        ("gone", "The training process died"),
        ("stopped", "Everything was saved"),
        ("waiting", "no worker has started it"),
        ("newer", "newer Plastiscope"),
        ("damaged-config", "config.json is damaged"),
        ("damaged-events", "events.db is damaged"),
    ],
)
def test_the_run_page_says_what_happened(state, sentence, runs_folder, open_page):
    recorded_runs.STATES[state](runs_folder)
    assert sentence in words(open_page("run", run=state)).replace("\\", "")


def test_a_failed_run_shows_cause_log_what_was_kept_and_how_to_go_on(runs_folder, open_page):
    recorded_runs.failed(runs_folder)
    app = open_page("run", run="failed")
    said = words(app).replace("\\", "")
    assert "norm_drift became NaN" in said and "lower prompt_rate" in said
    assert "Kept: everything measured so far (T1 learned" in said
    assert any("training on T2" in code.value for code in app.code)
    assert app.button(key="resume-here").label == "Resume from T2"


def test_a_living_run_can_be_paused_and_a_paused_one_stepped(runs_folder, open_page):
    folder = recorded_runs.running(runs_folder)
    with recorded_runs.held(folder):
        app = open_page("run", run="running")
        foot(app).button(key="bar-pause").click().run()
        assert not app.exception
        assert [p.name.endswith(".json") for p in folder.inbox.iterdir()] == [True]
        assert foot(app).button(key="bar-pause").disabled, "until the worker answers"
    folder = recorded_runs.paused(runs_folder)
    with recorded_runs.held(folder):
        app = open_page("run", run="paused")
        assert "Paused." in words(app)
        foot(app).button(key="bar-step").click().run()
        assert len(list(folder.inbox.glob("*.json"))) == 1


def test_a_frozen_view_stays_while_the_run_goes_on(runs_folder, open_page):
    from cl_core.events import Clock, StepEnded

    folder = recorded_runs.running(runs_folder)
    with recorded_runs.held(folder):
        app = open_page("run", run="running")
        foot(app).button(key="bar-freeze").click().run()
        before = figures(app)["Losses"]
        step = StepEnded(Clock(1, 0, 20), {"total": 1.0}, {}, {"prompts": 1.0}, {"prompts": 1.0}, 50.0, 0.1)
        when_it_says(app, folder, [step])
        assert figures(app)["Losses"] == before
        assert foot(app).button(key="bar-freeze").label == "1 new points waiting: catch up"
        foot(app).button(key="bar-freeze").click().run()
        assert figures(app)["Losses"] != before


def test_a_run_in_line_says_for_whom_it_waits_and_can_be_stopped(runs_folder, open_page):
    folder = recorded_runs.waiting(runs_folder)
    with recorded_runs.held(folder):
        with closing(RunWriter(folder)) as writer:
            writer.append([StateChanged(Clock(), "queued", "waits for a free GPU; in training there: other")])
        app = open_page("run", run="waiting")
        assert "waits for a free GPU; in training there: other" in words(app).replace("\\", "")
        assert "queued for the device" in words(app) + " ".join(str(m.value) for m in foot(app).markdown)
        assert foot(app).button(key="bar-stop") is not None


def test_start_says_what_is_missing_in_words_of_the_page(runs_folder, open_page):
    app = open_page("start")
    assert "An accuracy matrix appears here as soon as there is a run" in words(app)


def test_a_link_to_start_says_where_the_threshold_stands(open_page):
    for asked, stands in (("0.8", "0.8"), ("7", "0.94")):
        (board,) = (shown for shown in drawn(open_page("start", threshold=asked)) if "stored" in shown)
        assert board["texts"][board["at"]] == stands, asked


def test_the_door_to_the_playground_takes_the_threshold_along(open_page, monkeypatch):
    went = []
    monkeypatch.setattr(view_state, "go_to", lambda page, **choices: went.append((page, choices)))
    for asked in ("0.8", "0.94"):
        open_page("start", threshold=asked).button(key="start-threshold").click().run()
    assert went == [("pages/playground.py", {"epsilon": "0.8"}), ("pages/playground.py", {})]


def test_start_says_when_the_matrix_of_a_new_run_appears(runs_folder, open_page):
    recorded_runs.waiting(runs_folder)
    assert "appears here when its first task has been learned" in words(open_page("start", run="waiting"))


def test_start_opens_on_the_recording(monkeypatch, tmp_path, runs_folder, open_page):
    recorded_runs.finished(tmp_path / "recordings", "digits")
    recorded_runs.finished(runs_folder, "mine")
    monkeypatch.setattr(runs, "recordings_folder", lambda: tmp_path / "recordings")
    app = open_page("start")
    assert foot(app).selectbox(key="run").value == "digits"
    assert "a bundled recording" in words(app)
    assert sum("accuracy-matrix" in drawn.proto.body for drawn in app.get("html")) == 1


def test_a_method_without_prompts_is_not_said_to_have_any(monkeypatch, runs_folder, open_page):
    monkeypatch.setattr(runs, "recordings_folder", assets.recordings_folder)
    said = words(open_page("attention", run="gnsp-micro-mtil"))
    assert "Change of the weights" in said and "How far the weights moved" in said
    assert "To prompts" not in said and "Attention paid to prompts" not in said
    said = words(opened(open_page("attention", run="nsp2-split-digits"), "attention-more"))
    assert "Change of the weights" not in said and "Attention paid to prompts" in said and "To prompts" in said


def test_recordings_stand_in_the_order_of_their_presets_however_old_their_files_are(tmp_path):
    for name, preset in (("c", "gnsp-micro"), ("a", ""), ("d", "nsp2-micro"), ("b", "")):
        folder = tmp_path / "recordings" / name
        folder.mkdir(parents=True)
        RunFolder(folder).config_file.write_text(json.dumps({"method": "nsp2", "name": name, "preset": preset}))
    (tmp_path / "recordings" / "b" / "config.json").write_text("{")
    assert list(runs.RunIndex(tmp_path / "own", tmp_path / "recordings").recordings) == ["d", "c", "a", "b"]


def test_one_press_starts_the_live_run_and_follows_it(monkeypatch, runs_folder, open_page):
    monkeypatch.setattr(launch, "WORKER", (sys.executable, "-c", "import time; time.sleep(30)"))
    app = open_page("start")
    app.button(key="start-live").click().run()
    assert not app.exception
    (folder,) = list(runs.runs_index(fresh=True).own.values())
    try:
        assert folder.config().preset == "nsp2-micro"
        assert foot(app).selectbox(key="run").value == folder.name
        assert "The worker is loading" in words(app)
    finally:
        for child, _ in launch._CHILDREN.values():
            child.kill()
            child.wait()


def test_an_unwritable_runs_folder_is_said_on_the_page(monkeypatch, tmp_path, open_page):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PLASTISCOPE_RUNS", str(tmp_path / "file"))
    app = open_page("start")
    assert "Cannot list runs" in words(app)
    app.button(key="start-live").click().run()
    assert not app.exception and "Cannot write runs into" in words(app)


def test_the_launch_form_starts_what_was_chosen(monkeypatch, runs_folder, open_page):
    monkeypatch.setattr(launch, "WORKER", (sys.executable, "-c", ""))
    app = open_page("run")
    presets = app.selectbox(key="launch-preset").options
    assert "NSP² on handwritten digits (nsp2-micro)" in presets, "typing the name that the docs use finds it"
    app.number_input(key="launch-seed").set_value(7)
    app.text_input(key="launch-name").set_value("by-hand").run()
    app.number_input(key="launch-epochs-nsp2-micro").set_value(2).run()
    app.button(key="launch-start").click().run()
    assert not app.exception
    config = runs.runs_index(fresh=True).own["by-hand"].config()
    assert (config.seed, config.training.epochs, config.preset) == (7, 2, "nsp2-micro")


def test_the_launch_form_says_which_name_is_taken(monkeypatch, runs_folder, open_page):
    recorded_runs.finished(runs_folder, "taken")
    app = open_page("run", run="taken")
    app.toggle(key="new-run").set_value(True).run()
    app.text_input(key="launch-name").set_value("taken").run()
    app.button(key="launch-start").click().run()
    assert not app.exception and "is taken" in words(app)


def test_forgetting_opens_on_the_cell_that_lost_most(runs_folder, open_page):
    recorded_runs.finished(runs_folder, "plain", recorded_runs.Plan(method="sequential"))
    app = open_page("forgetting", run="plain")
    assert "T1 after training on T3" in words(app) and "pp" in words(app)
    app = open_page("forgetting", run="plain", **{"from": "T2", "to": "T2"})
    assert "T2 after training on T2" in words(app) and "just learned" in words(app)


def test_forgetting_never_says_a_number_for_a_cell_that_was_not_measured(runs_folder, open_page):
    recorded_runs.finished(runs_folder)
    app = open_page("forgetting", run="finished", **{"from": "T1", "to": "T3"})
    assert "Not measured: T3 is learned later." in words(app)


def test_every_figure_says_what_it_is_how_it_is_computed_and_has_a_text_for_who_cannot_see_it(runs_folder, open_page):
    recorded_runs.finished(runs_folder)
    for page in ("run", "forgetting"):
        app = opened(open_page(page, run="finished"), *(["run-more"] if page == "run" else []))
        drawn = figures(app)
        assert len(drawn) >= 4
        for figure in drawn.values():
            assert len(figure["layout"]["meta"]["alt"]) > 20
            assert figure["layout"]["uirevision"] and figure["layout"]["template"]


def test_a_run_over_named_domains_shows_what_was_known_before_learning(runs_folder, open_page):
    recorded_clip_runs.finished(runs_folder)
    for page in ("start", "run"):
        labels = [metric.label for metric in open_page(page, run="clip").metric]
        assert [label.removesuffix(" so far") for label in labels[:3]] == ["Transfer", "Average", "Last"]
    start = open_page("start", run="clip")
    (table,) = [drawn.proto.body for drawn in start.get("html") if "accuracy-matrix" in drawn.proto.body]
    assert "zero-shot" in table and "<small>Digits</small>" in table and "class=before" in table
    app = open_page("forgetting", run="clip")
    assert figures(app)["Accuracy matrix"]["layout"]["yaxis"]["ticktext"][0] == "zero-shot"
    assert "Other readouts were not recorded" not in words(app)
    app = open_page("forgetting", run="clip", **{"from": "zero-shot", "to": "T2"})
    assert "T2 Letters before training" in words(app) and "had not been learned yet" in words(app)
    app = open_page("forgetting", run="clip", **{"from": "T1", "to": "T3"})
    assert "Change since zero-shot" in words(app)
    line = runs.summary(runs.runs_index().own["clip"])
    assert line.tasks_measured == 3 and None not in (line.final_average, line.learned, line.transfer)


def test_a_run_measured_only_before_training_shows_that_row(runs_folder, open_page):
    folder = recorded_clip_runs.begun(runs_folder)
    start = open_page("start", run=folder.name)
    (table,) = [drawn.proto.body for drawn in start.get("html") if "accuracy-matrix" in drawn.proto.body]
    assert table.count("data-measured=") == 3
    assert "before training" in words(open_page("forgetting", run=folder.name))
    open_page("run", run=folder.name)
