"""Prompt pools, where a run has fixed keys and stored mixtures as well."""

from __future__ import annotations

import numpy as np

from cl_core.events import Clock, IntraClassMeasured, KeysMoved, MixtureFitted, ResidualMeasured
from tests import recorded_pool_runs
from tests.dashboard.reading import figures, opened, words
from tests.recorded_pool_runs import PoolPlan
from tests.recording import append

OWN = {
    "Own class found, by the keys alone and by the layers",
    "Keys over tasks",
    "Alike within a class",
    "Added against attention's own output",
    "Held-out density: mixture and one Gaussian",
}


def rows(*values):
    return np.array(values, dtype=np.float32)


def recorded(runs, plan, *, mixtures=True):
    told = list(recorded_pool_runs.moments(plan))
    folder = recorded_pool_runs.record(runs, "star", plan, until=len(told) - 1)
    clock, points = Clock(0), np.zeros((3, 2), np.float16)
    said = [
        KeysMoved(clock, rows(1, 1), rows(0.5, 0.5), rows(0.1, 0.1)),
        *(
            IntraClassMeasured(clock, s, rows(0.9, 0.9), rows(0.8, 0.8), rows(0.2, 0.2), 90.0)
            for s in ("query", "features")
        ),
        ResidualMeasured(clock, rows(0.1, 0.2, 0.3), rows(0.1, 0.1, 0.1)),
    ]
    if mixtures:
        said += [MixtureFitted(clock, c, 5, 1.0, 0.5, points, points, points, 0.5) for c in (0, 1)]
    append(folder, said, told[-1])
    return folder


def test_keys_residuals_and_mixtures_stand_below_the_selection(runs_folder, open_page):
    recorded(runs_folder, PoolPlan(of="class", layers=(-1, 0, 1)))
    app = opened(open_page("pools", run="star"), "pools-more")
    assert set(figures(app)) > {*OWN, "Prompts selected per class, after T3, layer 1", "Real and drawn features, seven"}
    app.selectbox(key="pools-class").select("three").run()
    assert "Real and drawn features, three" in figures(app)


def test_they_are_shown_where_selection_was_not_measured(runs_folder, open_page):
    recorded(runs_folder, PoolPlan(measured=False), mixtures=False)
    app = open_page("pools", run="star")
    assert not app.exception and "diagnostics.selection=true" in words(app)
    assert "Keys over tasks" in figures(app) and "Held-out density: mixture and one Gaussian" not in figures(app)


def test_a_pool_without_them_has_no_such_section(runs_folder, open_page):
    recorded_pool_runs.record(runs_folder, "pool")
    assert "Keys and mixtures" not in words(open_page("pools", run="pool"))
