"""Read-only access to a run, without blocking its writer. No torch."""

from __future__ import annotations

import contextlib
import math
import os
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cl_core.events import KINDS, Clock, Event
from cl_core.store.run import RunFolder, StoreError, lock_owner
from cl_core.store.validation import MOST_DIMENSIONS, check, check_clock
from cl_core.untrusted import parse_row

MOST_INLINE = 1 << 20  # most bytes of an array within its row; writers keep up to 64 KiB there (writer.py)
MOST_ARRAY = 1 << 28  # most bytes of an array in a separate file
_ARRAY_FILE = re.compile(r"\d{8,18}-\w{1,80}\.npy")


class DamagedEvent(StoreError):
    """A single event cannot be decoded; later events are unaffected."""


HELD = ("queued", "running", "paused")  # states in which a process holds the run's lock


@dataclass(frozen=True)
class StoredEvent:
    """A stored event with its sequence number and time (seconds, UTC)."""

    seq: int
    time: float
    event: Event


@dataclass(frozen=True)
class RunStatus:
    """State of a run, from its last state event and its lock.

    `state`: "waiting" (created, no event from a worker yet), "queued" (its worker waits for the device), "running",
    "paused", "stopped", "finished", "failed", "gone" (recorded as queued, running or paused, but no process holds the
    lock: the worker was killed; its measurements are kept), or "unreadable" (the state event is damaged).
    """

    state: str
    reason: str
    moved: float  # time of the last event, seconds UTC; 0 = none yet
    pid: int | None
    trained_elsewhere: bool = False  # recorded or imported, so it cannot be resumed

    @property
    def live(self) -> bool:
        return self.state in HELD or (self.state == "waiting" and self.pid is not None)

    @property
    def resumable(self) -> bool:
        if self.trained_elsewhere:
            return False
        return self.state in ("stopped", "failed", "gone") or (self.state == "waiting" and self.pid is None)


class RunReader:
    """Reads one run's events. Cheap to keep open and safe beside a live worker; use it from one thread at a time."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._db: sqlite3.Connection | None = None
        self._elsewhere: bool | None = None

    def _connection(self) -> sqlite3.Connection | None:
        if self._db is None:
            if not self.folder.database.is_file():
                return None
            uri = self.folder.database.resolve().as_uri()
            # A finished recording has no write-ahead log and may be read-only: open it as immutable in that case.
            wal = self.folder.database.with_name("events.db-wal")
            unwritable = not os.access(self.folder.path, os.W_OK)  # SQLite could not create its -shm file
            immutable = not wal.exists() and (unwritable or not self.folder.lock.exists())
            try:
                self._db = sqlite3.connect(
                    f"{uri}?mode=ro" + ("&immutable=1" if immutable else ""),
                    uri=True,
                    isolation_level=None,
                    timeout=5,
                    check_same_thread=False,
                )
                self._db.execute("PRAGMA trusted_schema=OFF")
            except sqlite3.Error as error:
                raise StoreError(f"cannot open {self.folder.database}: {error}") from error
            self._refuse_other_than_a_table(self._db)
        return self._db

    def _refuse_other_than_a_table(self, database: sqlite3.Connection) -> None:
        """Raise StoreError unless `events` is a table: a view could be a query that never ends."""
        with contextlib.suppress(sqlite3.Error):  # damaged or busy: reported when rows are read
            found = database.execute("SELECT type, sql FROM sqlite_master WHERE name = 'events'").fetchone()
            if found and (found[0] != "table" or "virtual" in str(found[1])[:20].lower()):
                self.close()
                raise StoreError(f"{self.folder.database} does not hold a run's events")

    def _query(self, text: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        connection = self._connection()
        if connection is None:
            return []
        try:
            return connection.execute(text, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # the worker has created the file but not yet the table
                return []
            raise StoreError(f"cannot read events of {self.folder.name}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{self.folder.database} is damaged ({error}); config and checkpoints beside it are untouched"
            ) from error

    def generation(self) -> int:
        """Return a number that rises when rows are removed (a resume after a kill): readers then drop cached rows."""
        rows = self._query("PRAGMA user_version")
        return rows[0][0] if rows else 0

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[RunStatus]:
        """Read rows and generation consistently within the block; yields the status of the same moment.

        Without it, a commit between two reads could give the state "finished" without the last rows.
        """
        pid = lock_owner(self.folder)  # first, because a worker that has released the lock has committed its last state
        connection = self._connection()
        if connection is not None:
            self._query("BEGIN")
        try:
            yield self._status(pid)
        finally:
            if connection is not None and connection is self._db and connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("COMMIT")

    def since(
        self, seq: int = 0, kinds: tuple[str, ...] = (), damaged: Callable[[int, DamagedEvent], None] | None = None
    ) -> Iterator[StoredEvent]:
        """Yield events above `seq` in order, all or only of some kinds. Kinds unknown to this version are skipped.

        `damaged` is called with the seq of each row that cannot be decoded and the reason; without it, such a row
        raises DamagedEvent.
        """
        where = f" AND kind IN ({','.join('?' * len(kinds))})" if kinds else ""
        for row in self._query(
            "SELECT seq, time, kind, task, epoch, step, body, blob FROM events WHERE seq > ?" + where + " ORDER BY seq",
            (seq, *kinds),
        ):
            try:
                event = self._event(*row[1:])
            except DamagedEvent as error:
                if damaged is None:
                    raise
                damaged(row[0], error)
                continue
            if event is not None:
                yield StoredEvent(row[0], float(row[1]), event)

    def latest(self, kind: str) -> StoredEvent | None:
        """Return the newest event of a kind, or None."""
        rows = self._query(
            "SELECT seq, time, kind, task, epoch, step, body, blob FROM events WHERE kind = ? "
            "ORDER BY seq DESC LIMIT 1",
            (kind,),
        )
        event = self._event(*rows[0][1:]) if rows else None
        return None if event is None else StoredEvent(rows[0][0], float(rows[0][1]), event)

    def series(self, kind: str, field: str) -> tuple[np.ndarray, list[Any]]:
        """Return (steps, values) of one field of one kind over the run."""
        found = [(s.event.clock.step, getattr(s.event, field)) for s in self.since(kinds=(kind,))]
        return np.array([step for step, _ in found], dtype=np.int64), [value for _, value in found]

    def status(self) -> RunStatus:
        """Return the status from the last StateChanged and the lock."""
        return self._status(lock_owner(self.folder))

    def _status(self, pid: int | None) -> RunStatus:
        last = self._query("SELECT time FROM events ORDER BY seq DESC LIMIT 1")
        moved = last[0][0] if last and _is_time(last[0][0]) else 0.0
        try:
            changed = self.latest("StateChanged")
        except DamagedEvent as error:
            return RunStatus("unreadable", str(error), moved, pid)
        if changed is None:
            return RunStatus("waiting", "", moved, pid)
        state, reason = changed.event.state, changed.event.reason  # type: ignore[attr-defined]
        if state in HELD and pid is None:
            state, reason = "gone", "the training process died; what was measured is kept"
        ended = state in ("stopped", "failed", "gone")  # matters only in these states; reading settings takes time
        return RunStatus(state, reason, moved, pid, ended and self._trained_elsewhere())

    def _trained_elsewhere(self) -> bool:
        if self._elsewhere is None:
            try:
                self._elsewhere = self.folder.config().trained_elsewhere
            except StoreError:  # reported where the settings are shown
                self._elsewhere = False
        return self._elsewhere

    def count(self, below: int) -> tuple[int, int]:
        """Return (number of rows below seq `below`, the last seq among them; 0 = none)."""
        rows = self._query("SELECT count(*), coalesce(max(seq), 0) FROM events WHERE seq < ?", (below,))
        return rows[0] if rows else (0, 0)

    def damage(self) -> str:
        """Return SQLite's integrity errors of the file, or ""; reads all of it."""
        rows = self._query("PRAGMA quick_check(1)")
        return "" if not rows or rows[0][0] == "ok" else str(rows[0][0])

    def rows(self, until: int) -> list[tuple[Any, ...]]:
        """Return the raw rows up to seq `until`, for a copy."""
        return self._query("SELECT * FROM events WHERE seq <= ? ORDER BY seq", (until,))

    def worked_seconds(self) -> float:
        """Return the wall time between events, without the gaps before each (re)start, such as pauses."""
        rows = self._query(  # in SQL, so that few rows are read from disk
            "SELECT total((SELECT time FROM events ORDER BY seq DESC LIMIT 1) - (SELECT time FROM events ORDER BY seq "
            "LIMIT 1)), (SELECT total(began.time - (SELECT before.time FROM events AS before WHERE before.seq < "
            "began.seq ORDER BY before.seq DESC LIMIT 1)) FROM events AS began WHERE began.kind = 'StateChanged' AND "
            "began.body LIKE '%\"running\"%')"
        )
        return float(rows[0][0] - rows[0][1]) if rows else 0.0

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _event(
        self, time: float, kind: str, task: int, epoch: int, step: int, body: str, blob: bytes | None
    ) -> Event | None:
        """Return the event of a row; None for a kind unknown to this version. Raises DamagedEvent unless its fields
        have the types that `cl_core.events` declares."""
        known = KINDS.get(kind)
        if known is None:
            return None
        try:
            if not _is_time(time):
                raise ValueError("its time is not a number")
            check_clock(task, epoch, step)
            record = parse_row(body)
            if not isinstance(record, dict):
                raise ValueError("it does not hold an object")
            wanted, fields = known.__dataclass_fields__.keys(), record
            if not fields.keys() <= wanted:  # written by a newer version
                fields = {key: value for key, value in record.items() if key in wanted}
            if '"$' in body:  # an array, or a string that looks like an array reference
                fields = {key: self._value(value, blob) for key, value in fields.items()}
            check(known, fields)
            return known(Clock(task, epoch, step), **fields)
        except (ValueError, TypeError, AttributeError, OverflowError, MemoryError, zlib.error) as error:
            raise DamagedEvent(f"an event of {self.folder.name} is damaged ({kind}: {error})") from error

    def _value(self, value: Any, blob: bytes | None) -> Any:
        if not isinstance(value, dict):
            return value
        if "$array" in value:
            return _unpacked(value["$array"], blob)
        if "$file" in value:
            name = str(value["$file"])
            file = self.folder.arrays / name
            try:
                if not _ARRAY_FILE.fullmatch(name):
                    raise ValueError("its name is not that of an array")
                array = np.lib.format.open_memmap(file, mode="r")  # not np.load, which also opens archives
                _refuse_shape(array.dtype, array.shape, MOST_ARRAY)
                return array
            except (OSError, ValueError, EOFError, TypeError, OverflowError) as error:
                raise DamagedEvent(
                    f"array {name[:100]} of {self.folder.name} cannot be read: {error or 'it is empty'}"
                ) from error
        return value


def _unpacked(place: Any, blob: Any) -> np.ndarray:
    """Return the array at its place in a row's blob, read-only. Decompression stops at dtype × shape. Raises
    ValueError."""
    if not isinstance(place, list) or len(place) != 4 or not isinstance(blob, bytes):
        raise ValueError("an array has no place in its row")
    name, shape, offset, length = place
    if not isinstance(name, str) or not isinstance(shape, list):
        raise ValueError("an array has no dtype or shape")
    if type(offset) is not int or type(length) is not int or not 0 <= offset <= offset + length <= len(blob):
        raise ValueError("an array lies outside its row")
    dtype = np.dtype(name)
    size = _refuse_shape(dtype, shape, MOST_INLINE)
    unpacking = zlib.decompressobj()
    content = unpacking.decompress(blob[offset : offset + length], size + 1)
    if len(content) != size:
        raise ValueError(f"an array of {size} bytes unpacks to {'more' if len(content) > size else len(content)}")
    return np.frombuffer(content, dtype=dtype).reshape(shape)


def _refuse_shape(dtype: np.dtype, shape: Any, most: int) -> int:
    """Return the size in bytes of a numeric array. Raises ValueError if it is not numeric or larger than `most`."""
    if dtype.kind not in "biuf":
        raise ValueError("it is not an array of numbers")
    if len(shape) > MOST_DIMENSIONS or not all(type(side) is int and 0 <= side <= most for side in shape):
        raise ValueError(f"an array of shape {str(shape)[:80]} is not one of ours")
    size = math.prod(shape) * dtype.itemsize
    if size > most:
        raise ValueError(f"an array of {size:,} bytes is more than the {most:,} that are read here")
    return size


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
