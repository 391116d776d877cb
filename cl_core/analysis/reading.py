"""Reads the events needed for the ledger from a run's folder in one pass. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cl_core.analysis.ledger import Images, Rows, Stretch, answers_of, costly_steps, images, rows_of
from cl_core.events import Event, ImagesClassified, ImagesStored
from cl_core.store import RunFolder, RunReader

KINDS = ("RunStarted", "AccuracyMeasured", "RefitMeasured", "OldTasksMeasured", "ImagesStored", "ImagesClassified")


@dataclass
class Measured:
    """Events by kind and derived data."""

    events: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: RunFolder) -> Measured:
        """Raises StoreError if the run cannot be read."""
        found: dict[str, list[Event]] = {}
        with closing(RunReader(folder)) as reader:
            for stored in reader.since(kinds=KINDS):
                found.setdefault(stored.event.kind, []).append(stored.event)
        return cls(found)

    @property
    def tasks(self) -> Sequence[dict[str, Any]]:
        plans = self.events.get("RunStarted", ())
        return plans[-1].tasks if plans else ()

    @property
    def names(self) -> list[str]:
        """All classes in order of arrival."""
        return [str(name) for task in self.tasks for name in task.get("classes", ())]

    @property
    def rows(self) -> Rows:
        return rows_of(self.events.get("AccuracyMeasured", ()), self.events.get("RefitMeasured", ()))

    def steps(self, task: int, after: int) -> list[Stretch] | None:
        """The steps with the largest loss increase on old tasks; None if not measured within tasks."""
        looked = self.events.get("OldTasksMeasured", [])
        return costly_steps(looked, task, after) if looked else None

    def stored(self, task: int) -> ImagesStored | None:
        return next((e for e in self.events.get("ImagesStored", ()) if e.clock.task == task), None)

    def answers(self, task: int) -> dict[int, ImagesClassified]:
        return answers_of(self.events.get("ImagesClassified", ()), task)

    def images(self, task: int, after: int, later: Mapping[str, Any] | None = None) -> Images | None:
        stored = self.stored(task)
        return None if stored is None else images(self.answers(task), np.asarray(stored.labels), task, after, later)
