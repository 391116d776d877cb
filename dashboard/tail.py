"""What a run has said so far, kept in memory once for all viewers and brought up to date row by row.

    log = log_of(folder)       the same object for every tab of this server
    log.advance()              reads rows that are new and the state that belongs to them, as of one moment; starts
                               afresh when rows were taken back or the file was replaced
    log.status()               that state; never newer than the rows. `fresh=True` advances first
    log.of(StepEnded)          decoded events of one kind with their places, oldest first; log.events(StepEnded): bare

A run that cannot be read does not raise here: `log.trouble` is the sentence to show, and what was read before stays.
"""

from __future__ import annotations

import abc
import bisect
import os
import threading
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from cl_core.config import RunConfig
from cl_core.events import KINDS, AccuracyMeasured, Event, RunForked, RunStarted, StateChanged, TaskEnded
from cl_core.presets import PRESETS
from cl_core.store import RunFolder, RunReader, RunStatus, StoredEvent, StoreError
from cl_core.store.reader import DamagedEvent

Kind = TypeVar("Kind", bound=Event)

MOST_DAMAGED = 200  # rows passed over before a file is given up


class Log(abc.ABC):
    """What pages read: events by kind, state, settings. A whole run, or a run up to a moment (`until`)."""

    folder: RunFolder
    revision: int  # differs whenever `of` would answer differently

    @abc.abstractmethod
    def of(self, kind: type[Kind]) -> list[StoredEvent]:
        """Stored events of one kind, oldest first."""

    @abc.abstractmethod
    def status(self, *, fresh: bool = False) -> RunStatus:
        """What the run is doing."""

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
        """What a run is called: its preset's title, or method and stream, as plain text."""
        config = self.config
        if config is None:
            return self.name
        named = PRESETS.get(config.preset)
        if named is not None and named.config.get("method") == config.method:
            return named.title
        return f"{config.method} on {config.stream}"

    def latest(self, kind: type[Kind]) -> Kind | None:
        """The newest event of a kind, without its place in the order; None if there is none."""
        found = self.of(kind)
        return found[-1].event if found else None  # type: ignore[return-value]

    def events(self, kind: type[Kind]) -> list[Kind]:
        """Events of one kind, oldest first, without their places in the order: what figures take."""
        return [stored.event for stored in self.of(kind)]  # type: ignore[misc]

    def started(self) -> RunStarted | None:
        """The run's plan; in a fork with the number of steps that it has."""
        plan, forked = self.latest(RunStarted), self.latest(RunForked)
        return plan and replace(plan, total_steps=forked.total_steps) if forked else plan

    def tasks(self) -> int:
        """How many tasks are evaluated; 0 while unknown."""
        plan = self.started()
        if plan is not None:
            return len(plan.tasks)
        return self.config.stream_settings.tasks if self.config else 0

    def tasks_ended(self) -> int:
        return len({stored.event.clock.task for stored in self.of(TaskEnded)})

    def milestones(self) -> int:
        """Counts what inspection figures show: rises with rows measured at task ends, not with every step."""
        return len(self.of(TaskEnded)) + len(self.of(AccuracyMeasured)) + len(self.of(StateChanged))


class RunLog(Log):
    """All that one run has said. Shared by threads; `advance` may be called as often as one likes."""

    PATIENCE = 0.2  # seconds within which a second `advance` does not look again

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.revision = 0
        self._lock = threading.Lock()
        self._reader = RunReader(folder)
        self._events: dict[type[Event], list[StoredEvent]] = defaultdict(list)
        self._seq = 0
        self._damaged, self._damage = 0, ""
        self._generation = 0
        self._looked = 0.0
        self._identity: tuple[int, ...] | None = None
        self._config: RunConfig | None = None
        self._config_trouble = ""
        self._events_trouble = ""
        self._config_seen: int | None = None
        self._status: RunStatus | None = None

    def of(self, kind: type[Kind]) -> list[StoredEvent]:
        with self._lock:
            return list(self._events.get(kind, ()))

    @property
    def config(self) -> RunConfig | None:
        return self._config

    @property
    def trouble(self) -> str:
        """One sentence about what cannot be read; empty when all is well."""
        return self._config_trouble or self._events_trouble

    @property
    def seq(self) -> int:
        """The newest event's place in the order."""
        return self._seq

    def until(self, seq: int) -> LogUntil:
        """This run as it stood when `seq` was its newest event."""
        return LogUntil(self, seq)

    def advance(self, *, force: bool = False) -> bool:
        """Read what is new. True if anything changed."""
        with self._lock:
            now = time.monotonic()
            if not force and now - self._looked < self.PATIENCE:
                return False
            self._looked = now
            before = self.revision
            self._read_config()
            self._read_events()
            return self.revision != before

    def status(self, *, fresh: bool = False) -> RunStatus:
        """The run's state at the last `advance`, so that it is never newer than the events: a page that stops at a
        final state has the last rows. `fresh`: advance first (at most five times a second)."""
        if fresh or self._status is None:
            self.advance(force=self._status is None)
        found = self._status
        return RunStatus("waiting", "", 0.0, None) if found is None else found

    def forget_status(self) -> None:
        """Ask the store at the next `advance` or `status`: a command has just been sent."""
        self._status = None
        self._looked = 0.0

    # ------------------------------------------------------------ reading, under the lock

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
        self.revision += 1

    def _read_events(self) -> None:
        if self._identity != (identity := self._identify()):  # appeared, was replaced, or got its first worker
            self._identity = identity
            self._reader.close()
            self._start_afresh()
        newer = "newer Plastiscope" in self._config_trouble  # that format's events might be misread
        try:
            with self._reader.snapshot() as status:
                self._status = status
                if newer:
                    return
                generation = self._reader.generation()
                if generation != self._generation:
                    self._start_afresh()
                    self._generation = generation
                self._events_trouble = self._take_rows()
        except StoreError as error:
            self._events_trouble = str(error)
            self._status = RunStatus("unreadable", str(error), 0.0, None)
            if not newer:
                self._salvage()

    def _identify(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self.folder.database)
        except OSError:
            return None
        return found.st_dev, found.st_ino, int(self.folder.lock.exists())

    def _start_afresh(self) -> None:
        self._events.clear()
        self._seq, self._damaged, self._damage = 0, 0, ""
        self.revision += 1

    def _take_rows(self) -> str:
        """Append new rows. Those that cannot be decoded are passed over and counted; returns a sentence about them."""

        def pass_over(seq: int, error: DamagedEvent) -> None:
            self._seq, self._damage = seq, str(error)
            self._damaged += 1
            if self._damaged >= MOST_DAMAGED:
                raise error

        if self._damaged < MOST_DAMAGED:
            try:
                for stored in self._reader.since(self._seq, damaged=pass_over):
                    self._events[type(stored.event)].append(stored)
                    self._seq = stored.seq
                    self.revision += 1
            except DamagedEvent:
                pass  # too many
        if self._damaged >= MOST_DAMAGED:
            return f"{self._damaged} events of this run cannot be read, the rest was not tried: {self._damage}"
        if self._damaged:
            return f"{self._damaged} of this run's events cannot be read and are left out: {self._damage}"
        return ""

    def _salvage(self) -> None:
        """A file damaged in places may still give up some kinds of events."""
        if self._seq or self._identity is None:
            return
        for name in KINDS:
            try:
                found = list(self._reader.since(0, (name,)))
            except StoreError:
                continue
            for stored in found:
                self._events[type(stored.event)].append(stored)
                self._seq = max(self._seq, stored.seq)
        self.revision += bool(self._seq)


class LogUntil(Log):
    """A run as it stood at an earlier moment: what a frozen page and the replay show."""

    def __init__(self, log: RunLog, seq: int) -> None:
        self.log, self.limit = log, seq
        self.folder = log.folder

    @property
    def revision(self) -> int:  # type: ignore[override]
        return -1 - min(self.limit, self.log.seq)  # never equal to a whole log's

    @property
    def config(self) -> RunConfig | None:
        return self.log.config

    @property
    def trouble(self) -> str:
        return self.log.trouble

    def of(self, kind: type[Kind]) -> list[StoredEvent]:
        found = self.log.of(kind)
        return found[: bisect.bisect_right(found, self.limit, key=lambda stored: stored.seq)]

    def status(self, *, fresh: bool = False) -> RunStatus:
        return self.log.status(fresh=fresh)


_LOGS: dict[Path, RunLog] = {}
_GUARD = threading.Lock()


def log_of(folder: RunFolder) -> RunLog:
    """The one RunLog of a run in this process."""
    path = folder.path.resolve()
    with _GUARD:
        if path not in _LOGS:
            _LOGS[path] = RunLog(folder)
        return _LOGS[path]
