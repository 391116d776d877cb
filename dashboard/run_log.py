"""Events of a run, kept in memory once for all viewers and updated incrementally.

    log = log_of(folder)         the same object for every tab of this server
    now = log.snapshot()         immutable: events, state and settings of one moment
    now.of(StepEnded)            stored events of one kind, oldest first; now.events(StepEnded): without seq and time
    now.key(StepEnded)           equal to another snapshot's only if both hold the same events of these kinds

A run that cannot be read does not raise here: `now.trouble` is the sentence to show, and earlier events are kept.
"""

from __future__ import annotations

import abc
import bisect
import copy
import itertools
import os
import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cl_core.config import RunConfig
from cl_core.events import KINDS, AccuracyMeasured, Event, KnobTurned, RunForked, RunStarted, StateChanged, TaskEnded
from cl_core.playground.recording import PREFIX
from cl_core.playground.recording import PRESET as KEPT
from cl_core.presets import PRESETS
from cl_core.recordings import RECORDINGS
from cl_core.store import RunFolder, RunReader, RunStatus, StoredEvent, StoreError, note_of
from cl_core.store.reader import DamagedEvent
from dashboard.playground_controls import RULE_TITLES

Kind = TypeVar("Kind", bound=Event)

NOT_RECORDED = "not recorded"  # stream of an import whose file names no data
MOST_DAMAGED = 200  # most damaged rows that are skipped before reading stops
MOST_LOGS = 64  # most runs whose events stay in memory

_READINGS = itertools.count(1)  # numbers each reading of a run from its first row


class _Rows:
    """Events of one kind, in order. Append-only, so the first n never change."""

    def __init__(self) -> None:
        self.stored: list[StoredEvent] = []
        self.events: list[Event] = []
        self.columns: dict[Callable[[Any], float], array[float]] = {}
        self.guard = threading.Lock()

    def add(self, stored: StoredEvent) -> None:
        self.stored.append(stored)
        self.events.append(stored.event)

    def column(self, value: Callable[[Any], float], count: int) -> np.ndarray:
        with self.guard:
            known = self.columns.setdefault(value, array("d"))
            known.extend(value(event) for event in self.events[len(known) : count])
            return np.array(known[:count])


_NONE = _Rows()


def stream_title(stream: str) -> str:
    """Return a stream's display name; paths are reduced to their last component."""
    scheme, colon, rest = stream.partition(":")
    if not colon:
        return stream
    names = [Path(part).name or part for part in rest.split(",") if part]
    return ", ".join(names) if scheme == "folder" else f"{scheme}, {', '.join(names)}"


def title_of(name: str, config: RunConfig | None) -> str:
    """Return the default title of a run: that of a bundled recording, of its preset, or method and stream. Plain text.

    Args:
        name: name of its folder.
        config: its settings; None if they cannot be read.
    """
    if config is None:
        return name
    recorded = RECORDINGS.get(name)
    if recorded is not None and recorded.record.get("preset", KEPT) == config.preset:
        return recorded.title
    named = PRESETS.get(config.preset)
    kind = (config.method, config.stream)
    if named is not None and (named.config["method"], named.config.get("stream", RunConfig.stream)) == kind:
        return named.title
    if config.preset == KEPT:
        rule = config.method.removeprefix(PREFIX)
        return f"{RULE_TITLES.get(rule, rule)} on {stream_title(config.stream).replace('-', ' ')}"
    if config.stream == NOT_RECORDED:  # imported from a file that names no data
        return config.method
    return f"{config.method} on {stream_title(config.stream)}"


class Log(abc.ABC):
    """Interface for pages and figures: a run's events by kind, state, settings."""

    folder: RunFolder

    @abc.abstractmethod
    def of(self, kind: type[Kind]) -> list[StoredEvent]:
        """Return stored events of one kind, oldest first."""

    @abc.abstractmethod
    def events(self, kind: type[Kind]) -> list[Kind]:
        """Return events of one kind, oldest first, without seq and time, as figures take them."""

    @abc.abstractmethod
    def status(self) -> RunStatus:
        """Return the run's status."""

    @property
    @abc.abstractmethod
    def config(self) -> RunConfig | None:
        """Its settings; None if they cannot be read."""

    @property
    @abc.abstractmethod
    def trouble(self) -> str:
        """Why it cannot be read in full, one sentence; "" if it can."""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def title(self) -> str:
        """The user's title or the default title, as plain text. Pages add distinguishing settings
        (`library.run_names`)."""
        return note_of(self.folder).title or title_of(self.name, self.config)

    def latest(self, kind: type[Kind]) -> Kind | None:
        """Return the newest event of a kind, without seq and time; None if there is none."""
        found = self.events(kind)
        return found[-1] if found else None

    def started(self) -> RunStarted | None:
        """Return the run's plan; in a fork, with its own number of steps."""
        plan, forked = self.latest(RunStarted), self.latest(RunForked)
        return plan and replace(plan, total_steps=forked.total_steps) if forked else plan

    def tasks(self) -> int:
        """Number of evaluated tasks; 0 while unknown."""
        plan = self.started()
        if plan is not None:
            return len(plan.tasks)
        return self.config.stream_settings.tasks if self.config else 0

    def tasks_ended(self) -> int:
        return len({stored.event.clock.task for stored in self.of(TaskEnded)})

    def turned(self) -> list[KnobTurned]:
        """Return settings changed during this run itself, not in the run it was forked from."""
        forked = self.of(RunForked)
        since = forked[-1].seq if forked else 0
        return [stored.event for stored in self.of(KnobTurned) if stored.seq > since]  # type: ignore[misc]

    def milestones(self) -> int:
        """Return a count that rises with events at task ends, but not with every step."""
        return len(self.of(TaskEnded)) + len(self.of(AccuracyMeasured)) + len(self.of(StateChanged))


class Snapshot(Log):
    """A run at one moment. Immutable, and small, because snapshots share their rows."""

    def __init__(
        self,
        folder: RunFolder,
        rows: Mapping[type[Event], _Rows],
        counts: Mapping[type[Event], int],
        *,
        reading: int,
        seq: int,
        status: RunStatus,
        config: RunConfig | None,
        trouble: str,
    ) -> None:
        self.folder, self.seq, self.reading = folder, seq, reading
        self._rows, self._counts = rows, counts
        self._status, self._config, self._trouble = status, config, trouble
        self._open: tuple[type[Event], ...] | None = None  # kinds that may be read; None = all

    @classmethod
    def holding(cls, folder: RunFolder, stored: list[StoredEvent], config: RunConfig | None = None) -> Snapshot:
        """Return a snapshot of these events only."""
        rows: dict[type[Event], _Rows] = {}
        for item in stored:
            rows.setdefault(type(item.event), _Rows()).add(item)
        counts = {kind: len(found.events) for kind, found in rows.items()}
        return cls(folder, rows, counts, reading=next(_READINGS), seq=stored[-1].seq if stored else 0,
                   status=RunStatus("finished", "", 0.0, None), config=config, trouble="")  # fmt: skip

    def count(self, kind: type[Event]) -> int:
        if self._open is not None and kind not in self._open:
            named = ", ".join(other.__name__ for other in self._open)
            raise LookupError(f"{kind.__name__} is read, but is not among the kinds named: {named}")
        return self._counts.get(kind, 0)

    def only(self, *kinds: type[Event]) -> Snapshot:
        """Return this snapshot restricted to `kinds`; reading another kind raises LookupError."""
        found = copy.copy(self)
        found._open = kinds
        return found

    def kinds(self) -> list[type[Event]]:
        """Return the kinds that have events."""
        return [kind for kind, count in self._counts.items() if count]

    def key(self, *kinds: type[Event]) -> tuple[Any, ...]:
        """Return a cache key, equal for two snapshots only if they have the same events of these kinds and settings."""
        return self.reading, *(self.count(kind) for kind in kinds)

    def of(self, kind: type[Kind]) -> list[StoredEvent]:
        return self._rows.get(kind, _NONE).stored[: self.count(kind)]

    def events(self, kind: type[Kind]) -> list[Kind]:
        return self._rows.get(kind, _NONE).events[: self.count(kind)]  # type: ignore[return-value]

    def column(self, kind: type[Kind], value: Callable[[Kind], float]) -> np.ndarray:
        """Return [events] `value` of every event of a kind. Values are cached across snapshots, so that long runs are
        not recomputed at every refresh; `value` must be a named function."""
        return self._rows.get(kind, _NONE).column(value, self.count(kind))

    def status(self) -> RunStatus:
        return self._status

    @property
    def config(self) -> RunConfig | None:
        return self._config

    @property
    def trouble(self) -> str:
        return self._trouble

    def until(self, seq: int) -> Snapshot:
        """Return this run as of event `seq`, with its current state."""
        counts = {
            kind: bisect.bisect_right(self._rows[kind].stored, seq, 0, count, key=lambda stored: stored.seq)
            for kind, count in self._counts.items()
        }
        return Snapshot(
            self.folder,
            self._rows,
            counts,
            reading=self.reading,
            seq=min(seq, self.seq),
            status=self._status,
            config=self._config,
            trouble=self._trouble,
        )


class RunLog(Log):
    """All events of a run that have been read so far. Shared by threads; `advance` may be called at any rate. Read
    through `snapshot`: two reads from the log itself may see different moments."""

    PATIENCE = 0.2  # seconds within which a second `advance` does not read again

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._reader = RunReader(folder)
        self._rows: dict[type[Event], _Rows] = {}
        self._seq = 0
        self._reading = next(_READINGS)
        self._damaged, self._damage = 0, ""
        self._generation = 0
        self._looked = 0.0
        self._identity: tuple[int, ...] | None = None
        self._config: RunConfig | None = None
        self._config_trouble = ""
        self._events_trouble = ""
        self._config_seen: int | None = None
        self._now = self._taken(RunStatus("waiting", "", 0.0, None))

    def snapshot(self, *, force: bool = False) -> Snapshot:
        """Return the run as it is now (at most `PATIENCE` old)."""
        self.advance(force=force)
        return self._now

    def advance(self, *, force: bool = False) -> bool:
        """Read new events; return whether anything changed."""
        with self._lock:
            now = time.monotonic()
            if not force and now - self._looked < self.PATIENCE:
                return False
            self._looked = now
            before, live = (self._reading, self._seq), self._now.status().live
            self._look()
            if live and not self._now.status().live:  # the page stops refreshing, so read once more for final events
                self._look()
            return (self._reading, self._seq) != before

    def of(self, kind: type[Kind]) -> list[StoredEvent]:
        return self._now.of(kind)

    def events(self, kind: type[Kind]) -> list[Kind]:
        return self._now.events(kind)

    @property
    def config(self) -> RunConfig | None:
        return self._now.config

    @property
    def trouble(self) -> str:
        return self._now.trouble

    @property
    def seq(self) -> int:
        """Seq of the newest event."""
        return self._now.seq

    def status(self, *, fresh: bool = False) -> RunStatus:
        """Return the status at the last `advance`, so that it is not newer than the events; `fresh`: advance first."""
        if fresh or not self._looked:
            self.advance()
        return self._now.status()

    def forget_status(self) -> None:
        """Force reading at the next `advance` or `snapshot`, after a command was sent."""
        self._looked = 0.0

    # ------------------------------------------------------------ reading, under the lock

    def _look(self) -> None:
        """Read state and events of one moment."""
        self._read_config()
        if self._identity != (identity := self._identify()):  # the run appeared, was replaced, or got its first worker
            self._identity = identity
            self._reader.close()
            self._start_afresh()
        newer = "newer Plastiscope" in self._config_trouble  # events of a newer format might be misread
        try:
            with self._reader.snapshot() as status:
                if not newer:
                    self._read_events()
        except StoreError as error:
            status, self._events_trouble = RunStatus("unreadable", str(error), 0.0, None), str(error)
            if not newer:
                self._salvage()
        self._now = self._taken(status)

    def _taken(self, status: RunStatus) -> Snapshot:
        return Snapshot(
            self.folder,
            self._rows,
            {kind: len(rows.events) for kind, rows in self._rows.items()},
            reading=self._reading,
            seq=self._seq,
            status=status,
            config=self._config,
            trouble=self._config_trouble or self._events_trouble,
        )

    def _read_config(self) -> None:
        try:
            seen = self.folder.config_file.stat().st_mtime_ns
        except OSError:
            seen = -1
        if seen == self._config_seen:
            return
        self._config_seen = seen
        try:
            self._config, self._config_trouble = self.folder.config(), ""
        except StoreError as error:
            self._config, self._config_trouble = None, str(error)
        self._reading = next(_READINGS)

    def _read_events(self) -> None:
        generation = self._reader.generation()
        if generation != self._generation:
            self._start_afresh()
            self._generation = generation
        self._events_trouble = self._take_rows()

    def _identify(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self.folder.database)
        except OSError:
            return None
        return found.st_dev, found.st_ino, int(self.folder.lock.exists())

    def _start_afresh(self) -> None:
        self._rows = {}  # snapshots keep the old rows
        self._seq, self._damaged, self._damage = 0, 0, ""
        self._reading = next(_READINGS)

    def _take_rows(self) -> str:
        """Append new rows. Rows that cannot be decoded are skipped and counted; return a sentence about them."""

        def pass_over(seq: int, error: DamagedEvent) -> None:
            self._seq, self._damage = seq, str(error)
            self._damaged += 1
            if self._damaged >= MOST_DAMAGED:
                raise error

        if self._damaged < MOST_DAMAGED:
            try:
                for stored in self._reader.since(self._seq, damaged=pass_over):
                    self._add(stored)
            except DamagedEvent:
                pass  # too many
        if self._damaged >= MOST_DAMAGED:
            return f"{self._damaged} events of this run cannot be read, and reading stopped there: {self._damage}"
        if self._damaged:
            return f"{self._damaged} of this run's events cannot be read and are left out: {self._damage}"
        return ""

    def _salvage(self) -> None:
        """Read kinds of events separately: in a partly damaged file some may still be readable."""
        if self._seq or self._identity is None:
            return
        for name in KINDS:
            try:
                found = list(self._reader.since(0, (name,)))
            except StoreError:
                continue
            for stored in found:
                self._add(stored)

    def _add(self, stored: StoredEvent) -> None:
        self._rows.setdefault(type(stored.event), _Rows()).add(stored)
        self._seq = max(self._seq, stored.seq)


_LOGS: OrderedDict[Path, RunLog] = OrderedDict()  # most recently used last
_GUARD = threading.Lock()


def log_of(folder: RunFolder) -> RunLog:
    """Return the process-wide RunLog of a run."""
    path = folder.path.resolve()
    with _GUARD:
        log = _LOGS[path] = _LOGS.pop(path) if path in _LOGS else RunLog(folder)
        if len(_LOGS) > MOST_LOGS:
            _LOGS.popitem(last=False)
        return log
