"""Conversion of Hugging Face transformers' names of a CLIP (text_model.*, vision_model.*) to those of open_clip.

vision_model.encoder.layers.I.self_attn.{q,k,v}_proj   → visual.transformer.resblocks.I.attn.in_proj_{weight,bias},
                                                         stacked in that order
visual_projection.weight [joint, d]                    → visual.proj [d, joint], transposed
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from cl_core.backbones.weight_files import Weights
from cl_core.config import ConfigError

TOWERS = {"vision_model.": "visual.", "text_model.": ""}
PLAIN = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",  # the library's own spelling
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "logit_scale": "logit_scale",
}
WITHIN = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
BUFFERS = ("position_ids",)


def is_hf_clip(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether the names are those of transformers (at any depth of wrapping)."""
    return any("vision_model.encoder.layers." in name for name in tensors)


def converted(weights: Weights) -> Weights:
    """Return the weights under open_clip's names. Raises ConfigError for a name without counterpart."""
    first = next(name for name in weights.tensors if "vision_model.encoder.layers." in name)
    prefix = first[: first.index("vision_model.")]
    tensors = {name.removeprefix(prefix): value for name, value in weights.tensors.items() if name.startswith(prefix)}
    found: dict[str, Tensor] = {}
    stacked: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.endswith(BUFFERS):
            continue
        if name in PLAIN:
            found[PLAIN[name]] = value
        elif name in ("visual_projection.weight", "text_projection.weight"):
            found["visual.proj" if name.startswith("visual") else "text_projection"] = value.mT.contiguous()
        elif not _within(name, value, found, stacked):
            raise ConfigError(
                f"the weights {weights.where} have Hugging Face's names of a CLIP and {name}, which open_clip has not: "
                "they are of another kind of model"
            )
    for name, parts in stacked.items():
        if parts.keys() != {"q", "k", "v"}:
            raise ConfigError(
                f"the weights {weights.where} lack {', '.join(sorted({'q', 'k', 'v'} - parts.keys()))} of {name}"
            )
        found[name] = torch.cat([parts[of] for of in "qkv"])
    return replace(weights, tensors=found, notes=[*weights.notes, "Hugging Face's names turned into open_clip's"])


def _within(name: str, value: Tensor, found: dict[str, Tensor], stacked: dict[str, dict[str, Tensor]]) -> bool:
    """Convert a tensor of a block; return whether it is one."""
    for tower, ours in TOWERS.items():
        head = f"{tower}encoder.layers."
        if not name.startswith(head):
            continue
        layer, _, rest = name.removeprefix(head).partition(".")
        inner, _, kind = rest.rpartition(".")
        block = f"{ours}transformer.resblocks.{layer}"
        if inner in WITHIN:
            found[f"{block}.{WITHIN[inner]}.{kind}"] = value
            return True
        if inner in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
            stacked.setdefault(f"{block}.attn.in_proj_{kind}", {})[inner[10]] = value
            return True
    return False
