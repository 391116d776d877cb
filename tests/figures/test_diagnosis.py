"""Where steps that cost most are marked, what projections took out beside them, and one image's path."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest

from cl_core.analysis.ledger import Stretch
from cl_core.assets import recordings_folder
from cl_core.events import AccuracyMeasured, Clock, ImagesClassified, ImagesStored, OldTasksMeasured, TaskStarted
from cl_core.store import RunFolder
from dashboard.figures.catalogue import FIGURES, costly
from dashboard.figures.description import blank, describe
from dashboard.figures.diagnosis import class_accuracy, confusion, image_path, old_tasks_within
from dashboard.figures.plot_helpers import mark_costly
from dashboard.run_log import RunLog

WORST = [Stretch(1, 12, 16, 0.8)]
BEGUN = [TaskStarted(Clock(0, 0, 0), ["three"], 10), TaskStarted(Clock(1, 0, 10), ["seven"], 20)]


def with_axis(title: str) -> go.Figure:
    figure = blank()
    figure.add_scatter(x=[0, 1], y=[0, 1])
    figure.update_xaxes(title_text=title)
    return describe(figure, title="t", what="W.", look_for="L.", how="h", alt="a", height=300)


def test_costly_steps_are_shaded_where_steps_are_counted():
    figure = with_axis("optimiser step")
    mark_costly(figure, WORST, BEGUN)
    (shape,) = figure.layout.shapes
    assert (shape.x0, shape.x1, shape.y0, shape.y1) == (12, 16, 0, 1)
    caption = figure.layout.meta["caption"]
    assert caption == "W; shaded: the steps that cost old tasks most. L. Steps that cost most: 13–17 in T2.", caption


def test_below_an_axis_of_tasks_they_stand_between_the_task_before_and_their_own():
    figure = with_axis("after training on")
    mark_costly(figure, WORST, BEGUN)
    (shape,) = figure.layout.shapes
    assert (shape.x0, shape.x1) == pytest.approx((3 / 20, 7 / 20)) and shape.y1 == 0


def test_other_axes_are_left_alone():
    figure = with_axis("layer")
    mark_costly(figure, WORST, BEGUN)
    assert not figure.layout.shapes and "cost" not in figure.layout.meta["caption"]


def test_every_time_axis_of_a_run_has_them():
    log = RunLog(RunFolder(recordings_folder() / "sequential-split-digits")).snapshot(force=True)
    marks, seen = len(costly(log)), 0
    for entry in FIGURES.values():
        for controls in list(entry.in_report(log))[:1] if entry.there(log) else []:
            figure = entry.drawn(log, controls)
            axes = [axis.title.text for axis in figure.select_xaxes()]
            count = sum(title in ("optimiser step", "after training on") for title in axes)
            found = [shape for shape in figure.layout.shapes if shape.type == "rect" and shape.opacity in (0.18, 0.8)]
            assert len(found) >= marks * count, entry.id
            seen += count
    assert marks and seen > 8


def looks(*losses: float) -> list[OldTasksMeasured]:
    return [OldTasksMeasured(Clock(1, 0, 4 * k), 8, 50.0, loss, 4) for k, loss in enumerate(losses)]


def test_what_a_projection_took_out_stands_beside_the_loss_of_the_same_steps():
    number = np.arange(13)
    proposed = np.full(13, 4.0)
    applied = np.where(number <= 4, 4.0, 1.0)
    figure = old_tasks_within(looks(1.0, 1.1, 2.0, 1.5), (number, proposed, applied), tasks=2)
    (inside,) = [trace for trace in figure.data if trace.yaxis == "y2"]
    assert list(inside.x) == [4, 8, 12] and list(inside.y) == pytest.approx([0, 100 * 0.75**0.5, 100 * 0.75**0.5])
    assert "+0.90, in T2" in figure.layout.meta["caption"]
    free = old_tasks_within(looks(1.0, 1.1), (number, proposed, proposed), tasks=2)
    assert not [trace for trace in free.data if trace.yaxis == "y2"], "nothing is projected"


def test_a_path_says_when_an_image_came_nearer_to_the_wrong_class():
    mine = {"after": [1, 2, 3], "rival": 1, "path": [[0.1, 0.2, 0.0], [0.4, 0.2, 0.1], [0.9, 0.1, 0.3]], "nearest": []}
    figure = image_path(mine, true=0, names=["three", "nine"], tasks=[{}, {}, {}])
    caption = figure.layout.meta["caption"]
    assert "Nearer to nine after T3." in caption and "0.30 off the plane now" in caption


def test_classes_that_all_tasks_share_are_counted_together():
    """Named after the first task's, they would stand a hundred in a row, or hide within their tasks."""
    log = RunLog(RunFolder(recordings_folder() / "gpm-permuted-digits")).snapshot(force=True)
    after = len(log.started().tasks) - 1
    figure = FIGURES["confusion"].drawn(log, {"after": after})
    table = np.array([[int(cell[2]) for cell in row] for row in figure.data[0].customdata])
    row = next(e.row for e in log.events(AccuracyMeasured) if e.clock.task == after)
    assert table.shape == (10, 10) and table.sum() == 5000
    assert 100 * np.trace(table) / table.sum() == pytest.approx(np.mean(row))
    by_class = FIGURES["class-accuracy"].drawn(log, {}).data[0].z
    assert by_class.shape == (10, 10)
    assert by_class[:, -1] @ table.sum(axis=1) / table.sum() == pytest.approx(np.mean(row), rel=1e-5)


@pytest.mark.parametrize(
    "images, answers, classes",
    [(3, 4, 2), (4, 4, 0), (4, 4, 1)],
    ids=["fewer images than answers", "no classes planned", "classes beyond the plan"],
)
def test_answers_that_belong_to_no_stored_image_are_left_out(images, answers, classes):
    labels = np.array([0, 1, 0, 1], np.int16)
    stored = [ImagesStored(Clock(0), np.zeros((4, 2, 2, 3), np.uint8), np.arange(4), labels[:images], 4)]
    said = np.stack([labels[:answers]])
    classified = [ImagesClassified(Clock(0), 0, ["class-incremental"], said, said.astype(np.float16))]
    tasks = [{"name": "T1", "classes": ["three", "seven"][:classes]}] if classes else []
    assert len(confusion(stored, classified, tasks, after=0).data) == (images == answers and classes > 0)
    class_accuracy(stored, classified, tasks)
