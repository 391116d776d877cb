"""Readouts: the classifiers used to measure accuracy. Their names are stored in `AccuracyMeasured.readout`. No
torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Readout:
    """A readout of the engine; imported results may have others.

    `task_known`: scores are compared among the task's own classes only. `fitted`: computed from float32 features, so
    that test features are also float32, regardless of the training precision.
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
        Readout(RECOMPUTED, "the same with statistics recomputed from all training images: a control", fitted=True),
        Readout(
            REFITTED,
            "linear discriminant analysis refitted to the task's training images, among the task's own classes",
            task_known=True,
            fitted=True,
        ),
        Readout(ZERO_SHOT, "the backbone before any training"),
    )
}
MEANING = {name: readout.meaning for name, readout in READOUTS.items()}
AFTER_TASKS = (CLASS_INCREMENTAL, TASK_INCREMENTAL, STORED, RECOMPUTED)  # have accuracy matrices
HEADLINES = (CLASS_INCREMENTAL, TASK_INCREMENTAL, STORED)  # allowed as a run's default readout: no old images needed
