"""The Spectra page of CLIP runs: weights, moments of features, and the choice between them."""

from __future__ import annotations

import numpy as np

from cl_core.events import Clock, ConceptorMeasured, InputsSurveyed, SpectrumMeasured, TradeOffMeasured
from cl_core.store import RunWriter
from dashboard.view_state import page_file
from tests import recorded_clip_runs, recorded_runs
from tests.dashboard.reading import figures, numbers, opened, when_it_says, words
from tests.recorded_clip_runs import ClipPlan


def hidden(app) -> str:
    """Styles that hide a shared control from the page."""
    return " ".join(e.proto.body for e in app.get("html") if "display: none" in e.proto.body)


def controls(app) -> set[str]:
    return {e.key for kind in ("segmented_control", "selectbox") for e in getattr(app, kind)}


def test_weights_are_shown_for_the_chosen_task_and_matrix(runs_folder, open_page):
    recorded_clip_runs.written(runs_folder)
    app = open_page("spectra", run="clip-written", task="T2", map="text 2 v")
    assert next(iter(figures(app))) == "Free directions over tasks", "the answer's figure leads"
    assert "After T2 image tower, layer 1, queries has the fewest null directions, 7 of 16" in words(app)
    assert figures(opened(app, "weights-change", "weights-tasks")).keys() == {
        "Singular values, text tower, layer 2, values",
        "How far each matrix moved, T2 Letters",
        "How the directions are divided, T2 Letters",
        "Where the change lies, T2 Letters",
        "Free directions over tasks",
        "Effective rank",
        "The pre-trained principal space",
    }
    said = numbers(app)
    assert said["Principal"] == "9 of 16, 56 %" and said["Written to"] == "4 of 16, 25 %"
    assert said["Effective rank"] == "11.5, was 10.5" and said["Inside the principal space"] == "2.0·10⁻⁷"
    assert not {"family", "space"} & controls(app), "one family"
    assert "st-key-shared-layer" in hidden(app), "the matrix says which layer"


def test_a_matrix_that_is_not_there_falls_back_to_the_first(runs_folder, open_page):
    recorded_clip_runs.written(runs_folder)
    app = open_page("spectra", run="clip-written", map="text 9 z")
    assert "Singular values, image tower, layer 1, queries" in figures(app)


def test_features_come_first_and_weights_are_one_press_away(runs_folder, open_page):
    recorded_clip_runs.protected(runs_folder)
    app = opened(open_page("spectra", run="clip-protected", layer="2"), "spectra-updates")
    assert {
        "Singular values, layer 2, inputs of the first MLP matrix",
        "Directions left free",
        "Leak of the actual update, inputs of the first MLP matrix",
        "What the projection keeps of each step",
    } <= figures(app).keys()
    assert "prompt" not in words(app).lower().replace("attention and prompts", "")
    app.segmented_control(key="family").set_value("weights").run()
    assert not app.exception and "Singular values, image tower, layer 1, queries" in figures(app)
    assert "Training in this run does not use them" in words(app) and "Written to" not in {m.label for m in app.metric}
    app.segmented_control(key="family").set_value("features").run()
    assert app.segmented_control(key="layer").value == "2", "the layer waits while the weights are looked at"


def test_a_matrix_that_exists_once_needs_no_layer(runs_folder, open_page):
    recorded_clip_runs.protected(runs_folder)
    app = open_page("spectra", run="clip-protected", layer="1", space="image projection")
    assert "Singular values, layer 3, class token before the image projection" in figures(app)
    assert "There is one such matrix" in words(app)


def test_a_task_in_which_no_map_moved_says_so(runs_folder, open_page):
    recorded_clip_runs.protected(runs_folder)
    app = opened(open_page("spectra", run="clip-protected", family="weights", task="T3"), "weights-change")
    assert "No map moved in T3 Shapes" in words(app)


def test_a_living_run_gains_its_first_weights_while_one_looks(runs_folder, open_page):
    plan = ClipPlan(method="nusa_cl", weights="r_max")
    folder = recorded_clip_runs.record(runs_folder, "clip", plan, until=1)
    with recorded_runs.held(folder):
        app = open_page("spectra", run="clip")
        app.session_state["weights-change"] = True
        assert "appear here when T1 has been learned" in words(app) and not figures(app)
        when_it_says(app, folder, *list(recorded_clip_runs.moments(plan))[1:4])
        assert "How the directions are divided, T1 Digits" in figures(app)


def test_a_clip_run_that_measured_neither_says_how_to(runs_folder, open_page):
    recorded_clip_runs.record(runs_folder, "clip", ClipPlan(gap=False))
    assert "diagnostics.weights=true" in words(open_page("spectra", run="clip"))


def test_the_matrix_stays_chosen_when_another_page_was_visited(runs_folder, open_page):
    recorded_clip_runs.written(runs_folder)
    app = open_page("spectra", run="clip-written")
    app.selectbox(key="map").set_value("image 2 o").run()
    app.switch_page(str(page_file("pages/gap.py"))).run()
    app.switch_page(str(page_file("pages/spectra.py"))).run()
    assert app.selectbox(key="map").value == "image 2 o"


def test_conceptors_and_trade_offs_are_shown_where_a_run_has_them(runs_folder, open_page):
    plan = recorded_runs.Plan()
    folder = recorded_runs.record(runs_folder, "soft", plan, until=1)
    values = np.linspace(1, 0, plan.width, dtype=np.float32)
    writer = RunWriter(folder)
    for task in range(plan.tasks):
        clock, nullity = Clock(task, 0, task), plan.width - 3
        for layer in range(plan.depth):
            cut = SpectrumMeasured(clock, layer, "kv", values, nullity, "trade-off α = 5", True, 0.4, 6.0, 1.0, 0.0)
            weighed = TradeOffMeasured(clock, layer, "kv", values, 0.5 * values, 3)
            taken = ConceptorMeasured(clock, layer, values, 0.5, 0.4, 3.0, 0.2)
            writer.append((cut, weighed, taken, InputsSurveyed(clock, layer, 0.4, 0.6, 0.5)))
    writer.close()
    app = open_page("spectra", run="soft", layer="2")
    cut_where = {"Singular values, layer 2, inputs of keys and values", "Where the trade-off cuts, layer 2"}
    assert cut_where <= figures(app).keys()
    app.segmented_control(key="family").set_value("conceptors").run()
    assert not app.exception
    assert {"Directions in use, layer 2", "Capacity taken", "Shared with the past"} <= figures(app).keys()
