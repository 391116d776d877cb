"""Merging of LoRA adapters saved by PEFT into a backbone: W ← W + ΔW.

    ΔW = s · B A        A [r, in], B [out, r];  s = α / r, or α / √r with `use_rslora`
    W [out, in]; a convolution's kernel is flattened to [out, in · k · k], and A and B with it

E. J. Hu et al. LoRA: Low-Rank Adaptation of Large Language Models. ICLR 2022. D. Kalajdzievski. A Rank Stabilization
Scaling Factor for Fine-Tuning with LoRA. 2023. https://github.com/huggingface/peft

Missing or unused keys raise an error, because a partly read adapter is a different model. PEFT (0.21) adds the pair of
`nn.MultiheadAttention`'s out_proj twice in every forward pass, including training; so does this.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cl_core.backbones.weight_files import ADAPTER, HEADS, read_weights
from cl_core.config import ConfigError
from cl_core.untrusted import read_json

FILES = ("adapter_model.safetensors", "adapter_model.bin")
INNER = ".base_layer.out_proj"  # of an attention module, as PEFT names it
KEY = re.compile(r"base_model\.model\.(?P<path>.+?)\.(?P<part>lora_[A-Za-z_]+)(?:\.default)?(?:\.weight)?")


@torch.no_grad()
def merge(model: nn.Module, folder: Path) -> list[str]:
    """Merge the adapter in `folder` into `model`; return notes, one sentence each. Raises ConfigError if a key is
    missing, unused, or of another shape."""
    config, tensors = _read(folder)
    prefix = _prefix(tensors, model)
    parts: dict[str, dict[str, Tensor]] = {}
    left: list[str] = []
    heads: list[str] = []
    for name, value in tensors.items():
        found = KEY.fullmatch(name)
        if found and found["part"] in ("lora_A", "lora_B"):
            parts.setdefault(found["path"], {})[found["part"]] = value
        elif name.removeprefix("base_model.model.").removeprefix(prefix).split(".")[0].split("_")[0] in HEADS:
            heads.append(name.removeprefix("base_model.model."))
        else:
            left.append(name)
    if left:
        raise ConfigError(
            f"the adapter {folder} holds {left[0]}, which is no low-rank pair of a linear layer ({len(left)} left over)"
            ": merge it in PEFT (merge_and_unload) and save the whole model"
        )
    if not parts:
        raise ConfigError(f"the adapter {folder} holds no low-rank pairs (lora_A, lora_B)")
    for path, pair in parts.items():
        for missing in {"lora_A", "lora_B"} - pair.keys():
            raise ConfigError(f"the adapter {folder} has no {missing} of {path}: the file is not whole")
    modules = {prefix + name: module for name, module in model.named_modules()}
    weights = {path: _weight_of(path, modules, folder) for path in parts}
    _refuse_missing(config, modules, parts, folder)
    changes = {}
    for path, pair in parts.items():
        weight = weights[path]
        change = _change(pair, _scale(config, path, len(pair["lora_A"])), bool(config.get("fan_in_fan_out")))
        if change.numel() != weight.numel() or len(change) != len(weight):
            raise ConfigError(
                f"the adapter {folder} does not fit the model: {path} changes {list(change.shape)}, and the weight "
                f"there is {list(weight.shape)}"
            )
        if not bool(torch.isfinite(change).all()):
            raise ConfigError(f"the adapter {folder} holds values for {path} that are no numbers (NaN or ∞)")
        changes[path] = 2 * change if path.endswith(INNER) else change
    for path, change in changes.items():
        weights[path].add_(change.view_as(weights[path]).to(weights[path].dtype))
    kind = "α/√r" if config.get("use_rslora") else "α/r"
    ranks = sorted({len(pair["lora_A"]) for pair in parts.values()})
    told = [f"LoRA adapter {folder.name} merged into {len(parts)} layers (rank {', '.join(map(str, ranks))}, {kind})"]
    if any(path.endswith(INNER) for path in parts):
        told.append("out_proj of attention modules merged twice, as PEFT computes it")
    if heads:
        told.append(f"left out of the adapter, because the backbone has no such part: {', '.join(heads[:4])}")
    return told


def _read(folder: Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    try:
        config = read_json(folder / ADAPTER)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {folder / ADAPTER}: {error}") from error
    if not isinstance(config, dict) or str(config.get("peft_type", "")).upper() != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise ConfigError(f"the adapter {folder} is of type {str(kind)[:40]}; LoRA adapters are merged")
    for name, meaning in (("use_dora", "DoRA"), ("lora_bias", "with biases of its own"), ("use_qalora", "QA-LoRA")):
        if config.get(name):
            raise ConfigError(
                f"the adapter {folder} is {meaning}, which is not merged here: merge it in PEFT and save that"
            )
    if config.get("bias", "none") != "none":
        raise ConfigError(
            f"the adapter {folder} also trained biases (bias={config['bias']!r}): merge it in PEFT and save that"
        )
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        raise ConfigError(f"the adapter {folder} has no {FILES[0]}")
    return config, read_weights(file).tensors


def _prefix(tensors: Mapping[str, Tensor], model: nn.Module) -> str:
    """Return the prefix before the model's names in the adapter, if it was trained as part of a larger model."""
    paths = [found["path"].replace(".base_layer", "") for name in tensors if (found := KEY.fullmatch(name))]
    names = {name for name, _ in model.named_modules() if name}
    if not paths or set(paths) <= names:
        return ""
    beginnings = {paths[0].removesuffix(name) for name in names if paths[0].endswith(f".{name}")}
    fitting = [begin for begin in beginnings if all(p.startswith(begin) and p[len(begin) :] in names for p in paths)]
    return min(fitting, key=len, default="")


def _weight_of(path: str, modules: Mapping[str, nn.Module], folder: Path) -> Tensor:
    """Return the model's weight that a pair changes."""
    path = path.replace(".base_layer", "")
    module = modules.get(path)
    if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
        return module.in_proj_weight
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        return module.weight
    if module is not None:
        raise ConfigError(f"the adapter {folder} changes {path}, a {type(module).__name__}, which is not merged here")
    raise ConfigError(
        f"the adapter {folder} does not fit the model: it changes {path}, and there is no such layer; name the "
        "architecture that it was trained on"
    )


def _refuse_missing(
    config: Mapping[str, Any], modules: Mapping[str, nn.Module], parts: Mapping[str, Any], folder: Path
) -> None:
    """Raise ConfigError if a layer that the configuration names has no pair."""
    told = config.get("target_modules")
    narrowed = any(
        config.get(name) is not None for name in ("layers_to_transform", "exclude_modules", "layers_pattern")
    )
    if narrowed or not isinstance(told, (list, tuple)):
        return
    has = {path.replace(".base_layer", "") for path in parts}
    for path, module in modules.items():
        named = any(path == name or path.endswith(f".{name}") for name in told)
        inside_attention = path.endswith(".out_proj") and path.removesuffix(".out_proj") in has
        if named and path not in has and isinstance(module, (nn.Linear, nn.Conv2d)) and not inside_attention:
            raise ConfigError(f"the adapter {folder} names {path} and holds no pair for it: the file is not whole")


def _scale(config: Mapping[str, Any], path: str, actual: int) -> float:
    """Return α / r or α / √r; layers may have their own α and r (`rank_pattern`, `alpha_pattern`)."""
    rank = _pattern(config, "rank_pattern", "r", path)
    alpha = _pattern(config, "alpha_pattern", "lora_alpha", path)
    if rank != actual:
        raise ConfigError(f"{ADAPTER} gives rank {rank:g} for {path}, and its pair has rank {actual}")
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _pattern(config: Mapping[str, Any], of: str, usual: str, path: str) -> float:
    value = config.get(usual)
    for pattern, own in (config.get(of) or {}).items():
        name = pattern.removeprefix("^")
        if path == name or path.endswith(f".{name}"):
            value = own
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{ADAPTER} gives no number for {usual}, got {value!r}")
    return float(value)


def _change(pair: Mapping[str, Tensor], scale: float, transposed: bool) -> Tensor:
    """Return ΔW [out, in]."""
    first, second = pair["lora_A"].float().flatten(1), pair["lora_B"].float().flatten(1)
    if first.shape[0] != second.shape[1]:
        raise ConfigError(
            f"lora_A {list(first.shape)} and lora_B {list(second.shape)} of the adapter have different ranks"
        )
    change = scale * (second @ first)
    return change.mT if transposed else change
