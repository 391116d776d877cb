"""Storage of runs: events, arrays, commands and locks. No torch."""

from cl_core.store.archive import pack, unpack
from cl_core.store.checkpoints import Checkpoint, boundaries, complete, discard_after, starting_point
from cl_core.store.command_queue import discard, send, take
from cl_core.store.fork import effective_config, fork_run, forked_settings, turned
from cl_core.store.fork_note import Fork, fork_of
from cl_core.store.notes import Note, annotate, aside, bring_back, delete_for_good, entitle, note_of, put_aside
from cl_core.store.reader import HELD, RunReader, RunStatus, StoredEvent
from cl_core.store.record import record
from cl_core.store.run import RunFolder, StoreError, create_run, find_run, hold, list_runs, lock_owner, write_atomically
from cl_core.store.writer import RunWriter

__all__ = [
    "HELD",
    "Checkpoint",
    "Fork",
    "Note",
    "RunFolder",
    "RunReader",
    "RunStatus",
    "RunWriter",
    "StoreError",
    "StoredEvent",
    "annotate",
    "aside",
    "boundaries",
    "bring_back",
    "complete",
    "create_run",
    "delete_for_good",
    "discard",
    "discard_after",
    "effective_config",
    "entitle",
    "find_run",
    "fork_of",
    "fork_run",
    "forked_settings",
    "hold",
    "list_runs",
    "lock_owner",
    "note_of",
    "pack",
    "put_aside",
    "record",
    "send",
    "starting_point",
    "take",
    "turned",
    "unpack",
    "write_atomically",
]
