"""The ledger's identity, its causes and its images, from events."""

from __future__ import annotations

import numpy as np
import pytest

from cl_core.analysis.ledger import (
    COMPETE,
    LOST,
    OUTDATED,
    STALE,
    answers_of,
    falls,
    flow,
    images,
    ledger,
    rows_of,
    statistics_ledger,
)
from cl_core.analysis.reading import Measured
from cl_core.analysis.verdict import taken_for, verdict, why_image
from cl_core.assets import recordings_folder
from cl_core.events import AccuracyMeasured, Clock, ImagesClassified, RefitMeasured
from cl_core.store import RunFolder

NAMES = {"C": "class-incremental", "K": "task-incremental", "S": "stored statistics", "Q": "recomputed statistics"}


def row(symbol, task, *values):
    clock = Clock(task)
    return RefitMeasured(clock, list(values)) if symbol == "R" else AccuracyMeasured(clock, NAMES[symbol], list(values))


def rows(*events):
    refits = [e for e in events if isinstance(e, RefitMeasured)]
    return rows_of([e for e in events if e not in refits], refits)


def cell_of(then, now, **more):
    """A ledger of task 0 after task 1 from {symbol: percent} then and now."""
    events = [row(symbol, 0, value, None) for symbol, value in then.items()]
    return ledger(rows(*events, *(row(symbol, 1, value, 50.0) for symbol, value in now.items())), 0, 1, **more)


def test_parts_add_up_and_each_formula_holds():
    cell = cell_of({"C": 90.0, "K": 96.0, "R": 99.0}, {"C": 40.0, "K": 80.0, "R": 98.5})
    assert cell.parts == {COMPETE: 34.0, OUTDATED: 15.5, LOST: 0.5}
    assert (cell.then, cell.now, cell.drop, cell.unsplit, cell.cause) == (90.0, 40.0, 50.0, None, COMPETE)
    assert sum(cell.parts.values()) == cell.drop


def test_parts_are_signed():
    cell = cell_of({"C": 90.0, "K": 90.0, "R": 90.0}, {"C": 70.0, "K": 60.0, "R": 95.0})
    assert cell.parts == {COMPETE: -10.0, OUTDATED: 35.0, LOST: -5.0} and cell.cause == OUTDATED


def test_what_was_not_measured_is_none_and_names_no_cause_that_may_be_smaller():
    cell = cell_of({"C": 90.0, "K": 95.0}, {"C": 40.0, "K": 60.0})
    assert cell.parts == {COMPETE: 15.0, OUTDATED: None, LOST: None}
    assert cell.unsplit == 35.0 and cell.cause is None
    larger = cell_of({"C": 90.0, "K": 95.0}, {"C": 40.0, "K": 85.0})
    assert larger.cause == COMPETE
    nothing = cell_of({"C": 90.0}, {"C": 40.0})
    assert set(nothing.parts.values()) == {None} and nothing.cause is None and nothing.drop == 50.0
    assert cell_of({}, {"C": 40.0}).drop is None


def test_where_nothing_fell_there_is_no_cause():
    assert cell_of({"C": 90.0, "K": 95.0, "R": 99.0}, {"C": 90.0, "K": 90.0, "R": 60.0}).cause is None


def test_where_images_name_their_task_no_classes_compete():
    named = rows(row("K", 0, 90.0, 20.0), row("R", 0, 99.0, None), row("K", 1, 50.0, 80.0), row("R", 1, 60.0, 99.0))
    cell = ledger(named, 0, 1)
    assert cell.readout == "task-incremental"
    assert cell.parts == {COMPETE: 0.0, OUTDATED: 1.0, LOST: 39.0} and cell.cause == LOST


def test_the_statistics_have_a_ledger_of_their_own():
    told = rows(row("S", 0, 95.0, None), row("Q", 0, 96.0, None), row("S", 1, 50.0, 9.0), row("Q", 1, 94.0, 9.0))
    cell = statistics_ledger(told, 0, 1)
    assert cell.parts == {STALE: 43.0, LOST: 2.0} and cell.drop == 45.0


def test_after_the_first_task_stored_statistics_are_the_recomputed_ones():
    told = rows(row("S", 0, 95.0, None), row("S", 1, 50.0, 9.0), row("Q", 1, 94.0, 9.0))
    assert statistics_ledger(told, 0, 1).parts == {STALE: 44.0, LOST: 1.0}
    assert statistics_ledger(rows(row("S", 0, 95.0), row("S", 1, 50.0, 9.0)), 0, 1).parts == {STALE: None, LOST: None}


def test_a_task_that_is_learned_later_is_refused():
    with pytest.raises(ValueError, match="T2 is learned later than T1"):
        ledger(rows(row("C", 0, 90.0, 10.0)), 1, 0)


def test_falls_are_told_by_the_task_during_which_they_happened():
    told = rows(row("C", 0, 90.0, None), row("C", 1, 80.0, 90.0), row("C", 2, 20.0, 50.0))
    assert falls(told, 0, 2) == [(1, 10.0), (2, 60.0)]
    assert "fell 70 of 90 points, 60 of them during T3" in verdict(ledger(told, 0, 2), told)


RECORDINGS = sorted(place.name for place in recordings_folder().iterdir() if (place / "events.db").is_file())


@pytest.mark.parametrize("name", RECORDINGS)
def test_parts_add_up_on_every_recording(name):
    measured = Measured.of(RunFolder(recordings_folder() / name))
    told, tasks, split = measured.rows, len(measured.tasks), 0
    for after in range(tasks):
        for task in range(after + 1):
            for cell in (ledger(told, task, after), statistics_ledger(told, task, after)):
                known = [value for value in cell.parts.values() if value is not None]
                if cell.drop is None or not known:
                    continue
                assert sum(known) + (cell.unsplit or 0.0) == pytest.approx(cell.drop, abs=0.05)
                split += 1
            assert verdict(ledger(told, task, after), told).endswith(".")
    assert split or set(told) == {"class-incremental"}, f"{name} has no cell with a ledger"


# ---------------------------------------------------------------- images


def classified(task, **answers):
    """Answers for the images of task 0, whose classes are 0 and 1, after `task`."""
    known = {"C": "class-incremental", "K": "task-incremental", "R": "refitted head"}
    predicted = np.array(list(answers.values()), dtype=np.int16)
    margins = np.where(predicted == LABELS, 1.5, -2.0).astype(np.float16)
    return ImagesClassified(Clock(task), 0, [known[s] for s in answers], predicted, margins)


LABELS = np.array([0, 0, 1, 1])
BEFORE = classified(0, C=[0, 0, 1, 0], K=[0, 0, 1, 1], R=[0, 0, 1, 1])
AFTER = classified(1, C=[2, 1, 0, 1], K=[0, 1, 0, 1], R=[0, 0, 0, 1])


def test_images_of_a_part_make_up_the_part():
    found = images(answers_of([BEFORE, AFTER], 0), LABELS, 0, 1)
    means = {part: 100 * found.of_part(part).mean() for part in (COMPETE, OUTDATED, LOST)}
    percent = {s: [100 * right.mean() for right in found.right[s]] for s in "CKR"}
    cell = cell_of({s: v[0] for s, v in percent.items()}, {s: v[1] for s, v in percent.items()})
    assert means == pytest.approx(cell.parts)
    assert found.lost.tolist() == [True, True, True, False]
    assert [found.why(i) for i in range(4)] == [COMPETE, OUTDATED, LOST, None]
    names = ["three", "seven", "nine"]
    assert "taken for nine" in why_image(found, 0, names, 0) and "Classes compete" in why_image(found, 0, names, 0)
    assert "correct now" in why_image(found, 3, names, 1)
    assert taken_for(found, names).startswith("1 of 3 lost images are taken for")


def test_without_a_refitted_head_the_reason_stays_open():
    parts = [classified(0, C=[0], K=[0]), classified(1, C=[1], K=[1])]
    found = images(answers_of(parts, 0), LABELS[:1], 0, 1)
    assert found.lost[0] and found.why(0) is None and not len(found.of_part(LOST))
    assert "not separated" in why_image(found, 0, ["three", "seven"], 0)


def test_the_flow_counts_every_image_once():
    regained = classified(2, C=[0, 0, 0, 0], K=[0, 0, 1, 1])
    found = flow(answers_of([BEFORE, AFTER, regained], 0), LABELS, 0)
    assert found[0] == (0, {"learned": 3, "wrong": 1})
    assert found[1] == (1, {"kept": 0, "lost": 3, "regained": 1, "wrong": 0})
    assert found[2] == (2, {"kept": 0, "lost": 1, "regained": 2, "wrong": 1})


def test_answers_that_were_not_stored_are_none():
    assert images(answers_of([BEFORE], 0), LABELS, 0, 1) is None


def test_without_a_refitted_head_recomputed_statistics_say_whether_features_are_intact():
    own = [row("C", 0, 90.0, None), row("C", 1, 40.0, 90.0)]
    kept = [row("Q", 0, 99.0, None), row("Q", 1, 98.0, 99.0)]
    said = lambda *more: verdict(ledger(rows(*own, *more), 0, 1), rows(*own, *more))
    assert "features still separable (recomputed statistics 98 %, was 99 %)" in said(*kept)
    assert "recomputed statistics 60 %, was 99 %" in said(kept[0], row("Q", 1, 60.0, 99.0))
    assert "features" not in said().split("head or features")[0]
