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

MOST_BYTES = 100_000  # of a command


def send(folder: RunFolder, command: Command) -> None:
    """Put `command` into the run's inbox. The name orders by time; until it is whole it has one that `take` does not
    list."""
    try:
        folder.inbox.mkdir(exist_ok=True)
        name = f"{time.time_ns():020d}-{secrets.token_hex(3)}.json"
        write_atomically(folder.inbox / name, json.dumps(command.to_dict()).encode())
    except OSError as error:
        raise StoreError(f"cannot send {command.word!r} to {folder.name}: {error.strerror}") from error


def discard(folder: RunFolder, before: float) -> None:
    """Remove commands sent before a moment (seconds since 1970): they were for an earlier worker."""
    for path in folder.inbox.glob("*.json"):
        sent = path.name.split("-", 1)[0]
        if not sent.isdigit() or int(sent) < before * 1e9:
            path.unlink(missing_ok=True)


def take(folder: RunFolder) -> list[Command | str]:
    """Commands waiting, oldest first, removed from the inbox. What cannot be understood comes as its reason (a
    text)."""
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
            continue  # gone already, or unreadable: nothing to obey
        with contextlib.suppress(OSError):
            path.unlink()
    return taken
