"""Validation of stored rows: each field must have the type declared in `cl_core.events`. Pages rely on it.

`plain` stores NaN and infinities as null, so a number may be None wherever a float is declared. Relations between
events (a row of accuracies is as long as the run has tasks) are for whoever reads both.
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
MOST_CLOCK = 2**53  # tasks, epochs and steps
FEW = 8  # numbers that are sooner looked at one by one
Check = Callable[[Any], bool]


def check(kind: type[Event], fields: Mapping[str, Any]) -> None:
    """Raises ValueError that names the first field of `kind` whose value has another type than declared."""
    for name, (wanted, fits) in _checks(kind).items():  # type: ignore[arg-type]  # a class is hashable; the stub asks its instances
        if name in fields and not fits(fields[name]):
            raise ValueError(f"{name} is not {wanted}")
    if kind is StateChanged and fields.get("state") not in StateChanged.STATES:
        raise ValueError(f"unknown state {printable(fields.get('state'), 40)!r}")
    if kind is RunStarted:
        _check_plan(fields)


def _check_plan(fields: Mapping[str, Any]) -> None:
    """The inner tables of RunStarted, which its types leave open."""
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


def check_clock(*values: Any) -> None:
    """Raises ValueError where task, epoch or step is no whole number ≥ −1."""
    for value in values:
        if type(value) is not int or not -1 <= value <= MOST_CLOCK:
            raise ValueError("its task, epoch or step is not a whole number ≥ −1")


@functools.cache
def _checks(kind: type[Event]) -> dict[str, tuple[str, Check]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {name: (_words(hints[name]), _check(hints[name])) for name in kind.__dataclass_fields__ if name != "clock"}


def _check(wanted: Any) -> Check:
    """What tells whether a value is of a declared type."""
    origin, inside = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is Any:
        return lambda value: True
    if origin in (typing.Union, types.UnionType):
        checks = [_check(part) for part in inside]
        return lambda value: any(fits(value) for fits in checks)
    if origin in (list, dict):  # keys are texts in JSON
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
    return lambda value: type(value) is wanted  # int, str, bool: a switch is no number here


_WHOLE, _TEXT = _check(int), _check(str)
_TASK = {"name": _TEXT, "classes": _check(list[str]), "train": _WHOLE, "test": _WHOLE}
_BACKBONE = {
    "name": _TEXT,
    "patch_grid": _check(list[int]),
    **dict.fromkeys(("depth", "width", "heads", "tokens", "parameters"), _WHOLE),
}
_ENVIRONMENT = dict.fromkeys(("device", "device_name", "precision", "torch", "python", "plastiscope"), _TEXT)


def _all(values: Collection[Any], fits: Check, numbers: bool) -> bool:
    """Whether all values fit; for `numbers` most often told by a quick look: a run has some for every step."""
    if numbers and len(values) > FEW:
        if set(map(type, values)) <= {float} and math.isfinite(sum(values)):
            return True
    elif numbers:
        for value in values:
            if type(value) is not float or value - value != 0.0:  # of NaN and infinities the difference is NaN
                break
        else:
            return True
    return all(map(fits, values))


def _number(value: Any) -> bool:
    """A finite number within a double's range, or None."""
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
