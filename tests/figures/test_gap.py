"""Gap figures by the data in their traces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cl_core.events import AccuracyMeasured, Clock, ModalityGapMeasured, RunStarted, SimilaritiesMeasured
from dashboard.figures import gap, zero_shot_ability
from dashboard.theme import INK, PALE, task_colour
from tests.figures.conftest import assert_complete, trace
from tests.recorded_clip_runs import ClipPlan, moments


def told(plan):
    events = [event for moment in moments(plan) for event in moment]
    return {
        kind: [e for e in events if isinstance(e, kind)]
        for kind in (RunStarted, AccuracyMeasured, ModalityGapMeasured, SimilaritiesMeasured)
    }


@pytest.fixture(scope="module")
def said():
    return told(ClipPlan())


def all_of(said, task=None):
    measured, tasks = said[ModalityGapMeasured], said[RunStarted][0].tasks
    return {
        "gap_over_tasks": gap.gap_over_tasks(measured, tasks),
        "two_clouds": gap.two_clouds(measured, tasks, task=task),
        "cosine_distributions": gap.cosine_distributions(measured, tasks, task=task),
        "retrieval": zero_shot_ability.retrieval(measured, tasks),
        "general_accuracy": zero_shot_ability.general_accuracy(measured, tasks),
        "zero_shot_lost": zero_shot_ability.zero_shot_lost(said[AccuracyMeasured], tasks),
        "domain_similarities": zero_shot_ability.domain_similarities(said[SimilaritiesMeasured], tasks, task=task),
    }


@pytest.mark.parametrize("plan", [ClipPlan(), ClipPlan(tasks=1), ClipPlan(tasks=6, pairs=300)], ids=["3", "1", "6"])
def test_every_figure_has_its_words_template_and_small_arrays(plan):
    assert_complete(all_of(told(plan)))


def test_nothing_measured_yet_is_a_figure_too():
    for name, figure in {
        "gap_over_tasks": gap.gap_over_tasks([]),
        "two_clouds": gap.two_clouds([]),
        "cosine_distributions": gap.cosine_distributions([]),
        "retrieval": zero_shot_ability.retrieval([]),
        "general_accuracy": zero_shot_ability.general_accuracy([]),
        "zero_shot_lost": zero_shot_ability.zero_shot_lost([]),
        "domain_similarities": zero_shot_ability.domain_similarities([]),
    }.items():
        assert figure.layout.meta["title"] and figure.to_json(), name


def test_the_gap_begins_before_training_and_dots_have_the_colours_of_their_tasks(said):
    figure = gap.gap_over_tasks(said[ModalityGapMeasured], said[RunStarted][0].tasks)
    line = trace(figure, "gap")
    assert list(line.x) == [-1, 0, 1, 2]
    np.testing.assert_allclose(line.y, [0.3, 0.4, 0.5, 0.6], rtol=1e-6)
    assert list(line.marker.color) == [INK, *(task_colour(t, 3) for t in range(3))]
    np.testing.assert_allclose(trace(figure, "direction").y, [1, 0.9, 0.8, 0.7], rtol=1e-6)
    assert figure.layout.xaxis.ticktext[:2] == ("before", "T1") and figure.layout.yaxis.range[0] == 0


def test_a_length_that_is_not_a_number_leaves_a_hole(said):
    """A diverged run stores NaN, which comes back as None."""
    measured = [replace(event, text_mean=None, length=None) for event in said[ModalityGapMeasured]]
    figure = gap.gap_over_tasks(measured, said[RunStarted][0].tasks)
    assert np.isnan(figure.data[0].y).all() and np.isfinite(figure.data[1].y).all()


def test_clouds_of_the_chosen_task_stand_before_those_of_the_beginning(said):
    measured, tasks = said[ModalityGapMeasured], said[RunStarted][0].tasks
    figure = gap.two_clouds(measured, tasks, task=1)
    chosen = measured[2]
    np.testing.assert_allclose(np.c_[trace(figure, "texts").x, trace(figure, "texts").y], chosen.texts, rtol=1e-3)
    before = trace(figure, "images before")
    np.testing.assert_allclose(np.c_[before.x, before.y], measured[0].images, rtol=1e-3)
    assert before.marker.color == PALE and figure.data[0].name == "images before", "drawn first, so behind"
    bar = trace(figure, "gap, texts to images")
    np.testing.assert_allclose([bar.x[0], bar.x[1]], [chosen.texts[:, 0].mean(), chosen.images[:, 0].mean()], rtol=1e-2)
    assert "after T2 Letters" in figure.layout.meta["title"]


def test_a_line_joins_each_chosen_picture_with_its_own_caption(said):
    event = said[ModalityGapMeasured][-1]
    lines = trace(gap.two_clouds(said[ModalityGapMeasured], ties=3), "3 pairs")
    for k, i in enumerate((0, 11, 23)):
        np.testing.assert_allclose(lines.x[3 * k : 3 * k + 2], [event.images[i, 0], event.texts[i, 0]], rtol=1e-3)
        assert lines.x[3 * k + 2] is None


def test_every_moment_is_drawn_in_the_same_frame(said):
    frames = [gap.two_clouds(said[ModalityGapMeasured], task=t).layout.xaxis.range for t in (-1, 0, 2)]
    assert len(set(frames)) == 1


def test_before_training_alone_nothing_is_drawn_behind(said):
    first = said[ModalityGapMeasured][:1]
    assert not any("before" in t.name for t in gap.two_clouds(first).data)
    assert len(gap.cosine_distributions(first).data) == 2


def test_distributions_are_shares_in_percent_before_and_now(said):
    figure = gap.cosine_distributions(said[ModalityGapMeasured], said[RunStarted][0].tasks, task=0)
    now = trace(figure, "pairs, after T1 Digits")
    np.testing.assert_allclose(now.y[:-1], 100 * said[ModalityGapMeasured][1].positive, rtol=1e-5)
    assert sum(now.y[:-1]) == pytest.approx(100, abs=1e-2)
    assert [t.line.dash for t in figure.data] == ["dot", "solid"] * 2
    assert "Separation 4 before training, 3 after T1 Digits" in figure.layout.meta["caption"]


def test_retrieval_has_both_ways_and_both_ranks_on_one_scale(said):
    figure = zero_shot_ability.retrieval(said[ModalityGapMeasured])
    assert list(trace(figure, "image → text R@1").y) == [80, 70, 60, 50]
    assert list(trace(figure, "text → image R@5").y) == [90] * 4
    assert figure.layout.yaxis.range == (0, 103) and len(figure.data) == 4


def test_general_accuracy_says_what_was_lost(said):
    figure = zero_shot_ability.general_accuracy(said[ModalityGapMeasured])
    assert list(figure.data[0].y) == [90, 84, 78, 72] and figure.layout.shapes[0].y0 == 90
    assert "−18.0 pp" in figure.layout.meta["caption"]


def test_only_tasks_not_learned_yet_are_compared_with_zero_shot_around_a_neutral_zero(said):
    figure = zero_shot_ability.zero_shot_lost(said[AccuracyMeasured], said[RunStarted][0].tasks)
    heat = figure.data[0]
    np.testing.assert_allclose(heat.z, [[np.nan, -5, -5], [np.nan, np.nan, -10]])
    assert heat.zmid == 0 and heat.zmin == -heat.zmax == -10
    assert heat.text[0][0] == "" and heat.text[1][2] == "−10.0"
    assert "worst: T3 Shapes −10.0 pp after T2 Letters" in figure.layout.meta["caption"]


def test_a_run_in_one_stage_waits_for_no_task():
    rows = [
        AccuracyMeasured(Clock(), "zero-shot", [50.0, 50.0]),
        AccuracyMeasured(Clock(1, 0, 9), "task-incremental", [90.0, 80.0]),
    ]
    assert not np.isfinite(zero_shot_ability.lost_before_learning(rows)).any()
    assert "Nothing measured yet" in zero_shot_ability.zero_shot_lost(rows).layout.meta["caption"]


def test_each_task_has_its_line_in_each_panel_and_the_chosen_one_stands_out(said):
    figure = zero_shot_ability.domain_similarities(said[SimilaritiesMeasured], said[RunStarted][0].tasks, task=1)
    lines = [t for t in figure.data if t.name == "T2 Letters"]
    assert [t.xaxis for t in lines] == ["x", "x2", "x3"] and len(figure.data) == 9
    np.testing.assert_allclose(lines[0].y, [0.5, 0.45, 0.6, 0.35], rtol=1e-5)
    assert list(lines[0].marker.size) == [5, 5, 11, 5], "the large dot: just learned"
    assert lines[0].line.color == task_colour(1, 3) and lines[0].line.width > figure.data[0].line.width
