"""`timm:NAME`: any plain Vision Transformer that timm builds, with its pre-trained weights, a file's, or none.

    timm:vit_base_patch16_224                       weights of timm's default tag, from the hub's cache
    timm:vit_base_patch16_224.augreg_in21k          of that tag
    timm:vit_base_patch16_224@/path/x.safetensors   from a file
    timm:vit_base_patch16_224@random                untrained, always the same: for speed and for tests
    timm:vit_base_patch16_224@FILE@/path/adapter    the same with a LoRA adapter of PEFT merged in; without FILE, or
                                                    with random, on those weights

R. Wightman. PyTorch Image Models. https://github.com/huggingface/pytorch-image-models
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.data import resolve_model_data_config
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import nn

from cl_core.backbones.adapters import merge
from cl_core.backbones.bundled_models import seeded
from cl_core.backbones.vit import ViTBackbone
from cl_core.backbones.weight_files import fill, from_hub, missing, read_weights, sources, without_prefix
from cl_core.config import ConfigError, Preprocessing
from cl_core.hf_cache import TIMM_FILES, UNTRAINED, cached, checkpoints_folder

LEFT_OVER = ("head.", "head_dist.", "fc_norm.", "norm.", "mask_token")  # parts of a classifier or of pre-training


def timm_vit(rest: str, *, weights: bool = True) -> ViTBackbone:
    """The backbone `timm:rest`. `weights=False` builds it on torch's meta device: sizes without memory. Raises
    ConfigError in one sentence."""
    name, file, adapter = sources(rest)
    _refuse_unknown(name)
    vit = _architecture(name, weights)
    described = resolve_model_data_config(vit)
    _, height, width = described["input_size"]
    if height != width:
        raise ConfigError(f"timm:{name} takes pictures of {height}×{width}; only square ones are prepared here")
    preparation = Preprocessing(height, tuple(described["mean"]), tuple(described["std"]))
    backbone = ViTBackbone(vit, f"timm:{name}", preparation)  # raises for unsupported models before weights are read
    if weights and file != UNTRAINED:
        backbone.notes += _load(backbone.vit, name, file)
    if weights and adapter:
        backbone.notes += merge(backbone.vit, Path(adapter))
    return backbone


def plan(rest: str) -> dict[str, Any]:
    """Return sizes of `timm:rest`, and where its weights are (`file`) or what is missing (`missing`). The user's own
    weights are read, for `notes`. Raises ConfigError."""
    name, file, adapter = sources(rest)
    found = Path(file) if file else _at_hand(name)
    own = file == UNTRAINED or (found is not None and found.is_file())
    sizes = timm_vit(rest, weights=own and bool(adapter or file not in ("", UNTRAINED))).describe()
    if file == UNTRAINED:
        return {**sizes, "file": "", "missing": ""}
    if found is not None and found.is_file():
        return {**sizes, "file": str(found), "bytes": found.stat().st_size, "missing": ""}
    return {**sizes, "file": "", "missing": f"there is no weights file {file}" if file else _missing(name)}


def _refuse_unknown(name: str) -> None:
    if timm.is_model(name.split(".")[0]):
        architecture, _, tag = name.partition(".")
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
        if tag and tag not in tags:
            raise ConfigError(f"timm has no weights {tag!r} for {architecture}; known: {', '.join(tags) or 'none'}")
        return
    close = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "timm.list_models() lists them"
    raise ConfigError(f"timm {timm.__version__} builds no model {name!r}; {hint}")


def _architecture(name: str, weights: bool) -> nn.Module:
    """Return the model without its classifier; the backbone raises for other architectures."""
    try:
        with seeded(7), torch.device("cpu" if weights else "meta"):
            return timm.create_model(name, pretrained=False, num_classes=0)
    except Exception as error:  # an architecture may need special sizes or packages
        raise ConfigError(f"timm cannot build {name!r}: {(str(error).splitlines() or [repr(error)])[0]}") from error


def _load(vit: VisionTransformer, name: str, file: str) -> list[str]:
    found = Path(file) if file else _at_hand(name)
    if found is None:
        described = cast(Mapping[str, Any], vit.pretrained_cfg)
        repository = described.get("hf_hub_id")
        if not repository:
            raise ConfigError(_missing(name))
        found = from_hub(f"timm:{name}", repository, _files(described))
    wanted = list(vit.state_dict())
    weights = without_prefix(read_weights(found), wanted)
    before = weights.tensors.get("pos_embed")
    try:  # timm's own: renames other releases' layouts, fits position embeddings to another size
        weights = replace(weights, tensors=dict(checkpoint_filter_fn(weights.tensors, vit)))
    except Exception as error:
        raise ConfigError(f"the weights {found} do not fit timm:{name}: {error!r}") from error
    after = weights.tensors.get("pos_embed")
    if before is not None and after is not None and before.shape != after.shape:
        places = " to ".join(str(t.shape[-2]) for t in (before, after))
        weights.notes.append(f"position embedding resampled from {places} tokens")
    return fill(vit, weights, [key for key in LEFT_OVER if not any(k.startswith(key) for k in wanted)])


def _files(described: Any) -> tuple[str, ...]:
    own = described.get("hf_hub_filename")
    return (own,) if own else TIMM_FILES


def _at_hand(name: str) -> Path | None:
    """Return the weights in the hub's cache, or in torch's cache of files downloaded by URL."""
    described = timm.get_pretrained_cfg(name)
    if described is None:
        return None
    if described.hf_hub_id:
        found = cached(described.hf_hub_id, _files(vars(described)))
        if found is not None:
            return found
    fetched = checkpoints_folder() / str(described.url).rsplit("/", 1)[-1]
    return (
        fetched if described.url and fetched.suffix in (".pth", ".bin", ".safetensors") and fetched.is_file() else None
    )


def _missing(name: str) -> str:
    described = timm.get_pretrained_cfg(name)
    if described is None or not described.hf_hub_id:
        return f"timm knows no weights for {name}; timm:{name}@FILE takes a file, timm:{name}@{UNTRAINED} none"
    return missing(f"timm:{name}", described.hf_hub_id)
