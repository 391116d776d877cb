"""RunConfig → stream, backbone, method, trainer: the one place where the rooms meet."""

from __future__ import annotations

import torch

from cl_core.config import ConfigError, RunConfig, configured
from cl_core.engine.trainer import Trainer
from cl_core.registry import BACKBONES, METHODS, STREAMS, load, lookup


def build(config: RunConfig) -> Trainer:
    """A trainer at the beginning of the run that `config` describes. Raises ConfigError in one sentence."""
    method_name, entry = lookup(METHODS, config.method, "method")
    backbone_name, backbone_entry = lookup(BACKBONES, config.backbone, "backbone")
    lookup(STREAMS, config.stream, "stream")
    if entry.needs and backbone_entry.needs and entry.needs != backbone_entry.needs:
        fitting = ", ".join(name for name, b in BACKBONES.items() if b.needs == entry.needs)
        raise ConfigError(f"method {method_name} cannot use backbone {backbone_name}; choose one of: {fitting}")
    kind = load(METHODS, config.method, "method")
    settings = configured(kind.Config, config.settings, method_name)  # settings first: cheap, and most often wrong
    device = choose_device(config.device)
    backbone = load(BACKBONES, config.backbone, "backbone")()
    stream = load(STREAMS, config.stream, "stream")(config.stream_settings, backbone.preparation, config.seed)
    return Trainer(config, stream, backbone, kind(settings, backbone, config.seed), device)


def choose_device(name: str) -> torch.device:
    """auto: the first GPU if there is one, else the processor. Raises ConfigError where the device is not at hand."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda was asked for, but torch sees no GPU here; use --device cpu (or auto)")
    return torch.device(name)
