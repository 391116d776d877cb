"""Registry of methods, backbones, streams and plug-ins: name → "module:object", imported on demand."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar, cast

from cl_core.config import ConfigError, nearest
from cl_core.hf_cache import UNTRAINED, WEIGHT_FILES

Named = TypeVar("Named")


@dataclass(frozen=True)
class Entry:
    """A registered name: import path and one-line description."""

    target: str
    about: str
    needs: str = ""  # the required backbone family, if any
    holds: str = ""  # of a method: "module:function" that estimates its memory during a step (`cl_core.estimate`)
    domains: bool = False  # of a stream: the task is known at test time
    origin: str = ""  # the plug-in that registered it (`cl_core.plugins`)


@dataclass(frozen=True)
class Scheme(Entry):
    """A scheme of names `scheme:rest`; `target` is a function whose first argument is the rest."""

    form: str = ""  # form of the full name
    bare: bool = False  # whether the scheme is valid alone
    paths: str = ""  # "all": the rest is paths, separated by commas; "@": a file may follow an @
    plan: str = ""  # "module:function" of the rest: sizes and location of the weights, without loading them


METHODS = {
    "sequential": Entry(
        "cl_core.methods.sequential:Sequential",
        "deep prompts trained on one task after another, nothing protected: the forgetting reference",
        "vit",
        holds="cl_core.estimate:deep_prompts",
    ),
    "joint": Entry(
        "cl_core.methods.joint:Joint",
        "the same prompts trained on all tasks at once: the upper reference",
        "vit",
        holds="cl_core.estimate:deep_prompts",
    ),
    "nsp2": Entry(
        "cl_core.methods.nsp2:NSP2",
        "prompt updates projected to the null space of past tasks (NSP²)",
        "vit",
        holds="cl_core.estimate:projected_prompts",
    ),
    "fwd_prompt": Entry(
        "cl_core.methods.fwd_prompt:FwdPrompt",
        "a prompt pool updated outside past inputs and inside the pre-trained space (Fwd-Prompt for vision)",
        "vit",
        holds="cl_core.estimate:joined_prompts_and_moments",
    ),
    "lwf": Entry(
        "cl_core.methods.lwf:LwF",
        "prompts regularised by distillation of the old heads on new images (LwF)",
        "vit",
        holds="cl_core.estimate:deep_prompts",
    ),
    "ewc": Entry(
        "cl_core.methods.ewc:EWC",
        "prompts with a quadratic penalty weighted by the Fisher information of earlier tasks (EWC, online EWC)",
        "vit",
        holds="cl_core.estimate:deep_prompts",
    ),
    "replay": Entry(
        "cl_core.methods.replay:Replay",
        "prompts also trained on a few stored images of earlier tasks (ER, DER++)",
        "vit",
        holds="cl_core.estimate:rehearsed_prompts",
    ),
    "split_lora": Entry(
        "cl_core.methods.split_lora:SplitLora",
        "low-rank changes of keys and values along weak directions of past inputs, the cut by a trade-off (SplitLoRA)",
        "vit",
        holds="cl_core.estimate:key_value_changes",
    ),
    "code_cl": Entry(
        "cl_core.methods.code_cl:CodeCL",
        "updates of keys and values damped by conceptors of past inputs (CODE-CL)",
        "vit",
        holds="cl_core.estimate:key_value_changes",
    ),
    "l2p": Entry(
        "cl_core.methods.l2p:L2P",
        "each image selects the prompts with the nearest keys from one pool (L2P)",
        "vit",
        holds="cl_core.estimate:joined_prompts",
    ),
    "dualprompt": Entry(
        "cl_core.methods.dualprompt:DualPrompt",
        "prompts shared by all tasks, and one entry per task selected by its key (DualPrompt)",
        "vit",
        holds="cl_core.estimate:chosen_prefixes",
    ),
    "coda_prompt": Entry(
        "cl_core.methods.coda_prompt:CodaPrompt",
        "prompts mixed by attention from components that every task adds to (CODA-Prompt)",
        "vit",
        holds="cl_core.estimate:mixed_prefixes",
    ),
    "star_prompt": Entry(
        "cl_core.methods.star_prompt:StarPrompt",
        "a frozen CLIP selects the class whose vectors are added inside a frozen ViT; heads balanced by mixtures "
        "(STAR-Prompt)",
        "vit",
        holds="cl_core.estimate:class_vectors",
    ),
    "gpm": Entry(
        "cl_core.methods.gpm:GPM",
        "keys and values change only along directions that past inputs do not use (GPM on attention weights)",
        "vit",
        holds="cl_core.estimate:key_value_changes",
    ),
    "sgp": Entry(
        "cl_core.methods.sgp:SGP",
        "the same directions as gpm, each damped by its importance for past inputs (SGP on attention weights)",
        "vit",
        holds="cl_core.estimate:key_value_changes",
    ),
    "nsp2pp": Entry(
        "cl_core.methods.nsp2pp:NSP2pp",
        "NSP² relaxed on channels unimportant for old tasks, and heads refined on Gaussians (VPT-NSP²++)",
        "vit",
        holds="cl_core.estimate:projected_prompts",
    ),
    "ness": Entry(
        "cl_core.methods.ness:NESS",
        "keys and values change only along input directions with tiny singular values (NESS)",
        "vit",
        holds="cl_core.estimate:key_value_changes",
    ),
    "ranpac": Entry(
        "cl_core.methods.ranpac:RanPAC",
        "ridge regression on random features of a frozen model, independent of the order of tasks (RanPAC)",
        "vit",
        holds="cl_core.estimate:nothing",
    ),
    "fecam": Entry(
        "cl_core.methods.fecam:FeCAM",
        "a frozen model and a Mahalanobis distance per class; nothing is trained (FeCAM)",
        "vit",
        holds="cl_core.estimate:nothing",
    ),
    "slca": Entry(
        "cl_core.methods.slca:SLCA",
        "keys and values learn slowly, heads fast, and the heads are aligned on Gaussians of the features (SLCA)",
        "vit",
        holds="cl_core.estimate:key_value_changes",
    ),
    "zero_shot": Entry(
        "cl_core.methods.zero_shot:ZeroShot",
        "CLIP as pre-trained, nothing learned: the lower reference",
        "clip",
        holds="cl_core.estimate:nothing",
    ),
    "finetune": Entry(
        "cl_core.methods.finetune:Finetune",
        "all of CLIP fine-tuned on one task after another: the forgetting reference",
        "clip",
        holds="cl_core.estimate:whole_clip",
    ),
    "clip_refine": Entry(
        "cl_core.methods.clip_refine:ClipRefine",
        "the gap between images and texts is narrowed first, then all of CLIP fine-tuned (CLIP-Refine, finetune)",
        "clip",
        holds="cl_core.estimate:whole_refined_clip",
    ),
    "lora_sequential": Entry(
        "cl_core.methods.lora_sequential:LoraSequential",
        "low-rank branches on CLIP's attention, merged after each task, nothing protected",
        "clip",
        holds="cl_core.estimate:merged_branches",
    ),
    "nusa_cl": Entry(
        "cl_core.methods.nusa_cl:NusaCL",
        "each task trained in the singular directions that CLIP's weights use least (NuSA-CL)",
        "clip",
        holds="cl_core.estimate:null_space_branches",
    ),
    "keeplora": Entry(
        "cl_core.methods.keeplora:KeepLoRA",
        "low-rank branches along the gradient, outside the space of pre-trained weights and past features (KeepLoRA)",
        "clip",
        holds="cl_core.estimate:residual_branches",
    ),
    "clip_nsp2": Entry(
        "cl_core.methods.clip_nsp2:ClipNSP2",
        "prompts in CLIP's image tower, their steps projected to the null space of past tasks (CLIP-NSP²)",
        "clip",
        holds="cl_core.estimate:projected_prompts",
    ),
    "mg_clip": Entry(
        "cl_core.methods.mg_clip:MgClip",
        "trains only until the modality gap moves, then adds a classifier in image space (MG-CLIP)",
        "clip",
        holds="cl_core.estimate:lasting_branches",
    ),
    "gnsp": Entry(
        "cl_core.methods.gnsp:GNSP",
        "gradients of CLIP's image MLPs projected to low-energy directions of past features (GNSP)",
        "clip",
        holds="cl_core.estimate:projected_mlps",
    ),
}

BACKBONES = {
    "micro-vit": Entry(
        "cl_core.backbones.vit:micro_vit",
        "bundled timm ViT, 6 blocks of width 192, 32×32 images; pre-trained on drawn shapes and letters",
        "vit",
    ),
    "micro-clip": Entry(
        "cl_core.backbones.clip:micro_clip",
        "bundled open_clip model, two small towers, 32×32 images; pre-trained on drawn scenes and their captions",
        "clip",
    ),
    "random-clip": Entry("cl_core.backbones.clip:random_clip", "two untrained towers of two blocks; for tests", "clip"),
    "random-vit": Entry("cl_core.backbones.vit:random_vit", "two untrained blocks of width 48; for tests", "vit"),
}

STREAMS = {
    "split-digits": Entry(
        "cl_core.streams.digits:split_digits",
        "scikit-learn's handwritten digits, two classes per task, class order by seed",
    ),
    "camouflage": Entry(
        "cl_core.streams.camouflage:camouflage",
        "ten drawn shapes that differ from the background only in stripe direction: adapting features pays",
    ),
    "synthetic": Entry(
        "cl_core.streams.synthetic:synthetic", "coloured bars drawn in memory; for tests and a first look"
    ),
    "micro-mtil": Entry(
        "cl_core.streams.micro_mtil:micro_mtil",
        "six image-text domains: real digits, drawn letters, shapes, textures, colours, counts; each in a new style",
        domains=True,
    ),
    "micro-mtil-long": Entry(
        "cl_core.streams.micro_mtil:micro_mtil_long",
        "the same six domains, each cut in two halves by class: twelve tasks, halves adjacent (I) or far apart (II)",
        domains=True,
    ),
    "synthetic-domains": Entry(
        "cl_core.streams.synthetic:synthetic_domains",
        "the same bars as domains that are known at test time; for tests",
        domains=True,
    ),
}

OBSERVERS: dict[str, Entry] = {}  # of plug-ins; those of the package follow from settings (`observers.chosen`)
FIGURES: dict[str, Entry] = {}  # of plug-ins; those of the package are the dashboard's (`dashboard.figures.catalogue`)

# Schemes `scheme:rest`, by kind.
SCHEMES: dict[str, dict[str, Scheme]] = {
    "backbone": {
        "timm": Scheme(
            "cl_core.backbones.timm_models:timm_vit",
            "any plain Vision Transformer of timm, or its architecture with weights from a file",
            "vit",
            form="timm:NAME or timm:NAME@FILE",
            paths="@",
            plan="cl_core.backbones.timm_models:plan",
        ),
        "open_clip": Scheme(
            "cl_core.backbones.open_clip_models:open_clip_model",
            "any open_clip model of two plain transformers, or its architecture with weights from a file",
            "clip",
            form="open_clip:ARCH/TAG or open_clip:ARCH@FILE",
            paths="@",
            plan="cl_core.backbones.open_clip_models:plan",
        ),
    },
    "stream": {
        "folder": Scheme(
            "cl_core.streams.folder:folder",
            "your own images, one folder per class, with or without train and test; several paths: one domain each",
            form="folder:PATH or folder:PATH,PATH,…",
            paths="all",
        ),
        "cifar100": Scheme(
            "cl_core.streams.cifar100:cifar100",
            "CIFAR-100 in torchvision's layout, below PATH (else $PLASTISCOPE_DATA, else ./data)",
            form="cifar100 or cifar100:PATH",
            bare=True,
            paths="all",
        ),
        "omniglot": Scheme(
            "cl_core.streams.omniglot:omniglot",
            "Omniglot's handwritten characters in torchvision's layout, one alphabet per task, below PATH",
            form="omniglot or omniglot:PATH",
            bare=True,
            paths="all",
        ),
    },
}


def lookup(table: dict[str, Named], name: str, what: str) -> tuple[str, Named]:
    """The canonical name and entry; hyphens and underscores are equivalent, and paths become absolute. Raises
    ConfigError with the nearest name."""
    if not isinstance(name, str):
        raise ConfigError(f"{what} must be a name, got {name!r}")
    for key, entry in table.items():
        if _same(key, name):
            return key, entry
    schemes = SCHEMES.get(what, {})
    scheme, _, rest = name.partition(":")
    for key, named in schemes.items():
        if _same(key, scheme):
            if not rest.strip() and not named.bare:
                raise ConfigError(f"{what} {name!r} says nothing after the colon; write {named.form}")
            found = f"{key}:{anchored(rest.strip(), named.paths)}" if rest.strip() else key
            return found, cast(Named, named)  # tables with schemes are tables of entries
    known = [*table, *(entry.form for entry in schemes.values())]
    sentence = nearest(name, known, what)
    if schemes and rest and "Did you mean" not in sentence:
        hint = nearest(scheme, schemes, what).partition("Did you mean ")[2].rstrip("?")
        sentence += f" Did you mean {hint}:{rest}?" if hint else ""
    raise ConfigError(sentence)


def anchored(rest: str, paths: str) -> str:
    """The part after a scheme, with paths made absolute, so that a run can be resumed from any folder. A comma
    separates paths unless the whole is an existing path; a weights file may also follow a slash (ARCH/FILE)."""
    if paths == "all":
        whole = os.path.abspath(os.path.expanduser(rest))
        if os.path.exists(whole):
            return whole
        return ",".join(os.path.abspath(os.path.expanduser(part.strip())) for part in rest.split(",") if part.strip())
    if paths == "@":
        model, at, file = rest.partition("@")
        if not at and rest.endswith(WEIGHT_FILES) and "/" in rest:
            model, at, file = rest.partition("/")
        files = [file] if os.path.exists(os.path.expanduser(file)) else file.rsplit("@", 1)  # weights, a LoRA adapter
        return "@".join([model, *(_whole(part) for part in files)]) if at else rest
    return rest


def _whole(file: str) -> str:
    return file if file == UNTRAINED else os.path.abspath(os.path.expanduser(file))


def load(table: dict[str, Entry], name: str, what: str) -> Any:
    """The object of a name, imported now; for `scheme:rest`, a function with the rest bound."""
    key, entry = lookup(table, name, what)
    found = imported(entry.target)
    return functools.partial(found, key.partition(":")[2]) if isinstance(entry, Scheme) else found


def imported(target: str) -> Any:
    """The object named by "module:object"."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def _same(first: str, second: str) -> bool:
    return first.replace("-", "_") == second.replace("-", "_")


def plugins_of(method: str, stream: str, backbone: str) -> tuple[str, ...]:
    """The plug-ins used by a run with these names, as file or package names."""
    chosen = ((METHODS, method), (STREAMS, stream), (BACKBONES, backbone))
    found = [table[name].origin for table, name in chosen if name in table]
    found += [entry.origin for entry in OBSERVERS.values()]  # each observes every run of this process
    return tuple(dict.fromkeys(origin for origin in found if origin))
