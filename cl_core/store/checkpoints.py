"""Which checkpoints of a run are complete; what they hold is the engine's business."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cl_core.store.run import RunFolder, StoreError
from cl_core.untrusted import read_json


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint's place: the last event it covers, and whether it lies between two tasks."""

    path: Path
    seq: int
    boundary: bool
    task: int  # training tasks finished


def complete(folder: RunFolder) -> list[Checkpoint]:
    """All complete checkpoints, oldest first. Raises StoreError if one is damaged."""
    found = []
    for done in sorted(folder.checkpoints.glob("*/done")):
        try:
            record = read_json(done.parent / "state.json")
            found.append(Checkpoint(done.parent, record["seq"], record["boundary"], record["task"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise damaged(done.parent, error) from error
    return found


def damaged(path: Path, error: Exception) -> StoreError:
    """The sentence about a checkpoint that cannot be read."""
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return StoreError(f"checkpoint {path} is damaged ({said}); remove that folder to resume from the one before it")
