"""Configuration of a run as frozen dataclasses: method, backbone, stream, training, diagnostics, seed. Read from TOML,
written as JSON, changed by dotted overrides.

`setting` describes a hyperparameter once: default, bounds, choices and help, used by command line, launch form and
sliders.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import os
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cl_core.method_defaults import method_defaults
from cl_core.readouts import HEADLINES
from cl_core.untrusted import parse_toml, printable, read_text

MOST_NAME = 200  # bytes of a run's name; file systems take 255
FORMAT = 1  # of a run folder; raised when an older program could misread it


class ConfigError(ValueError):
    """An invalid setting; the message is one sentence for the user."""


def setting(
    default: Any,
    *,
    help: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] | None = None,
    live: bool = False,
    fixed: str = "",
    unit: str = "",
) -> Any:
    """A hyperparameter: a dataclass field with bounds, choices, help and unit, and when it may change.

    `live`: during training, from the next step on (read in `loss`, `classify` or `refresh`; no shape depends on it).
    `fixed`: never within a run, with the reason ("sets the shape of the prompts"). Neither: between tasks, in a fork.
    """
    described = {"help": help, "low": low, "high": high, "choices": choices, "unit": unit}
    return field(default=default, metadata={**described, "live": live, "fixed": fixed})


knob = setting  # its earlier name, which plug-ins import


def nearest(name: str, known: Iterable[str], what: str) -> str:
    """Error message for an unknown name: the known ones, and the nearest if one is similar."""
    known = sorted(known)
    close = difflib.get_close_matches(name.replace("-", "_"), [k.replace("-", "_") for k in known], n=1)
    hint = next((k for k in known if close and k.replace("-", "_") == close[0]), None)
    return f"unknown {what} {name!r}; known: {', '.join(known)}." + (f" Did you mean {hint}?" if hint else "")


def check_settings(config: Any) -> None:
    """Check every `setting` of a dataclass instance against its type, bounds and choices. Raises ConfigError."""
    hints = _hints(type(config))  # type: ignore[arg-type]  # a class is hashable; the stub asks its instances
    for f in dataclasses.fields(config):
        value, meta = getattr(config, f.name), f.metadata
        _check_type(f.name, value, hints[f.name])
        check_value(f.name, value, meta)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """Declared types of a dataclass, cached because looking them up is slower than checking values."""
    return typing.get_type_hints(kind)


def check_value(name: str, value: Any, meta: Mapping[str, Any]) -> None:
    """Check a value against its setting's choices and bounds. Raises ConfigError."""
    if meta.get("choices") and value not in meta["choices"]:
        raise ConfigError(f"{name} must be one of {', '.join(map(str, meta['choices']))}, got {value!r}")
    low, high = meta.get("low"), meta.get("high")
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    if numeric and not (-math.inf if low is None else low) <= value <= (math.inf if high is None else high):
        raise ConfigError(f"{name} must lie in [{_bound(low, '-∞')}, {_bound(high, '∞')}], got {value}")


def _bound(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else f"{value:g}"


def _check_type(name: str, value: Any, kind: Any) -> None:
    allowed = _allowed(kind)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return
    if (isinstance(value, bool) and bool not in allowed) or not isinstance(value, allowed):
        wanted = " or ".join("nothing" if a is type(None) else a.__name__ for a in allowed)
        raise ConfigError(f"{name} must be {wanted}, got {value!r}")


@functools.cache
def _allowed(kind: Any) -> tuple[Any, ...]:
    """The classes that a declared type stands for."""
    origin = typing.get_origin(kind)
    parts = typing.get_args(kind) if origin in (typing.Union, types.UnionType) else (kind,)
    return tuple(typing.get_origin(part) or part for part in parts)


def from_mapping(kind: type, settings: Mapping[str, Any], what: str) -> Any:
    """An instance of the config dataclass `kind` from plain `settings`. Raises ConfigError for unknown names, with the
    nearest known one."""
    names = {f.name for f in dataclasses.fields(kind)}
    clean = {}
    for key, value in settings.items():
        name = key.replace("-", "_")
        if name not in names:
            raise ConfigError(nearest(key, names, f"setting of {what}"))
        clean[name] = tuple(value) if isinstance(value, list) else value
    return kind(**clean)


def describe(kind: type) -> list[dict[str, Any]]:
    """The settings of a config dataclass as plain rows: name, default, type, bounds, choices, help, live."""
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
    """Epochs, batch size, schedule and augmentation of every task's training."""

    epochs: int = setting(5, low=1, high=1000, help="passes over a task's training images")
    batch_size: int = setting(64, low=1, high=4096, help="images per optimiser step")
    repeats: int = setting(
        1, low=1, high=100, help="passes over the training images within one epoch (the NSP² release: 10)"
    )
    schedule: str = setting(
        "milestones",
        choices=("milestones", "cosine", "quarter cosine"),
        help="milestones: constant, falling by `decay` at each; cosine: from full to 0 over a task, step by step; "
        "quarter cosine: epoch by epoch from full to 1.6 %",
    )
    warm_up: int = setting(0, low=0, high=100_000, help="number of warm-up steps at the start of a task")
    milestones: tuple = setting((), help="epochs (from 0) at which the learning rate falls by `decay`")
    decay: float = setting(0.1, low=0.0, high=1.0, help="factor on the learning rate at each milestone")
    auto_augment: str = setting(
        "none",
        choices=("none", "cifar10", "imagenet"),
        help="AutoAugment policy applied to training images",
    )
    random_crop: float = setting(
        1.0,
        low=0.01,
        high=1.0,
        help="smallest share of an image's area in a random crop, resized to full size (1: whole images)",
    )
    flip: bool = setting(False, help="flip training images horizontally with probability 1/2")

    def __post_init__(self) -> None:
        check_settings(self)
        if any(not isinstance(m, int) or m < 1 for m in self.milestones) or list(self.milestones) != sorted(
            set(self.milestones)
        ):
            raise ConfigError(f"milestones must be rising whole numbers ≥ 1, got {list(self.milestones)}")

    def learning_rate_factor(self, epoch: int, step: int = 0, steps: int = 1, epochs: int = 1) -> float:
        """Factor on every learning rate at `step` of a task's `steps`, in `epoch` of its `epochs` (all from 0).

        (step + 1) / w while step < w = warm_up; then decay^(milestones at or before the epoch), or with the cosine
        schedule (1 + cos(π (step − w) / (steps − w))) / 2, with quarter cosine cos(0.99 π epoch / (2 (epochs − 1))).
        """
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (step - self.warm_up) / max(1, steps - self.warm_up)))
        if self.schedule == "quarter cosine":
            return math.cos(0.99 * math.pi / 2 * epoch / max(1, epochs - 1))
        return self.decay ** sum(epoch >= m for m in self.milestones)


@dataclass(frozen=True)
class DiagnosticsConfig:
    """Measurements besides accuracy. They never change training."""

    spectra: bool = setting(
        True, help="eigenvalues of the prompt moments after every task, even if training does not use them"
    )
    attention: bool = setting(
        True, help="attention on old tasks' probe images, every `probe_epochs` epochs and after every task"
    )
    drift: bool = setting(True, help="prompt tokens after every epoch")
    gap: bool = setting(
        True,
        help="modality gap, pair similarities and retrieval after every task, for models of images and texts",
    )
    weights: bool = setting(
        True, help="singular values of adapted weights before and after every task, for methods that change weights"
    )
    selection: bool = setting(
        True, help="pool entries selected by test images after every task, for methods with a pool of prompts"
    )
    forward: bool = setting(
        False, help="accuracy of a nearest-class-mean probe on every task, including future ones, after every task"
    )
    readout: bool = setting(
        True, help="accuracy by linear discriminant analysis on stored and on recomputed class statistics"
    )
    readout_control: str = setting(
        "last",
        choices=("last", "every"),
        help="when statistics are recomputed, which needs another pass over all training images",
    )
    headline: str = setting(
        "",
        choices=("", *HEADLINES),
        help="readout that the run is judged by and that is shown first; empty: class-incremental, or task-incremental "
        "where the stream names tasks",
    )
    probe_epochs: int = setting(2, low=1, high=1000, help="epochs between evaluations of old tasks' attention")
    probe_images: int = setting(6, low=1, high=64, help="probe images per task")
    images: int = setting(
        10_000,
        low=0,
        high=1_000_000,
        help="test images that are stored with what every readout answers for them after every task; of more, evenly "
        "spaced ones (0: none)",
    )
    within: float = setting(
        0.002,
        low=0.0,
        high=1.0,
        help="share of training's computation that looks at old tasks within a new one may cost, at a cadence that "
        "follows from it (0: none)",
    )

    def __post_init__(self) -> None:
        check_settings(self)

    @classmethod
    def off(cls) -> DiagnosticsConfig:
        """Accuracies only: the baseline for the cost of diagnostics."""
        return cls(
            spectra=False,
            attention=False,
            drift=False,
            gap=False,
            weights=False,
            selection=False,
            readout=False,
            images=0,
            within=0.0,
        )


@dataclass(frozen=True)
class StreamConfig:
    """Tasks, order, split and data options of the stream."""

    tasks: int = setting(5, low=1, high=1000, help="number of tasks")
    order: str = setting("I", choices=("I", "II"), help="order of the domains, in a multi-domain stream")
    evaluate_on: str = setting(
        "test",
        choices=("test", "validation"),
        help="validation: a fifth of the training images is held out and evaluated, for choosing settings",
    )
    first_task: int = setting(
        0, low=0, high=1_000_000, help="classes of the first task; the others share the rest equally (0: all equal)"
    )
    remainder: str = setting(
        "refuse",
        choices=("refuse", "last task"),
        help="if classes do not divide equally: raise an error, or give the last task fewer",
    )
    # The rest is for streams of images from disk; bundled streams reject it.
    classes: tuple = setting(
        (),
        help="class folders in order of arrival, distributed equally over the tasks, or one list per task; empty: all",
    )
    class_order: str = setting(
        "seed", choices=("seed", "name"), help="order of all classes if none are listed: shuffled by the run's seed"
    )
    class_names: tuple = setting((), help='class names that differ from the folder names: "n02119789=kit fox"')
    templates: tuple = setting((), help='sentences for a text tower, each with one {}: "a photo of a {}."')
    per_class: int = setting(0, low=0, high=10_000_000, help="maximum number of training images per class (0: all)")
    per_class_test: int = setting(0, low=0, high=10_000_000, help="maximum number of test images per class (0: all)")
    test_share: float = setting(
        0.2, low=0.01, high=0.99, help="share of each class kept for testing if there is no test folder"
    )
    references: str = setting(
        "", help="class folders of general images (ImageNet's training set), for methods that need reference pairs"
    )
    split_seed: int = setting(
        0, low=0, high=2**31 - 1, help="seed of that split and of limited selections; not the run's seed"
    )
    subfolders: str = setting(
        "ask",
        choices=("ask", "pool"),
        help="folders within class folders: raise an error (they may be domains or tasks), or pool into one class",
    )
    allow_empty: bool = setting(False, help="skip class folders without images instead of raising an error")
    label_column: str = setting("", help="column of metadata.csv, .jsonl or .parquet that names the class")
    white: float = setting(
        0.0,
        low=0.0,
        high=2.0**32,
        help="white level of images with more than 8 bits (0: as declared in the file, else the full range)",
    )
    ground: str = setting("white", choices=("white", "black", "grey"), help="background of transparent images")
    reading_rules: int = setting(
        2, low=1, high=2, help="version of the rules for reading folders and images; 1: the rules of older runs"
    )

    def __post_init__(self) -> None:
        if isinstance(self.class_names, Mapping):  # as a table in TOML
            pairs = tuple(f"{folder}={name}" for folder, name in self.class_names.items())
            object.__setattr__(self, "class_names", pairs)
        if isinstance(self.templates, str):
            object.__setattr__(self, "templates", (self.templates,))
        for name in ("classes", "class_names", "templates"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.references and isinstance(self.references, str):
            object.__setattr__(self, "references", os.path.abspath(os.path.expanduser(self.references)))
        check_settings(self)
        for pair in self.class_names:
            if not isinstance(pair, str) or not all(part.strip() for part in (*pair.split("=", 1), "")[:2]):
                raise ConfigError(f'stream.class_names takes "folder=name", got {pair!r}')
        for template in self.templates:
            rest = template.replace("{}", "", 1) if isinstance(template, str) and "{}" in template else "{"
            if "{" in rest or "}" in rest:
                raise ConfigError(f"a template of stream.templates holds one {{}} for the class, got {template!r}")
        listed = [isinstance(part, (list, tuple)) for part in self.classes]
        if listed and any(listed) != all(listed):
            raise ConfigError("stream.classes takes either class names or one list of class names a task, not both")
        if listed and all(listed):
            object.__setattr__(self, "classes", tuple(tuple(part) for part in self.classes))
            object.__setattr__(self, "tasks", len(self.classes))
        for name in (n for part in self.classes for n in (part if isinstance(part, tuple) else (part,))):
            if not isinstance(name, str) or not name:
                raise ConfigError(f"stream.classes takes names of class folders, got {name!r}")

    def of_disk(self) -> list[str]:
        """Changed settings that apply only to images from disk."""
        names = [f.name for f in dataclasses.fields(self)]
        return [n for n in names[names.index("classes") :] if getattr(self, n) != getattr(type(self), n)]


# Left out of fingerprints at their defaults, so that fingerprints of older runs do not change.
LATER_STREAM_SETTINGS = (
    "first_task",
    "remainder",
    "subfolders",
    "allow_empty",
    "label_column",
    "white",
    "ground",
    "reading_rules",
)


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of images for a backbone: side length in pixels, then (x − mean) / std per channel on values in
    0..1."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


SECTIONS = {"training": TrainingConfig, "diagnostics": DiagnosticsConfig, "stream_settings": StreamConfig}
_ALIASES = {"stream": "stream_settings"}


@dataclass(frozen=True)
class RunConfig:
    """The complete configuration of a run: the same RunConfig gives the same numbers on the same machine.

    `settings` holds the method's settings by name; the method's Config checks them when the run is built. `preset`
    names the source of all other settings. A fork names its `parent` run and the number of tasks (`fork_task`) trained
    there under the parent's settings; the settings here apply after them.

    `origin` is set for a run that was not trained by Plastiscope ("recorded from a training loop", "imported from …");
    its `method`, `backbone` and `stream` are then names only, its `seed` may be unknown (None), and it cannot be
    resumed or forked. `plugins` lists the plug-in files or packages that the run was started with.
    """

    method: str
    backbone: str = "micro-vit"
    stream: str = "split-digits"
    seed: int | None = 0
    device: str = "auto"
    precision: str = setting(
        "auto",
        choices=("auto", "float32", "bf16"),
        help="what the backbone multiplies in while it trains and is tested; auto: bfloat16 on a GPU that has it, else "
        "float32. Losses, moments and projections are float32 or wider either way",
    )
    name: str = ""
    group: str = ""
    preset: str = ""
    parent: str = ""
    fork_task: int = 0
    origin: str = ""
    plugins: tuple = ()
    settings: dict = field(default_factory=dict)
    stream_settings: StreamConfig = field(default_factory=StreamConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    diagnostics: DiagnosticsConfig = field(default_factory=DiagnosticsConfig)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.seed is None and not self.origin:
            raise ConfigError("seed must be a whole number, got nothing; only a run trained elsewhere may lack one")
        if self.seed is not None and not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed must be a whole number from 0 to {2**32 - 1}, got {self.seed}")
        if self.fork_task < 0:
            raise ConfigError(f"fork_task is a number of tasks from 0, got {self.fork_task}")
        for field_name in ("group", "parent"):  # its own name: where a folder is made of it
            _check_plain(field_name, getattr(self, field_name))

    @property
    def trained_elsewhere(self) -> bool:
        """Whether the run was trained by another program, so that it cannot be continued."""
        return bool(self.origin)

    def why_it_ends_here(self, name: str) -> str:
        """Error message for resuming or forking the run `name`, which was trained elsewhere."""
        return (
            f"run {name} was {self.origin}: Plastiscope did not train it and has no state to go on from; continue it "
            "in the program that trained it"
        )

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **json.loads(json.dumps(asdict(self)))}

    def completed(self) -> RunConfig:
        """A copy with every setting of the method, including defaults."""
        if self.trained_elsewhere:  # a method of that name is not ours
            return self
        return replace(self, settings={**method_defaults(self.method), **_underscored(self.settings)})

    def own_settings(self) -> dict[str, Any]:
        """Settings of the method that are not at their defaults."""
        usual = method_defaults(self.method)
        own = _underscored(self.settings)
        return {name: value for name, value in own.items() if name not in usual or usual[name] != value}

    def fingerprint(self) -> str:
        """The complete settings as text, without the run's name: equal texts mean equal runs. 0 and 0.0 are equal."""
        record = self.completed().to_dict()
        del record["format"], record["name"], record["diagnostics"]["headline"]  # which rows are shown first
        for later, usual in (("precision", "auto"), ("origin", ""), ("plugins", [])):
            if record[later] == usual:
                del record[later]
        for later in ("images", "within"):
            if record["diagnostics"][later] == getattr(type(self.diagnostics), later):
                del record["diagnostics"][later]
        for later in LATER_STREAM_SETTINGS:
            if record["stream_settings"][later] == getattr(StreamConfig, later):
                del record["stream_settings"][later]
        return json.dumps(_as_floats(record), sort_keys=True)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> RunConfig:
        """From a decoded config.json or TOML table. Raises ConfigError for unknown keys."""
        record = dict(record)
        version = record.pop("format", FORMAT)
        if type(version) is int and version < 1:
            raise ConfigError(f"format must be a whole number from 1 to {FORMAT}, got {version}")
        if type(version) is not int or version > FORMAT:
            raise ConfigError(
                f"this run was written by a newer Plastiscope (format {printable(version, 40)}; this one reads up to "
                f"{FORMAT}): update Plastiscope to open it"
            )
        for section, kind in SECTIONS.items():
            if section in record:
                if not isinstance(record[section], Mapping):
                    raise ConfigError(f"[{section}] must be a table of settings, got {record[section]!r}")
                record[section] = from_mapping(kind, record[section], section)
        if "method" not in record:
            raise ConfigError("a run needs a method; `plastiscope methods` lists them")
        return from_mapping(cls, record, "a run")

    @staticmethod
    def record_from_toml(path: Path) -> dict[str, Any]:
        """The table in a TOML file, unchecked (`presets.resolve` completes and checks it). `[stream_settings]` etc. as
        in to_dict."""
        try:
            return parse_toml(read_text(Path(path)))
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from error

    def with_overrides(self, pairs: Iterable[str]) -> RunConfig:
        """A copy with `key=value` texts applied: `training.epochs=3`, `diagnostics.drift=false`, `stream.tasks=2`. A
        key without a section belongs to the training section if it exists there, otherwise to the method."""
        return self.with_values(map(parse_pair, pairs))

    def with_values(self, values: Iterable[tuple[str, Any]]) -> RunConfig:
        """The same with (key, value) pairs."""
        config = self
        for key, value in values:
            section, name = resolve_key(key)
            if section == "settings":
                config = replace(config, settings={**config.settings, name: value})
            else:
                current = {
                    f.name: getattr(getattr(config, section), f.name) for f in dataclasses.fields(SECTIONS[section])
                }
                if name not in current:
                    raise ConfigError(nearest(name, current, f"setting of {section}"))
                config = replace(
                    config, **{section: from_mapping(SECTIONS[section], {**current, name: value}, section)}
                )
        return config


def _check_plain(field_name: str, text: str) -> None:
    """Raises ConfigError if the name of a run or group is not a plain name (path traversal) or too long."""
    if any(c in "/\\" or not c.isprintable() for c in text) or text.startswith("."):
        shown = printable(text, 80)
        raise ConfigError(f"{field_name} is a plain name, without slashes or a leading dot, got {shown!r}")
    if len(os.fsencode(text)) > MOST_NAME:
        raise ConfigError(f"{field_name} has at most {MOST_NAME} bytes, got {len(os.fsencode(text))}")


def parse_pair(text: str, option: str = "--set") -> tuple[str, Any]:
    """Key and value of `key=value` from a command line. Raises ConfigError that names the option."""
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"{option} takes key=value, got {text!r}")
    return key.strip(), parse_value(value.strip())


def resolve_key(key: str) -> tuple[str, str]:
    """(section of a RunConfig, name in it) for a key of --set; "settings" is the method's section. Raises
    ConfigError."""
    key = key.replace("-", "_")
    section, dot, name = key.partition(".")
    if dot:
        section = _ALIASES.get(section, section)
        if section not in (*SECTIONS, "settings"):
            raise ConfigError(nearest(section, ("training", "diagnostics", "stream", "settings"), "section"))
        return section, name
    return ("training" if key in {f.name for f in dataclasses.fields(TrainingConfig)} else "settings"), key


def _underscored(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in settings.items()}


def _as_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_floats(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_as_floats(inner) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def parse_value(text: str) -> Any:
    """The value of a setting from a command line: parsed as TOML (1, 0.5, true, [3, 4]) if possible, else the text."""
    try:
        return parse_toml(f"value = {text}")["value"]
    except (ValueError, KeyError):
        return text
