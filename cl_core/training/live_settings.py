"""Changes of live settings of a trainer's method between two steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cl_core.config import ConfigError
from cl_core.config_changes import turned
from cl_core.events import Clock, KnobTurned
from cl_core.training.trainer import Trainer


def settings_after(trainer: Trainer, name: str, value: Any) -> Any:
    """The method's settings with one of them changed; the trainer is left as it is. Raises ConfigError if the
    setting cannot be changed, or not to this value, or nothing is left that would read it."""
    if trainer.cursor.stage == "end":
        raise ConfigError(f"{name} cannot be turned any more: the last task has been measured")
    return turned(trainer.method.config, name, value)


def turn(trainer: Trainer, name: str, value: Any) -> KnobTurned:
    """Change a live setting and recompute derived state, so that it applies from the next step on. Trained parameters
    are unchanged. Raises ConfigError as `settings_after`."""
    cursor, method, name = trainer.cursor, trainer.method, name.replace("-", "_")
    changed = settings_after(trainer, name, value)
    old, method.config = getattr(method.config, name), changed
    method.refresh()
    trainer.config = replace(trainer.config, settings={**trainer.config.settings, name: value})
    task = trainer.curriculum[cursor.task].index
    return KnobTurned(Clock(task, cursor.epoch if cursor.stage == "train" else -1, cursor.step), name, old, value)
