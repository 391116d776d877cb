"""What stays of a run: events, arrays, commands, and who is working on it. No torch here."""

from cl_core.store.inbox import discard, send, take
from cl_core.store.reader import RunReader, RunStatus, StoredEvent
from cl_core.store.recording import record
from cl_core.store.run import RunFolder, StoreError, create_run, find_run, hold, holder, list_runs, write_atomically
from cl_core.store.writer import RunWriter

__all__ = [
    "RunFolder",
    "RunReader",
    "RunStatus",
    "RunWriter",
    "StoreError",
    "StoredEvent",
    "create_run",
    "discard",
    "find_run",
    "hold",
    "holder",
    "list_runs",
    "record",
    "send",
    "take",
    "write_atomically",
]
