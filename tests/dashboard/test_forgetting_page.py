"""Forgetting leads from a cell to its cause, its images and one of them."""

from __future__ import annotations

import base64
import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("streamlit", reason="streamlit is not installed")

from cl_core.analysis import measured_later
from cl_core.events import AccuracyMeasured, Clock, SpectrumMeasured
from cl_core.readouts import STORED
from dashboard.figures.diagnosis import probe_place
from dashboard.view_state import page_file
from tests import invented_run, recorded_clip_runs, recorded_runs
from tests.dashboard.reading import figures, shown, words
from tests.recording import append, recorded


@pytest.fixture
def opened(runs_folder, open_page):
    for name in ("plain", "other"):
        recorded_runs.finished(runs_folder, name, recorded_runs.Plan(method="sequential"))
    return open_page("forgetting", run="plain")


def button(app, key):
    return next(button for button in app.button if button.key == key)


def test_a_cell_says_its_verdict_its_parts_and_its_images(opened):
    assert (
        "T1 fell" in words(opened)
        and "features still separable" in words(opened)
        and "mainly classes compete" in words(opened)
    )
    drawn = figures(opened)
    assert "Why T1 fell" in drawn and "Confusion after T3" in drawn and "Accuracy per class" in drawn
    packed = drawn["Why T1 fell"]["data"][0]["x"]
    fall, *parts = np.frombuffer(base64.b64decode(packed["bdata"]), packed["dtype"])
    assert len(parts) == 3 and abs(fall - sum(parts)) < 0.05
    assert opened.get("image") or "that lost most margin first" in words(opened)


def test_an_image_is_traced_and_pinned_across_runs(opened):
    lost = [b for b in opened.button if b.key and b.key.startswith("trace-0-")]
    assert lost
    lost[0].click().run()
    image = int(lost[0].key.rsplit("-", 1)[1])
    assert opened.session_state["image"] == str(image + 1)
    assert "Margin of one image" in figures(opened) and "Lost, taken for" in words(opened)
    button(opened, "pin").click().run()
    assert f"Pinned: T1 image {image + 1}" in words(opened)
    opened.selectbox(key="run").set_value("other").run()
    assert not opened.exception and f"Pinned: T1 image {image + 1}" in words(opened)


def test_keys_move_the_cell_within_the_matrix(opened):
    assert (opened.session_state["from"], opened.session_state["to"]) == ("T3", "T1")
    assert button(opened, "forgetting-left").disabled and button(opened, "forgetting-down").disabled
    button(opened, "forgetting-right").click().run()
    button(opened, "forgetting-up").click().run()
    assert (opened.session_state["from"], opened.session_state["to"]) == ("T2", "T2")
    assert "just been learned" in words(opened) and not opened.exception


def test_a_run_without_answers_for_all_images_says_so_and_shows_its_probe_images(runs_folder, open_page):
    import sqlite3

    folder = recorded_runs.finished(runs_folder, "older", recorded_runs.Plan(method="sequential"))
    with sqlite3.connect(folder.database) as database:
        database.execute("DELETE FROM events WHERE kind IN ('ImagesStored', 'ImagesClassified', 'RefitMeasured')")
    app = open_page("forgetting", run="older")
    assert not app.exception
    assert "were not stored in this run" in words(app) and "probe images" in words(app)
    assert "A refitted head was not measured in this cell" in words(app)


def test_probe_images_are_the_first_of_each_class_in_turn():
    labels = np.array([4, 4, 4, 5, 5])
    assert [probe_place(labels, i, 4, 5) for i in range(5)] == [0, 2, None, 1, 3]
    assert probe_place(labels, 0, 4, 9) is None, "of a sample it is not known"


def test_what_deserves_a_look_is_said_with_number_threshold_figure_and_remedy(runs_folder, open_page):
    folder = recorded_runs.finished(runs_folder, "tight")
    spectrum = SpectrumMeasured(Clock(2), 1, "affinity", np.ones(16, np.float32), 1, "elbow", True, 1.0, 1.0, 1.0, 0.0)
    append(folder, [spectrum])
    for page in ("run", "forgetting"):
        said = words(open_page(page, run="tight"))
        assert "Room nearly gone" in said and "Layer 2 has 1 of 16 directions left" in said
        assert "Measured 0.0625; threshold 0.1" in said and "Protect less" in said
    app = open_page("run", run="tight")
    button(app, "alert-to-directions-left").click().run()
    assert not app.exception and app.session_state["layer"] == "2" and app.session_state["_page"] == "spectra"


def test_where_images_name_their_task_the_walk_begins_before_training(runs_folder, open_page):
    recorded_clip_runs.finished(runs_folder)
    app = open_page("forgetting", run="clip")
    assert figures(app)["Accuracy matrix"]["layout"]["yaxis"]["ticktext"][0] == "zero-shot"
    assert "Not measured" in words(app) or "were not stored in this run" in words(app)
    assert "had not been learned yet" in words(open_page("forgetting", run="clip", **{"from": "zero-shot", "to": "T2"}))
    begun = recorded_clip_runs.begun(runs_folder)
    assert "before training" in words(open_page("forgetting", run=begun.name))


@pytest.fixture(scope="module")
def known_reasons(tmp_path_factory, tiny_config):
    pytest.importorskip("torch", reason="torch is not installed")
    from tests.analysis.built_to_forget import three_runs

    with three_runs(tmp_path_factory.mktemp("three"), tiny_config) as found:
        yield found


@pytest.mark.parametrize(
    ("reason", "cause"), [("heads", "classes compete"), ("features", "features lost"), ("layer", "head out of date")]
)
def test_the_page_names_the_reason_within_four_clicks(
    known_reasons, runs_folder, open_page, monkeypatch, reason, cause
):
    from cl_core.analysis.patching import locate
    from dashboard import launch

    shutil.copytree(known_reasons[reason].path, runs_folder / reason)
    monkeypatch.setattr(launch, "locate", locate)  # in this process: a worker would not know the method
    app = open_page("forgetting", run=reason)  # two clicks: the run, the page
    assert f"mainly {cause}" in words(app)
    packed = figures(app)["Why T1 fell"]["data"][0]["x"]
    fall, *parts = np.frombuffer(base64.b64decode(packed["bdata"]), packed["dtype"])
    assert len(parts) == 3 and fall > 20 and abs(fall - sum(parts)) < 0.05
    assert "heads and statistics refitted" in words(app), "the button says what it will do"
    button(app, "find-layer").click().run()  # the third
    assert not app.exception and "Which layer lost T1" in figures(app)
    said = {"heads": "Restoring no part of the model", "features": "All but the head", "layer": "it is this block"}
    assert said[reason] in words(app)
    image = next(b for b in app.button if b.key and b.key.startswith("trace-0-"))
    image.click().run()  # the fourth
    assert "Path between" in " ".join(figures(app)) and "nearest class means after T2" in words(app)


def test_the_traced_image_stays_while_other_pages_count_their_own(opened, open_page):
    next(b for b in opened.button if b.key and b.key.startswith("trace-0-")).click().run()
    image = opened.session_state["image"]
    to = lambda page: opened.switch_page(str(page_file(f"pages/{page}.py"))).run()
    for page, kept in (("spectra", "none"), ("attention", "1"), ("whatif", "none"), ("forgetting", image)):
        to(page)
        assert not opened.exception and opened.session_state["image"] == kept, page
    button(opened, "forgetting-right").click().run()
    assert opened.session_state["image"] == "none", "the number was that of an image of T1"


def test_an_image_is_left_behind_with_its_run(opened):
    next(b for b in opened.button if b.key and b.key.startswith("trace-0-")).click().run()
    assert opened.session_state["image"] != "none"
    opened.selectbox(key="run").set_value("other").run()
    assert opened.session_state["image"] == "none"
    opened.switch_page(str(page_file("pages/attention.py"))).run()
    opened.switch_page(str(page_file("pages/forgetting.py"))).run()
    assert opened.session_state["image"] == "none", "the page keeps no image of the run before"


def test_a_clicked_image_is_scrolled_to(opened):
    scrolled = lambda: [part.proto.body for part in opened.get("html") if "scrollIntoView" in part.proto.body]
    assert not scrolled()
    next(b for b in opened.button if b.key and b.key.startswith("trace-0-")).click().run()
    (script,) = scrolled()
    assert ".st-key-traced" in script
    opened.run()
    assert not scrolled(), "once, not at every drawing"


def test_a_link_opens_the_same_images(opened, open_page):
    groups = opened.selectbox(key="images-shown").options
    assert shown(opened.button_group(key="images-shown-named").options[0]).startswith(f"{groups[0]} (")
    app = open_page("forgetting", run="plain", **{"images-shown": "all"})
    assert app.selectbox(key="images-shown").value == app.button_group(key="images-shown-named").value == "all"
    for said in invented_run.DIGITS[4:6]:  # the newest task's: a group that the confusion matrix opens
        pair = f"three taken for {said}"
        app = open_page("forgetting", run="plain", **{"images-shown": pair})
        if pair in app.selectbox(key="images-shown").options:
            assert app.session_state["images-shown"] == pair
            break
    else:
        pytest.fail("no image of three is taken for another digit")


def test_two_readouts_are_told_apart_in_plain_words(runs_folder, open_page):
    plan = recorded_runs.Plan(method="sequential")
    judged = [
        tuple(
            replace(event, headline=True) if isinstance(event, AccuracyMeasured) and event.readout == STORED else event
            for event in moment
        )
        for moment in invented_run.moments(plan)
    ]
    recorded(runs_folder, replace(plan.config, name="judged"), judged)
    said = words(open_page("forgetting", run="judged", **{"from": "T3", "to": "T1"}))
    assert "By stored statistics, this run's default readout, T1 " in said
    assert "By its own trained heads (class-incremental): T1 " in said
    assert "Why two answers: stored statistics fail only when the features move, the heads also when" in said


def test_a_jump_takes_cell_image_and_layer_along(opened, runs_folder):
    recorded_runs.located(runs_folder / "plain")
    opened.session_state["image"], opened.session_state["layer"] = "3", "1"
    opened.run()
    assert "block 2 alone" in words(opened)
    assert button(opened, "to-spectra").label == "Layer 2 on Spectra", "the block of the finding, not the chosen layer"
    button(opened, "to-spectra").click().run()
    state = opened.session_state
    assert not opened.exception and state["_page"] == "spectra"
    assert (state["task"], state["layer"], state["image"]) == ("T3", "2", "3")
    assert dict(opened.query_params) | {"from": "T3", "to": "T1"} == dict(opened.query_params)


def test_a_line_between_two_boundaries_is_shown_where_it_was_measured(runs_folder, open_page):
    folder = recorded_clip_runs.written(runs_folder)
    alphas = [k / 10 for k in range(11)]
    line = {"alphas": alphas, "learned": alphas, "kept": None, "general": None}
    measured_later.save_at(measured_later.interpolation_file(folder, 0, 1), {"from": 1, "to": 2, **line})
    app = open_page("forgetting", run="clip-written", **{"from": "T2", "to": "T1"})
    assert "there is no checkpoint after T2" in words(app) and "Between two states of the weights" in words(app)
    app.session_state["line"] = "T1"
    app.run()
    assert "after T1" in figures(app)["Between two states of the weights"]["layout"]["xaxis"]["title"]["text"]
