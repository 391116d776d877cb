"""Writing of a run by its worker: one connection, one transaction per group of events.

Bodies are JSON; arrays are stored separately. Up to `INLINE` bytes, a row's arrays are packed into its blob; larger
ones become `arrays/<seq>-<field>.npy`, written before the row that names them. A row can be read as soon as it is
committed, and survives the death of the process.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from cl_core.events import Event
from cl_core.store.run import RunFolder, StoreError, flush, replacing

INLINE = 64 * 1024  # most bytes of arrays within the row

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq   INTEGER PRIMARY KEY,   -- order of writing; the only cursor a reader needs
    time  REAL NOT NULL,         -- seconds since 1970, UTC
    kind  TEXT NOT NULL,         -- class name in cl_core.events
    task  INTEGER NOT NULL,      -- clock, from 0; -1 = before
    epoch INTEGER NOT NULL,
    step  INTEGER NOT NULL,
    body  TEXT NOT NULL,         -- JSON; an array is {"$array": [dtype, shape, offset, length]} or {"$file": name}
    blob  BLOB                   -- the arrays of this row, each zlib-packed, one after the other
);
CREATE INDEX IF NOT EXISTS by_kind ON events (kind, seq);
"""


class RunWriter:
    """Appends groups of events to a run's `events.db`. Lock the run (`store.run.hold`) while a writer is open."""

    def __init__(self, folder: RunFolder) -> None:
        """Open the database. Raises StoreError if it cannot be written, or the run no longer exists."""
        self.folder = folder
        if not folder.config_file.is_file():  # otherwise SQLite would create a database
            raise StoreError(f"{folder.path} is not a run: it has no config.json")
        try:
            self._db = sqlite3.connect(folder.database, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("PRAGMA wal_autocheckpoint=8000")
            self._db.executescript(SCHEMA)
            self.seq = self._db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]
            self._identity = self._identify()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"cannot write events into {folder.database}: {error}; is the folder writable and the disk not full?"
            ) from error

    def append(self, moment: Iterable[Event]) -> int:
        """Store a group of events in one transaction; return the last seq. Raises StoreError, with nothing stored, also
        if the run was deleted or moved meanwhile, which SQLite would not notice."""
        self.refuse_if_gone()
        rows, seq, now = [], self.seq, time.time()
        with self._transaction("append to"):
            for event in moment:
                seq += 1
                body, blob = self._pack(seq, event.body())
                clock = event.clock
                rows.append((seq, now, event.kind, clock.task, clock.epoch, clock.step, body, blob))
            self._db.executemany("INSERT INTO events VALUES (?,?,?,?,?,?,?,?)", rows)
        self.seq = seq
        return seq

    def adopt(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Copy another run's rows unchanged, including seq and times, into an empty table."""
        with self._transaction("copy events into"):
            self._db.executemany("INSERT INTO events VALUES (?,?,?,?,?,?,?,?)", rows)
            self.seq = self._db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]

    def rewind(self, seq: int) -> None:
        """Delete rows above `seq`, which no checkpoint covers, and make readers drop cached rows."""
        with self._transaction("take rows back from"):
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            self._db.execute("DELETE FROM events WHERE seq > ?", (seq,))
            self._db.execute(f"PRAGMA user_version={version + 1}")
        if self.folder.arrays.is_dir():
            for file in self.folder.arrays.glob("*.npy"):
                if int(file.name.split("-", 1)[0]) > seq:
                    file.unlink()
        shutil.rmtree(self.folder.analysis, ignore_errors=True)  # measured on events that may come out differently
        self.seq = seq

    def refuse_if_gone(self) -> None:
        """Raise StoreError if the run's folder or database is not the one that was opened."""
        with contextlib.suppress(OSError):
            if self._identify() == self._identity:
                return
        raise StoreError(
            f"the folder of run {self.folder.name}, {self.folder.path}, was deleted, moved or replaced while the run "
            "was at work; it ends here, and nothing more is written"
        )

    def _identify(self) -> tuple[int, int]:
        found = os.stat(self.folder.database)
        return found.st_dev, found.st_ino

    def count(self) -> int:
        """Return the number of stored events."""
        return self._db.execute("SELECT count(*) FROM events").fetchone()[0]

    def flush(self) -> None:
        """Wait until all stored events are on disk: a checkpoint must not outlive the events it covers."""
        log = self.folder.database.with_name("events.db-wal")
        with contextlib.suppress(FileNotFoundError):  # already merged into the database, which SQLite has flushed
            flush(log)

    def settle(self) -> None:
        """Merge the write-ahead log into the database without waiting for readers. Called at task ends; if it fails (a
        full disk), the log keeps the rows."""
        with contextlib.suppress(sqlite3.OperationalError):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        self.settle()
        self._db.close()

    @contextlib.contextmanager
    def _transaction(self, doing: str) -> Iterator[None]:
        """Store all of the block's rows or none. Raises StoreError."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"cannot {doing} {self.folder.database}: {error}; what was stored before is safe"
            ) from error
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _pack(self, seq: int, body: dict[str, Any]) -> tuple[str, bytes | None]:
        arrays = {key: np.ascontiguousarray(value) for key, value in body.items() if isinstance(value, np.ndarray)}
        blob = b""
        inline = sum(a.nbytes for a in arrays.values()) <= INLINE
        record: dict[str, Any] = {}
        for key, value in body.items():
            if key not in arrays:
                record[key] = plain(value)
            elif inline:
                packed = zlib.compress(arrays[key].tobytes(), 1)
                record[key] = {"$array": [arrays[key].dtype.str, list(arrays[key].shape), len(blob), len(packed)]}
                blob += packed
            else:
                name = f"{seq:08d}-{key}.npy"
                self.folder.arrays.mkdir(exist_ok=True)
                with replacing(self.folder.arrays / name) as file:
                    np.save(file, arrays[key], allow_pickle=False)
                record[key] = {"$file": name}
        return json.dumps(record, allow_nan=False, separators=(",", ":")), blob or None


def plain(value: Any) -> Any:
    """Convert `value` to JSON types: NaN and infinities become null, NumPy scalars plain numbers."""
    kind = type(value)
    if kind is float:  # most values of most events
        return value if -math.inf < value < math.inf else None
    if kind is str or kind is int or value is None:
        return value
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
