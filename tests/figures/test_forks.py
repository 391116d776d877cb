"""A run beside its forks, and the places where a setting was changed."""

from __future__ import annotations

import numpy as np
import pytest

from cl_core.events import AccuracyMeasured, Clock, KnobTurned, StepEnded
from dashboard.figures import accuracy, training
from dashboard.figures.forks import Branch, average_over_forks
from dashboard.figures.plot_helpers import mark_turned

NAN = float("nan")
PARENT = Branch("parent", np.array([90.0, 80.0, 70.0, 60.0]))
CHILD = Branch("child", np.array([90.0, 80.0, 75.0, 72.0]), 2, "eta 0.5 → 0.9")


def test_the_shared_past_is_drawn_once_and_a_fork_is_dashed_from_its_mark():
    figure = average_over_forks([PARENT, CHILD], tasks=4)
    whole, fork = figure.data
    assert (whole.line.dash, list(whole.x), list(whole.y)) == ("solid", [0, 1, 2, 3], [90, 80, 70, 60])
    assert fork.line.dash == "dash" and list(fork.x) == [1, 2, 3] and list(fork.y) == [80, 75, 72]
    assert [(s.x0, s.line.dash) for s in figure.layout.shapes] == [(1, "dot")]
    notes = [note.text for note in figure.layout.annotations]
    assert "fork after T2" in notes and {"parent", "child"} <= set(notes)
    words = figure.layout.meta
    assert "child: eta 0.5 → 0.9" in words["caption"] and "child 72.0 % after T4" in words["alt"]


def test_a_fork_that_has_measured_nothing_yet_stands_at_its_mark_and_many_forks_differ_by_dash():
    young = Branch("young", np.array([90.0, 80.0, NAN, NAN]), 2)
    figure = average_over_forks([PARENT, CHILD, young], tasks=4)
    assert list(figure.data[2].x) == [1] and len({t.line.dash for t in figure.data}) == 3
    assert average_over_forks([], tasks=3).layout.meta["alt"] == "No accuracy measured yet."


def step(number):
    return StepEnded(Clock(number // 10, 0, number), {"total": 1.0}, {}, {}, {}, 50.0, 0.1)


TURNED = [KnobTurned(Clock(1, 0, 13), "eta", 0.5, 0.9), KnobTurned(Clock(1, 0, 13), "rule", "elbow", "energy")]


@pytest.mark.parametrize(
    ("figure", "place"),
    [
        (lambda: training.losses([step(k) for k in range(20)]), 13.0),
        (lambda: training.batch_accuracy([step(k) for k in range(20)]), 13.0),
        (lambda: accuracy.accuracy_over_time([AccuracyMeasured(Clock(0), "class-incremental", [9.0, None])]), 0.5),
    ],
)
def test_a_turned_knob_is_marked_on_axes_of_steps_and_of_tasks_and_named_in_the_caption(figure, place):
    drawn = figure()
    before = len(drawn.layout.shapes)
    mark_turned(drawn, TURNED)
    added = drawn.layout.shapes[before:]
    assert [(s.x0, s.x1, s.line.dash, s.yref) for s in added] == [(place, place, "dashdot", "y domain")]
    said = drawn.layout.meta["caption"]
    assert said.endswith("Dash-dotted: a setting was changed (eta 0.5 → 0.9 in T2; rule elbow → energy in T2).")


def test_figures_on_other_axes_and_runs_without_turns_stay_as_they_are():
    bars, line = training.time_and_memory([]), training.losses([step(0)])
    for figure, turned in ((bars, TURNED), (line, [])):
        before = figure.to_json()
        mark_turned(figure, turned)
        assert figure.to_json() == before


def test_of_many_turns_the_newest_are_named():
    figure = training.losses([step(k) for k in range(20)])
    mark_turned(figure, [KnobTurned(Clock(1, 0, k), "eta", 0.0, float(k)) for k in range(10, 17)])
    assert "eta 0 → 16 in T2, and 3 before" in figure.layout.meta["caption"]
