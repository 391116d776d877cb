"""Rules for changing settings of a started run: live, from the next step on; or between tasks, in a fork.

A method's settings declare this themselves (`config.setting`); this module has the rules for all others and the error
messages. Settings are given as the plain rows of `config.describe`, so a page can check them without importing torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from cl_core.config import ConfigError, RunConfig, TrainingConfig, check_value, describe, nearest, resolve_key

Rows = Iterable[Mapping[str, Any]]

FROM_THE_START = {  # settings of a whole run, and why a fork must keep its parent's
    "method": "decides what is trained",
    "backbone": "decides the features and the shapes of everything learned on them",
    "stream": "decides the data",
    "seed": "decides the order of classes and what was drawn",
    "device": "decides where the parent was trained",
    "precision": "decides how the parent was computed",
    "stream_settings": "decides the data",
    "diagnostics": "decides what is measured, and parent and fork are to be compared",
}


def turned(config: Any, name: str, value: Any) -> Any:
    """A method's config with a live setting changed, validated. Raises ConfigError with the reason if not allowed."""
    rows = {row["name"]: row for row in describe(type(config))}
    name = name.replace("-", "_")
    row = rows.get(name)
    if row is None:
        if name in FROM_THE_START:
            raise ConfigError(f"{name} {FROM_THE_START[name]}; start a new run for another")
        if resolve_key(name)[0] == "training":
            raise ConfigError(f"{name} is a setting of the training, which may change between tasks only: make a fork")
        live = [n for n, r in rows.items() if r["live"]]
        raise ConfigError(
            nearest(name, live, "live setting") if live else "this method has no setting that can be changed live"
        )
    if row["fixed"]:
        raise ConfigError(f"{name} {row['fixed']}; start a new run for another")
    if not row["live"]:
        raise ConfigError(f"{name} is read when a task begins and may change between tasks only: make a fork")
    if getattr(config, name) == value:
        raise ConfigError(f"{name} is {value} already")
    return dataclasses.replace(config, **{name: value})


def forked(config: RunConfig, values: Iterable[tuple[str, Any]], described: Rows) -> tuple[RunConfig, dict[str, Any]]:
    """The settings of a fork: `config` with (key, value) pairs changed, keys as in --set. Raises ConfigError with the
    reason if a setting must stay.

    Returns:
        the settings, and what differs: key → [before, now].
    """
    rows, changed, made = {row["name"]: row for row in described}, {}, config
    for key, value in values:
        value = tuple(value) if isinstance(value, list) else value
        section, name = resolve_key(key)
        if section == "settings":
            old = _setting_before(config, rows, name)
            check_value(name, value, rows[name])
        elif section == "training":
            old = getattr(config.training, name, None)
        else:
            raise ConfigError(f"{key} {FROM_THE_START[section]}; start a new run for another")
        made = made.with_values([(key, value)])
        if old != value:
            changed[name] = [old, value]
        else:
            changed.pop(name, None)
    return made, changed


def changeable(described: Rows) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Settings that a fork may change, as described rows: (of the method, of the training section)."""
    return [dict(row) for row in described if not row.get("fixed")], describe(TrainingConfig)


def _setting_before(config: RunConfig, rows: Mapping[str, Mapping[str, Any]], name: str) -> Any:
    """A setting's value in `config`. Raises ConfigError if it is unknown or must stay."""
    row = rows.get(name)
    if row is None:
        if name in FROM_THE_START:
            raise ConfigError(f"{name} {FROM_THE_START[name]}; start a new run for another")
        raise ConfigError(nearest(name, rows, f"setting of {config.method}"))
    if row.get("fixed"):
        raise ConfigError(f"{name} {row['fixed']}; start a new run for another")
    value = config.settings.get(name, row["default"])
    return tuple(value) if isinstance(value, list) else value
