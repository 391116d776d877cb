"""All functions by which a page changes something on this machine; a view-only server refuses them.

Pages call the functions listed here or in `launch`, which have the same decorator; the store's writing functions are
used nowhere else in `dashboard`. So neither a control that a viewer still sees nor a forged message changes anything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from cl_core import store, sweeps
from cl_core.store import StoreError

P = ParamSpec("P")
R = TypeVar("R")

REFUSED = "this dashboard is for viewing: nothing can be started, changed or deleted here"
_viewing = False


def view_only(on: bool = True) -> None:
    """Refuse every change from now on (or, with False, allow them again)."""
    global _viewing
    _viewing = on


def viewing() -> bool:
    """Return whether changes are refused."""
    return _viewing


def changes(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that changes something on this machine; it raises StoreError in view-only mode."""

    @functools.wraps(function)
    def allowed(*args: P.args, **named: P.kwargs) -> R:
        if _viewing:
            raise StoreError(REFUSED)
        return function(*args, **named)

    return allowed


unpack = changes(store.unpack)
annotate = changes(store.annotate)
put_aside = changes(store.put_aside)
bring_back = changes(store.bring_back)
delete_for_good = changes(store.delete_for_good)
ask_to_stop = changes(sweeps.ask_to_stop)
