"""Estimate of the memory of a training step from sizes and settings, without building or importing models.

Counted in float32 (4 bytes per value), for the larger of the first and a later task:

    4 P              a pre-trained backbone of P parameters (both towers of a CLIP); it is also the teacher
    4 P′             a second frozen model, likewise
    4 · copied       copies of backbone weights that the method changes
    4 · kept         other state of the method: moments, their bases, projectors, stored images, own parameters
    12 · trained     gradient and the optimiser's two running means of every trained value
    4 d N B (f L + 9)    activations of B images of N tokens in L blocks of width d, kept for the backward pass
    4 d′ T n (f L′ + 9)  the same for n texts of T tokens, if the text tower is trained

f is the number of values per token, channel and block that autograd keeps, by what is trained (`FROZEN` … `WEIGHTS`).
9 more for one block: gradients in flight while everything is still kept. B is the batch plus additional images
(rehearsal, reference pairs); T is assumed to be 16.

Not counted: the stream's images, the interpreter and libraries, measurements, evaluation, the pass at the end of a task
(which may need more than a step), caches of the allocator. In bfloat16 activations need about half.

A method's part is a function in this module, named in its row of the registry. Methods with the same kind of state
share a function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

VALUE = 4  # bytes
TEXT_TOKENS = 16  # of a class text, including start and end tokens; longer ones are rare, shorter ones are truncated
USUAL_TEXTS = 10  # classes per task if unknown

# Values per token, channel and block. Inputs of both norms (2), queries, keys, values (3), attention output (1), hidden
# values before the activation (4).
FROZEN = 10
PROMPTED = FROZEN + 2  # keys and values again, with those of prompts
ATTENTION = FROZEN + 2  # and inputs of q, k, v and of the output projection
MLP = FROZEN + 5  # and inputs of both MLP maps (1 + 4)
WEIGHTS = FROZEN + 7
ON_THE_WAY = 9  # of one block: gradients of hidden values before and after the activation, and of tokens


@dataclass(frozen=True)
class Holding:
    """A method's memory during a step besides its frozen models. Numbers of values unless stated otherwise."""

    copied: float = 0
    kept: float = 0
    trained: float = 0
    per_block: float = 0  # f of the image tower; 0: no backward pass goes through it
    per_text_block: float = 0  # f of the text tower
    tokens: float = 0  # per image, in addition to the backbone's own
    pictures: int = 0  # additional images per step
    texts: int = 0  # additional texts per step


class _PerBlock(TypedDict):
    per_block: float
    per_text_block: float


Facts = Callable[[Mapping[str, Any], Mapping[str, Any]], Sequence[Holding]]
"""(a backbone's `describe()`, the method's settings) → memory in the first task, and in later ones if different."""


def memory_needed(sizes: Mapping[str, Any], batch_size: int, **others: Any) -> dict[str, int]:
    """Estimated bytes by part, for the task that needs most. Arguments as for `memory_by_task`."""
    return max(memory_by_task(sizes, batch_size, **others), key=lambda parts: sum(parts.values()))


def memory_by_task(
    sizes: Mapping[str, Any],
    batch_size: int,
    *,
    facts: Facts | None = None,
    settings: Mapping[str, Any] | None = None,
    texts: int = USUAL_TEXTS,
    companion: Mapping[str, Any] | None = None,
) -> list[dict[str, int]]:
    """Estimated bytes by part (`PARTS`), for the first task and for later ones if they differ. Empty parts are omitted.

    Args:
        sizes: the backbone's `describe()`.
        batch_size: images per step.
        facts: the method's memory; None: only activations as for prompts in every block of a frozen model are counted.
        settings: the method's, complete. texts: classes per task, one text each. companion: `describe()` of a second
        frozen model.
    """
    found = facts(sizes, settings or {}) if facts is not None else [Holding(per_block=PROMPTED)]
    return [_parts(sizes, batch_size, held, texts, companion) for held in found]


PARTS = {
    "backbone": "the model as it was pre-trained",
    "companion": "the second model beside it",
    "copied": "the copy that is trained",
    "kept": "what the method keeps beside",
    "training": "gradients and optimiser state",
    "activations": "activations of one batch",
}


def in_words(parts: Mapping[str, int], known: bool, said: Callable[[int], str]) -> str:
    """The estimate in one sentence. `known`: whether the method's memory is known; `said`: formats a size."""
    listed = [f"{said(size)} for {PARTS[name]}" for name, size in parts.items()]
    most = f"{', '.join(listed[:-1])} and {listed[-1]}" if len(listed) > 1 else listed[0]
    left = "pictures held in memory, measuring and the end of a task"
    return (
        f"A training step needs about {said(sum(parts.values()))}, by an estimate in float32 that counts {most}; "
        + (left if known else f"what the method itself holds, {left}")
        + " come on top"
    )


def _parts(
    sizes: Mapping[str, Any], batch_size: int, held: Holding, texts: int, companion: Mapping[str, Any] | None
) -> dict[str, int]:
    pictures = (batch_size + held.pictures) * (sizes["tokens"] + held.tokens) * sizes["width"]
    activations = pictures * (held.per_block * sizes["depth"] + ON_THE_WAY)
    if held.per_text_block:
        read = (texts + held.texts) * TEXT_TOKENS * sizes["text_width"]
        activations += read * (held.per_text_block * sizes["text_depth"] + ON_THE_WAY)
    parts = {
        "backbone": VALUE * sizes["parameters"],
        "companion": VALUE * companion["parameters"] if companion else 0,
        "copied": VALUE * held.copied,
        "kept": VALUE * held.kept,
        "training": 3 * VALUE * held.trained,
        "activations": VALUE * activations,
    }
    return {name: int(size) for name, size in parts.items() if size}


# ------------------------------------------------------------ memory by kind; rows of the registry name these


def nothing(sizes: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Holding]:
    """A model used only for inference."""
    return [Holding()]


def deep_prompts(sizes: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Holding]:
    """M prompts in each of L blocks, and moments [L, d, d] over all tasks and of the current one, in float64."""
    blocks, width, length = sizes["depth"], sizes["width"], settings["prompt_length"]
    prompts = blocks * length * width
    moments = 2 * 2 * blocks * (width**2 + length**2)
    return [Holding(kept=2 * prompts + moments, trained=prompts, per_block=PROMPTED if length else 0)]


def projected_prompts(sizes: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Holding]:
    """The same plus a projector [L, d, d] for their steps."""
    (held,) = deep_prompts(sizes, settings)
    return [_with(held, kept=sizes["depth"] * (sizes["width"] ** 2 + settings["prompt_length"] ** 2))]


def rehearsed_prompts(sizes: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Holding]:
    """The same without projectors; stored images, and one or two samples of them in addition to every batch."""
    (held,) = deep_prompts(sizes, settings)
    stored = settings["buffer"] * 3 * sizes["image_size"] ** 2
    draws = (2 if settings["rule"] == "der++" else 1) if settings["buffer"] else 0
    drawn = draws * min(settings["replay_batch"], settings["buffer"])
    return [_with(held, kept=stored, pictures=drawn)]


def joined_prompts(sizes: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Holding]:
    """A pool of prompts with keys; selected prompts are additional tokens in every block."""
    length = settings["prompt_length"]
    pool = settings.get("pool_size") or settings["pool"] * length
    joined = length * settings.get("taken", 1)
    values = pool * 2 * sizes["width"]
    return [Holding(kept=values, trained=values, per_block=FROZEN, tokens=joined)]


def joined_prompts_and_moments(sizes: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Holding]:
    """The same; moments [d, d] in float64 of old queries, the pre-training's and a task's inputs, and their spaces."""
    (held,) = joined_prompts(sizes, settings)
    return [_with(held, kept=2 * 8 * sizes["width"] ** 2)]


def chosen_prefixes(sizes: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Holding]:
    """Prefix keys and values added to those of the tokens: general ones, and a task's own entry in later blocks."""
    general = settings["general_blocks"] * settings["general_length"]
    expert = settings["expert_blocks"] * settings["expert_length"]
    values = 2 * sizes["width"] * (general + expert)
    return [Holding(kept=values, trained=values, per_block=PROMPTED)]


def mixed_prefixes(sizes: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Holding]:
    """The same, mixed for each image from a pool of components with keys and attentions; counted as all trained at
    once, although each task trains only its share."""
    blocks, width = min(settings["blocks"], sizes["depth"]), sizes["width"]
    values = blocks * min(settings["pool"], width) * (settings["prompt_length"] + 2) * width
    return [Holding(kept=values, trained=values, per_block=PROMPTED)]


def key_value_changes(sizes: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Holding]:
    """ΔW of keys and values in addition to the weights, full or low-rank; W's own keys and values again; one moment or
    conceptor [L, d, d] in float64, and quantities derived from it."""
    blocks, width = sizes["depth"], sizes["width"]
    whole = 2 * blocks * width**2
    low = 2 * blocks * width * min(settings["rank"], width) if "rank" in settings else 0
    kept = whole + 3 * blocks * width**2 + (whole + 2 * low if low else 0)
    formed = 2 * whole  # ΔW of the step, and its gradient
    return [Holding(kept=kept + formed, trained=low or whole, per_block=FROZEN + 3)]


def class_vectors(sizes: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Holding]:
    """One vector per class and block added in the frozen blocks, selected by a second frozen model with cached
    outputs."""
    return [Holding(per_block=FROZEN + 1)]


def whole_clip(sizes: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Holding]:
    """A fully trained copy of both towers, or of the one named by `towers`."""
    towers, image = settings["towers"], _image_parameters(sizes)
    values = {"both": sizes["parameters"], "image": image, "text": sizes["parameters"] - image}[towers]
    return [
        Holding(
            copied=values,
            trained=values,
            per_block=WEIGHTS if towers != "text" else 0,
            per_text_block=WEIGHTS if towers != "image" else 0,
        )
    ]


def whole_refined_clip(sizes: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Holding]:
    """A fully trained copy of both towers; the preparation precedes the steps."""
    return whole_clip(sizes, {"towers": "both"})


def merged_branches(sizes: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Holding]:
    """A copy of the attention weights of both towers; low-rank branches in parallel, merged after each task."""
    low = sum(2 * width * rank for width, rank in _attention_maps(sizes, settings["rank"]))
    return [Holding(copied=_attention(sizes), kept=low, trained=low, **_branched(sizes, settings, settings["rank"]))]


def residual_branches(sizes: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Holding]:
    """The same without dropout; stored directions of every map's inputs in float64, counted at full rank."""
    (held,) = merged_branches(sizes, {**settings, "dropout": 0.0})
    return [_with(held, kept=2 * _attention(sizes))]


def null_space_branches(sizes: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Holding]:
    """A copy of the attention weights of both towers; U [d, q], Vᵀ [q, d] and M [q, q] for every map: M is trained, or
    all three. q is at most `r_max`, and counted as that."""
    maps = list(_attention_maps(sizes, settings["r_max"]))
    bases, middle = sum(2 * width * q for width, q in maps), sum(q * q for _, q in maps)
    free = settings["persistence"] != "every step"
    products = sum(width * q for width, q in maps)  # U M of a step
    return [
        Holding(
            copied=_attention(sizes),
            kept=bases * (2 if free else 1) + middle + products,
            trained=middle + (bases if free else 0),
            **_branched(sizes, settings, settings["r_max"]),
        )
    ]


def lasting_branches(sizes: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Holding]:
    """Low-rank branches in parallel to keys and values of both towers, never merged."""
    low = sum(2 * width * rank for width, rank in _attention_maps(sizes, settings["rank"], parts=2))
    shares = [settings["rank"] / sizes[width] for width in ("width", "text_width")]
    image, text = (FROZEN + 1 + 2 * min(1.0, share) for share in shares)
    return [Holding(kept=low, trained=low, per_block=image, per_text_block=text)]


def projected_mlps(sizes: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Holding]:
    """The first task trains a copy of everything, or of the image MLPs; later ones only the MLPs, with moments of their
    inputs, their bases in float64 and projectors. Reference pairs in every step; the pre-trained model is the teacher.

    An MLP's maps [4d, d] and [d, 4d] have 8 d² values, moments of their inputs 17 d².
    """
    block = sizes["depth"] * sizes["width"] ** 2
    everything = settings["first_task"] == "everything"
    copied = sizes["parameters"] if everything else 8 * block
    referring = settings["distillation"] or settings["alignment"]
    pairs = settings["reference_batch"] if referring else 0
    pairs = min(pairs, settings["reference_images"])
    before = (8 + 17) * block  # weights after the last task, and moments
    first = Holding(
        copied=copied,
        kept=before,
        trained=copied,
        per_block=WEIGHTS if everything else MLP,
        per_text_block=WEIGHTS if everything else 0,
        pictures=pairs,
        texts=pairs,
    )
    projecting = settings["project"] != "none"
    summed = 8 * block  # the proposed steps
    kept = before + ((2 * 17 + 17) * block + summed if projecting else 0)
    later = Holding(copied=copied, kept=kept, trained=8 * block, per_block=MLP, pictures=pairs)
    return [first, later]


def _with(held: Holding, **more: float) -> Holding:
    """A copy with the named values increased."""
    return Holding(**{name: value + more.get(name, 0) for name, value in vars(held).items()})


def _image_parameters(sizes: Mapping[str, Any]) -> int:
    """Sizes of a CLIP's image tower: blocks, patches, positions, norms, projection."""
    width, blocks = sizes["width"], sizes["depth"]
    patch = sizes["image_size"] // sizes["patch_grid"][0]
    blocks_own = blocks * (12 * width**2 + 13 * width)
    return blocks_own + width * (3 * patch**2 + sizes["tokens"] + 1 + 4 + sizes["joint_width"])


def _attention_maps(sizes: Mapping[str, Any], rank: int, parts: int = 4) -> Iterator[tuple[int, int]]:
    """(width, rank) of q, k, v, o of every block of both towers."""
    for depth, width in (("depth", "width"), ("text_depth", "text_width")):
        yield from [(sizes[width], min(rank, sizes[width]))] * (parts * sizes[depth])


def _attention(sizes: Mapping[str, Any]) -> int:
    return sum(width * width for width, _ in _attention_maps(sizes, 1))


def _branched(sizes: Mapping[str, Any], settings: Mapping[str, Any], rank: int) -> _PerBlock:
    """Values per token, channel and block with branches in parallel to q, k, v, o: inputs, or with dropout four masked
    copies and byte masks, and the outputs of the first factor."""
    inputs = FROZEN + 4 * 1.25 if settings["dropout"] else ATTENTION
    image, text = (min(1.0, rank / sizes[width]) for width in ("width", "text_width"))
    return {"per_block": inputs + 4 * image, "per_text_block": inputs + 4 * text}
