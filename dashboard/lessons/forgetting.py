"""Lesson: what forgetting is, on prompts that nothing protects."""

from __future__ import annotations

import numpy as np

from cl_core.events import AccuracyMeasured
from cl_core.metrics import (
    average_incremental_accuracy,
    final_average_accuracy,
    forgetting,
    learning_accuracy,
)
from dashboard.figures.accuracy import accuracy_matrix, accuracy_over_time, learned_and_kept
from dashboard.lessons.lesson import (
    ALIKE,
    PLAIN,
    PROTECTED,
    Drawing,
    Guess,
    Lesson,
    Link,
    Recordings,
    Step,
    called,
    course,
    listed,
    matrix_of,
    protection_minus_none,
)
from dashboard.theme import percent, task_name

SHOWN = 3  # rows before the reader guesses how it goes on


def facts(runs: Recordings) -> dict[str, str]:
    plain, protected = runs.accuracies(PLAIN), runs.accuracies(PROTECTED)
    tasks, end = runs.tasks(PLAIN), len(plain) - 1
    learned = plain.diagonal()
    lost = learned[:end] - plain[end, :end]
    worst, best = int(np.argmax(lost)), int(np.argmin(lost))
    ends = final_average_accuracy(plain), final_average_accuracy(protected)
    return {
        "classes": str(sum(len(t["classes"]) for t in tasks)),
        "first_classes": str(len(tasks[0]["classes"])),
        "order": "; ".join(called(j, tasks) for j in range(len(tasks))),
        "rows": str(len(plain)),
        "shown": str(SHOWN),
        "shown_row": task_name(SHOWN - 1),
        "first": percent(plain[0, 0]),
        "first_shown": percent(plain[SHOWN - 1, 0]),
        "last_task": task_name(end),
        "first_end": percent(plain[end, 0]),
        "first_course": course(plain[0, 0], plain[end, 0]),
        "worst": task_name(worst),
        "worst_course": course(learned[worst], plain[end, worst]),
        "best": task_name(best),
        "best_course": course(learned[best], plain[end, best]),
        "last_row": listed([f"{v:.1f}" for v in plain[end]]) + " %",
        "final": percent(ends[0]),
        "incremental": percent(average_incremental_accuracy(plain)),
        "which_is_higher": (
            "The second is higher, because its early rows ask about few digits only"
            if average_incremental_accuracy(plain) > ends[0]
            else "Here the second is not the higher one"
        ),
        "forgetting": f"{forgetting(plain):.1f}",
        "learning": percent(learning_accuracy(plain)),
        "newest": percent(learned[end]),
        "forgetting_protected": f"{forgetting(protected):.1f}",
        "learning_protected": percent(learning_accuracy(protected)),
        "final_protected": percent(ends[1]),
        "who_knows_more": (
            "Neither: at the end they are within a point of each other. What the second run keeps better, it had "
            "learned less of"
            if abs(ends[0] - ends[1]) < ALIKE
            else f"The {'first' if ends[0] > ends[1] else 'second'} one, by {abs(ends[0] - ends[1]):.1f} points"
        ),
    }


def _first_rows(runs: Recordings):
    measured = [e for e in runs.events(PLAIN, AccuracyMeasured) if e.clock.task < SHOWN]
    return accuracy_matrix(measured, stages=runs.stages(PLAIN), tasks=runs.tasks(PLAIN))


def _lines(runs: Recordings):
    return accuracy_over_time(runs.events(PLAIN, AccuracyMeasured), stages=runs.stages(PLAIN), tasks=runs.tasks(PLAIN))


def _kept(runs: Recordings):
    return learned_and_kept(runs.events(PLAIN, AccuracyMeasured), stages=runs.stages(PLAIN))


LESSON = Lesson(
    "forgetting",
    "What forgetting is",
    "Read an accuracy matrix, along its rows and down its columns, and turn what you see into two numbers.",
    10,
    (PLAIN, PROTECTED),
    facts,
    (
        Step(
            "One row after the other",
            "A small network learns {classes} handwritten digits, a few at a time: {order}. After each task it is "
            "asked about test pictures of *all digits seen so far*, and nobody tells it which task a picture is from. "
            "That is one row of the matrix: *after training on*. Each column is one task: *evaluated on*.\n\n{shown} "
            "of {rows} rows are shown. When T1 had just been learned it stood at {first}; after {shown_row} it stands "
            "at {first_shown}.",
            (Drawing(_first_rows, (PLAIN,)),),
            "What will stand in the column of T1 when {last_task} has been learned?",
            "{first_end}. The next step shows the rest of the matrix.",
            terms=("task", "accuracy-matrix", "scenario"),
            guess=Guess("Your guess, in percent", lambda runs: float(runs.accuracies(PLAIN)[-1, 0])),
        ),
        Step(
            "Down a column: one task over time",
            "The column of T1 {first_course}. The test pictures of T1 are the same in every row, and no training "
            "picture of T1 was shown again: what changed is the model. Colours run from pale, 0 %, to dark, 100 %, so "
            "a column that pales downwards is being forgotten. Cells above the diagonal are empty, because those "
            "digits had not been learned yet.",
            (Drawing(matrix_of(PLAIN), (PLAIN,)),),
            "Look at every column from its diagonal cell to the last row. Which task lost most, and did any lose "
            "nothing?",
            "{worst} lost most: it {worst_course}. {best} lost least: it {best_course}.",
            links=(
                Link("This matrix, row by row: press Play", "pages/start.py", (("run", PLAIN),)),
                Link("Open its cells", "pages/forgetting.py", (("run", PLAIN), ("from", "T5"), ("to", "T1"))),
            ),
            terms=("accuracy-matrix", "forgetting"),
        ),
        Step(
            "Along the last row: what is left",
            "The last row is what the network knows at the end: {last_row}. Its mean is the *final average accuracy*, "
            "{final}. The dashed line gives the mean of every row; the mean of all its points is the *average "
            "incremental accuracy*, {incremental}. {which_is_higher}.",
            (Drawing(_lines, (PLAIN,)),),
            "A paper reports 'average accuracy'. Which of the two is it?",
            "One cannot know; it must be said. Ask for the last row, or for the whole matrix: everything else follows "
            "from it.",
            links=(Link("All readouts of this run", "pages/forgetting.py", (("run", PLAIN),)),),
            terms=("final-average-accuracy", "average-incremental-accuracy"),
        ),
        Step(
            "Forgetting as a number",
            "For every task but the last: the best it ever stood at in an earlier row, minus where it stands at the "
            "end. The mean of these is *forgetting*: {forgetting} points here. Where a task stood when it had just "
            "been learned is its *learning accuracy*, the diagonal; its mean is {learning}. In the figure the wide "
            "pale bar is what was learned, the narrow one what is left.",
            (Drawing(_kept, (PLAIN,)),),
            "{last_task} stands at {newest} only. Is it forgotten?",
            "No: it was never higher. That is low learning accuracy, not forgetting. Part of it is the harder "
            "question: T1 was asked among {first_classes} digits when it had just been learned, {last_task} among "
            "{classes}.",
            links=(Link("Learned, and kept", "pages/forgetting.py", (("run", PLAIN),)),),
            terms=("learning-accuracy", "forgetting", "plasticity", "stability"),
        ),
        Step(
            "Forgetting less is not knowing more",
            "A second run learned the same digits in the same order, but protects what earlier digits use (NSP²). Its "
            "forgetting is {forgetting_protected} points instead of {forgetting}, its learning accuracy "
            "{learning_protected} instead of {learning}. The figure is its matrix minus the plain one, cell by cell: "
            "blue, the protected run is better there; orange, the plain one.",
            (Drawing(protection_minus_none, (PROTECTED, PLAIN)),),
            "Which of the two runs knows more digits at the end?",
            "{who_knows_more}: {final_protected} against {final}. A run that learns nothing forgets nothing; never "
            "read forgetting without learning accuracy beside it.",
            links=(Link("Both runs on the same axes", "pages/compare.py", (("runs", (PROTECTED, PLAIN)),)),),
            preset="sequential-micro",
            terms=("stability", "plasticity", "final-average-accuracy"),
        ),
    ),
)
