"""Spectra, attention and prompts: what they draw for a run that has the events, what they say for one that has not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dashboard.view_state import page_file
from tests import recorded_runs
from tests.dashboard.reading import drawn, figures, opened, words
from tests.recorded_runs import Plan


def test_spectra_draws_the_chosen_layer_space_and_task(runs_folder, open_page):
    recorded_runs.finished(runs_folder)
    app = open_page("spectra", run="finished", layer="2", task="T1", space="mixture")
    assert "Singular values, layer 2, mixture" in figures(app)
    assert "After T1" in words(app) and app.segmented_control(key="space").value == "mixture"


def test_a_task_without_a_spectrum_is_said_and_the_last_measured_is_shown(runs_folder, open_page):
    recorded_runs.finished(runs_folder)  # the invented run measures no spectra after its last task
    app = open_page("spectra", run="finished", task="T3")
    assert "Nothing was measured after T3; shown instead: after T2" in words(app)


@pytest.mark.parametrize("page", ["spectra", "attention"])
def test_what_was_not_recorded_is_said_with_the_way_to_record_it(page, runs_folder, open_page):
    recorded_runs.unmeasured(runs_folder)
    said = words(open_page(page, run="unmeasured"))
    assert "not recorded" in said and "diagnostics." in said
    assert not drawn(open_page(page, run="unmeasured"))


@pytest.mark.parametrize("page", ["spectra", "attention"])
def test_a_run_that_has_not_begun_says_what_will_appear(page, runs_folder, open_page):
    recorded_runs.waiting(runs_folder)
    said = words(open_page(page, run="waiting"))
    assert "appear" in said or "ended before" in said


def test_attention_compares_with_the_moment_the_task_was_learned(runs_folder, open_page):
    recorded_runs.finished(runs_folder)
    app = open_page("attention", run="finished", probe="T1", image="2", head="1", layer="3")
    titled = figures(app)
    assert "Where the class token looks, layer 3, head 1" in titled
    said = words(app)
    assert "after T1 and after T3" in said and "The model's answer" in said
    app.segmented_control(key="against").set_value("the task before").run()
    assert "after T2 and after T3" in words(app)


def test_images_of_a_task_not_yet_learned_are_explained(runs_folder, open_page):
    recorded_runs.finished(runs_folder)
    app = open_page("attention", run="finished", probe="T3", task="T1")
    assert "first measured after T3" in words(app)
    assert not app.exception


def test_controls_that_do_not_fit_another_run_fall_back(runs_folder, open_page):
    recorded_runs.finished(runs_folder)
    app = open_page("attention", run="finished", probe="T9", image="99", head="77", layer="50", task="T50")
    assert app.segmented_control(key="probe").value == "T1" and app.segmented_control(key="image").value == "1"
    app = open_page("spectra", run="finished", space="colour", layer="0")
    assert app.segmented_control(key="space").value == "affinity"


def test_a_run_of_one_task_has_nothing_to_compare_and_says_so(runs_folder, open_page):
    recorded_runs.finished(runs_folder, plan=Plan(tasks=1))
    assert "there is no earlier attention to compare with" in words(open_page("attention", run="finished"))
    assert "ended before its first task was measured" in words(open_page("spectra", run="finished"))


def test_a_wide_backbone_is_shown_by_selection(runs_folder, open_page):
    plan = Plan(tasks=2, epochs=1, steps=2, depth=12, heads=12, grid=14, width=64, prompts=4, probes=1)
    recorded_runs.finished(runs_folder, plan=plan)
    app = open_page("attention", run="finished", layer="12", head="12")
    assert "Where the class token looks, layer 12, head 12" in figures(app)
    app = opened(open_page("spectra", run="finished", layer="12"), "spectra-more")
    assert "All layers, affinity" in figures(app)


def test_a_task_shared_between_pages_is_the_same_on_both(runs_folder, open_page):
    recorded_runs.finished(runs_folder, plan=replace(Plan(), tasks=4))
    app = open_page("spectra", run="finished")
    app.segmented_control(key="task").set_value("T2").run()
    app.segmented_control(key="layer").set_value("3").run()
    app.switch_page(str(page_file("pages/attention.py"))).run()
    assert app.segmented_control(key="task").value == "T2" and app.segmented_control(key="layer").value == "3"
