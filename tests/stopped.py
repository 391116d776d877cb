"""Trainers that are stopped at the right place."""

from __future__ import annotations

from typing import Any

from cl_core.events import Event


def until(trainer: Any, task: int, stage: str = "train") -> Any:
    """The trainer, gone on until `stage` of training task `task` comes next."""
    events_until(trainer, task, stage)
    return trainer


def events_until(trainer: Any, task: int, stage: str) -> list[Event]:
    """The events up to the same place."""
    events: list[Event] = []
    for moment in trainer.run():
        events += moment
        if (trainer.cursor.task, trainer.cursor.stage) == (task, stage):
            return events
    raise AssertionError(f"the run ended before task {task}, {stage}")
