"""Safe reading of untrusted JSON, TOML and text from folders, archives and messages.

The parsers of the standard library raise RecursionError for deep nesting and read without limit. Here all invalid input
raises a ValueError (or OSError) with a short message, and sizes are bounded.
"""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

try:
    import orjson
except ImportError:  # an installation older than the dependency: the same values, more slowly
    orjson = None  # type: ignore[assignment]

MOST_BYTES = 64_000_000  # of a settings file; a checkpoint's state.json is the longest
MOST_LEVELS = 40  # nested lists and tables
DEEP = f"it is nested more than {MOST_LEVELS} levels deep"
MOST_TEXT = 300  # characters of untrusted text in a message


class TooDeep(ValueError):
    """Nesting deeper than the parser supports."""


def parse_json(text: str | bytes) -> Any:
    """The parsed JSON value of `text`. Raises ValueError, also for deep nesting."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise TooDeep(DEEP) from None
    opened = text.count(b"[") + text.count(b"{") if isinstance(text, bytes) else text.count("[") + text.count("{")
    return value if opened <= MOST_LEVELS else _shallow(value)


def parse_row(text: str) -> Any:
    """As `parse_json`, in a third of its time, for the rows of a run: whole numbers beyond 64 bits, which no event has,
    become floats."""
    if orjson is None:
        return parse_json(text)
    try:
        value = orjson.loads(text)
    except ValueError:  # deeply nested, or what only the standard library reads: half of a surrogate pair in a name
        return parse_json(text)
    return value if text.count("[") + text.count("{") <= MOST_LEVELS else _shallow(value)


def parse_toml(text: str) -> dict[str, Any]:
    """The parsed TOML table of `text`. Raises tomllib.TOMLDecodeError or another ValueError."""
    try:
        return _shallow(tomllib.loads(text))
    except RecursionError:
        raise TooDeep(DEEP) from None


def _shallow(value: Any) -> Any:
    """`value`, if nested at most `MOST_LEVELS` deep, so that it is safe for recursive code."""
    level = [value]
    for _ in range(MOST_LEVELS):
        level = [inner for outer in level if isinstance(outer, (dict, list)) for inner in _inside(outer)]
        if not level:
            return value
    raise TooDeep(DEEP)


def _inside(value: dict | list) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a plain file. Raises OSError, or ValueError if it is no plain file, too large, or not UTF-8.

    Named pipes are opened without blocking and rejected.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is not a plain file")
        if found.st_size > most:
            raise ValueError(f"it has {found.st_size:,} bytes, and at most {most:,} are read")
        return file.read(most).decode("utf-8")


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """The value in a JSON file. Raises OSError or ValueError."""
    return parse_json(read_text(path, most))


def printable(text: object, most: int = MOST_TEXT) -> str:
    """Untrusted text made safe for a terminal or a message: one line, no control characters, at most `most`
    characters."""
    line = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(str(text).split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"
