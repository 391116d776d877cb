"""Defaults of every setting by version, without importing a method (and torch with it).

A run's config.json stores every setting, so that a changed default never affects old runs. Older files contain only
settings that differed from the defaults: they get the defaults of the first version, whose entry in
method_defaults.json is frozen, and for settings introduced with a changed rule (`RULES_BEFORE`) the value of the old
rule. method_settings.json describes the settings of this version for pages and reports, which would otherwise wait
seconds for imports of the methods. `python -m bench.method_defaults` writes both.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Settings introduced with a changed rule: the values for runs that do not name them.
RULES_BEFORE = {
    "split_lora": {"scaling": "none"},
    "fwd_prompt": {"accumulation": "every direction"},
    "replay": {"kept": "changed"},
}

RULES = "reading_rules"
FILE = Path(__file__).with_name("method_defaults.json")
DESCRIBED = Path(__file__).with_name("method_settings.json")


@functools.cache
def _versions() -> list[dict[str, Any]]:
    """{"run": settings of every run, "methods": method → its settings} of each version, oldest first."""
    return list(json.loads(FILE.read_text("utf-8")).values())


def method_defaults(method: str) -> dict[str, Any]:
    """The defaults of a method's settings in this version; empty for unknown methods."""
    return dict(_versions()[-1]["methods"].get(method, {}))


@functools.cache
def _described() -> dict[str, list[dict[str, Any]]]:
    return json.loads(DESCRIBED.read_text("utf-8"))


def method_settings(method: str) -> list[dict[str, Any]] | None:
    """A method's settings as returned by `config.describe`, without importing it; None for unknown methods."""
    return _described().get(method)


def as_first_written(record: Mapping[str, Any]) -> dict[str, Any]:
    """A decoded config.json with missing settings set to the defaults of the first version."""
    oldest = _versions()[0]
    method = None if record.get("origin") else record.get("method")  # trained elsewhere: the method is only a name
    usual = {**oldest["methods"].get(method, {}), **RULES_BEFORE.get(method, {})} if isinstance(method, str) else {}
    base = {**oldest["run"], "settings": usual}
    filled = {**base, **record}
    for name, known in base.items():
        if isinstance(known, dict) and isinstance(filled[name], Mapping):
            filled[name] = {**known, **filled[name]}
    own = record.get("stream_settings", {})
    if str(record.get("stream", "")).startswith("folder:") and isinstance(own, Mapping) and RULES not in own:
        # Trained before the current rules for reading folders: its classes and pixels must not change.
        filled["stream_settings"] = {**filled["stream_settings"], RULES: 1}
    return filled
