"""Tables one can read: name → "module:object", imported only when asked, so listing names costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

from cl_core.config import ConfigError, nearest

Named = TypeVar("Named")


@dataclass(frozen=True)
class Entry:
    """A name one can use: where its object lives, and one line about it."""

    target: str
    about: str
    needs: str = ""  # a backbone family, where not every one serves


METHODS = {
    "sequential": Entry(
        "cl_core.methods.sequential:Sequential",
        "deep prompts trained on one task after the other, nothing protected: the forgetting reference",
        "vit",
    ),
    "joint": Entry(
        "cl_core.methods.joint:Joint", "the same prompts trained on all tasks at once: the upper reference", "vit"
    ),
    "nsp2": Entry(
        "cl_core.methods.nsp2:NSP2", "prompt updates projected to where past tasks are not looking (NSP²)", "vit"
    ),
    "zero_shot": Entry(
        "cl_core.methods.zero_shot:ZeroShot", "CLIP as pre-trained, nothing learned: the lower reference", "clip"
    ),
    "finetune": Entry(
        "cl_core.methods.finetune:Finetune",
        "all of CLIP fine-tuned on one task after the other: the forgetting reference",
        "clip",
    ),
    "lora_sequential": Entry(
        "cl_core.methods.lora_sequential:LoraSequential",
        "low-rank branches on CLIP's attention, merged after each task, nothing protected",
        "clip",
    ),
    "nusa_cl": Entry(
        "cl_core.methods.nusa_cl:NusaCL",
        "each task written into the singular directions that CLIP's weights use least (NuSA-CL)",
        "clip",
    ),
    "mg_clip": Entry(
        "cl_core.methods.mg_clip:MgClip",
        "trains only until the modality gap moves, then adds a classifier in image space (MG-CLIP)",
        "clip",
    ),
    "gnsp": Entry(
        "cl_core.methods.gnsp:GNSP",
        "gradients of CLIP's image MLPs projected to where past tasks' features carry little energy (GNSP)",
        "clip",
    ),
}

BACKBONES = {
    "micro-vit": Entry(
        "cl_core.backbones.vit:micro_vit",
        "embedded timm ViT, 6 blocks of width 192, 32×32 images; pre-trained on drawn shapes and letters",
        "vit",
    ),
    "micro-clip": Entry(
        "cl_core.backbones.clip:micro_clip",
        "embedded open_clip model, two small towers, 32×32 images; pre-trained on drawn scenes and their captions",
        "clip",
    ),
    "random-clip": Entry("cl_core.backbones.clip:random_clip", "two untrained towers of two blocks; for tests", "clip"),
    "random-vit": Entry("cl_core.backbones.vit:random_vit", "two untrained blocks of width 48; for tests", "vit"),
}

STREAMS = {
    "split-digits": Entry(
        "cl_core.streams.digits:split_digits",
        "scikit-learn's handwritten digits, two classes a task, class order by seed",
    ),
    "synthetic": Entry(
        "cl_core.streams.synthetic:synthetic", "coloured bars drawn in memory; for tests and a first look"
    ),
    "micro-mtil": Entry(
        "cl_core.streams.micro_mtil:micro_mtil",
        "six domains said in words: real digits, drawn letters, shapes, textures, colours, counts; each in a new style",
    ),
    "micro-mtil-long": Entry(
        "cl_core.streams.micro_mtil:micro_mtil_long",
        "the same six domains, each cut in two halves by class: twelve tasks, halves adjacent (I) or far apart (II)",
    ),
    "synthetic-domains": Entry(
        "cl_core.streams.synthetic:synthetic_domains", "the same bars as domains that are known at test; for tests"
    ),
}


def lookup(table: dict[str, Named], name: str, what: str) -> tuple[str, Named]:
    """The canonical name and entry; hyphens and underscores are both understood. Raises ConfigError with the nearest
    name."""
    if not isinstance(name, str):
        raise ConfigError(f"{what} must be a name, got {name!r}")
    for key, entry in table.items():
        if key.replace("-", "_") == name.replace("-", "_"):
            return key, entry
    raise ConfigError(nearest(name, table, what))


def load(table: dict[str, Entry], name: str, what: str) -> Any:
    """The object behind a name, imported now."""
    module, _, attribute = lookup(table, name, what)[1].target.partition(":")
    return getattr(import_module(module), attribute)
