"""Lesson: is a task lost in the features, or only out of reach of the head?"""

from __future__ import annotations

import numpy as np

from cl_core.events import AccuracyMeasured
from cl_core.metrics import final_average_accuracy
from dashboard.figures.event_arrays import CLASS_INCREMENTAL, TASK_INCREMENTAL
from dashboard.figures.readouts import readout_bars
from dashboard.lessons.lesson import (
    PLAIN,
    PROTECTED,
    Drawing,
    Lesson,
    Link,
    Recordings,
    Step,
    against,
    course,
    matrix_of,
    readouts_of,
)
from dashboard.theme import percent, task_name

STORED, RECOMPUTED = "stored statistics", "recomputed statistics"


def facts(runs: Recordings) -> dict[str, str]:
    found: dict[str, str] = {}
    ends: dict[tuple[str, str], float] = {}
    for run, suffix in ((PLAIN, ""), (PROTECTED, "_protected")):
        for readout, name in (
            (CLASS_INCREMENTAL, "class"),
            (TASK_INCREMENTAL, "task"),
            (STORED, "stored"),
            (RECOMPUTED, "recomputed"),
        ):
            ends[run, name] = final_average_accuracy(runs.accuracies(run, readout))
            found[name + suffix] = percent(ends[run, name])
    of_class, of_task = (runs.accuracies(PLAIN, readout)[-1] for readout in (CLASS_INCREMENTAL, TASK_INCREMENTAL))
    widest = int(np.argmax(of_task - of_class))
    stored = runs.accuracies(PLAIN, STORED)
    counts = [int(task["test"]) for task in runs.tasks(PLAIN)]
    return found | {
        "widest": task_name(widest),
        "widest_class": percent(of_class[widest]),
        "widest_task": percent(of_task[widest]),
        "tests": f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(counts[0]),
        "stored_first": course(stored[0, 0], stored[1, 0]),
        "class_between": against(ends[PROTECTED, "class"], ends[PLAIN, "class"]),
        "stored_between": against(ends[PROTECTED, "stored"], ends[PLAIN, "stored"]),
        "chance": percent(100 / len(runs.tasks(PLAIN)[0]["classes"]), 0),
    }


def _bars(runs: Recordings):
    shown = (CLASS_INCREMENTAL, TASK_INCREMENTAL)
    measured = [e for e in runs.events(PLAIN, AccuracyMeasured) if e.readout in shown]
    return readout_bars(measured, stages=runs.stages(PLAIN))


LESSON = Lesson(
    "readouts",
    "Where it is forgotten: head or features",
    "Ask the same features four times, each time with another reader, and find out which part of the network forgot.",
    10,
    (PLAIN, PROTECTED),
    facts,
    (
        Step(
            "The same head, asked two ways",
            "A network is features and a head that reads them. At the end of the plain run the head gets {class} "
            "right when all digits compete (*class-incremental*). Tell it which task a picture is from, so that only "
            "that task's own digits compete (*task-incremental*), and the same head on the same features gets {task}. "
            "Widest apart is {widest}: {widest_class} against {widest_task}.",
            (Drawing(_bars, (PLAIN,)),),
            "With the task known, guessing gives {chance}. Has the network forgotten how to tell the digits of "
            "{widest} apart?",
            "No: it tells them apart as long as no other digit may answer. What fails is the choice *between* tasks: "
            "each part of the head was trained while only its own digits were shown, and nobody taught it when to "
            "keep quiet.",
            links=(Link("Each task, by readout", "pages/forgetting.py", (("run", PLAIN),)),),
            terms=("readout", "scenario"),
        ),
        Step(
            "Another reader: stored statistics",
            "Leave the head out. When a task has just been learned, note the mean feature of each of its digits and "
            "how features spread; later pick the digit whose mean is nearest, given that spread (linear discriminant "
            "analysis). With what was *stored* at the time, T1 {stored_first} after a single further task, and at the "
            "end the mean over tasks is {stored}.",
            (Drawing(matrix_of(PLAIN, STORED), (PLAIN,)),),
            "The stored means have not changed. What has?",
            "The features. The same picture is now sent to another place, and the old means no longer fit. This is "
            "what people mean by *feature drift*.",
            links=(Link("How far features drifted", "pages/attention.py", (("run", PLAIN), ("task", "T5"))),),
            terms=("readout", "forgetting"),
        ),
        Step(
            "Moved, or destroyed?",
            "Now take the means *anew*, from all training pictures, with the network as it is at the end: "
            "{recomputed}. Read with fresh means, the features still know nearly everything; read with the stored "
            "ones, {stored}. So hardly anything was destroyed: it moved out of the old reader's reach.",
            (Drawing(readouts_of(PLAIN), (PLAIN,)),),
            "Why may nobody report the recomputed number as the method's accuracy?",
            "It looks at training pictures of old tasks, which the method is not allowed to keep. It is a control: it "
            "says what is still in the features, not what the method can do with them.",
            links=(Link("Readouts of the same features", "pages/forgetting.py", (("run", PLAIN),)),),
            terms=("readout",),
        ),
        Step(
            "The same four with protection",
            "The run that protects what old digits use (NSP²): class-incremental {class_protected}, task known "
            "{task_protected}, stored statistics {stored_protected}, recomputed {recomputed_protected}. Against "
            "the plain run its own head knows {class_between}; by stored statistics it is {stored_between}. The "
            "features stayed nearer to where they were, and the heads still compete.",
            (Drawing(readouts_of(PROTECTED), (PROTECTED,)),),
            "You may improve one part of this run: the features or the head. Which would raise the class-incremental "
            "accuracy more?",
            "The head. By stored statistics the same features read {stored_protected} without keeping one picture, "
            "while the trained head reads {class_protected}. This is one seed of one small stream; the last lesson "
            "says how far to trust it.",
            links=(
                Link("This run's readouts", "pages/forgetting.py", (("run", PROTECTED),)),
                Link("Old pictures, then and now", "pages/attention.py", (("run", PROTECTED), ("task", "T5"))),
            ),
            preset="nsp2-micro",
            terms=("readout", "stability"),
        ),
    ),
)
