"""Named settings: what a person can start by one word. Plain values only, so a page can list them without torch.

A method's class defaults are its authors' values. A preset gives the values for one backbone and stream; the one called
`<method>-micro` is taken when nobody names another, with its backbone and stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cl_core.config import RunConfig
from cl_core.registry import BACKBONES, METHODS, STREAMS, lookup


@dataclass(frozen=True)
class Preset:
    """A starting point: settings, and what to expect of them."""

    name: str
    title: str  # as a page shows it
    about: str  # what it is for, one or two sentences
    config: dict[str, Any]  # RunConfig.from_dict's input
    seconds: float | None = None  # measured on two idle cores; None: not measured here
    needs: str = ""  # what must be at hand that is not embedded
    tags: tuple[str, ...] = field(default=())  # "demo": offered on the Start page


_MICRO = {"backbone": "micro-vit", "stream": "split-digits", "training": {"epochs": 5, "batch_size": 64}}
# Chosen on the validation split (bench/choose.py), the same for every method so that only the rule differs.
_PROMPTS = {
    "prompt_length": 8,
    "prompt_rate": 0.02,
    "head_rate": 0.01,
    "temperature": 4.0,
    "weight_decay": 0.0,
    "head_init": "fresh",
}
# Π without division by √R: at width 192 the released scale leaves so little of a step that the prompts stand still.
# η = 0.5 forgets a little more than 0.97 and ends higher: steps along protected directions are halved, free ones whole.
_PROJECTED = {**_PROMPTS, "scale": "plain", "eta_affinity": 0.5, "eta_mixture": 0.5}
# The authors' values for CIFAR-100 in ten tasks: 10 long epochs of 10 repeats = 100 passes, decays after 40 and 70.
_PAPER = {
    "backbone": "micro-vit",
    "stream": "split-digits",
    "settings": {},
    "training": {"epochs": 10, "repeats": 10, "batch_size": 256, "milestones": [4, 7], "decay": 0.1},
}

# Six domains, 3 × 10 steps each. Rates chosen on the validation split (seed 0), each method its own, as is customary:
# what a rate does depends on what it is the rate of. Everything else is the same for all.
_MICRO_CLIP = {
    "backbone": "micro-clip",
    "stream": "micro-mtil",
    "stream_settings": {"tasks": 6},
    "training": {"epochs": 3, "batch_size": 64, "schedule": "cosine", "warm_up": 3},
    "diagnostics": {"attention": False},
}
_NUSA = {"rate": 0.03, "r_max": 32, "dropout": 0.0}
_GNSP = {"rate": 2e-4, "reference_images": 256}

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "nsp2-micro",
            "NSP² on handwritten digits",
            "Prompts learn two digits at a time; each step is projected to where earlier digits are not looking.",
            {**_MICRO, "method": "nsp2", "settings": _PROJECTED},
            tags=("demo",),
            seconds=32,
        ),
        Preset(
            "sequential-micro",
            "Plain prompt tuning on handwritten digits",
            "The same prompts with nothing protected: watch the older columns pale.",
            {**_MICRO, "method": "sequential", "settings": _PROMPTS},
            tags=("demo",),
            seconds=25,
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
            "NSP² with each projector replaced by its average shrinking: what is left is not the null space's doing.",
            {**_MICRO, "method": "nsp2", "settings": {**_PROJECTED, "projection": "shrink-only"}},
            seconds=32,
        ),
        Preset(
            "frozen-micro",
            "Frozen features, heads only",
            "No prompts at all: features cannot drift, only heads can disagree. A strong reference.",
            {**_MICRO, "method": "sequential", "settings": {**_PROMPTS, "prompt_length": 0}},
            seconds=13,
        ),
        Preset(
            "nusa-cl-micro",
            "NuSA-CL on six domains",
            "CLIP learns one domain after the other in the directions that its weights use least.",
            {**_MICRO_CLIP, "method": "nusa_cl", "settings": _NUSA},
            tags=("demo",),
        ),
        Preset(
            "gnsp-micro",
            "GNSP on six domains",
            "CLIP's image MLPs learn where past features carry little energy, held back by pairs of the world it knew.",
            {**_MICRO_CLIP, "method": "gnsp", "settings": _GNSP},
            tags=("demo",),
        ),
        Preset(
            "mg-clip-micro",
            "MG-CLIP on six domains",
            "As many epochs as the gap allows, and a second classifier among pictures. On domains: our reading.",
            {**_MICRO_CLIP, "method": "mg_clip", "settings": {"rate": 1e-3}},
        ),
        Preset(
            "finetune-micro",
            "All of CLIP fine-tuned on six domains",
            "Nothing protected: watch what it could do before it was adapted.",
            {**_MICRO_CLIP, "method": "finetune", "settings": {"rate": 5e-4}},
            tags=("demo",),
        ),
        Preset(
            "lora-sequential-micro",
            "LoRA on six domains",
            "Low-rank branches on CLIP's attention, merged after each domain, nothing protected.",
            {
                **_MICRO_CLIP,
                "method": "lora_sequential",
                "settings": {"rate": 3e-3, "rank": 8, "alpha": 8.0, "dropout": 0.0},
            },
        ),
        Preset(
            "zero-shot-micro",
            "CLIP as it is on six domains",
            "Nothing is learned: what the pre-trained model can do.",
            {**_MICRO_CLIP, "method": "zero_shot", "settings": {}},
        ),
        Preset(
            "nsp2-paper",
            "NSP² with the authors' values",
            "Settings of the release for CIFAR-100 in ten tasks, on the embedded model. They were tuned for width 768.",
            {**_PAPER, "method": "nsp2"},
        ),
        Preset(
            "sequential-paper",
            "Plain prompt tuning with the authors' values",
            "The release's VPT-Seq settings on the embedded model.",
            {**_PAPER, "method": "sequential"},
        ),
    )
}


def preset(name: str) -> Preset:
    """The preset called `name`. Raises ConfigError with the nearest name."""
    return lookup(PRESETS, name, "preset")[1]


def starting_point(method: str, backbone: str | None = None) -> RunConfig:
    """The settings a run of `method` begins with when nobody names a preset: those of `<method>-micro` if its backbone
    is meant, else the method's own defaults on `backbone` (or the first backbone that serves)."""
    found = PRESETS.get(f"{method.replace('_', '-')}-micro")
    if found is not None and backbone in (None, found.config["backbone"]):
        return RunConfig.from_dict({**found.config, "preset": found.name})
    needs = METHODS[method].needs
    serving = (name for name, entry in BACKBONES.items() if needs in ("", entry.needs))
    return RunConfig(method=method, backbone=backbone or next(serving))


def resolve(record: Mapping[str, Any]) -> RunConfig:
    """A complete RunConfig from what a person wrote: their values over those of the preset they named (or the starting
    point)."""
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
