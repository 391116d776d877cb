"""Plastiscope's engine: trains continual-learning methods on task streams and records every event of a run."""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:  # on demand: importing cl_core imports nothing else
    if name in ("open_run", "compare_runs"):
        from importlib import import_module

        return getattr(import_module("cl_core.interop.notebook"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
