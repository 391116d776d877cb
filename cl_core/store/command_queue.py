"""Queue of commands to a worker: one file each, renamed into place, processed in order."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time

from cl_core.commands import Command, parse
from cl_core.store.run import RunFolder, StoreError, write_atomically
from cl_core.untrusted import read_json

MOST_BYTES = 100_000  # largest command


def send(folder: RunFolder, command: Command) -> None:
    """Put `command` into the run's inbox. File names sort by time; a partly written file has a name that `take` does
    not list."""
    try:
        folder.inbox.mkdir(exist_ok=True)
        name = f"{time.time_ns():020d}-{secrets.token_hex(3)}.json"
        write_atomically(folder.inbox / name, json.dumps(command.to_dict()).encode())
    except OSError as error:
        raise StoreError(f"cannot send {command.word!r} to {folder.name}: {error.strerror}") from error


def discard(folder: RunFolder, before: float) -> None:
    """Remove commands sent before a time (seconds since 1970); they were for an earlier worker."""
    for path in folder.inbox.glob("*.json"):
        sent = path.name.split("-", 1)[0]
        if not sent.isdigit() or int(sent) < before * 1e9:
            path.unlink(missing_ok=True)


def take(folder: RunFolder) -> list[Command | str]:
    """Remove and return the waiting commands, oldest first. An invalid command is returned as the reason (a string)."""
    try:
        names = sorted(n for n in os.listdir(folder.inbox) if n.endswith(".json"))
    except FileNotFoundError:
        return []
    taken: list[Command | str] = []
    for name in names:
        path = folder.inbox / name
        try:
            taken.append(parse(read_json(path, MOST_BYTES)))
        except ValueError as error:
            taken.append(str(error))
        except OSError:
            continue  # already removed, or unreadable
        with contextlib.suppress(OSError):
            path.unlink()
    return taken
