"""Detection of changes in a folder of images, so that previews can be refreshed."""

from __future__ import annotations

import os
from pathlib import Path

WALKED = 20_000  # most folders that are checked


def folder_state(path: Path) -> tuple[int, int]:
    """Return (number of folders below `path`, newest modification time of these and of the files directly in `path`);
    adding or removing a file changes it."""
    count, newest = 0, 0
    for place, inner, _ in os.walk(path):
        inner[:] = [name for name in inner if not name.startswith(".")]
        count += 1
        try:
            newest = max(newest, os.stat(place).st_mtime_ns)
            if place == str(path):
                with os.scandir(path) as entries:
                    newest = max([newest, *(e.stat().st_mtime_ns for e in entries if e.is_file())])
        except OSError:
            continue
        if count >= WALKED:
            break
    return count, newest


def stream_state(stream: str) -> tuple[tuple[int, int], ...]:
    """Return the states of the folders in a stream's name; empty for streams that are not on disk."""
    paths = stream.partition(":")[2]
    whole = [paths] if os.path.isdir(paths) else paths.split(",")
    return tuple(folder_state(Path(path)) for path in whole if path and os.path.isdir(path))
