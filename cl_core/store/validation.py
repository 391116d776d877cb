"""Validation of stored rows: each field must have the type declared in `cl_core.events`. Pages rely on this.

`plain` stores NaN and infinities as null, so a number may be None wherever a float is declared. Relations between
events (a row of accuracies has one entry per task) are checked by the code that reads both.
"""

from __future__ import annotations

import functools
import math
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from cl_core.events import Event, RunStarted, StateChanged
from cl_core.untrusted import printable

MOST_DIMENSIONS = 8
MOST_TASK = 10_000  # figures have one column per task and one row per layer
PLACES = ("layer", "probe_task", "evaluated")  # fields of events that index tasks or layers
MOST_CLOCK = 2**53  # epochs and steps
FEW = 8  # up to this many numbers, checking one by one is faster
Check = Callable[[Any], bool]


def check(kind: type[Event], fields: Mapping[str, Any]) -> None:
    """Check the fields of an event. Raises ValueError that names the first one with a wrong type or an impossible
    index."""
    for name, (wanted, fits) in _checks(kind).items():  # type: ignore[arg-type]  # a class is hashable; the stub asks its instances
        if name in fields and not fits(fields[name]):
            raise ValueError(f"{name} is not {wanted}")
    for name in PLACES:
        if type(fields.get(name)) is int and not -1 <= fields[name] <= MOST_TASK:
            raise ValueError(f"{name} is not a whole number from -1 to {MOST_TASK}")
    if kind is StateChanged and fields.get("state") not in StateChanged.STATES:
        raise ValueError(f"unknown state {printable(fields.get('state'), 40)!r}")
    if kind is RunStarted:
        _check_plan(fields)


def _check_plan(fields: Mapping[str, Any]) -> None:
    """Check the nested tables of RunStarted, whose content is not covered by the declared types."""
    for task in fields.get("tasks", ()):
        if not _TASK["name"](task.get("name")) or not _TASK["classes"](task.get("classes")):
            raise ValueError("a task has no name or no list of classes")
    for rows, known in (
        (fields.get("tasks", ()), _TASK),
        ([fields.get("backbone", {})], _BACKBONE),
        ([fields.get("environment", {})], _ENVIRONMENT),
    ):
        for row in rows:
            for name, fits in known.items():
                if name in row and not fits(row[name]):
                    raise ValueError(f"{name} has another type than in a run's plan")


def check_clock(task: Any, epoch: Any, step: Any) -> None:
    """Raise ValueError if task, epoch or step is not an integer ≥ −1 or exceeds the limits of a run."""
    for value in (task, epoch, step):
        if type(value) is not int or not -1 <= value <= MOST_CLOCK:
            raise ValueError("its task, epoch or step is not a whole number ≥ −1")
    if task > MOST_TASK:
        raise ValueError(f"its task, {task}, is beyond the {MOST_TASK:,} that a run can have")


@functools.cache
def _checks(kind: type[Event]) -> dict[str, tuple[str, Check]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {name: (_words(hints[name]), _check(hints[name])) for name in kind.__dataclass_fields__ if name != "clock"}


def _check(wanted: Any) -> Check:
    """Return a predicate that tests whether a value has the declared type."""
    origin, inside = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is Any:
        return lambda value: True
    if origin in (typing.Union, types.UnionType):
        checks = [_check(part) for part in inside]
        return lambda value: any(fits(value) for fits in checks)
    if origin in (list, dict):  # keys are strings in JSON
        fits = _check(inside[-1])
        quick = inside[-1] in (float, float | None)
        return lambda value: type(value) is origin and _all(value if origin is list else value.values(), fits, quick)
    if wanted is np.ndarray:
        return lambda value: isinstance(value, np.ndarray)
    if origin is typing.Annotated:
        array, axes = inside
        assert array is np.ndarray, "only arrays are annotated, with their number of axes"
        return lambda value: isinstance(value, np.ndarray) and value.ndim == axes
    if wanted is float:
        return _number
    if wanted is type(None):
        return lambda value: value is None
    return lambda value: type(value) is wanted  # int, str, bool: a bool is not accepted as a number


_WHOLE, _TEXT = _check(int), _check(str)
_TASK = {"name": _TEXT, "classes": _check(list[str]), "train": _WHOLE, "test": _WHOLE}
_BACKBONE = {
    "name": _TEXT,
    "patch_grid": _check(list[int]),
    **dict.fromkeys(("depth", "width", "heads", "tokens", "parameters"), _WHOLE),
}
_ENVIRONMENT = dict.fromkeys(("device", "device_name", "precision", "torch", "python", "plastiscope"), _TEXT)


def _all(values: Collection[Any], fits: Check, numbers: bool) -> bool:
    """Return whether all values fit. `numbers`: with a fast path, because runs have some for every step."""
    if numbers and len(values) > FEW:
        if set(map(type, values)) <= {float} and math.isfinite(sum(values)):
            return True
    elif numbers:
        for value in values:
            if type(value) is not float or value - value != 0.0:  # for NaN and infinities the difference is NaN
                break
        else:
            return True
    return all(map(fits, values))


def _number(value: Any) -> bool:
    """Return whether a value is a finite number within a double's range, or None."""
    if type(value) is int:
        return abs(value) < 1e308
    return value is None or (type(value) is float and math.isfinite(value))


def _words(wanted: Any) -> str:
    known = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", np.ndarray: "an array"}
    if wanted in known:
        return known[wanted]
    origin, inside = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Annotated:
        return f"an array with {inside[1]} axes" if inside[1] > 1 else "an array with one axis"
    if origin is list:
        return f"a list of {_words(inside[0]).split(' ', 1)[-1]}s" if inside[0] in known else "a list of what it lists"
    return f"of its type {wanted}".replace("typing.", "")
