"""RunConfig → stream, backbone, method, trainer: the one place where the rooms meet."""

from __future__ import annotations

from typing import Any

import torch

from cl_core.config import ConfigError, RunConfig, configured
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
    choose_device(config.device)
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
    return Trainer(config, stream, backbone, kind(settings, backbone, config.seed, *beside), device)


def choose_device(name: str) -> torch.device:
    """auto: the first GPU if there is one, else the processor. Raises ConfigError where the device is not at hand."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda was asked for, but torch sees no GPU here; use --device cpu (or auto)")
    return torch.device(name)
