"""The note in a fork's folder: its parent run and the task boundary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cl_core.store.run import RunFolder, StoreError
from cl_core.untrusted import read_json


@dataclass(frozen=True)
class Fork:
    """A fork's parent and the point at which it left it."""

    parent: str  # the parent run's name
    after_task: int  # number of tasks trained before the fork
    seq: int  # last event copied from the parent
    changed: dict[str, list[Any]]  # setting → [its value in the parent, its value here]


def fork_of(folder: RunFolder) -> Fork | None:
    """Return the run's fork note; None if it is not a fork. Raises StoreError if the note is damaged."""
    try:
        fork = Fork(**read_json(folder.fork_file))
        pairs = fork.changed.values() if isinstance(fork.changed, dict) else [None]
        types = [type(value) for value in (fork.parent, fork.after_task, fork.seq)]
        if types != [str, int, int] or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise ValueError("its parent, task, place or changes have another type")
        return fork
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{folder.fork_file} is damaged ({error}); the events beside it are untouched") from error
