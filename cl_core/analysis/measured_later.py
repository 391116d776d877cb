"""What was measured of a run on request, from its checkpoints, after it had been trained: a file a cell. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cl_core.store import RunFolder, write_atomically
from cl_core.untrusted import read_json

_NUMBERS = ("then", "now", "head", "body", "seconds")


def file_of(folder: RunFolder, task: int, after: int) -> Path:
    """Where a cell's result lies; tasks from 0 here, from 1 in names and contents."""
    return folder.analysis / f"T{task + 1}-after-T{after + 1}.json"


def interpolation_file(folder: RunFolder, start: int, end: int) -> Path:
    """Where the line between two moments lies; `start` −1: before training, said as T0."""
    return folder.analysis / f"line-T{start + 1}-T{end + 1}.json"


def save(folder: RunFolder, result: Mapping[str, Any]) -> None:
    save_at(file_of(folder, result["task"] - 1, result["after"] - 1), result)


def save_at(file: Path, result: Mapping[str, Any]) -> None:
    file.parent.mkdir(exist_ok=True)
    write_atomically(file, (json.dumps(result, indent=1) + "\n").encode())


def read_line(folder: RunFolder, start: int, end: int) -> dict[str, Any] | None:
    """The line between two moments; None where it was not measured, or the file is not what was written."""
    try:
        found = read_json(interpolation_file(folder, start, end))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or (found.get("from"), found.get("to")) != (start + 1, end + 1):
        return None
    alphas = found.get("alphas")
    if not isinstance(alphas, list) or not alphas or not _numbers(*alphas):
        return None
    for name in ("learned", "kept", "general"):
        values = found.get(name)
        if values is None and name != "learned":
            continue
        if not isinstance(values, list) or len(values) != len(alphas) or not _numbers(*values):
            return None
    return found


def read(folder: RunFolder, task: int, after: int) -> dict[str, Any] | None:
    """The result of a cell; None where it was not measured, or the file is not what was written."""
    try:
        found = read_json(file_of(folder, task, after))
    except (OSError, ValueError):
        return None
    return found if _is_result(found, task, after) else None


def _is_result(found: Any, task: int, after: int) -> bool:
    if not isinstance(found, dict) or (found.get("task"), found.get("after")) != (task + 1, after + 1):
        return False
    layers, refit = found.get("layers"), found.get("refit")
    rows = isinstance(layers, list) and all(
        isinstance(row, dict) and isinstance(row.get("layer"), int) and _numbers(row.get("alone"), row.get("up_to"))
        for row in layers
    )
    pair = isinstance(refit, list) and len(refit) == 2 and _numbers(*refit)
    return bool(rows and layers) and pair and _numbers(*(found.get(name) for name in _NUMBERS))


def _numbers(*values: Any) -> bool:
    return all(type(value) in (int, float) and math.isfinite(value) for value in values)
