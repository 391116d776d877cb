"""The Playground page without a browser: controls, URL, queue, what is kept."""

from __future__ import annotations

import json

import pytest

from cl_core.playground import PlaygroundConfig, train
from cl_core.playground.recording import keep
from cl_core.store import RunFolder
from cl_core.summary import summarise
from dashboard import playground_jobs
from dashboard.playground_controls import controls_of
from dashboard.view_state import called
from tests.dashboard.reading import words

QUICK = {"tasks": "2", "epochs": "1"}


@pytest.fixture(autouse=True)
def own_laboratory(monkeypatch):
    monkeypatch.setattr(playground_jobs, "_LABORATORY", [])


def board(app) -> dict:
    """What the board was drawn from."""
    found = [
        e for e in app.main if getattr(e, "type", "") == "bidi_component" and "playground-board" in str(e.proto.id)
    ]
    return json.loads(found[0].proto.bytes)


def settled(app):
    """The page once its network is trained."""
    for _ in range(60):
        if not any(not job.done for job in playground_jobs.laboratory()._known.values()):
            return app.run()
        next(iter(playground_jobs.laboratory()._known.values())).wait(1)
    raise AssertionError("no network came")


def test_the_page_shows_a_network_that_was_really_trained(open_page):
    app = settled(open_page("playground", **QUICK, epsilon="0.9"))
    record, config = board(app), PlaygroundConfig(tasks=2, epochs=1, energy=0.9)
    shown, real = record["live"], train([config])[0]
    assert record["texts"][record["at"]] == "0.9" and shown["text"] == "0.9" and shown["seeds"] == [0]
    assert shown["matrix"][1] == pytest.approx(list(real.matrix()[1]), abs=0.01)
    assert shown["free"] == [pytest.approx(task.free, abs=1e-4) for task in real.tasks]
    assert "Spectra of old tasks' inputs of a layer" in words(app)


def test_the_slider_trains_and_the_trail_stays(open_page):
    app = settled(open_page("playground", **QUICK))
    app.select_slider(key="epsilon").set_value("0.5").run()
    app = settled(app)
    record = board(app)
    assert record["live"]["text"] == "0.5" and record["trail"] == ["0.95", "0.5"] and "0.95" in record["points"]


def test_every_rule_stream_and_size_can_be_chosen(open_page):
    app = open_page("playground", **QUICK)
    for title in ("SGP", "Adam-NSCL", "EWC", "Replay", "Joint training", "No protection"):
        app.selectbox(key="protect").set_value(title).run()
        assert not app.exception, title
    app.number_input(key="tasks").set_value(20).run()
    for title in ("Rotated", "Split"):
        app.selectbox(key="digits").set_value(title).run()
        assert not app.exception, title
    shown = app.number_input(key="parts")
    assert len(board(app)["tasks"]) == shown.value == shown.max == 5, "the control and the training agree"
    app.selectbox(key="digits").set_value("Permuted").run()
    app.number_input(key="depth").set_value(3).run()
    assert not app.exception and board(app)["layers"] == ["hidden 1", "hidden 2", "hidden 3", "output"]


def test_a_threshold_for_each_layer(open_page):
    app = settled(open_page("playground", **QUICK, bylayer="true", eps1="0.5", eps3="1"))
    record = board(app)
    assert record["texts"] == ["0.5, 0.95, 1"] and record["live"]["free"][0][0] > record["live"]["free"][0][2]
    assert app.button(key="playground-frontier").disabled


def test_all_defaults_brings_every_control_back(open_page):
    app = settled(open_page("playground", **QUICK, epsilon="0.7", predict="true", similarity="0.8"))
    assert board(app)["predict"] and board(app)["texts"][board(app)["at"]] == "0.7"
    app.button(key="playground-reset").click().run()
    assert not app.exception
    record = board(app)
    assert not record["predict"] and record["texts"][record["at"]] == "0.95" and len(record["tasks"]) == 10
    assert app.select_slider(key="similarity").value == "0"


def test_recorded_points_stand_on_the_slider(open_page):
    record = board(open_page("playground"))
    assert set(record["stored"]) == set(record["texts"]), "every position of the default settings is recorded"
    assert all(len(point["seeds"]) == 3 for point in record["stored"].values())
    assert open_page("playground").button(key="playground-frontier").disabled, "drawing fewer would take marks away"
    assert not board(open_page("playground", width="32", **QUICK))["stored"], "other settings, other networks"


def test_a_run_is_kept_and_every_page_that_has_its_events_opens_it(open_page, runs_folder):
    app = settled(open_page("playground", **QUICK))
    app.button(key="playground-keep").click().run()
    job = app.session_state["_playground_kept"]
    assert job.wait(60) and not job.trouble
    app.run()
    assert f"Kept as {called(job.run)}." in words(app) and "GPM on" in called(job.run)
    assert summarise(RunFolder(runs_folder / job.run)).state == "finished"
    for page in ("start", "run", "spectra", "forgetting", "whatif", "compare", "export"):
        said = words(open_page(page, run=job.run))
        assert "Traceback" not in said and len(said) > 40, page


def test_a_kept_run_leads_back_with_another_threshold(open_page, runs_folder):
    keep(PlaygroundConfig(tasks=3, epochs=1, similarity=0.5, energy=0.9), runs_folder, "kept")
    app = open_page("whatif", run="kept")
    app.select_slider(key="tau").set_value("0.7").run()
    app.button(key="whatif-playground").click().run()
    assert not app.exception
    record = board(app)
    assert record["texts"][record["at"]] == "0.7" and len(record["tasks"]) == 3
    assert app.select_slider(key="similarity").value == "0.5" and app.number_input(key="epochs").value == 1


def test_controls_stand_for_every_network():
    config = PlaygroundConfig(rule="sgp", sgp_alpha=3.0, tasks=4, width=32, energy=(0.5, 0.9, 0.95), seed=2)
    sent = controls_of(config)
    assert sent == {
        "protect": "SGP", "tasks": "4", "seed": "2", "width": "32", "alpha": "3", "bylayer": "true",
        "eps1": "0.5", "eps2": "0.9",
    }  # fmt: skip
    assert controls_of(PlaygroundConfig()) == {}


def test_what_cannot_be_trained_is_said(open_page, monkeypatch):
    def busy(self, configs):
        raise playground_jobs.Busy("64 networks wait already; try again in a few seconds")

    monkeypatch.setattr(playground_jobs.Laboratory, "train", busy)
    assert "64 networks wait already" in board(open_page("playground"))["waiting"]


def test_a_network_that_ends_while_the_page_is_drawn_is_shown_all_the_same(open_page, monkeypatch):
    """The page asks once whether it is done; one that ends right after is awaited, not taken for drawn."""
    looks = []

    class Slow(playground_jobs.Job):
        @property
        def done(self) -> bool:
            looks.append(None)
            return len(looks) > 1 and super().done  # not at the first look, whenever it ends

        def wait(self, seconds: float) -> bool:
            return super().wait(60)

    monkeypatch.setattr(playground_jobs, "Job", Slow)
    app = open_page("playground", **QUICK)
    assert board(app)["live"] is not None
