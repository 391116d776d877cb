"""Readouts: who predicts when accuracy is measured. Their names are stored in `AccuracyMeasured.readout`. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Readout:
    """A readout that the engine knows; other programs' results may bring others.

    `task_known`: scores are compared among the task's own classes only. `fitted`: computed from features in float32,
    so that test features are taken in float32 too, whatever the precision of training.
    """

    name: str
    meaning: str
    task_known: bool = False
    fitted: bool = False


CLASS_INCREMENTAL, TASK_INCREMENTAL = "class-incremental", "task-incremental"
STORED, RECOMPUTED = "stored statistics", "recomputed statistics"
REFITTED = "refitted head"
ZERO_SHOT = "zero-shot"  # the row of the matrix before training

# In the order in which pages list them.
READOUTS = {
    readout.name: readout
    for readout in (
        Readout(CLASS_INCREMENTAL, "the method's own head over all classes seen, no task id"),
        Readout(TASK_INCREMENTAL, "the same head, restricted to the task's own classes", task_known=True),
        Readout(
            STORED,
            "linear discriminant analysis with class statistics stored when each task was learned",
            fitted=True,
        ),
        Readout(RECOMPUTED, "the same with statistics taken anew from all training images: a control", fitted=True),
        Readout(
            REFITTED,
            "linear discriminant analysis fitted anew to the task's training images, among the task's own classes",
            task_known=True,
            fitted=True,
        ),
        Readout(ZERO_SHOT, "the backbone before any training"),
    )
}
MEANING = {name: readout.meaning for name, readout in READOUTS.items()}
AFTER_TASKS = (CLASS_INCREMENTAL, TASK_INCREMENTAL, STORED, RECOMPUTED)  # have accuracy matrices
HEADLINES = (CLASS_INCREMENTAL, TASK_INCREMENTAL, STORED)  # a run can be judged by: nothing old is read again
