"""Listing of a run's checkpoints: which are complete, where a resume starts, and whether the covered events exist.

The content of checkpoints is defined in `cl_core.training`.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from cl_core.store.fork_note import Fork, fork_of
from cl_core.store.reader import RunReader
from cl_core.store.run import RunFolder, StoreError
from cl_core.untrusted import parse_json, printable, read_text


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: its folder, the last event it covers, and whether it lies at a task boundary."""

    path: Path
    seq: int
    boundary: bool
    task: int  # number of finished training tasks
    rows: int | None = None  # number of events below `seq`; None if written by an earlier version
    tensors: str = ""  # SHA-256 of state.safetensors; "" if written by an earlier version


def complete(folder: RunFolder, *, readable: bool = False) -> list[Checkpoint]:
    """Return all complete checkpoints, oldest first, without damaged ones. Raises StoreError if the newest is damaged,
    unless `readable` is set, which leaves it out as well."""
    found, places = [], sorted(folder.checkpoints.glob("*/done"))
    for done in places:
        try:
            found.append(_read(done))
        except ValueError as error:
            if done == places[-1] and not readable:
                raise damaged(done.parent, error) from error
    return found


def _read(done: Path) -> Checkpoint:
    """Return the checkpoint of a file `done`. That file holds the checksum of state.json, which holds that of the
    tensors; checkpoints of earlier versions have neither. Raises ValueError."""
    try:
        text, said = read_text(done.parent / "state.json"), read_text(done).strip()
        record = parse_json(text)
        seq, boundary, task = record["seq"], record["boundary"], record["task"]
        rows, tensors = record.get("rows"), record.get("tensors", "")
        if said != (hashlib.sha256(text.encode()).hexdigest() if tensors else ""):
            raise ValueError("state.json has changed since it was written")
        if [type(value) for value in (seq, boundary, task)] != [int, bool, int]:
            raise ValueError("state.json holds other types than were written")
        return Checkpoint(done.parent, seq, boundary, task, rows, tensors)
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def boundaries(folder: RunFolder) -> dict[int, Checkpoint]:
    """Return number of finished tasks → readable checkpoint that a fork can start from. Empty for a recording."""
    return {c.task: c for c in complete(folder, readable=True) if c.boundary and c.task}


def starting_point(folder: RunFolder, after_task: int | None = None) -> Checkpoint | None:
    """Return the checkpoint that a resume starts from, the newest or the one after `after_task` tasks; None = anew.

    Raises StoreError if it is damaged or events that it covers are missing.
    """
    if after_task is None:
        start = next(iter(complete(folder)[::-1]), None)
    else:
        fork, known = fork_of(folder), {0: None, **boundaries(folder)}
        known = {task: place for task, place in known.items() if fork is None or task >= fork.after_task}
        if after_task not in known:
            there = ", ".join(f"T{task}" if task else "0 (the beginning)" for task in known) or "none"
            raise StoreError(f"{folder.name} has no checkpoint after T{after_task}; it can go on after: {there}")
        start = known[after_task]
    if start is not None and (missing := lost(folder, start)):
        raise StoreError(
            f"{folder.name} cannot go on from checkpoint {start.path.name}: {missing}; {_way_out(folder, start.seq)}"
        )
    return start


def lost(folder: RunFolder, checkpoint: Checkpoint) -> str:
    """Describe which events that a checkpoint covers are missing; "" if none are."""
    if not folder.database.is_file():
        return "its events.db is not there"
    try:
        with contextlib.closing(RunReader(folder)) as reader:
            rows, last = reader.count(checkpoint.seq)
            if unsound := reader.damage():
                return f"its events.db is damaged ({printable(unsound, 80)})"
    except StoreError as error:
        return str(error)
    wanted = last + 1 if checkpoint.rows is None else checkpoint.rows
    if last < checkpoint.seq - 1:
        return f"its events end at {last}, and the checkpoint was taken at {checkpoint.seq}"
    if checkpoint.rows is not None and rows != checkpoint.rows:
        return f"{abs(wanted - rows)} of the {wanted} events before it are {'missing' if rows < wanted else 'foreign'}"
    return ""


def discard_after(folder: RunFolder, seq: int) -> None:
    """Remove checkpoints above `seq`, complete or partly written; a resume repeats what they covered."""
    for path in folder.checkpoints.glob("*"):
        if path.name.isdigit() and int(path.name) > seq:
            (path / "done").unlink(missing_ok=True)  # first, so that a partly removed checkpoint is never read
            shutil.rmtree(path, ignore_errors=True)


def damaged(path: Path, error: Exception) -> StoreError:
    """Return the error for a checkpoint that cannot be read."""
    why = printable((str(error).splitlines() or [type(error).__name__])[0], 160)
    seq = int(path.name) if path.name.isdigit() else 0
    return StoreError(
        f"checkpoint {path} is damaged ({why}); remove that folder to resume from the one before it: "
        f"{_way_out(RunFolder(path.parent.parent), seq)}"
    )


def _way_out(folder: RunFolder, before: int) -> str:
    """Return the command that resumes from a checkpoint below seq `before` with complete events."""
    for task, place in sorted(boundaries(folder).items(), reverse=True):
        if place.seq < before and not lost(folder, place):
            return f"`plastiscope resume {folder.name} --after-task {task}` goes on after T{task}"
    fork: Fork | None = None
    with contextlib.suppress(StoreError):
        fork = fork_of(folder)
    if fork is not None:
        return f"`plastiscope fork {fork.parent} --after-task {fork.after_task}` makes this fork anew"
    return f"`plastiscope resume {folder.name} --after-task 0` begins the run again"
