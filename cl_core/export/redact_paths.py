"""Redaction of absolute paths in exported texts: only the last component is kept."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath
from typing import Any

from cl_core.config import RunConfig

# At least two components, and not within a word: "and/or", "cat/7.jpg" and "‖ΔW‖/‖W‖" are not paths.
_PART = r"""[\\/][^\\/\s,;:'"()<>|‖]+"""
_DEEPER = rf"(?:{_PART})*[\\/]?"
_ABSOLUTE = re.compile(rf"(?<![\w./\\~‖|)-])(?:~|[A-Za-z]:)?(?:{_PART}){{2,}}[\\/]?")


def known_paths(config: RunConfig | None, *more: Path) -> tuple[str, ...]:
    """Return the absolute paths in a run's settings, and `more`; they are found whatever characters they contain."""
    found = [str(path) for path in more]
    for text in _texts(config.to_dict() if config else {}):
        rest = text.partition("@")[2] or text.partition(":")[2]
        several = rest.split(",")  # a comma separates paths, or is part of one
        files = rest.split("@") if "@" in rest else ()  # a weights file and an adapter
        for part in (text, *(several if all(map(_absolute, several)) else [rest]), *files):
            if _absolute(part):
                found.append(part.rstrip("/\\"))
    return tuple(sorted({path for path in found if len(path) > 1}, key=len, reverse=True))


def redact_paths(value: Any, known: Iterable[str] = ()) -> Any:
    """Return `value` (a string, or lists and dicts of strings) with every absolute path reduced to its last component.

    Args:
        known: paths to replace first, longest first (`known_paths`); others are recognised by pattern and end at a
            space.
    """
    if isinstance(value, dict):
        return {redact_paths(key, known): redact_paths(part, known) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_paths(part, known) for part in value]
    if not isinstance(value, str):
        return value
    for path in known:
        value = re.sub(re.escape(path) + _DEEPER, lambda found: _last(found.group()), value)
    return _ABSOLUTE.sub(lambda found: _last(found.group()), value)


def _absolute(text: str) -> bool:
    return os.path.isabs(text) or PureWindowsPath(text).is_absolute() or text.startswith("~")


def _last(path: str) -> str:
    if path.rstrip("/\\") == str(Path.home()):  # its last component is a user name
        return "~"
    return re.split(r"[\\/]", path.rstrip("/\\"))[-1]


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
