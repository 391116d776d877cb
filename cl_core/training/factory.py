"""Builds stream, backbone, method and trainer from a RunConfig."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cl_core.config import ConfigError, Preprocessing, RunConfig, StreamConfig, from_mapping
from cl_core.methods.method import NO_COMPANION
from cl_core.registry import BACKBONES, METHODS, SCHEMES, STREAMS, Entry, Scheme, load, lookup
from cl_core.streams.stream import TaskStream
from cl_core.training.device import choose_device, choose_precision
from cl_core.training.trainer import Trainer


def check(config: RunConfig) -> tuple[type[Any], Any]:
    """The method's class and its validated settings, checked without loading a backbone or a stream.

    Raises ConfigError.
    """
    if config.trained_elsewhere:
        raise ConfigError(config.why_it_ends_here(config.name or "of this folder"))
    if config.plugins and (missing := _not_loaded(config)):
        raise ConfigError(
            f"{missing} comes from the plug-in {', '.join(config.plugins)}, which is not loaded; name it with --plugin "
            "FILE.py or in PLASTISCOPE_PLUGINS"
        )
    method_name, entry = lookup(METHODS, config.method, "method")
    backbone_name, backbone_entry = lookup(BACKBONES, config.backbone, "backbone")
    stream_name, stream_entry = lookup(STREAMS, config.stream, "stream")
    if entry.needs and backbone_entry.needs and entry.needs != backbone_entry.needs:
        raise ConfigError(
            f"method {method_name} cannot use backbone {backbone_name}; choose one of: {_fitting(entry.needs)}"
        )
    kind = load(METHODS, config.method, "method")
    if _names_tasks(stream_name, stream_entry) and not kind.serves_known_tasks:
        raise ConfigError(
            f"stream {stream_name} says which task a test image belongs to, but {method_name} looks for its class "
            "among all classes; choose a class-incremental stream such as split-digits"
        )
    settings = from_mapping(kind.Config, config.settings, method_name)
    if beside := companion_of(kind, settings):
        companion, its = lookup(BACKBONES, beside, "backbone")
        if its.needs != kind.companion:
            raise ConfigError(
                f"companion of {method_name} must be a {kind.companion} backbone, got {companion}; choose one of: "
                + _fitting(kind.companion)
            )
    choose_precision(config.precision, choose_device(config.device))
    return kind, settings


def companion_of(kind: type[Any], settings: Any) -> str:
    """The name of the method's second frozen model with these settings; "" if none."""
    return settings.companion if kind.companion and settings.companion != NO_COMPANION else ""


def _names_tasks(name: str, entry: Entry) -> bool:
    """Whether a stream is multi-domain, as far as its name says: folders, one a domain, are separated by commas."""
    return entry.domains or (isinstance(entry, Scheme) and entry.paths == "all" and "," in name)


def _not_loaded(config: RunConfig) -> str:
    """Description of missing plug-ins or names; "" if nothing is missing."""
    for what, table, name in (
        ("method", METHODS, config.method),
        ("stream", STREAMS, config.stream),
        ("backbone", BACKBONES, config.backbone),
    ):
        if ":" not in name and name not in table and name.replace("-", "_") not in {k.replace("-", "_") for k in table}:
            return f"{what} {name}"
    return ""


def _fitting(family: str) -> str:
    """Available names of a backbone family."""
    named = [name for name, entry in BACKBONES.items() if entry.needs == family]
    return ", ".join(named + [scheme.form for scheme in SCHEMES["backbone"].values() if scheme.needs == family])


def new_backbone(name: str) -> Any:
    return load(BACKBONES, name, "backbone")()


def new_stream(name: str, settings: StreamConfig, preparation: Preprocessing, seed: int) -> TaskStream:
    return load(STREAMS, name, "stream")(settings, preparation, seed)


def build(
    config: RunConfig,
    backbone_of: Callable[[str], Any] = new_backbone,
    stream_of: Callable[[str, StreamConfig, Preprocessing, int], TaskStream] = new_stream,
) -> Trainer:
    """A trainer at the beginning of the run that `config` describes. Raises ConfigError in one sentence.

    Trainers built together may share frozen models and streams: pass functions that give out what there is already.
    """
    kind, settings = check(config)  # first: cheap, and most often wrong
    assert config.seed is not None  # only a run trained elsewhere may lack one, and `check` refuses those
    device = choose_device(config.device)
    backbone = backbone_of(config.backbone)
    stream = stream_of(config.stream, config.stream_settings, backbone.preparation, config.seed)
    beside = companion_of(kind, settings)
    models = [backbone_of(beside).to(device)] if beside else []
    method = kind(settings, backbone, config.seed, *models)
    return Trainer(config, stream, backbone, method, device, choose_precision(config.precision, device))
