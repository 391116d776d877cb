"""What stays of a run: events, arrays, commands, and who is working on it. No torch here."""

from cl_core.store.checkpoints import Checkpoint, boundaries, complete, discard_after, starting_point
from cl_core.store.fork import fork_run, forked_settings, in_force, turned
from cl_core.store.fork_note import Fork, fork_of
from cl_core.store.inbox import discard, send, take
from cl_core.store.packing import pack, unpack
from cl_core.store.reader import HELD, RunReader, RunStatus, StoredEvent
from cl_core.store.recording import record
from cl_core.store.run import RunFolder, StoreError, create_run, find_run, hold, holder, list_runs, write_atomically
from cl_core.store.writer import RunWriter

__all__ = [
    "HELD",
    "Checkpoint",
    "Fork",
    "RunFolder",
    "RunReader",
    "RunStatus",
    "RunWriter",
    "StoreError",
    "StoredEvent",
    "boundaries",
    "complete",
    "create_run",
    "discard",
    "discard_after",
    "find_run",
    "fork_of",
    "fork_run",
    "forked_settings",
    "hold",
    "holder",
    "in_force",
    "list_runs",
    "pack",
    "record",
    "send",
    "starting_point",
    "take",
    "turned",
    "unpack",
    "write_atomically",
]
