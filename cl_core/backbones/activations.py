"""Detection of whether CLIP weights from a file were trained with the architecture's activation function.

OpenAI's models use QuickGELU (x σ(1.702 x)), most others GELU. The wrong one raises no error, but silently lowers
accuracies by a few points. Entries in OpenAI's files and a description beside the weights identify it
(`told_by_name`). Without these, both are tried on drawn probe images with known captions; a clear difference is
reported.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.transformer import QuickGELU
from PIL import Image, ImageDraw
from torch import Tensor, nn

from cl_core.backbones.clip import ClipBackbone
from cl_core.hf_cache import CLIP_CONFIG
from cl_core.untrusted import read_json

COLOURS = ("red", "green", "blue", "yellow", "black", "white")
SHAPES = ("circle", "square", "triangle")
OPENAI_SIZES = ("input_resolution", "context_length", "vocab_size")  # entries of OpenAI's files beside the weights
SIDE = 64  # side of a drawn probe in pixels
CLEAR = 0.15  # nats per probe by which one activation must be better
ALIKE = 0.98  # cosine of features above which the choice hardly matters


def told_by_name(names: Collection[str], file: Path) -> tuple[bool, str] | None:
    """Return (whether the weights were trained with QuickGELU, the evidence): sizes in OpenAI's files beside the
    weights, or a description by Hugging Face or open_clip in the same folder. None = unknown."""
    if all(any(name.endswith(size) for name in names) for size in OPENAI_SIZES):
        return True, f"it holds {', '.join(OPENAI_SIZES)}, as OpenAI's own do"
    with contextlib.suppress(OSError, ValueError, AttributeError):  # missing, damaged, or another kind of table
        card = read_json(file.with_name("config.json"))
        if card.get("model_type") == "clip":
            said = card.get("vision_config", {}).get("hidden_act", "quick_gelu")  # Hugging Face's default
            if said in ("quick_gelu", "gelu"):
                return said == "quick_gelu", f"config.json beside it says {said}"
    with contextlib.suppress(OSError, ValueError, AttributeError, KeyError, TypeError):
        quick = bool(read_json(file.with_name(CLIP_CONFIG))["model_cfg"].get("quick_gelu"))
        return quick, f"{CLIP_CONFIG} beside it says {'quick_gelu' if quick else 'no quick_gelu'}"
    return None


def wrong_activation(quick: bool, told: tuple[bool, str]) -> list[str]:
    """Return a sentence if the architecture's activation differs from the known one of the weights."""
    trained, reason = told
    if trained == quick:
        return []
    ours, theirs, advice = _words(quick)
    return [
        f"these weights were trained with {theirs} ({reason}), and the architecture has {ours}: accuracies would be "
        f"lower in silence; choose {advice}"
    ]


def _words(quick: bool) -> tuple[str, str, str]:
    """Return the architecture's activation, the other one, and the architecture that has the other one."""
    if quick:
        return "QuickGELU", "GELU", "the architecture without -quickgelu"
    return "GELU", "QuickGELU", "the architecture whose name ends in -quickgelu"


def other_activation_fits(backbone: ClipBackbone, quick: bool) -> list[str]:
    """Return a sentence if the other activation matches probes and captions clearly better, or if the choice matters
    and the probes do not decide; else nothing."""
    images, texts = _probes(backbone)
    own, features = _match(backbone, images, texts)
    with _other_activation(backbone.clip, quick):
        other, changed = _match(backbone, images, texts)
    likeness = float(nn.functional.cosine_similarity(features, changed, dim=-1).mean())
    if own > other + CLEAR or (likeness > ALIKE and other <= own + CLEAR):
        return []
    ours, theirs, advice = _words(quick)
    if other <= own + CLEAR:
        return [
            f"whether these weights were trained with GELU or QuickGELU matters (features' cosine {likeness:.2f}) and "
            f"the file does not say; the architecture has {ours}, and {len(images)} drawn probes tell no difference"
        ]
    return [
        f"these weights were probably trained with {theirs}, and the architecture has {ours}: with {theirs} the "
        f"{len(images)} drawn probe images match their captions better (mean log-likelihood {other:.2f} instead of "
        f"{own:.2f}; features' cosine {likeness:.2f}); choose {advice}"
    ]


def _probes(backbone: ClipBackbone) -> tuple[Tensor, list[str]]:
    """Return prepared images [18, 3, S, S] and their captions."""
    preparation = backbone.preparation
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preparation.mean, preparation.std))
    images, texts = [], []
    for colour in COLOURS:
        for shape in SHAPES:
            drawn = Image.new("RGB", (SIDE, SIDE), (128, 128, 128))
            pen, box = ImageDraw.Draw(drawn), (12, 12, SIDE - 12, SIDE - 12)
            if shape == "circle":
                pen.ellipse(box, fill=colour)
            elif shape == "square":
                pen.rectangle(box, fill=colour)
            else:
                pen.polygon([(SIDE // 2, 12), (12, SIDE - 12), (SIDE - 12, SIDE - 12)], fill=colour)
            resized = drawn.resize((preparation.size,) * 2, Image.Resampling.BICUBIC)
            pixels = torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1).float() / 255
            images.append((pixels - mean) / std)
            texts.append(f"a photo of a {colour} {shape}")
    return torch.stack(images), texts


@torch.no_grad()
def _match(backbone: ClipBackbone, images: Tensor, texts: list[str]) -> tuple[float, Tensor]:
    """Return the mean over probes of log p(own caption), softmax over all captions, and image features [n, joint]."""
    clip = backbone.clip
    features = clip.encode_image(images, normalize=True).float()
    words = clip.encode_text(backbone.tokenize(texts), normalize=True).float()
    logits = clip.logit_scale.exp().float() * features @ words.mT
    return float(logits.log_softmax(dim=-1).diagonal().mean()), features


@contextlib.contextmanager
def _other_activation(clip: Any, quick: bool) -> Iterator[None]:
    """Use the other activation in every block of the model, within the block."""
    places = [(module, name, child) for module in clip.modules() for name, child in module.named_children()
              if isinstance(child, (nn.GELU, QuickGELU))]  # fmt: skip
    for module, name, _ in places:
        setattr(module, name, nn.GELU() if quick else QuickGELU())
    try:
        yield
    finally:
        for module, name, child in places:
            setattr(module, name, child)
