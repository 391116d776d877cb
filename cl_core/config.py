"""What a run is made of, frozen: method, backbone, stream, training, diagnostics, seed. TOML in, JSON out, dotted
overrides.

A hyperparameter is described once, with `knob`: its default, bounds, choices and help serve the command line, the
launch form and the sliders alike.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

FORMAT = 1  # of a run folder; raised when an older program could misread it


class ConfigError(ValueError):
    """A setting that cannot be used; the message is one sentence for the person who set it."""


def knob(
    default: Any,
    *,
    help: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] | None = None,
    live: bool = False,
    unit: str = "",
) -> Any:
    """A described hyperparameter: a dataclass field with bounds, choices, help, unit and whether it may change while
    running."""
    return field(
        default=default,
        metadata={"help": help, "low": low, "high": high, "choices": choices, "live": live, "unit": unit},
    )


def nearest(name: str, known: Iterable[str], what: str) -> str:
    """One sentence for an unknown name: the known ones, and the nearest if any is near."""
    known = sorted(known)
    close = difflib.get_close_matches(name.replace("-", "_"), [k.replace("-", "_") for k in known], n=1)
    hint = next((k for k in known if close and k.replace("-", "_") == close[0]), None)
    return f"unknown {what} {name!r}; known: {', '.join(known)}." + (f" Did you mean {hint}?" if hint else "")


def check_knobs(config: Any) -> None:
    """Check every `knob` of a dataclass instance against its type, bounds and choices. Raises ConfigError."""
    hints = typing.get_type_hints(type(config))
    for f in dataclasses.fields(config):
        value, meta = getattr(config, f.name), f.metadata
        _check_type(f.name, value, hints[f.name])
        if meta.get("choices") and value not in meta["choices"]:
            raise ConfigError(f"{f.name} must be one of {', '.join(map(str, meta['choices']))}, got {value!r}")
        low, high = meta.get("low"), meta.get("high")
        numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
        if numeric and not (-math.inf if low is None else low) <= value <= (math.inf if high is None else high):
            raise ConfigError(f"{f.name} must lie in [{_bound(low, '-∞')}, {_bound(high, '∞')}], got {value}")


def _bound(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else f"{value:g}"


def _check_type(name: str, value: Any, kind: Any) -> None:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        allowed: tuple[Any, ...] = typing.get_args(kind)
    else:
        allowed = (origin or kind,)
    allowed = tuple(typing.get_origin(a) or a for a in allowed)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return
    if (isinstance(value, bool) and bool not in allowed) or not isinstance(value, allowed):
        wanted = " or ".join("nothing" if a is type(None) else a.__name__ for a in allowed)
        raise ConfigError(f"{name} must be {wanted}, got {value!r}")


def configured(kind: type, settings: Mapping[str, Any], what: str) -> Any:
    """An instance of the config dataclass `kind` from plain `settings`; unknown names are refused with the nearest
    known one."""
    names = {f.name for f in dataclasses.fields(kind)}
    clean = {}
    for key, value in settings.items():
        name = key.replace("-", "_")
        if name not in names:
            raise ConfigError(nearest(key, names, f"setting of {what}"))
        clean[name] = tuple(value) if isinstance(value, list) else value
    return kind(**clean)


def describe(kind: type) -> list[dict[str, Any]]:
    """The knobs of a config dataclass as plain rows: name, default, type, bounds, choices, help, live."""
    hints = typing.get_type_hints(kind)
    return [
        {
            "name": f.name,
            "default": f.default,
            "type": getattr(hints[f.name], "__name__", str(hints[f.name])),
            **f.metadata,
        }
        for f in dataclasses.fields(kind)
    ]


@dataclass(frozen=True)
class TrainingConfig:
    """How long and in which portions every task is trained."""

    epochs: int = knob(5, low=1, high=1000, help="passes over a task's training images")
    batch_size: int = knob(64, low=1, high=4096, help="images per optimiser step")
    repeats: int = knob(
        1, low=1, high=100, help="the index set is repeated this often within one epoch (the NSP² release: 10)"
    )
    schedule: str = knob(
        "milestones",
        choices=("milestones", "cosine"),
        help="milestones: constant, falling by `decay` at each; cosine: from full to 0 over a task, step by step",
    )
    warm_up: int = knob(0, low=0, high=100_000, help="first steps of a task over which the learning rate rises")
    milestones: tuple = knob((), help="epochs (from 0) at which the learning rate falls by `decay`")
    decay: float = knob(0.1, low=0.0, high=1.0, help="factor on the learning rate at each milestone")

    def __post_init__(self) -> None:
        check_knobs(self)
        if any(not isinstance(m, int) or m < 1 for m in self.milestones) or list(self.milestones) != sorted(
            set(self.milestones)
        ):
            raise ConfigError(f"milestones must be rising whole numbers ≥ 1, got {list(self.milestones)}")

    def learning_rate_factor(self, epoch: int, step: int = 0, steps: int = 1) -> float:
        """Factor on every learning rate at `step` of a task's `steps`, in `epoch` (all from 0).

        (step + 1) / w while step < w = warm_up; then decay^(milestones at or before the epoch), or with the cosine
        schedule (1 + cos(π (step − w) / (steps − w))) / 2.
        """
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (step - self.warm_up) / max(1, steps - self.warm_up)))
        return self.decay ** sum(epoch >= m for m in self.milestones)


@dataclass(frozen=True)
class DiagnosticsConfig:
    """What is measured besides accuracy. Measuring never changes training."""

    spectra: bool = knob(
        True, help="eigenvalues of the prompt moments after every task, also where training does not use them"
    )
    attention: bool = knob(
        True, help="attention on old tasks' probe images, every `probe_epochs` epochs and after every task"
    )
    drift: bool = knob(True, help="prompt tokens after every epoch")
    gap: bool = knob(
        True,
        help="modality gap, pair similarities and retrieval after every task, where pictures and texts share a space",
    )
    weights: bool = knob(
        True, help="singular values of adapted weights before and after every task, where a method changes weights"
    )
    readout: bool = knob(
        True, help="accuracy by linear discriminant analysis on stored and on recomputed class statistics"
    )
    readout_control: str = knob(
        "last",
        choices=("last", "every"),
        help="after which task the recomputed statistics are taken: they look at all training images again",
    )
    probe_epochs: int = knob(2, low=1, high=1000, help="epochs between looks at old tasks' attention")
    probe_images: int = knob(6, low=1, high=64, help="probe images per task")

    def __post_init__(self) -> None:
        check_knobs(self)

    @classmethod
    def off(cls) -> DiagnosticsConfig:
        """Nothing but the accuracies: the floor that diagnostics are timed against."""
        return cls(spectra=False, attention=False, drift=False, gap=False, weights=False, readout=False)


@dataclass(frozen=True)
class StreamConfig:
    """Which part of the stream is learned and evaluated."""

    tasks: int = knob(5, low=1, high=1000, help="number of tasks")
    order: str = knob("I", choices=("I", "II"), help="order of the domains, in a multi-domain stream")
    evaluate_on: str = knob(
        "test",
        choices=("test", "validation"),
        help="validation: a fifth of the training images is held out and evaluated, for choosing settings",
    )

    def __post_init__(self) -> None:
        check_knobs(self)


@dataclass(frozen=True)
class Preparation:
    """How pictures become inputs of a backbone: side length in pixels, then (x − mean) / std per channel on values in
    0..1."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


SECTIONS = {"training": TrainingConfig, "diagnostics": DiagnosticsConfig, "stream_settings": StreamConfig}
_ALIASES = {"stream": "stream_settings"}


@dataclass(frozen=True)
class RunConfig:
    """One run, completely: with the same RunConfig the same numbers come out on the same machine.

    `settings` holds the method's own knobs by name; the method's Config checks them when the run is built. `preset`
    names where unnamed settings came from.
    """

    method: str
    backbone: str = "micro-vit"
    stream: str = "split-digits"
    seed: int = 0
    device: str = "auto"
    name: str = ""
    group: str = ""
    preset: str = ""
    settings: dict = field(default_factory=dict)
    stream_settings: StreamConfig = field(default_factory=StreamConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    diagnostics: DiagnosticsConfig = field(default_factory=DiagnosticsConfig)

    def __post_init__(self) -> None:
        check_knobs(self)
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed must be a whole number from 0 to {2**32 - 1}, got {self.seed}")

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **json.loads(json.dumps(asdict(self)))}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> RunConfig:
        """From a decoded config.json or TOML table; every unknown key is refused by name."""
        record = dict(record)
        version = record.pop("format", FORMAT)
        if not isinstance(version, int) or version > FORMAT:
            raise ConfigError(
                f"this run was written by a newer Plastiscope (format {version}; this one reads up to {FORMAT}): "
                "update Plastiscope to open it"
            )
        for section, kind in SECTIONS.items():
            if section in record:
                if not isinstance(record[section], Mapping):
                    raise ConfigError(f"[{section}] must be a table of settings, got {record[section]!r}")
                record[section] = configured(kind, record[section], section)
        if "method" not in record:
            raise ConfigError("a run needs a method; `plastiscope methods` lists them")
        return configured(cls, record, "a run")

    @staticmethod
    def record_from_toml(path: Path) -> dict[str, Any]:
        """The table in a TOML file, unchecked (`presets.resolve` completes and checks it). `[stream_settings]` etc. as
        in to_dict."""
        try:
            return tomllib.loads(Path(path).read_text("utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from error

    def with_overrides(self, pairs: Iterable[str]) -> RunConfig:
        """A copy with `key=value` texts applied. `training.epochs=3`, `diagnostics.drift=false`, `stream.tasks=2`; a
        bare key that belongs to the training section goes there, any other bare key is a knob of the method."""
        config = self
        for pair in pairs:
            key, sign, text = pair.partition("=")
            if not sign or not key.strip():
                raise ConfigError(f"--set takes key=value, got {pair!r}")
            key, value = key.strip().replace("-", "_"), parse_value(text.strip())
            section, dot, name = key.partition(".")
            if dot:
                section = _ALIASES.get(section, section)
                if section not in (*SECTIONS, "settings"):
                    raise ConfigError(nearest(section, ("training", "diagnostics", "stream", "settings"), "section"))
            elif key in {f.name for f in dataclasses.fields(TrainingConfig)}:
                section, name = "training", key
            else:
                section, name = "settings", key
            if section == "settings":
                config = replace(config, settings={**config.settings, name: value})
            else:
                current = {
                    f.name: getattr(getattr(config, section), f.name) for f in dataclasses.fields(SECTIONS[section])
                }
                if name not in current:
                    raise ConfigError(nearest(name, current, f"setting of {section}"))
                config = replace(config, **{section: configured(SECTIONS[section], {**current, name: value}, section)})
        return config


def parse_value(text: str) -> Any:
    """A setting as written on a command line: TOML where it parses (1, 0.5, true, [3, 4]), else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
