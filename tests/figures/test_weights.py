"""Figures of weights by the data in their traces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cl_core.events import RunStarted, WeightSpectrumMeasured
from dashboard.figures import weight_directions, weight_history, weights
from dashboard.theme import INK, task_colour
from tests.figures.conftest import assert_complete, trace
from tests.recorded_clip_runs import ClipPlan, moments


def told(**plan):
    events = [event for moment in moments(ClipPlan(**plan)) for event in moment]
    return {kind: [e for e in events if isinstance(e, kind)] for kind in (RunStarted, WeightSpectrumMeasured)}


@pytest.fixture(scope="module")
def said():
    return told(weights="r_max")


@pytest.fixture(scope="module")
def measured(said):
    return said[WeightSpectrumMeasured]


def all_of(said, task=None):
    measured, tasks = said[WeightSpectrumMeasured], said[RunStarted][0].tasks
    drawn = {
        f.__name__: f(measured, tasks, task=task)
        for f in (
            weight_directions.direction_split,
            weight_directions.change_against_principal,
            weight_directions.movement_of_maps,
        )
    } | {
        f.__name__: f(measured, tasks)
        for f in (
            weight_history.effective_rank_over_tasks,
            weight_history.room_left,
            weight_history.drift_from_pretrained,
        )
    }
    return drawn | {"map_spectrum": weights.map_spectrum(measured, tasks, name="image.1.v", task=task)}


@pytest.mark.parametrize(
    "plan",
    [{"weights": "r_max"}, {"weights": "rho", "tasks": 1}, {"weights": "none", "tasks": 6}, {}],
    ids=["r_max", "one task", "only measured", "nothing"],
)
def test_every_figure_has_its_words_template_and_small_arrays(plan):
    assert_complete(all_of(told(**plan)))


def test_maps_are_named_as_the_screen_counts_and_ordered_by_tower_layer_and_part(measured):
    names = weights.maps(reversed(measured))
    assert names[:5] == ["image.0.q", "image.0.k", "image.0.v", "image.0.o", "image.1.q"] and names[-1] == "text.1.o"
    assert weights.option("image.3.q") == "image 4 q"
    assert weights.words("image.3.q") == "image tower, layer 4, queries"


def test_the_spectrum_before_and_after_with_the_cut_and_what_is_written_to(said, measured):
    figure = weights.map_spectrum(measured, said[RunStarted][0].tasks, name="image.1.v", task=1)
    event = next(e for e in measured if e.name == "image.1.v" and e.clock.task == 1)
    np.testing.assert_allclose(trace(figure, "before").y, event.before, rtol=1e-6)
    np.testing.assert_allclose(trace(figure, "after").y, event.after, rtol=1e-6)
    assert trace(figure, "after").line.color == task_colour(1, 3) and trace(figure, "before").line.color == INK
    shaded, cut = figure.layout.shapes
    assert (shaded.x0, shaded.x1) == (12.5, 16.5), "the last four of sixteen"
    assert cut.x0 == cut.x1 == 9.5 and figure.layout.yaxis.type == "log"
    assert "limited by r_max = 4" in figure.layout.meta["caption"]
    assert "1 more value than before" in figure.layout.meta["caption"]


@pytest.mark.parametrize(
    ("bound", "words"),
    [("rho", "limited by ρ = 0.95"), ("none", "only measured at ρ = 0.95")],
)
def test_what_limits_the_written_directions_is_said(bound, words):
    figure = weights.map_spectrum(told(weights=bound)[WeightSpectrumMeasured], name="text.0.k", task=0)
    assert words in figure.layout.meta["caption"]


def test_a_map_that_did_not_move_says_so():
    found = told(weights="none")[WeightSpectrumMeasured]
    assert "did not move in T2" in weights.map_spectrum(found, name="image.0.q", task=1).layout.meta["caption"]
    assert "No map moved in T2" in weight_directions.change_against_principal(found, task=1).layout.meta["caption"]
    assert not weight_directions.change_against_principal(found, task=1).data


def test_the_bars_add_up_to_the_width_and_are_hatched_by_the_active_bound(measured):
    mixed = [replace(e, bound="rho", written=7) if e.name == "image.2.q" else e for e in measured]
    figure = weight_directions.direction_split(mixed, task=1)
    queries = [t for t in figure.data if t.xaxis == "x"]
    heights = {t.name: dict(zip(t.x, t.y, strict=True)) for t in queries}
    assert heights["principal"] == {0: 9, 1: 9, 2: 9}
    assert heights["written to, as many as r_max allows"] == {0: 4, 1: 4}
    assert heights["written to, all that ρ leaves"] == {2: 7}
    assert [sum(h.get(b, 0) for h in heights.values()) for b in range(3)] == [16, 16, 16]
    hatched = {t.name: t.marker.pattern.shape for t in queries if t.name.startswith("written")}
    assert list(hatched.values()) == [None, "/"] and queries[-1].marker.color == task_colour(1, 3)
    assert len([t for t in figure.data if t.showlegend]) == 4, "each name once"
    assert "19 of 20 maps update as many as r_max allows" in figure.layout.meta["caption"]


def test_leaks_stand_on_a_log_axis_beside_chance(measured):
    figure = weight_directions.change_against_principal(measured, task=0)
    left = [t for t in figure.data if t.name == "what it writes to (left)"]
    assert len(left) == 8 and len(left[0].x) == 3 and len(left[-1].x) == 2, "two towers of four parts"
    np.testing.assert_allclose(left[0].y, 2e-7, rtol=1e-5)
    assert figure.layout.yaxis.type == "log"
    bars = [v for v in trace(figure, "a random change").y if v is not None]
    np.testing.assert_allclose(bars, 0.5**0.5)
    assert "2.0·10⁻⁷ and 3.0·10⁻⁷" in figure.layout.meta["caption"]


def test_what_is_none_is_not_drawn(measured):
    partly = [replace(e, leak_left=None) if e.name == "image.0.q" else e for e in measured]
    left = next(
        t for t in weight_directions.change_against_principal(partly).data if t.name == "what it writes to (left)"
    )
    assert len(left.x) == 2
    unmoved = [replace(e, drift=None) for e in measured]
    figure = weight_history.drift_from_pretrained(unmoved)
    assert "No map has moved" in figure.layout.meta["caption"] and {t.yaxis for t in figure.data} == {"y2"}


def test_movement_is_a_map_of_layers_by_parts_in_percent_of_each_tower(measured):
    image, text = weight_directions.movement_of_maps(measured, task=2).data
    np.testing.assert_allclose(image.z[0], [1, 2, 3, 4], rtol=1e-6)
    np.testing.assert_allclose(text.z[1], [17, 18, 19, 20], rtol=1e-6)
    assert np.isnan(text.z[2]).all() and text.text[2][0] == "", "the text tower has two layers"
    assert image.zmax == text.zmax == pytest.approx(20) and image.customdata[1][2][0] == "image 2 v"


def test_effective_rank_begins_before_training(measured):
    figure = weight_history.effective_rank_over_tasks(measured)
    line = trace(figure, "image, mean")
    assert list(line.x) == [-1, 0, 1, 2]
    np.testing.assert_allclose(line.y, [9.5, 10.5, 11.5, 12.5])
    assert list(line.marker.color) == [INK, *(task_colour(t, 3) for t in range(3))]
    assert trace(figure, "text, mean").line.dash == "dash" and trace(figure, "text, mean").xaxis == "x2"


def test_room_left_and_what_of_it_is_written_to(measured):
    scarce = [replace(e, bound="rho", written=1) if (e.name, e.clock.task) == ("text.0.q", 2) else e for e in measured]
    figure = weight_history.room_left(scarce)
    null, written = (t for t in figure.data if t.name == "text, mean")
    np.testing.assert_allclose(null.y, [50, 43.75, 37.5])
    np.testing.assert_allclose(written.y, [100, 100, (7 * 100 + 25) / 8])
    least = [t for t in figure.data if t.name == "text, least"][1]
    np.testing.assert_allclose(least.y, [100, 100, 25])
    assert "r_max: 4 directions" in figure.layout.meta["caption"]


def test_without_a_rule_only_null_directions_are_counted():
    figure = weight_history.room_left(told(weights="none")[WeightSpectrumMeasured])
    assert {t.xaxis for t in figure.data} == {"x"} and "Training in this run does not use them" in figure.layout.meta[
        "caption"
    ]


def test_drift_from_the_pretrained_space_is_compared_with_the_first_tasks_chance(measured):
    figure = weight_history.drift_from_pretrained(measured)
    np.testing.assert_allclose(trace(figure, "image, mean").y, [1e-7, 1e-6, 1e-5], rtol=1e-5)
    np.testing.assert_allclose(trace(figure, "image, a random change").y, 0.5**0.5)
    overlap = [t for t in figure.data if t.name == "image, mean"][1]
    np.testing.assert_allclose(overlap.y, [1, 0.9, 0.8], rtol=1e-6)
