"""Everybody else's side of the store: read-only, never in the writer's way, no torch."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cl_core.events import KINDS, Clock, Event
from cl_core.store.run import RunFolder, StoreError, holder


class DamagedEvent(StoreError):
    """One event cannot be decoded; those after it can."""


HELD = ("queued", "running", "paused")  # states in which a process holds the run


@dataclass(frozen=True)
class StoredEvent:
    """An event as it was stored: its place in the order, its time (seconds, UTC) and the event itself."""

    seq: int
    time: float
    event: Event


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands, from its last state and from whether a process holds it.

    `state`: "waiting" (created, no worker has spoken), "queued" (its worker waits for the device), "running", "paused",
    "stopped", "finished", "failed", or "gone" (the record says queued, running or paused, but no process holds the run:
    it was killed; what was measured is kept).
    """

    state: str
    reason: str
    moved: float  # time of the last event, seconds UTC; 0 = none yet
    pid: int | None

    @property
    def live(self) -> bool:
        return self.state in HELD or (self.state == "waiting" and self.pid is not None)

    @property
    def resumable(self) -> bool:
        return self.state in ("stopped", "failed", "gone") or (self.state == "waiting" and self.pid is None)


class RunReader:
    """Reads one run's events. Cheap to keep open; safe beside a living worker; thread-safe for one caller at a time."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._db: sqlite3.Connection | None = None

    def _connection(self) -> sqlite3.Connection | None:
        if self._db is None:
            if not self.folder.database.is_file():
                return None
            uri = self.folder.database.resolve().as_uri()
            # A finished recording has no write-ahead log and may lie in a read-only place: open it as immutable there.
            wal = self.folder.database.with_name("events.db-wal")
            unwritable = not os.access(self.folder.path, os.W_OK)  # SQLite could not make its -shm there
            immutable = not wal.exists() and (unwritable or not self.folder.lock.exists())
            try:
                self._db = sqlite3.connect(
                    f"{uri}?mode=ro" + ("&immutable=1" if immutable else ""),
                    uri=True,
                    isolation_level=None,
                    timeout=5,
                    check_same_thread=False,
                )
            except sqlite3.Error as error:
                raise StoreError(f"cannot open {self.folder.database}: {error}") from error
        return self._db

    def _query(self, text: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        connection = self._connection()
        if connection is None:
            return []
        try:
            return connection.execute(text, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # the worker has created the file, not yet the table
                return []
            raise StoreError(f"cannot read events of {self.folder.name}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{self.folder.database} is damaged ({error}); config and checkpoints beside it are untouched"
            ) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """What is asked within is answered from one state of the file, however much is written meanwhile. Ask for
        `status` first: it looks whether the run is held before it begins to read."""
        connection = self._connection()
        if connection is None:
            yield
            return
        connection.execute("BEGIN")
        try:
            yield
        finally:
            with contextlib.suppress(sqlite3.Error):  # closed within, or damaged: there is nothing to end
                connection.execute("ROLLBACK")

    def generation(self) -> int:
        """Rises when rows were taken back (a resume after a kill): a reader that kept rows starts afresh then."""
        rows = self._query("PRAGMA user_version")
        return rows[0][0] if rows else 0

    def since(self, seq: int = 0, kinds: tuple[str, ...] = ()) -> Iterator[StoredEvent]:
        """Events above `seq` in order, all or only of some kinds. Kinds this version does not know are passed over."""
        where = f" AND kind IN ({','.join('?' * len(kinds))})" if kinds else ""
        for row in self._query(
            "SELECT seq, time, kind, task, epoch, step, body, blob FROM events WHERE seq > ?" + where + " ORDER BY seq",
            (seq, *kinds),
        ):
            event = self._event(*row[2:])
            if event is not None:
                yield StoredEvent(row[0], row[1], event)

    def latest(self, kind: str) -> StoredEvent | None:
        """The newest event of a kind, or None."""
        rows = self._query(
            "SELECT seq, time, kind, task, epoch, step, body, blob FROM events WHERE kind = ? "
            "ORDER BY seq DESC LIMIT 1",
            (kind,),
        )
        event = self._event(*rows[0][2:]) if rows else None
        return None if event is None else StoredEvent(rows[0][0], rows[0][1], event)

    def series(self, kind: str, field: str) -> tuple[np.ndarray, list[Any]]:
        """(steps, values) of one field of one kind over the run."""
        found = [(s.event.clock.step, getattr(s.event, field)) for s in self.since(kinds=(kind,))]
        return np.array([step for step, _ in found], dtype=np.int64), [value for _, value in found]

    def status(self) -> RunStatus:
        """State from the last StateChanged *and* the lock."""
        pid = holder(self.folder)
        last = self._query("SELECT time FROM events ORDER BY seq DESC LIMIT 1")
        moved = float(last[0][0]) if last else 0.0
        changed = self.latest("StateChanged")
        if changed is None:
            return RunStatus("waiting", "", moved, pid)
        state, reason = changed.event.state, changed.event.reason  # type: ignore[attr-defined]
        if state in HELD and pid is None:
            return RunStatus("gone", "the training process has gone; what was measured is kept", moved, None)
        return RunStatus(state, reason, moved, pid)

    def rows(self, until: int) -> list[tuple[Any, ...]]:
        """Rows up to seq `until` as they are stored, for a copy."""
        return self._query("SELECT * FROM events WHERE seq <= ? ORDER BY seq", (until,))

    def worked_seconds(self) -> float:
        """Wall time between events, without what passed before a (re)start: pauses and the days before a resume."""
        rows = self._query("SELECT time, kind = 'StateChanged' AND body LIKE '%\"running\"%' FROM events ORDER BY seq")
        return sum(later[0] - earlier[0] for earlier, later in itertools.pairwise(rows) if not later[1])

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _event(self, kind: str, task: int, epoch: int, step: int, body: str, blob: bytes | None) -> Event | None:
        known = KINDS.get(kind)
        if known is None:
            return None
        try:
            record = {key: self._value(value, blob) for key, value in json.loads(body).items()}
            wanted = known.__dataclass_fields__
            return known(Clock(task, epoch, step), **{k: v for k, v in record.items() if k in wanted})
        except (ValueError, TypeError, AttributeError, zlib.error) as error:
            raise DamagedEvent(f"an event of {self.folder.name} is damaged ({kind}: {error})") from error

    def _value(self, value: Any, blob: bytes | None) -> Any:
        if isinstance(value, dict) and "$array" in value and blob is not None:
            dtype, shape, offset, length = value["$array"]
            array = np.frombuffer(zlib.decompress(blob[offset : offset + length]), dtype=np.dtype(dtype)).reshape(shape)
            return array  # read-only: it views immutable bytes
        if isinstance(value, dict) and "$file" in value:
            file = self.folder.arrays / str(value["$file"]).replace("/", "_")
            try:
                return np.load(file, allow_pickle=False, mmap_mode="r")
            except (OSError, ValueError) as error:
                raise DamagedEvent(f"array {file.name} of {self.folder.name} cannot be read: {error}") from error
        return value
