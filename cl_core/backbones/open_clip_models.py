"""`open_clip:ARCH/TAG`: any open_clip model of two plain transformers, with its weights, a file's, or none.

    open_clip:ViT-B-16/openai                   the tag's weights, from the hub's cache
    open_clip:ViT-B-16@/path/x.safetensors      from a file; ARCH says the activation (…-quickgelu: OpenAI's)
    open_clip:hf-hub:ORG/NAME                   a model on the hub that describes itself (open_clip_config.json)
    open_clip:ViT-B-16@random                   untrained, always the same: for speed and for tests
    open_clip:ViT-B-16@FILE@/path/adapter       the same with a LoRA adapter of PEFT merged in

G. Ilharco et al. OpenCLIP. https://github.com/mlfoundations/open_clip
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import resize_pos_embed, resize_text_pos_embed
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, SimpleTokenizer

from cl_core.backbones.activations import OPENAI_SIZES, other_activation_fits, told_by_name, wrong_activation
from cl_core.backbones.adapters import merge
from cl_core.backbones.bundled_models import seeded
from cl_core.backbones.clip import ClipBackbone
from cl_core.backbones.hf_clip import converted, is_hf_clip
from cl_core.backbones.weight_files import fill, from_hub, missing, read_weights, sources, without_prefix
from cl_core.config import ConfigError, Preprocessing
from cl_core.hf_cache import CLIP_CONFIG, CLIP_FILES, UNTRAINED, cached

HUB = "hf-hub:"


@dataclass(frozen=True)
class Source:
    """A model to build: its configuration, preprocessing, and source of weights, a hub repository or a file."""

    name: str
    model: dict[str, Any]  # open_clip's model_cfg
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    repository: str = ""
    file: str = ""
    adapter: str = ""


def open_clip_model(rest: str, *, weights: bool = True) -> ClipBackbone:
    """Return the backbone `open_clip:rest`. `weights=False` builds it on torch's meta device, without memory. Raises
    ConfigError with one sentence."""
    source = _source(rest)
    try:
        with seeded(7), torch.device("cpu" if weights else "meta"):
            clip = open_clip.model.CLIP(**source.model)
    except Exception as error:  # unknown or invalid entries of a description
        raise ConfigError(f"open_clip cannot build {source.name}: {error!r}") from error
    size, text = source.model["vision_cfg"]["image_size"], source.model["text_cfg"]
    if not isinstance(size, int):
        raise ConfigError(f"{source.name} takes pictures of {size}; only square ones are prepared here")
    tokenizer = SimpleTokenizer(context_length=text.get("context_length", DEFAULT_CONTEXT_LENGTH))
    backbone = ClipBackbone(clip, source.name, Preprocessing(size, source.mean, source.std), tokenizer)
    if weights and source.file != UNTRAINED:
        done, told = _load(clip, source)
        backbone.notes += done
        if source.file:
            quick = bool(source.model.get("quick_gelu"))
            backbone.notes += wrong_activation(quick, told) if told else other_activation_fits(backbone, quick)
    if weights and source.adapter:
        backbone.notes += merge(clip, Path(source.adapter))
    return backbone


def plan(rest: str) -> dict[str, Any]:
    """Return sizes of `open_clip:rest`, and where its weights are (`file`) or what is missing. The user's own weights
    are read, for `notes`. Raises ConfigError."""
    source = _source(rest)
    found = Path(source.file) if source.file else cached(source.repository, CLIP_FILES)
    own = source.file == UNTRAINED or (found is not None and found.is_file())
    told = source.adapter or source.file not in ("", UNTRAINED)
    sizes = open_clip_model(rest, weights=bool(own and told)).describe()
    if source.file == UNTRAINED:
        return {**sizes, "file": "", "missing": ""}
    if found is not None and found.is_file():
        return {**sizes, "file": str(found), "bytes": found.stat().st_size, "missing": ""}
    sentence = f"there is no weights file {source.file}" if source.file else missing(source.name, source.repository)
    return {**sizes, "file": "", "missing": sentence}


def _source(rest: str) -> Source:
    """Parse `rest` without building the model. Raises ConfigError."""
    if rest.startswith(HUB):
        return _described(rest)
    model, file, adapter = sources(rest)
    architecture, _, tag = model.partition("/")
    if not file and not tag:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) if _known(architecture) else ""
        raise ConfigError(
            f"open_clip:{rest} names no weights; write open_clip:{architecture}/TAG with one of {tags or 'none'}; or "
            f"open_clip:{architecture}@FILE"
        )
    config = open_clip.get_model_config(architecture) if _known(architecture) else None
    if config is None:
        close = difflib.get_close_matches(architecture, open_clip.list_models(), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "open_clip.list_models() lists them"
        raise ConfigError(f"open_clip {open_clip.__version__} builds no model {architecture!r}; {hint}")
    _refuse_foreign(config, f"open_clip:{architecture}")
    if file:
        return Source(f"open_clip:{architecture}", config, *_usual(), file=file, adapter=adapter)
    told = open_clip.get_pretrained_cfg(architecture, tag)
    if not told:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(architecture))
        raise ConfigError(f"open_clip has no weights {tag!r} for {architecture}; known: {known or 'none'}")
    if told.get("quick_gelu"):
        config["quick_gelu"] = True
    repository = told.get("hf_hub", "").rstrip("/")
    name = f"open_clip:{architecture}/{tag}"
    if repository.count("/") != 1:
        raise ConfigError(
            f"{name} lies at an address of its own, not on the hub; fetch its file yourself and name it with "
            f"open_clip:{architecture}@FILE"
        )
    usual = _usual()
    return Source(name, config, told.get("mean") or usual[0], told.get("std") or usual[1], repository, adapter=adapter)


def _described(rest: str) -> Source:
    """Return a model with its own description, from the hub's cache or downloaded."""
    repository = rest.removeprefix(HUB).strip("/")
    file = from_hub(f"open_clip:{rest}", repository, (CLIP_CONFIG,))
    try:
        card = json.loads(file.read_text("utf-8"))
        config, shown = card["model_cfg"], card.get("preprocess_cfg", {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} does not describe an open_clip model ({error!r})") from error
    _refuse_foreign(config, f"open_clip:{rest}")
    usual = _usual()
    mean, std = (tuple(shown.get(key) or other) for key, other in zip(("mean", "std"), usual, strict=True))
    return Source(f"open_clip:{rest}", config, mean, std, repository)


def _known(architecture: str) -> bool:
    return architecture in open_clip.list_models()


def _usual() -> tuple[Any, Any]:
    return open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


def _refuse_foreign(config: dict[str, Any], name: str) -> None:
    """Raise ConfigError for towers of other libraries, which would download further files."""
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    reason = (
        "its image tower is timm's" if "timm_model_name" in vision
        else "its text tower is another library's" if "hf_model_name" in text
        else "its tokenizer is another library's" if "hf_tokenizer_name" in text
        else "its image tower is a ResNet" if isinstance(vision.get("layers"), (list, tuple))
        else "it also writes captions" if "multimodal_cfg" in config
        else "its text tower stands apart from the joint model" if config.get("custom_text")
        else ""
    )  # fmt: skip
    if reason:
        raise ConfigError(f"{name} is not a plain CLIP of two transformers: {reason}; choose one like ViT-B-16")


def _load(clip: Any, source: Source) -> tuple[list[str], tuple[bool, str] | None]:
    """Load the weights; return notes, one sentence each, and the file's activation if known. Raises ConfigError."""
    file = Path(source.file) if source.file else from_hub(source.name, source.repository, CLIP_FILES)
    weights = read_weights(file)
    told = told_by_name(weights.tensors, file)
    wanted = list(clip.state_dict())
    if is_hf_clip(weights.tensors):
        weights = converted(weights)
    else:
        weights = without_prefix(weights, wanted)
    try:  # open_clip's own: other releases' layouts, position embeddings of another size
        tensors = dict(convert_state_dict(clip, weights.tensors))
        before = {name: tensors[name].shape for name in tensors if name.endswith("positional_embedding")}
        for name in ("logit_scale", "logit_bias"):
            own = getattr(clip, name, None)
            if name in tensors and own is not None:
                tensors[name] = tensors[name].reshape(own.shape)
        resize_pos_embed(tensors, clip)
        resize_text_pos_embed(tensors, clip)
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        raise ConfigError(f"the weights {file} do not fit {source.name}: {why}") from error
    notes = [
        f"{name} resampled from {shape[0]} to {tensors[name].shape[0]} places"
        for name, shape in before.items()
        if tensors[name].shape != shape
    ]
    try:
        done = fill(clip, replace(weights, tensors=tensors), ("logit_bias", "attn_mask", *OPENAI_SIZES))
    except ConfigError as error:
        raise ConfigError(str(error).replace("do not fit the model", f"do not fit {source.name}")) from error
    return [*done, *notes], told
