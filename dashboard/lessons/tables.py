"""Lesson: how to read a table without fooling oneself: conventions, averages, chance, controls."""

from __future__ import annotations

import numpy as np

from cl_core.metrics import (
    average,
    average_incremental_accuracy,
    final_average_accuracy,
    forgetting,
    last,
    learning_accuracy,
    transfer,
)
from dashboard.figures.comparison import accuracy_overlay
from dashboard.lessons.lesson import (
    PLAIN,
    PROTECTED,
    WEIGHTS,
    Drawing,
    Lesson,
    Link,
    Recordings,
    Step,
    matrix_of,
    protection_minus_none,
    readouts_of,
)
from dashboard.theme import percent, points


def standard_error(accuracy: float, pictures: int) -> float:
    """Of an accuracy in percent measured on so many pictures, in percentage points: 100 √(p (1 − p) / n)."""
    share = accuracy / 100
    return 100 * float(np.sqrt(share * (1 - share) / pictures))


def error_of_mean(row: np.ndarray, pictures: list[int]) -> float:
    """Standard error of the mean of a row, percentage points."""
    parts = [standard_error(float(v), n) for v, n in zip(row, pictures, strict=True)]
    return float(np.sqrt(np.sum(np.square(parts)))) / len(parts)


def facts(runs: Recordings) -> dict[str, str]:
    plain, protected, domains = runs.accuracies(PLAIN), runs.accuracies(PROTECTED), runs.accuracies(WEIGHTS)
    pictures = [int(task["test"]) for task in runs.tasks(PLAIN)]
    cell = standard_error(float(plain[-1, 0]), pictures[0])
    gap = final_average_accuracy(protected) - final_average_accuracy(plain)
    noise = float(np.hypot(error_of_mean(plain[-1], pictures), error_of_mean(protected[-1], pictures)))
    found = {
        "forgetting": f"{forgetting(domains):.1f}",
        "turned_forgetting": f"{forgetting(domains.T):.1f}",
        "transfer": percent(transfer(domains)),
        "turned_transfer": percent(transfer(domains.T)),
        "average": percent(average(domains)),
        "last": percent(last(domains)),
        "final": percent(final_average_accuracy(plain)),
        "incremental": percent(average_incremental_accuracy(plain)),
        "learning": percent(learning_accuracy(plain)),
        "final_protected": percent(final_average_accuracy(protected)),
        "incremental_protected": percent(average_incremental_accuracy(protected)),
        "pictures": str(pictures[0]),
        "cell": percent(plain[-1, 0]),
        "cell_error": f"{cell:.1f}",
        "difference": points(gap),
        "noise": f"{noise:.1f}",
        "verdict": (
            "no: the difference is smaller than twice what the choice of test pictures alone can do"
            if abs(gap) < 2 * noise
            else "the test pictures alone do not explain it"
        ),
        "seed": str(runs.config(PLAIN).seed),
    }
    for readout, name in (("stored statistics", "stored"), ("recomputed statistics", "recomputed")):
        found[name] = percent(final_average_accuracy(runs.accuracies(PLAIN, readout)))
    return found


def _overlay(runs: Recordings):
    return accuracy_overlay({"protected": runs.accuracies(PROTECTED), "plain": runs.accuracies(PLAIN)})


LESSON = Lesson(
    "tables",
    "How to read a table without fooling yourself",
    "Which way do the rows run, which average is it, how large is chance, and what was the control?",
    10,
    (PLAIN, PROTECTED, WEIGHTS),
    facts,
    (
        Step(
            "Which way do the rows run?",
            "On this page rows are *after training on*, columns *evaluated on*. Some tools print it the other way "
            "round, and where every cell is measured, as on CLIP streams, nothing in its shape gives that away. "
            "Compute forgetting from this matrix: {forgetting} points. From the same numbers turned over: "
            "{turned_forgetting}. Transfer: {transfer}, turned over {turned_transfer}.",
            (Drawing(matrix_of(WEIGHTS), (WEIGHTS,)),),
            "Nobody labelled the axes. How can you tell which way this one runs?",
            "Look along the diagonal. A task jumps when it is trained on and mostly stays up afterwards: in this "
            "orientation that jump runs down a column, in the other along a row. Better still: label the axes.",
            links=(Link("This run's matrix", "pages/forgetting.py", (("run", WEIGHTS),)),),
            terms=("accuracy-matrix", "transfer"),
        ),
        Step(
            "Which average is it?",
            "One run, three honest averages. Final average accuracy, the mean of the last row: {final}. Average "
            "incremental accuracy, the mean of all rows' means: {incremental}. Learning accuracy, the mean of the "
            "diagonal: {learning}. On CLIP streams three others are customary; for the run of the step before, "
            "Transfer {transfer}, Average {average}, Last {last}.",
            (Drawing(_overlay, (PROTECTED, PLAIN)),),
            "The plain run has {final} and {incremental}, the protected one {final_protected} and "
            "{incremental_protected} (final, incremental). A table gives one number for each run. What may go wrong?",
            "It may quote the flattering average of one beside the sober one of the other: names differ between "
            "papers, and 'average accuracy' is used for both. Never compare two averages whose formula you have not "
            "read.",
            links=(Link("Both runs", "pages/compare.py", (("runs", (PROTECTED, PLAIN)),)),),
            terms=("final-average-accuracy", "average-incremental-accuracy", "learning-accuracy", "transfer"),
        ),
        Step(
            "How large is chance?",
            "The column of T1 has {pictures} test pictures, so its {cell} at the end has a standard error of "
            "{cell_error} points: other pictures of the same digits could easily have given as much more or less. The "
            "two runs' final averages differ by {difference}, with a standard error of about {noise} points.",
            (Drawing(protection_minus_none, (PROTECTED, PLAIN)),),
            "Is the difference of the final averages real?",
            "As far as the pictures go, {verdict}. And pictures are the smaller part: both runs are seed {seed}, one "
            "order of the digits, one set of first prompts. Other seeds move final accuracy by several points. Train "
            "some, and report mean and spread.",
            links=(Link("Sweep seeds", "pages/compare.py", (("runs", (PROTECTED, PLAIN)),)),),
            preset="nsp2-micro",
            terms=("seed",),
        ),
        Step(
            "What was the control?",
            "A number means something beside another. By stored statistics the plain run reads {stored}: has the "
            "network lost the digits? The control, statistics recomputed at the end, reads {recomputed}: no, they "
            "moved. Without that second line one would have told the wrong story.",
            (Drawing(readouts_of(PLAIN), (PLAIN,)),),
            "Somebody claims that projecting into the null space prevents forgetting. Which runs do you ask for?",
            "The same without projection. Steps shrunk as much, but in no direction (is it the direction?). The same "
            "number of *random* directions (is it the choice?). Frozen features with a good reader (is there anything "
            "to gain?). All tasks at once (how much could one have?). And several seeds of each.",
            links=(
                Link("Questions and their controls", "pages/questions.py", (("question", "nsp2-baseline"),)),
                Link("Random directions", "pages/questions.py", (("question", "nusa-directions"),)),
            ),
            preset="joint-micro",
            terms=("seed", "readout"),
        ),
    ),
)
