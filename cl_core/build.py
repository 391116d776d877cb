"""RunConfig → stream, backbone, method, trainer: the one place where the rooms meet."""

from __future__ import annotations

from typing import Any

from cl_core.config import ConfigError, RunConfig, configured
from cl_core.engine.device import choose_device, choose_precision
from cl_core.engine.trainer import Trainer
from cl_core.registry import BACKBONES, METHODS, SCHEMES, STREAMS, load, lookup


def check(config: RunConfig) -> tuple[type, Any]:
    """The method's class and its checked settings: what can be refused without loading a backbone or a stream.

    Raises ConfigError in one sentence.
    """
    method_name, entry = lookup(METHODS, config.method, "method")
    backbone_name, backbone_entry = lookup(BACKBONES, config.backbone, "backbone")
    lookup(STREAMS, config.stream, "stream")
    if entry.needs and backbone_entry.needs and entry.needs != backbone_entry.needs:
        raise ConfigError(
            f"method {method_name} cannot use backbone {backbone_name}; choose one of: {_fitting(entry.needs)}"
        )
    kind = load(METHODS, config.method, "method")
    settings = configured(kind.Config, config.settings, method_name)
    if kind.companion:
        companion, its = lookup(BACKBONES, settings.companion, "backbone")
        if its.needs != kind.companion:
            raise ConfigError(
                f"companion of {method_name} must be a {kind.companion} backbone, got {companion}; choose one of: "
                + _fitting(kind.companion)
            )
    choose_precision(config.precision, choose_device(config.device))
    return kind, settings


def _fitting(family: str) -> str:
    """What can be named of a backbone family."""
    named = [name for name, entry in BACKBONES.items() if entry.needs == family]
    return ", ".join(named + [scheme.form for scheme in SCHEMES["backbone"].values() if scheme.needs == family])


def build(config: RunConfig) -> Trainer:
    """A trainer at the beginning of the run that `config` describes. Raises ConfigError in one sentence."""
    kind, settings = check(config)  # first: cheap, and most often wrong
    device = choose_device(config.device)
    backbone = load(BACKBONES, config.backbone, "backbone")()
    stream = load(STREAMS, config.stream, "stream")(config.stream_settings, backbone.preparation, config.seed)
    beside = [load(BACKBONES, settings.companion, "backbone")().to(device)] if kind.companion else []
    method = kind(settings, backbone, config.seed, *beside)
    return Trainer(config, stream, backbone, method, device, choose_precision(config.precision, device))
