"""Stored results of measurements made on request from a run's checkpoints: one file per cell. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cl_core.store import RunFolder, write_atomically
from cl_core.untrusted import read_json

UNTOUCHED = -1  # before training, as the start of a line
_NUMBERS = ("then", "now", "head", "body", "seconds")


def file_of(folder: RunFolder, task: int, after: int) -> Path:
    """Path of a cell's result; tasks from 0 here, from 1 in names and contents."""
    return folder.analysis / f"T{task + 1}-after-T{after + 1}.json"


def interpolation_file(folder: RunFolder, start: int, end: int) -> Path:
    """Path of the line between two states; `start` −1: before training, named T0."""
    return folder.analysis / f"line-T{start + 1}-T{end + 1}.json"


def save(folder: RunFolder, result: Mapping[str, Any]) -> None:
    save_at(file_of(folder, result["task"] - 1, result["after"] - 1), result)


def save_at(file: Path, result: Mapping[str, Any]) -> None:
    file.parent.mkdir(exist_ok=True)
    write_atomically(file, (json.dumps(result, separators=(",", ":")) + "\n").encode())


def read_line(folder: RunFolder, start: int, end: int) -> dict[str, Any] | None:
    """The line between two states; None if it was not measured or the file is invalid."""
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


def path_of(found: Mapping[str, Any] | None, row: int) -> dict[str, Any] | None:
    """The path of one test image among the classes: its "after", "rival", "path" and "nearest"; `row`: its index among
    the task's images, from 0. None if it was not followed."""
    paths = (found or {}).get("paths")
    if paths is None or row not in paths["rows"]:
        return None
    place = paths["rows"].index(row)
    return {"after": paths["after"], **{name: paths[name][place] for name in ("rival", "path", "nearest")}}


def read(folder: RunFolder, task: int, after: int) -> dict[str, Any] | None:
    """The result of a cell; None if it was not measured or the file is invalid. "recomputed", "answers" and "paths" are
    None if an earlier version measured it or there is nothing to measure."""
    try:
        found = read_json(file_of(folder, task, after))
    except (OSError, ValueError):
        return None
    if not _is_result(found, task, after):
        return None
    checks = {"recomputed": _is_pair, "answers": _are_answers, "paths": _are_paths}
    return found | {name: found[name] if name in found and ok(found[name]) else None for name, ok in checks.items()}


def _is_result(found: Any, task: int, after: int) -> bool:
    if not isinstance(found, dict) or (found.get("task"), found.get("after")) != (task + 1, after + 1):
        return False
    layers, refit = found.get("layers"), found.get("refit")
    rows = isinstance(layers, list) and all(
        isinstance(row, dict) and isinstance(row.get("layer"), int) and _numbers(row.get("alone"), row.get("up_to"))
        for row in layers
    )
    return bool(rows and layers) and _is_pair(refit) and _numbers(*(found.get(name) for name in _NUMBERS))


def _is_pair(found: Any) -> bool:
    return isinstance(found, list) and len(found) == 2 and _numbers(*found)


def _are_answers(found: Any) -> bool:
    whole = lambda said: isinstance(said, list) and all(type(value) is int for value in said)
    both = lambda told: isinstance(told, list) and len(told) == 2 and all(map(whole, told))
    return isinstance(found, dict) and all(map(both, found.values()))


def _are_paths(found: Any) -> bool:
    """Whether it is a valid result of `image_paths.table`."""
    if not isinstance(found, dict) or not all(isinstance(value, list) for value in found.values()):
        return False
    if set(found) != {"rows", "rival", "after", "path", "nearest"}:
        return False
    whole = all(type(value) is int for name in ("rows", "rival", "after") for value in found[name])
    images, moments = len(found["rows"]), len(found["after"])
    if not whole or any(len(found[name]) != images for name in ("rival", "path", "nearest")):
        return False
    lists = lambda value, size=None: isinstance(value, list) and size in (None, len(value))
    path = all(
        p is None or (lists(p, moments) and all(lists(point, 3) and _numbers(*point) for point in p))
        for p in found["path"]
    )
    near = all(
        lists(n, moments) and all(lists(at) and all(lists(one, 2) and _numbers(*one) for one in at) for at in n)
        for n in found["nearest"]
    )
    return path and near


def _numbers(*values: Any) -> bool:
    return all(type(value) in (int, float) and math.isfinite(value) for value in values)
