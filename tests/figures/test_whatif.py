"""Figures of the What if page: their traces hold what `predict` says."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from cl_core.events import SpectrumMeasured, UpdateByDirection
from cl_core.whatif import Threshold, best, boundaries, positions, predict
from dashboard.figures.whatif import (
    against_threshold,
    at_equal_freedom,
    in_percent,
    now,
    predicted_and_measured,
    round_ticks,
    slider_table,
    tick,
)


@pytest.fixture(scope="module")
def boundary(told):
    return best(boundaries(told[SpectrumMeasured], (), told[UpdateByDirection]), "affinity")


@pytest.fixture(scope="module")
def bare(told):
    return best(boundaries(told[SpectrumMeasured]), "affinity")


def test_lines_hold_the_prediction_at_every_position(boundary):
    threshold = Threshold("energy", 0.9)
    figure = against_threshold(boundary, threshold, layer=1)
    steps = positions("energy")
    expected = predict(boundary, threshold, values=steps)
    fronts = [t for t in figure.data if t.name == "layer 2"]
    np.testing.assert_allclose(fronts[1].y, 100 * expected.passed[:, 1], rtol=1e-5)
    np.testing.assert_allclose(fronts[2].y, 100 * expected.interference[:, 1], rtol=1e-5)
    behind = next(t for t in figure.data if t.name == "all layers, share passed")
    lines = np.asarray(behind.y).reshape(2, len(steps) + 1)
    assert np.isnan(lines[:, -1]).all()
    np.testing.assert_allclose(lines[:, :-1], 100 * expected.passed[:, [0, 2]].T, rtol=1e-5)
    marks = [t for t in figure.data if t.mode == "markers"]
    assert marks[1].y[0] == pytest.approx(100 * predict(boundary, threshold).passed.mean(), abs=1e-3)


def test_the_runs_own_value_is_marked_where_its_rule_is_this_one(boundary):
    assert {s.line.dash for s in against_threshold(boundary, Threshold("energy", 0.9)).layout.shapes} == {"solid"}


def test_other_runs_are_told_apart_by_dash_and_name(boundary):
    figure = at_equal_freedom(boundary, Threshold("energy", 0.9), [("another", boundary)])
    assert {(t.name, t.line.dash) for t in figure.data if t.mode == "lines"} == {
        ("this run", "solid"),
        ("another", "dash"),
    }
    assert "another" in {a.text for a in figure.layout.annotations}


def test_what_is_unknown_is_left_out_and_said(bare):
    figure = against_threshold(bare, Threshold("energy", 0.9))
    assert len([t for t in figure.data if t.mode == "markers"]) == 1 and "unknown" in figure.layout.meta["alt"]
    assert not at_equal_freedom(bare, Threshold("free", 0.5)).data
    table = slider_table(bare, Threshold("free", 0.5), [0.5])
    assert table["passed"] == [[None] * 3] and table["nullity"] == [[8, 8, 8]]
    assert now(bare, Threshold("free", 0.5))[0]["Share passed %"] is None


def test_means_are_those_above_the_bars_to_the_last_digit(boundary):
    threshold = Threshold("energy", 0.9)
    table, predicted = slider_table(boundary, threshold, [0.9]), predict(boundary, threshold)
    for field in ("nullity", "passed", "interference"):
        assert table["means"][field] == [round(float(in_percent(predicted, boundary, field).mean()), 1)]


@pytest.mark.parametrize("rule", ["energy", "tail", "free"])
def test_an_axis_prints_its_ends_and_short_numbers_that_keep_apart(rule):
    steps = positions(rule)
    shown = round_ticks(steps)
    assert shown[0] == 0 and shown[-1] == len(steps) - 1 and 4 <= len(shown) <= 7
    assert max(len(tick(steps[i])) for i in shown) <= 4
    assert min(b - a for a, b in pairwise(shown)) >= len(steps) // 8


def test_a_knee_has_one_position(boundary):
    table = slider_table(boundary, Threshold("elbow"), [math.nan])
    assert len(table["nullity"]) == 1 and table["nullity"][0] == predict(boundary, Threshold("elbow")).nullity.tolist()


def test_the_largest_miss_is_named():
    figure = predicted_and_measured(
        [("Share passed in T3", 60.0, 40.0, 47.5), ("Left free after T3", 90.0, 80.0, math.nan)]
    )
    assert "Largest miss 7.5 pp" in figure.layout.meta["caption"]
    assert figure.data[2].x[1] is None


def test_positions_are_spelled_alike_everywhere():
    assert [tick(v) for v in (0.0, 0.5, 0.9995, 1.0, math.nan)] == ["0", "0.5", "0.9995", "1", ""]
    for rule in ("energy", "tail", "free"):
        spelled = [tick(v) for v in positions(rule)]
        assert len(set(spelled)) == len(spelled)


def test_words_template_and_size(boundary, bare):
    for there in (boundary, bare):
        for figure in (
            against_threshold(there, Threshold("tail", 0.1)),
            at_equal_freedom(there, Threshold("tail", 0.1)),
        ):
            words = figure.layout.meta
            assert all(str(words[key]).strip() for key in ("title", "caption", "how", "alt")) and figure.layout.template
            assert "not retrained" in words["caption"] and figure.layout.uirevision == "keep"
            assert words["alt"].endswith(".") and "nan" not in words["alt"].lower().split()
