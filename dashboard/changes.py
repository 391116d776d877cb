"""Everything that a page can change on this machine, in one place: a server for viewing alone refuses all of it.

Pages call what is named here or in `launch`, whose functions bear the same decorator; the store's own functions that
write are used nowhere else in `dashboard`. So a control that is still there for a viewer, or a message that a page
never sent, changes nothing.
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
    """From now on refuse every change (or, with False, allow them again)."""
    global _viewing
    _viewing = on


def viewing() -> bool:
    """Whether changes are refused."""
    return _viewing


def changes(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, which changes something on this machine; raises StoreError while only viewing is allowed."""

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
