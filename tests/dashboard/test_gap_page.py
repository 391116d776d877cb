"""The Gap page in every state of a run."""

from __future__ import annotations

import pytest

from cl_core.events import KINDS
from tests import recorded_clip_runs, recorded_runs
from tests.dashboard.reading import figures, numbers, opened, when_it_says, words
from tests.recorded_clip_runs import ClipPlan


def test_a_finished_run_shows_clouds_retrieval_and_what_was_lost(runs_folder, open_page):
    recorded_clip_runs.finished(runs_folder)
    app = open_page("gap", run="clip")
    assert next(iter(figures(app))) == "Length and direction of the gap", "one figure leads"
    assert "The two clouds, after T3 Shapes" not in figures(app)
    assert "the gap is 0.6, before training 0.3; R@1 changed by −30.0" in words(app)
    shown = figures(opened(app, "gap-clouds", "gap-general"))
    assert {
        "The two clouds, after T3 Shapes",
        "Cosines of pairs and of non-pairs",
        "Length and direction of the gap",
        "Retrieval",
        "General zero-shot accuracy",
        "Zero-shot lost before learning",
        "Images against class texts, task by task",
    } <= set(shown)
    said = numbers(app)
    assert said["Gap"] == "0.6, was 0.3" and said["Direction kept"] == "0.7"
    assert said["R@1 lost"] == "30.0 pp" and said["General accuracy lost"] == "18.0 pp"
    assert all(m.help for m in app.metric if m.label in ("Gap", "R@1 lost", "General accuracy lost"))


def test_the_chosen_task_is_what_the_clouds_show(runs_folder, open_page):
    recorded_clip_runs.finished(runs_folder)
    app = open_page("gap", run="clip", task="T2")
    assert "The two clouds, after T2 Letters" in figures(opened(app, "gap-clouds"))
    assert numbers(app)["Gap"] == "0.5, was 0.3"


def test_before_the_first_task_ends_the_beginning_is_shown(runs_folder, open_page):
    folder = recorded_clip_runs.begun(runs_folder)
    with recorded_runs.held(folder):
        app = open_page("gap", run="clip-begun", task="T2")
        said = words(app).replace("\\", "")
        assert "Nothing was measured after T2; shown instead: before training" in said
        assert "Appears when T1 Digits has been learned and T2 Letters has not" in said
        assert "The two clouds, before training" in figures(opened(app, "gap-clouds"))


def test_a_living_run_gains_points_as_they_are_measured(runs_folder, open_page):
    folder = recorded_clip_runs.begun(runs_folder)
    with recorded_runs.held(folder):
        app = opened(open_page("gap", run="clip-begun"), "gap-clouds")
        assert "The two clouds, before training" in figures(app)
        when_it_says(app, folder, *list(recorded_clip_runs.moments(ClipPlan()))[2:4])
        assert "The two clouds, after T1 Digits" in figures(app)


def test_a_run_without_a_gap_leads_to_those_that_have_one(runs_folder, open_page):
    recorded_runs.finished(runs_folder)
    recorded_clip_runs.finished(runs_folder)
    app = open_page("gap", run="finished")
    offered = [b.key for b in app.button if (b.key or "").startswith("gap-show-")]
    assert offered[0] == "gap-show-clip" and "gap-show-finished" not in offered and len(offered) <= 3
    app.button(key="gap-show-clip").click().run()
    assert not app.exception and app.session_state["run"] == "clip"
    assert "Length and direction of the gap" in figures(app)


def test_a_method_without_a_text_tower_names_those_that_have_one(runs_folder, open_page):
    recorded_runs.finished(runs_folder)
    said = words(open_page("gap", run="finished"))
    assert "This method has no text tower" in said and "`finetune`" in said and "`nsp2`" not in said


def test_a_run_that_did_not_measure_says_how_to(runs_folder, open_page):
    recorded_clip_runs.record(runs_folder, "clip", ClipPlan(gap=False))
    assert "diagnostics.gap=true" in words(open_page("gap", run="clip"))


def test_a_clip_run_that_has_only_been_created_says_what_will_appear(runs_folder, open_page):
    folder = recorded_clip_runs.record(runs_folder, "clip", until=0)
    with recorded_runs.held(folder):
        app = open_page("gap", run="clip")
        assert "appear here before the first step" in words(app)
        assert app.button(key="gap-empty-button").label == "Follow the run"


def test_without_a_general_set_the_runs_own_tasks_are_shown(runs_folder, open_page):
    recorded_clip_runs.unsaid(runs_folder)
    app = open_page("gap", run="clip-unsaid")
    assert "no images and captions from the pre-training distribution" in words(app)
    assert set(figures(app)) == {"Zero-shot lost before learning", "Images against class texts, task by task"}


@pytest.mark.parametrize("page", ["start", "run", "spectra", "attention", "forgetting"])
def test_the_other_pages_open_a_clip_run(page, runs_folder, open_page):
    recorded_clip_runs.finished(runs_folder)
    assert len(words(open_page(page, run="clip"))) > 40


def test_every_event_of_the_page_is_one_the_store_knows():
    kinds = {e.kind for moment in recorded_clip_runs.moments(ClipPlan()) for e in moment}
    assert {"ModalityGapMeasured", "SimilaritiesMeasured"} <= kinds <= set(KINDS)
