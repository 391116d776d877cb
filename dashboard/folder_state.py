"""What tells a folder of images from the same folder after somebody changed it: a preview holds for one state."""

from __future__ import annotations

import os
from pathlib import Path

WALKED = 20_000  # folders at most


def folder_state(path: Path) -> tuple[int, int]:
    """Folders below `path`, and the newest time one of them, or a file right in it, was changed: adding or removing
    a file changes it."""
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
    """The states of the folders that a stream's name holds; empty for one that lies on no disk."""
    paths = stream.partition(":")[2]
    whole = [paths] if os.path.isdir(paths) else paths.split(",")
    return tuple(folder_state(Path(path)) for path in whole if path and os.path.isdir(path))
