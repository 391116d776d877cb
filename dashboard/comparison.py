"""Data of Compare: a run's accuracies, whether runs can be overlaid, and the meaning of a click in the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from cl_core.config import RunConfig
from cl_core.store import RunFolder, RunReader, StoreError, effective_config
from cl_core.summary import Summary, summarise
from cl_core.sweeps.pareto import said, settings_of
from dashboard.runs import RunIndex, stamp_of


@dataclass(frozen=True)
class Compared:
    """A run's effective settings, its accuracies, and its tasks from RunStarted."""

    config: RunConfig
    summary: Summary
    tasks: Sequence[dict[str, Any]]

    @property
    def stream(self) -> tuple[Any, ...]:
        """Key that runs must share to be overlaid: the stream and the learned part of it."""
        return stream_of(self.config)

    @property
    def stream_told(self) -> str:
        """Description of the stream, as in "split-digits, 5 tasks, order I"."""
        held_out = ", validation split" if self.config.stream_settings.evaluate_on == "validation" else ""
        settings = self.config.stream_settings
        return f"{self.config.stream}, {settings.tasks} tasks, order {settings.order}{held_out}"

    def matrix(self, readout: str = "") -> np.ndarray:
        """Return the matrix [T, T] in percent, NaN = not measured; "" = the headline readout."""
        rows = self.summary.matrix(readout)
        return np.array([[np.nan if v is None else v for v in row] for row in rows], dtype=float)


def read(folder: RunFolder) -> Compared | None:
    """Return a run to compare, cached until its files change; None if it cannot be read."""
    return _read(str(folder.path), stamp_of(folder))


@st.cache_resource(show_spinner=False, max_entries=500)
def _read(path: str, stamp: tuple[int, ...]) -> Compared | None:
    folder = RunFolder(Path(path))
    try:
        with closing(RunReader(folder)) as reader:
            plan = reader.latest("RunStarted")
        return Compared(effective_config(folder), summarise(folder), plan.event.tasks if plan else ())  # type: ignore[attr-defined]
    except (StoreError, ValueError, TypeError, KeyError):
        return None


def named(spelled: Sequence[str], index: RunIndex) -> list[str]:
    """Parse the run names in a URL's `runs`: repeated keys, comma-separated lists, or both, without duplicates. A run
    whose name contains a comma is recognised."""
    parts = (part.strip() for text in spelled for part in ([text] if index.find(text) else text.split(",")))
    return list(dict.fromkeys(part for part in parts if part))


def stream_of(config: RunConfig) -> tuple[Any, ...]:
    """Return the stream's name and settings as strings."""
    part = {name: said(value) for name, value in settings_of(config).items() if name.startswith("stream.")}
    return config.stream, *sorted(part.items())


def stream_of_run(folder: RunFolder | None) -> tuple[Any, ...] | None:
    """Return the same for a run that may be missing or damaged."""
    try:
        return stream_of(folder.config()) if folder else None
    except StoreError:
        return None


def meant(point: Mapping[str, Any], runs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the runs of a clicked point of the plane: one, or all seeds of a setting.

    Args:
        point: the clicked point; its `custom` begins with the run or "", and the setting's label.
        runs: label → runs of that setting.
    """
    run, label = [*(point.get("custom") or []), "", ""][:2]
    return [str(run)] if run else list(runs.get(str(label), ()))
