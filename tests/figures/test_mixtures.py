"""Figures of keys, residuals and mixtures, by the data in their traces."""

from __future__ import annotations

import numpy as np
import pytest

from cl_core.events import (
    Clock,
    IntraClassMeasured,
    KeysMoved,
    MixtureFitted,
    ResidualMeasured,
    SelectionMeasured,
)
from dashboard.figures import mixtures
from dashboard.theme import task_colour
from tests.figures.conftest import assert_complete, trace

PLAN = [{"name": f"T{j + 1}", "classes": [f"c{2 * j}", f"c{2 * j + 1}"], "train": 9, "test": 9} for j in range(3)]


def rows(*values):
    return np.array(values, dtype=np.float32)


def moved(task, least=1.0):
    count = 2 * (task + 1)
    return KeysMoved(
        Clock(task), np.linspace(least, 1, count, dtype=np.float32), rows(*[0.5] * count), rows(*[0.2] * count)
    )


def fit(label, mixture=1.0, gaussian=0.5, images=4):
    points = np.arange(2 * images, dtype=np.float16).reshape(images, 2)
    return MixtureFitted(Clock(label // 2), label, 5, mixture, gaussian, points, points + 1, points + 2, 0.75)


def likeness(task, space, within, between):
    return IntraClassMeasured(Clock(task), space, rows(0.9, 0.9), rows(*within), rows(*between), 80.0)


def selected(task, layer, accuracy):
    classes = 2 * (task + 1)
    return SelectionMeasured(
        Clock(task), layer, "class", np.eye(classes, dtype=np.float32), list(range(classes)), accuracy
    )


def all_of():
    return {
        "mixture_fit": mixtures.mixture_fit([fit(c) for c in range(4)], PLAN),
        "real_and_sampled": mixtures.real_and_sampled([fit(c) for c in range(4)], PLAN),
        "key_drift": mixtures.key_drift([moved(0), moved(1, 0.8)], PLAN),
        "residual_ratio": mixtures.residual_ratio([ResidualMeasured(Clock(0), rows(0.1, 0.5), rows(0.1, 0.1))], PLAN),
        "class_likeness": mixtures.class_likeness(
            [likeness(0, "query", (0.9, 0.7), (0.3, 0.3)), likeness(0, "features", (0.6, 0.6), (np.nan, np.nan))], PLAN
        ),
        "found_by_layer": mixtures.found_by_layer(
            [selected(t, at, a) for t in (0, 1) for at, a in ((-1, 80.0), (0, 90.0), (1, 70.0))], PLAN
        ),
    }


def nothing():
    return [
        make([], PLAN)
        for make in (
            mixtures.mixture_fit,
            mixtures.real_and_sampled,
            mixtures.key_drift,
            mixtures.residual_ratio,
            mixtures.class_likeness,
            mixtures.found_by_layer,
        )
    ]


def test_every_figure_has_its_words_its_template_and_small_arrays():
    assert_complete(all_of())
    assert_complete({f"nothing {k}": figure for k, figure in enumerate(nothing())})


def test_densities_stand_class_by_class_in_the_colour_of_the_task_and_gains_are_counted():
    figure = mixtures.mixture_fit([fit(2, 1.0, 2.0), fit(0), fit(1)], PLAN)
    assert list(trace(figure, "mixture").y) == [1.0, 1.0, 1.0] and list(trace(figure, "one Gaussian").y) == [
        0.5,
        0.5,
        2.0,
    ]
    assert trace(figure, "mixture").marker.color == (task_colour(0, 3), task_colour(0, 3), task_colour(1, 3))
    assert "denser for 2 of 3 classes, by 0" in figure.layout.meta["caption"]
    assert figure.layout.xaxis.ticktext == ("c0", "c1", "c2")


def test_the_chosen_class_is_drawn_and_the_newest_where_none_is():
    measured = [fit(0), fit(1, images=3)]
    assert "c1" in mixtures.real_and_sampled(measured, PLAN).layout.meta["title"]
    figure = mixtures.real_and_sampled(measured, PLAN, label=0)
    assert list(trace(figure, "real").x) == [0, 2, 4, 6] and list(trace(figure, "mixture").y) == [2, 4, 6, 8]
    assert "75.0 %" in figure.layout.meta["caption"]


def test_the_least_kept_key_is_what_the_thick_line_shows():
    figure = mixtures.key_drift([moved(0), moved(1, 0.8)], PLAN)
    line = trace(figure, "kept, least")
    assert list(line.y) == pytest.approx([1.0, 0.8]) and line.line.width == 3
    assert "0.8000" in figure.layout.meta["alt"]


def test_ratios_fill_the_columns_of_the_tasks_that_were_measured():
    events = [ResidualMeasured(Clock(1), rows(0.1, 0.5), rows(0.1, 0.1))]
    table = np.array(mixtures.residual_ratio(events, PLAN).data[0].z, dtype=float)
    assert table.shape == (2, 3) and table[:, 1] == pytest.approx([0.1, 0.5]) and np.isnan(table[:, [0, 2]]).all()


def test_likeness_is_averaged_over_classes_and_a_lone_class_has_no_other():
    figure = all_of()["class_likeness"]
    assert list(trace(figure, "asked model, same class").y) == pytest.approx([0.8])
    assert np.isnan(trace(figure, "after the task, other class").y).all()


def test_the_keys_alone_stand_beside_every_layer_and_their_mean():
    figure = all_of()["found_by_layer"]
    assert list(trace(figure, "keys alone").y) == [80.0, 80.0] and list(trace(figure, "mean of layers").y) == [
        80.0,
        80.0,
    ]
    assert list(trace(figure, "layer 1").y) == [90.0, 90.0]
    alone = mixtures.found_by_layer([selected(0, 0, 90.0)], PLAN)
    assert "Nothing has been measured" in alone.layout.meta["caption"], "a pool without keys of its own"
