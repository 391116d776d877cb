"""Presets: named settings for one method, backbone and stream. Plain values only, so a page can list them without
torch.

A method's class defaults are its authors' values. The preset `<method>-micro` is the default, with its backbone and
stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cl_core.config import RunConfig
from cl_core.readouts import STORED
from cl_core.registry import BACKBONES, METHODS, STREAMS, lookup


@dataclass(frozen=True)
class Preset:
    """A preset: settings, description and expected cost."""

    name: str
    title: str  # as shown on pages
    about: str  # purpose, one or two sentences
    config: dict[str, Any]  # RunConfig.from_dict's input
    seconds: float | None = None  # measured on two idle cores; None: not measured here
    needs: str = ""  # requirements that are not bundled
    expect: str = ""  # the authors' published result for these settings, or a note that it is not available
    tags: tuple[str, ...] = field(default=())  # "demo": offered on the Start page


_MICRO: dict[str, Any] = {
    "backbone": "micro-vit",
    "stream": "split-digits",
    "training": {"epochs": 5, "batch_size": 64},
}
# Chosen on the validation split (bench/choose.py), the same for every method so that only the rule differs.
_PROMPTS = {
    "prompt_length": 8,
    "prompt_rate": 0.02,
    "head_rate": 0.01,
    "temperature": 4.0,
    "weight_decay": 0.0,
    "head_init": "fresh",
}
_HEADS = {name: _PROMPTS[name] for name in ("head_rate", "temperature")}  # pools: the same heads, rates of their own
# Π without division by √R: at width 192 the released scale shrinks steps so much that the prompts hardly move. Strict,
# and with the energy rule: its cut follows the data, so layers differ; the released elbow leaves 174 of 192 directions
# free in every layer and task. 0.9 on the prompt side: of 8 directions, 0.99 leaves one.
_PROJECTED = {
    **_PROMPTS,
    "scale": "plain",
    "rule": "energy",
    "energy_affinity": 0.9999,
    "energy_mixture": 0.9,
    "eta_affinity": 1.0,
    "eta_mixture": 1.0,
}
# The released rule. η = 0.5 forgets a little more than 0.97 and ends higher by the heads: steps along protected
# directions are halved, free ones whole.
_ELBOW = {**_PROMPTS, "scale": "plain", "eta_affinity": 0.5, "eta_mixture": 0.5}
# Heads of two classes each, trained separately, compete at the end even if features do not move; class statistics
# stored when a task was learned show whether the features moved.
_BY_STATISTICS = {"diagnostics": {"headline": STORED}}
# Prompts only in the last block: lower blocks are frozen and computed once per image, so a run takes seconds.
_QUICK = {"prompt_blocks": 1}
_QUICK_LOOKS = {"diagnostics": {"headline": STORED, "probe_epochs": 5}}
# Keys and values change instead of prompts, with their own learning rate; heads and temperature as above.
_KEYS_VALUES = {"rate": 3e-3, "head_rate": 0.01, "temperature": 4.0, "weight_decay": 0.0}
# Rate of prompts and keys chosen on the validation split (seed 0); head and temperature as above.
_POOLED = {"prompt_rate": 0.005, "head_rate": 0.01, "temperature": 4.0}
# A stream where features must change: longer prompts with a larger rate that rises and falls within a task, temperature
# 1. Rates chosen on the validation split by joint training (seed 0), then the same for every method on prompts.
_CAMOUFLAGE = {
    "backbone": "micro-vit",
    "stream": "camouflage",
    "training": {"epochs": 6, "batch_size": 64, "schedule": "cosine", "warm_up": 10},
}
_LONG_PROMPTS = {**_PROMPTS, "prompt_length": 16, "prompt_rate": 0.1, "temperature": 1.0}
# The authors' values for CIFAR-100 in ten tasks: 10 long epochs of 10 repeats = 100 passes, decays after 40 and 70.
_PAPER: dict[str, Any] = {
    "backbone": "micro-vit",
    "stream": "split-digits",
    "settings": {},
    "training": {"epochs": 10, "repeats": 10, "batch_size": 256, "milestones": [4, 7], "decay": 0.1},
}
# Higher rates than released, for 25 steps per task instead of about 800, and shorter stages before and after them. Of
# the rates 0.003, 0.01 and 0.03 the last is worse on the validation split (seeds 0, 1), the other two end equally high.
_STAR = {
    "rate": 0.01,
    "key_rate": 0.05,
    "key_epochs": 10,
    "key_replay_epochs": 5,
    "draws": 64,
    "replay_rate": 0.05,
}

# Six domains, 3 × 10 steps each. Each method has the rate with the highest Average on the validation split (seed 0);
# everything else is the same for all.
_MICRO_CLIP = {
    "backbone": "micro-clip",
    "stream": "micro-mtil",
    "stream_settings": {"tasks": 6},
    "training": {"epochs": 3, "batch_size": 64, "schedule": "cosine", "warm_up": 3},
}
_NUSA = {"rate": 0.02, "r_max": 48, "dropout": 0.0}
# A small model needs a larger rate than released. Its features are longer than T = 1 is meant for: at T = 1 the softmax
# is one-hot and the gap widens; at 16, with thirty times the weight, it narrows (seed 0, `docs/methods`).
_REFINED = {
    "refine_rate": 1e-4,
    "refine_epochs": 3,
    "refine_pairs": 2000,
    "refine_batch": 128,
    "noise": "features",
    "alignment": 30.0,
    "refine_temperature": 16.0,
}
_CLIP_PROMPTS = {"rate": 0.03, "weight_decay": 0.0, "scale": "plain", "eta_affinity": 0.5, "eta_mixture": 0.5}
_GNSP = {"rate": 5e-4, "reference_images": 256}

# The authors' settings on their models and data. Difference: a fixed number of steps becomes whole epochs.
_CIFAR = {
    **_PAPER,
    "training": {**_PAPER["training"], "auto_augment": "cifar10", "random_crop": 0.08},
    "backbone": "timm:vit_base_patch16_224.augreg_in21k",
    "stream": "cifar100",
    "stream_settings": {"tasks": 10},
    "seed": 2024,
}
_NEEDS_CIFAR = (
    "CIFAR-100 in torchvision's layout below ./data (169 MB), timm's vit_base_patch16_224.augreg_in21k (about 400 MB) "
    "in the hub's cache, and a GPU"
)
_DOMAINS = (
    "aircraft", "caltech101", "cifar100", "dtd", "eurosat", "flowers", "food", "mnist", "oxfordpet", "stanfordcars",
    "sun397",
)  # fmt: skip
_MTIL = {
    "backbone": "open_clip:ViT-B-16/openai",
    "stream": "folder:" + ",".join(f"data/mtil/{name}" for name in _DOMAINS),
    "seed": 42,
}
_NEEDS_MTIL = (
    "the eleven data sets of MTIL as class folders with train and test below ./data/mtil (aircraft to sun397, "
    "templates.json for each one's sentences), OpenAI's CLIP ViT-B/16 in the hub's cache, and a GPU"
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "nsp2-micro",
            "NSP² on handwritten digits",
            "Prompts learn two digits at a time; each step is projected to the null space of earlier digits.",
            {**_MICRO, **_BY_STATISTICS, "method": "nsp2", "settings": _PROJECTED},
            tags=("demo",),
            seconds=28,
        ),
        Preset(
            "sequential-micro",
            "Plain prompt tuning on handwritten digits",
            "The same prompts with nothing protected: watch the older columns fade.",
            {**_MICRO, **_BY_STATISTICS, "method": "sequential", "settings": _PROMPTS},
            tags=("demo",),
            seconds=25,
        ),
        Preset(
            "nsp2-quick",
            "NSP² in seconds: prompts in the last block",
            "Lower blocks are frozen and computed once per image. The results apply to one block only.",
            {**_MICRO, **_QUICK_LOOKS, "method": "nsp2", "settings": {**_PROJECTED, **_QUICK}},
        ),
        Preset(
            "sequential-quick",
            "Plain prompt tuning in seconds: prompts in the last block",
            "The same prompts in the last block with nothing protected.",
            {**_MICRO, **_QUICK_LOOKS, "method": "sequential", "settings": {**_PROMPTS, **_QUICK}},
        ),
        Preset(
            "joint-micro",
            "All digits at once",
            "The same prompts, all ten digits mixed: the upper reference.",
            {**_MICRO, "method": "joint", "settings": _PROMPTS},
            seconds=20,
        ),
        Preset(
            "nsp2-shrink-micro",
            "Control: steps shrunk, not aimed",
            "NSP² with each projector replaced by its average shrinking: separates the effect of the null space.",
            {
                **_MICRO,
                **_BY_STATISTICS,
                "method": "nsp2",
                "settings": {**_PROJECTED, "projection": "shrink-only"},
            },
            seconds=32,
        ),
        Preset(
            "nsp2-elbow-micro",
            "NSP² with the released elbow rule",
            "The released cut, half strict. It hardly depends on the data: every layer protects the same number.",
            {**_MICRO, "method": "nsp2", "settings": _ELBOW},
            seconds=28,
        ),
        Preset(
            "nsp2-elbow-shrink-micro",
            "Control of the elbow rule: steps shrunk, not projected",
            "The released cut with each projector replaced by its average shrinking.",
            {**_MICRO, "method": "nsp2", "settings": {**_ELBOW, "projection": "shrink-only"}},
            seconds=32,
        ),
        Preset(
            "frozen-micro",
            "Frozen features, heads only",
            "No prompts: features cannot drift, only heads can compete. A strong reference.",
            {**_MICRO, **_BY_STATISTICS, "method": "sequential", "settings": {**_PROMPTS, "prompt_length": 0}},
            seconds=13,
        ),
        Preset(
            "fwd-prompt-micro",
            "Fwd-Prompt (vision adaptation) on handwritten digits",
            "A pool of prompts updated only in directions that earlier digits do not use or that pre-training covers.",
            {**_MICRO, "method": "fwd_prompt", "settings": _POOLED},
            seconds=32,
        ),
        Preset(
            "l2p-micro",
            "L2P on handwritten digits",
            "Each image selects five prompts from a pool of ten; any task may change any of them.",
            {**_MICRO, "method": "l2p", "settings": {"prompt_length": 2, "rate": 0.001, **_HEADS}},
            seconds=34,
        ),
        Preset(
            "dualprompt-micro",
            "DualPrompt on handwritten digits",
            "Shared prompts, and one entry for each pair of digits, selected by its key at test time.",
            {**_MICRO, "method": "dualprompt", "settings": {"rate": 0.01, **_HEADS}},
            seconds=26,
        ),
        Preset(
            "coda-prompt-micro",
            "CODA-Prompt on handwritten digits",
            "Prompts are mixed from components; every task adds some and freezes the older ones.",
            {**_MICRO, "method": "coda_prompt", "settings": {"rate": 0.002, **_HEADS}},
            seconds=27,
        ),
        Preset(
            "star-prompt-micro",
            "STAR-Prompt on handwritten digits",
            "CLIP selects the digit that an image resembles; that digit's vectors are added inside the ViT. CLIP was "
            "pre-trained on drawn digits: compare with the accuracy of its keys alone.",
            {
                **_MICRO,
                "method": "star_prompt",
                "settings": _STAR,
                "training": {**_MICRO["training"], "schedule": "quarter cosine"},
            },
            seconds=36,
        ),
        Preset(
            "star-frozen-micro",
            "Control: STAR-Prompt without CLIP",
            "The frozen ViT with a head and its replay from mixtures, without CLIP: the control.",
            {
                **_MICRO,
                "method": "star_prompt",
                "settings": {**_STAR, "companion": "none"},
                "training": {**_MICRO["training"], "schedule": "quarter cosine"},
            },
        ),
        Preset(
            "lwf-micro",
            "LwF on handwritten digits",
            "The same prompts; distillation keeps the outputs of the old heads on new digits.",
            {**_MICRO, "method": "lwf", "settings": {**_PROMPTS, "distillation": 5.0}},
            seconds=24,
        ),
        Preset(
            "ewc-micro",
            "EWC on handwritten digits",
            "The same prompts, with a quadratic penalty weighted by their importance for earlier digits.",
            {**_MICRO, "method": "ewc", "settings": {**_PROMPTS, "stiffness": 1e5}},
            seconds=29,
        ),
        Preset(
            "replay-micro",
            "Replay on handwritten digits",
            "The same prompts and heads, also trained on 200 stored old images, which other methods lack.",
            {**_MICRO, "method": "replay", "settings": _PROMPTS},
            seconds=36,
        ),
        Preset(
            "split-lora-micro",
            "SplitLoRA on handwritten digits",
            "Low-rank changes of keys and values along weak directions of past inputs; a trade-off sets the cut.",
            {**_MICRO, "method": "split_lora", "settings": _KEYS_VALUES},
            seconds=29,
        ),
        Preset(
            "code-cl-micro",
            "CODE-CL on handwritten digits",
            "Keys and values by plain gradient descent, each direction damped by how much past digits use it.",
            {**_MICRO, "method": "code_cl", "settings": {**_KEYS_VALUES, "rate": 0.1, "head_rate": 0.3}},
            seconds=34,
        ),
        Preset(
            "gpm-micro",
            "GPM on handwritten digits",
            "Keys and values avoid every direction used by earlier digits' inputs; watch the free directions run out.",
            {**_MICRO, "method": "gpm", "settings": {**_KEYS_VALUES, "rate": 0.1, "head_rate": 0.3}},
        ),
        Preset(
            "sgp-micro",
            "SGP on handwritten digits",
            "The directions of GPM, each damped only by how much earlier digits used it.",
            {**_MICRO, "method": "sgp", "settings": {**_KEYS_VALUES, "rate": 0.1, "head_rate": 0.3}},
        ),
        Preset(
            "nsp2pp-micro",
            "NSP²++ on handwritten digits",
            "NSP² with steps relaxed on channels unimportant for earlier digits, and heads refined on Gaussians.",
            {
                **_MICRO,
                "method": "nsp2pp",
                "settings": {
                    **_PROMPTS,
                    "scale": "plain",
                    "strict": 0.5,
                    "relax": 0.25,
                    "important": 0.05,
                    "refine_epochs": 20,
                    "refine_rate": 0.01,
                },
            },
        ),
        Preset(
            "ness-micro",
            "NESS on handwritten digits",
            "Keys and values change only along directions with almost no input energy so far.",
            {
                **_MICRO,
                "method": "ness",
                "settings": {**_KEYS_VALUES, "rate": 0.1, "head_rate": 0.1},
            },
        ),
        Preset(
            "ranpac-micro",
            "RanPAC on handwritten digits",
            "Frozen features, a thousand random units, ridge regression from sums: independent of the order of tasks.",
            {**_MICRO, "method": "ranpac", "settings": {"units": 1000, "first_session": "none"}},
        ),
        Preset(
            "fecam-micro",
            "FeCAM on handwritten digits",
            "Frozen features and a Mahalanobis distance per digit; nothing is trained.",
            {**_MICRO, "method": "fecam", "settings": {}},
        ),
        Preset(
            "slca-micro",
            "SLCA on handwritten digits",
            "Keys and values learn a thousand times slower than heads, which are aligned on sampled features.",
            {**_MICRO, "method": "slca", "settings": {"rate": 1e-4, "head_rate": 0.1, "weight_decay": 0.0}},
        ),
        Preset(
            "joint-camouflage",
            "All camouflaged shapes at once",
            "What prompts can gain over frozen features if shapes differ only in the direction of their stripes.",
            {**_CAMOUFLAGE, "method": "joint", "settings": _LONG_PROMPTS},
            seconds=39,
        ),
        Preset(
            "frozen-camouflage",
            "Frozen features on camouflaged shapes",
            "No prompts: pre-trained features on shapes without an edge in brightness or colour.",
            {**_CAMOUFLAGE, "method": "sequential", "settings": {**_LONG_PROMPTS, "prompt_length": 0}},
            seconds=23,
        ),
        Preset(
            "sequential-camouflage",
            "Plain prompt tuning on camouflaged shapes",
            "Two shapes at a time, nothing protected: does the gain of the first tasks last?",
            {**_CAMOUFLAGE, "method": "sequential", "settings": _LONG_PROMPTS},
            seconds=38,
        ),
        Preset(
            "nsp2-camouflage",
            "NSP² on camouflaged shapes",
            "The same prompts, each step projected to the null space of earlier shapes.",
            {
                **_CAMOUFLAGE,
                "method": "nsp2",
                "settings": {**_LONG_PROMPTS, "scale": "plain", "eta_affinity": 0.5, "eta_mixture": 0.5},
            },
            seconds=40,
        ),
        Preset(
            "ewc-camouflage",
            "EWC on camouflaged shapes",
            "The same prompts, with a quadratic penalty weighted by their importance for earlier shapes.",
            {**_CAMOUFLAGE, "method": "ewc", "settings": {**_LONG_PROMPTS, "stiffness": 1e5}},
            seconds=50,
        ),
        Preset(
            "replay-camouflage",
            "Replay on camouflaged shapes",
            "The same prompts and heads, also trained on 200 stored images of earlier shapes.",
            {**_CAMOUFLAGE, "method": "replay", "settings": _LONG_PROMPTS},
            seconds=61,
        ),
        Preset(
            "dualprompt-camouflage",
            "DualPrompt on camouflaged shapes",
            "Shared prefixes, and one entry for each pair of shapes, selected by frozen features at test time.",
            {
                **_CAMOUFLAGE,
                "method": "dualprompt",
                "settings": {"rate": 0.03, "head_rate": 0.01, "temperature": 1.0},
            },
            seconds=38,
        ),
        Preset(
            "split-lora-camouflage",
            "SplitLoRA on camouflaged shapes",
            "Keys and values change along weak directions of past inputs; with stream.tasks=1, all shapes at once.",
            {
                **_CAMOUFLAGE,
                "method": "split_lora",
                "settings": {**_KEYS_VALUES, "rank": 32, "rate": 0.01, "temperature": 1.0},
            },
            seconds=48,
        ),
        Preset(
            "nusa-cl-micro",
            "NuSA-CL on six domains",
            "CLIP learns one domain after another in the directions that its weights use least.",
            {**_MICRO_CLIP, "method": "nusa_cl", "settings": _NUSA},
            tags=("demo",),
            seconds=67,
        ),
        Preset(
            "gnsp-micro",
            "GNSP on six domains",
            "CLIP's image MLPs learn in low-energy directions of past features, regularised by reference pairs.",
            {**_MICRO_CLIP, "method": "gnsp", "settings": _GNSP},
            tags=("demo",),
            seconds=113,
        ),
        Preset(
            "keeplora-micro",
            "KeepLoRA on six domains",
            "Branches start along the gradient, outside the directions of pre-trained weights and earlier domains.",
            {**_MICRO_CLIP, "method": "keeplora", "settings": {"rate": 3e-3, "rank": 4, "weights_image": 0.5}},
        ),
        Preset(
            "gnsp-kd-micro",
            "Ablation of GNSP: distillation alone",
            "No projection, no alignment of pairs: the effect of distillation alone.",
            {**_MICRO_CLIP, "method": "gnsp", "settings": {**_GNSP, "project": "none", "alignment": 0.0}},
        ),
        Preset(
            "gnsp-map-micro",
            "Ablation of GNSP: alignment of pairs alone",
            "No projection, no distillation: the effect of CLIP's contrastive loss on reference pairs alone.",
            {**_MICRO_CLIP, "method": "gnsp", "settings": {**_GNSP, "project": "none", "distillation": 0.0}},
        ),
        Preset(
            "mg-clip-micro",
            "MG-CLIP on six domains",
            "As many epochs as the gap allows, and a second classifier on image features. On domains: our reading.",
            {**_MICRO_CLIP, "method": "mg_clip", "settings": {"rate": 2e-3}},
            seconds=52,
        ),
        Preset(
            "clip-nsp2-micro",
            "CLIP-NSP² on six domains",
            "Prompts in CLIP's image tower, each step projected to the null space of earlier domains.",
            {**_MICRO_CLIP, "method": "clip_nsp2", "settings": _CLIP_PROMPTS},
        ),
        Preset(
            "clip-nsp2-free-micro",
            "Control of CLIP-NSP²: nothing projected",
            "The same prompts in CLIP's image tower with nothing protected.",
            {
                **_MICRO_CLIP,
                "method": "clip_nsp2",
                "settings": {**_CLIP_PROMPTS, "projection": "none", "norm_weight": 0.0},
            },
        ),
        Preset(
            "finetune-micro",
            "All of CLIP fine-tuned on six domains",
            "No protection except small steps: at this rate a strong reference.",
            {**_MICRO_CLIP, "method": "finetune", "settings": {"rate": 1e-4}},
            seconds=74,
        ),
        Preset(
            "finetune-eager-micro",
            "All of CLIP fine-tuned, five times the rate",
            "Each domain is learned best at the expense of the others: watch the zero-shot ability.",
            {**_MICRO_CLIP, "method": "finetune", "settings": {"rate": 5e-4}},
            tags=("demo",),
            seconds=74,
        ),
        Preset(
            "clip-refine-micro",
            "CLIP-Refine, then fine-tuning on six domains",
            "Images and captions are pulled together before the first domain; then as finetune-eager-micro.",
            {
                **_MICRO_CLIP,
                "method": "clip_refine",
                "settings": {"rate": 5e-4, **_REFINED},
            },
        ),
        Preset(
            "lora-sequential-micro",
            "LoRA on six domains",
            "Low-rank branches on CLIP's attention, merged after each domain, nothing protected.",
            {
                **_MICRO_CLIP,
                "method": "lora_sequential",
                "settings": {"rate": 1e-3, "rank": 8, "alpha": 8.0, "dropout": 0.0},
            },
            seconds=68,
        ),
        Preset(
            "zero-shot-micro",
            "CLIP as it is on six domains",
            "Nothing is learned: the pre-trained model's accuracy.",
            {**_MICRO_CLIP, "method": "zero_shot", "settings": {}},
            seconds=26,
        ),
        Preset(
            "nsp2-cifar100-10",
            "NSP² on CIFAR-100, ten tasks, ViT-B/16",
            "The authors' settings on their model and data, with their augmentation.",
            {**_CIFAR, "method": "nsp2"},
            needs=_NEEDS_CIFAR,
            expect="published: final 91.74 ± 0.63, forgetting 3.28 ± 0.45 (three seeds)",
        ),
        Preset(
            "nsp2-cifar100-20",
            "NSP² on CIFAR-100, twenty tasks, ViT-B/16",
            "The authors' settings for twenty tasks, with their augmentation.",
            {
                **_CIFAR,
                "method": "nsp2",
                "stream_settings": {"tasks": 20},
                "settings": {"temperature": 25.0, "eta_affinity": 0.95, "eta_mixture": 0.95},
            },
            needs=_NEEDS_CIFAR,
            expect="published: final 89.89 ± 0.72, forgetting 4.91 ± 0.59 (three seeds)",
        ),
        Preset(
            "star-prompt-cifar100",
            "STAR-Prompt on CIFAR-100, ten tasks, ViT-B/16 and CLIP ViT-L/14",
            "The release's documented values, crops and mirror images, inputs normalised as the ViT's weights expect.",
            {
                **_CIFAR,
                "method": "star_prompt",
                "backbone": "timm:vit_base_patch16_224.augreg2_in21k_ft_in1k",
                "settings": {"companion": "open_clip:ViT-L-14/openai"},
                "training": {
                    "epochs": 20,
                    "batch_size": 128,
                    "schedule": "quarter cosine",
                    "random_crop": 0.08,
                    "flip": True,
                },
                "seed": 1993,
            },
            needs=_NEEDS_CIFAR.replace("augreg_in21k", "augreg2_in21k_ft_in1k") + "; OpenAI's CLIP ViT-L/14 as well",
            expect="its number for CIFAR-100 was not available to us",
        ),
        Preset(
            "nusa-cl-mtil",
            "NuSA-CL on MTIL, CLIP ViT-B/16",
            "The release's values on eleven data sets, one epoch each instead of 1,000 steps each.",
            {
                **_MTIL,
                "method": "nusa_cl",
                "settings": {},
                "training": {"epochs": 1, "batch_size": 16, "schedule": "cosine", "warm_up": 50},
            },
            needs=_NEEDS_MTIL,
            expect="published: Transfer 68.6, Average 75.1, Last 82.8",
        ),
        Preset(
            "gnsp-mtil",
            "GNSP on MTIL, CLIP ViT-B/16",
            "The release's values on eleven data sets, with one rate and one epoch for all, instead of a rate and a "
            "number of steps for each.",
            {
                **_MTIL,
                "method": "gnsp",
                "settings": {"rate": 2e-5},
                "stream_settings": {"references": "data/imagenet/train"},
                "training": {"epochs": 1, "batch_size": 64, "schedule": "cosine", "warm_up": 100, "random_crop": 0.9},
            },
            needs=_NEEDS_MTIL + "; ImageNet's training set as class folders in ./data/imagenet/train",
            expect="its own numbers were not available to us; ZSCL on the same tasks: Transfer 68.1, Average "
            "75.4, Last 83.6",
        ),
        Preset(
            "nsp2-paper",
            "NSP² with the authors' values",
            "Settings of the release for CIFAR-100 in ten tasks, on the bundled model. They were tuned for width 768.",
            {**_PAPER, "method": "nsp2"},
        ),
        Preset(
            "sequential-paper",
            "Plain prompt tuning with the authors' values",
            "The release's VPT-Seq settings on the bundled model.",
            {**_PAPER, "method": "sequential"},
        ),
    )
}


def preset(name: str) -> Preset:
    """The preset called `name`. Raises ConfigError with the nearest name."""
    return lookup(PRESETS, name, "preset")[1]


def starting_point(method: str, backbone: str | None = None) -> RunConfig:
    """The settings of a run of `method` without a named preset: `<method>-micro` if its backbone fits, else the
    method's own defaults on `backbone` (or the first suitable backbone)."""
    found = PRESETS.get(f"{method.replace('_', '-')}-micro")
    if found is not None and backbone in (None, found.config["backbone"]):
        return RunConfig.from_dict({**found.config, "preset": found.name})
    needs = METHODS[method].needs
    serving = (name for name, entry in BACKBONES.items() if needs in ("", entry.needs))
    return RunConfig(method=method, backbone=backbone or next(serving))


def resolve(record: Mapping[str, Any]) -> RunConfig:
    """A complete RunConfig: the user's values over those of the named (or default) preset."""
    record = dict(record)
    if record.get("preset"):
        named = preset(record["preset"])
        record["preset"] = named.name
        base = dict(named.config)
    elif "method" in record:
        method, _ = lookup(METHODS, record["method"], "method")
        backbone = lookup(BACKBONES, record["backbone"], "backbone")[0] if "backbone" in record else None
        base = starting_point(method, backbone).to_dict()
    else:
        base = {}
    for key, value in record.items():
        base[key] = (
            {**base.get(key, {}), **value}
            if isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
            else value
        )
    for key, table in (("method", METHODS), ("backbone", BACKBONES), ("stream", STREAMS)):
        if key in base:
            base[key] = lookup(table, base[key], key)[0]
    return RunConfig.from_dict(base)
