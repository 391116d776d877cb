"""Settings of every method: those of the package from a table, those of plug-ins from a separate process. This process
never imports training code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from cl_core.method_defaults import method_settings
from cl_core.registry import METHODS, lookup
from cl_core.store import StoreError

PATIENCE = 60.0  # seconds

_KNOWN: dict[str, list[dict[str, Any]]] = {}
_GUARD = threading.Lock()


def settings_of(method: str) -> list[dict[str, Any]]:
    """Return a method's settings from `config.describe`; cached. Raises StoreError if they cannot be read, ConfigError
    if there is no such method."""
    name, entry = lookup(METHODS, method, "method")
    if not entry.origin and (described := method_settings(name)) is not None:
        return described
    with _GUARD:
        if name not in _KNOWN:
            _KNOWN.update(_asked())
    if name not in _KNOWN:
        raise StoreError(f"the settings of {name} could not be read: `python -m cl_core methods --json` did not answer")
    return _KNOWN[name]


def _asked() -> dict[str, list[dict[str, Any]]]:
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "cl_core", "methods", "--json"],
            capture_output=True,
            timeout=PATIENCE,
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            stdin=subprocess.DEVNULL,
        )
        return {row["name"]: row["knobs"] for row in json.loads(answer.stdout)}
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return {}
