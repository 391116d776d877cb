"""Observers from plug-ins, which observe every run trained by this process."""

from __future__ import annotations

from cl_core.config import ConfigError
from cl_core.observers.observer import Observer
from cl_core.registry import OBSERVERS, load


def plugged_observers() -> list[Observer]:
    """One instance of each by registered name. Raises ConfigError for invalid ones."""
    found: list[Observer] = []
    for name, entry in OBSERVERS.items():
        try:
            made = load(OBSERVERS, name, "observer")()
        except Exception as error:  # a plug-in may raise anything
            raise ConfigError(f"observer {name} of {entry.origin} cannot be made: {error!r}") from error
        if not isinstance(made, Observer):
            raise ConfigError(f"{name} of {entry.origin} is no subclass of cl_core.observers.observer.Observer")
        made.name = f"plug-in {name}"  # type: ignore[misc]  # what it remembers is kept under it, apart from the package's
        found.append(made)
    return found
