"""Micro-MTIL: a sequence of six small domains, modelled on MTIL, for a CLIP pre-trained on the micro world.

The images are drawn in memory (except scikit-learn's handwritten digits), each domain in a style that pre-training
never showed: real scans, pencil outlines, twisted negatives, coarse pixels, dim lamp light, salt and pepper. The domain
of a test image is known, as in MTIL.

The long stream splits each domain by class into two halves: twelve tasks, some more similar than others.

Z. Zheng et al. Preventing Zero-Shot Transfer Degradation in Continual Learning of Vision-Language Models. ICCV 2023.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.config import ConfigError, Preprocessing, StreamConfig
from cl_core.streams import digits
from cl_core.streams.stream import (
    MULTI_DOMAIN,
    General,
    Pairs,
    Split,
    Task,
    TaskStream,
    Words,
    mixed_seed,
    refuse_settings_of_disk,
    refuse_uneven,
    validation_rows,
)
from cl_core.streams.synthetic_pretraining import drawn_world
from cl_core.synthetic_world import (
    COLOUR_NAMES,
    COLOURS,
    COUNTS,
    KINDS,
    LETTER_KINDS,
    LETTERS,
    POSITIONS,
    SHAPE_KINDS,
    SHAPES,
    SIZES,
    STYLES,
    TEXTURES,
    Scenes,
    captions,
    draw,
    noun,
    sample_scenes,
)

NAME = "micro-mtil"
LONG_NAME = "micro-mtil-long"
TRAIN, TEST = 640, 240  # images per domain, before rounding down to equal numbers per class
GENERAL_PER_KIND, GENERAL_PAIRS = 10, 300
REFERENCE_SEED = 42  # plus the domain's index in order I, as for the reference sets of GNSP
ORDERS = {
    "I": ("digits", "letters", "shapes", "textures", "colours", "counts"),
    "II": ("colours", "textures", "counts", "letters", "shapes", "digits"),
}
TEMPLATES = ("a photo of {}", "a plain photo of {}", "a picture of {}", "{}")

PLAIN, HANDWRITTEN = STYLES.index("plain"), STYLES.index("handwritten")
SOLID = TEXTURES.index("solid")
SMALL, MEDIUM, LARGE = range(len(SIZES))
BROAD_SHAPES = tuple(  # enough surface for a pattern to show at half the resolution
    SHAPES.index(name) for name in ("circle", "square", "triangle", "hexagon", "heart")
)
APART = 0.5  # smallest distance of ink and paper in the RGB cube at which a person sees the object
DIM = (0.30, 0.45)  # narrow enough that white in the dimmest light stays brighter than gray in the brightest
BLOCKS = 11  # blocks per side of the coarse images
TWIST = 1.1  # radians at the centre; people still recognise a star
PEPPER = 0.12  # share of pixels that turn black or white


def micro_mtil(config: StreamConfig, preparation: Preprocessing, seed: int) -> TaskStream:
    """Return the first `config.tasks` domains of order `config.order`, about 640 training and 240 test images each.

    Images, splits and class order are the same for every run; the seed only affects training batches, which each task
    shuffles itself.

    Raises:
        ConfigError: more tasks than domains.
    """
    order = ORDERS[config.order]
    if not 1 <= config.tasks <= len(order):
        raise ConfigError(
            f"{NAME} has {len(order)} domains, one a task; stream.tasks must be 1 … {len(order)}, got {config.tasks}"
        )
    return _stream(NAME, [_whole(name) for name in order[: config.tasks]], config, preparation)


def micro_mtil_long(config: StreamConfig, preparation: Preprocessing, seed: int) -> TaskStream:
    """Return the first `config.tasks` of twelve tasks: the same images and words, each domain split by class in two.

    Order I: the halves of a domain follow each other. Order II: all first halves, then all second halves, so that a
    domain returns after all others. Each task has half the classes and half the images.

    Raises:
        ConfigError: more tasks than halves.
    """
    halves = [_halves(name) for name in ORDERS["I"]]
    adjacent = [half for pair in halves for half in pair]
    order = adjacent if config.order == "I" else [half for side in zip(*halves, strict=True) for half in side]
    if not 1 <= config.tasks <= len(order):
        raise ConfigError(
            f"{LONG_NAME} has {len(order)} halves of domains, one a task; stream.tasks must be 1 … {len(order)}, got "
            f"{config.tasks}"
        )
    return _stream(LONG_NAME, order[: config.tasks], config, preparation)


@dataclass(frozen=True)
class Part:
    """A task's part of a domain: some of its classes, by index."""

    domain: str
    title: str
    places: range


def _whole(name: str) -> Part:
    return Part(name, DOMAINS[name].title, range(len(DOMAINS[name].names)))


def _halves(name: str) -> tuple[Part, Part]:
    """Return the first half of a domain's classes, "a", and the rest, "b"."""
    title, count = DOMAINS[name].title, len(DOMAINS[name].names)
    return Part(name, f"{title} a", range(count // 2)), Part(name, f"{title} b", range(count // 2, count))


def _stream(name: str, parts: Sequence[Part], config: StreamConfig, preparation: Preprocessing) -> TaskStream:
    """Return a stream with one task per part, in order, with the general set and references of the micro world."""
    refuse_settings_of_disk(name, config)
    refuse_uneven(name, config)
    drawn = functools.cache(lambda domain: DOMAINS[domain].splits(domain))  # draws both halves of a domain at once
    tasks, first = [], 0
    for index, part in enumerate(parts):
        domain, places = DOMAINS[part.domain], part.places
        classes = range(first, first + len(places))
        first = classes.stop
        train, test = (_numbered(_only(split, places), classes, preparation.size) for split in drawn(part.domain))
        if config.evaluate_on == "validation":
            held_out = torch.cat([validation_rows(int((train.labels == c).sum())) for c in classes])
            train, test = (Split(train.pictures[rows], train.labels[rows]) for rows in (~held_out, held_out))
        names, phrases = (values[places.start : places.stop] for values in (domain.names, domain.words.phrases))
        words = Words(phrases, domain.words.templates)
        tasks.append(Task(index, classes, names, train, test, preparation, part.title, words))
    return TaskStream(
        name,
        MULTI_DOMAIN,
        tuple(tasks),
        general=_general(preparation.size),
        references=functools.partial(_references, tuple(part.domain for part in parts), preparation.size),
        world=drawn_world(preparation.size),
    )


def _only(split: Split, places: range) -> Split:
    """Return the images of the classes at these indices of a domain; labels 0 … len(places) − 1."""
    rows = (split.labels >= places.start) & (split.labels < places.stop)
    return Split(split.pictures[rows], split.labels[rows] - places.start)


@dataclass(frozen=True)
class Domain:
    """A domain: its classes, their words, and how its images are made.

    `splits` makes the training and test images of the domain of that name: labels 0 … C−1, class by class.
    """

    title: str
    names: tuple[str, ...]
    words: Words
    splits: Callable[[str], tuple[Split, Split]]


def _real_digits(name: str) -> tuple[Split, Split]:
    """Return the first training and test images of each digit by split-digits' fixed split; images [n, 3, 8, 8]."""
    pictures, labels, test = digits.real_digits(8)

    def first(among: Tensor, total: int) -> Split:
        rows = _per_class(labels.where(among, -1), range(10), total // 10)
        return Split(pictures[rows], labels[rows])

    return first(~test, TRAIN), first(test, TEST)


def _drawn(
    attribute: str, values: Sequence[int], style: Callable[[Tensor, torch.Generator], Tensor], **limits: Any
) -> Callable[[str], tuple[Split, Split]]:
    """Return a domain whose classes are the `values` of one attribute of a scene; `limits` as in `_scenes`."""

    def splits(name: str) -> tuple[Split, Split]:
        made = []
        for split, total in (("train", TRAIN), ("test", TEST)):
            generator = torch.Generator().manual_seed(mixed_seed(NAME, name, split))
            scenes = _scenes(attribute, values, total // len(values), generator, **limits)
            labels = torch.arange(len(values)).repeat_interleave(total // len(values))
            made.append(Split(style(draw(scenes, generator), generator), labels))
        return made[0], made[1]

    return splits


def _scenes(
    attribute: str,
    values: Sequence[int],
    per_value: int,
    generator: torch.Generator,
    *,
    kinds: Sequence[int] = range(len(KINDS)),
    textures: Sequence[int] = range(len(TEXTURES)),
    apart: float = 0.0,
    fixed: Callable[[Scenes], dict[str, Tensor | int]] = lambda scenes: {"style": PLAIN},
) -> Scenes:
    """Sample exactly `per_value` scenes for each value of an attribute, value by value, without held-out combinations.

    Uses rejection sampling, because colours depend on kind and texture through the rule of held-out combinations. Only
    attributes that the rule ignores (size, count, position, style) are overwritten.

    Args:
        textures: allowed textures. apart: smallest distance of the object's colour from its background's.
        fixed: maps the kept scenes to attributes to overwrite: one value for all or a column [n].
    """
    pool = sample_scenes(4096 + 16 * per_value * len(values), generator, kinds=kinds)
    palette = torch.tensor(list(COLOURS.values()))
    fits = (palette[pool.colour] - palette[pool.background]).norm(dim=1) >= apart
    fits &= torch.isin(pool.texture, torch.tensor(list(textures))) & (pool.style != HANDWRITTEN)
    rows = _per_class(getattr(pool, attribute).where(fits, -1), values, per_value)
    scenes = pool.select(rows)
    columns = {name: torch.as_tensor(value).expand(len(rows)) for name, value in fixed(scenes).items()}
    return replace(scenes, **columns)


def _per_class(labels: Tensor, classes: Sequence[int], count: int) -> Tensor:
    """Return rows of the first `count` items of each class, class by class. [len(classes) · count]"""
    rows = [torch.nonzero(labels == c).flatten()[:count] for c in classes]
    short = [c for c, found in zip(classes, rows, strict=True) if len(found) < count]
    assert not short, f"too few scenes were sampled for classes {short}"
    return torch.cat(rows)


def _numbered(split: Split, classes: range, size: int) -> Split:
    """Return the split with class ids in order of arrival, at the side length of the backbone."""
    return Split(_resized(split.pictures, size), split.labels + classes.start)


def _resized(pictures: Tensor, size: int) -> Tensor:
    """Resize [n, 3, s, s] → [n, 3, size, size], bilinear when enlarging, by area averages when shrinking."""
    if pictures.shape[-1] == size:
        return pictures
    shrinks = size < pictures.shape[-1]
    return F.interpolate(pictures, size=(size, size), mode="bilinear", align_corners=False, antialias=shrinks)


def _alone(scenes: Scenes) -> dict[str, Tensor | int]:
    """One medium or large object."""
    return {"style": PLAIN, "count": 0, "size": scenes.size.clamp(min=MEDIUM)}


def _medium(scenes: Scenes) -> dict[str, Tensor | int]:
    """One object of medium size, anywhere."""
    return {"style": PLAIN, "count": 0, "size": MEDIUM}


def _one_large(scenes: Scenes) -> dict[str, Tensor | int]:
    """One large object, anywhere."""
    return {"style": PLAIN, "count": 0, "size": LARGE}


def _large_and_whole(scenes: Scenes) -> dict[str, Tensor | int]:
    """One large object in the centre, fully visible."""
    return {**_one_large(scenes), "position": POSITIONS.index("center")}


def _same_size_in_groups(scenes: Scenes) -> dict[str, Tensor | int]:
    """A single small object is about as large as one in a large group, so that size does not reveal the number."""
    return {"style": PLAIN, "size": torch.where(scenes.count > 0, LARGE, SMALL)}


# Styles: images [n, 3, 32, 32] in 0..1 and a generator → the same images in a style that pre-training never showed.


def as_sketch(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Draw dark outlines on light paper: gradient magnitude with uneven pressure and jitter (±1 pixel)."""
    n, side = len(pictures), pictures.shape[-1]
    unsteady = _smooth_field(n, 2, 6, side, generator) * 1.6 / side  # 0.8 pixels in the −1..1 of grid_sample
    axis = (torch.arange(side) + 0.5) * 2 / side - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1) + unsteady.movedim(1, -1)
    moved = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)
    padded = F.pad(moved, (1, 1, 1, 1), mode="replicate")
    across, down = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2], padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    steepness = (across.square() + down.square()).sum(1, keepdim=True).sqrt()
    line = ((steepness / steepness.amax((2, 3), keepdim=True) - 0.25) / 0.4).clamp(0, 1)
    pressed = (0.85 + 0.25 * _smooth_field(n, 1, 5, side, generator)).clamp(0.4, 1)
    paper = 0.9 + 0.08 * torch.rand(n, 3, 1, 1, generator=generator)
    grain = 0.03 * torch.randn(n, 1, side, side, generator=generator)
    pencil = 0.1 + 0.2 * torch.rand(n, 1, 1, 1, generator=generator)
    return (paper + line * pressed * (pencil - paper) + grain).clamp(0, 1)


def inverted(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Make a twisted film negative: 1 − x with the orange base of colour film, twisted about the centre by up to
    `TWIST` radians."""
    side = pictures.shape[-1]
    axis = (torch.arange(side) + 0.5) * 2 / side - 1
    down, across = torch.meshgrid(axis, axis, indexing="ij")
    turn = (
        TWIST
        * (1 - torch.hypot(across, down)).clamp(min=0)
        * (0.7 + 0.3 * torch.rand(len(pictures), 1, 1, generator=generator))
    )
    cos, sin = turn.cos(), turn.sin()
    grid = torch.stack([cos * across - sin * down, sin * across + cos * down], dim=-1)
    pictures = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)
    strength = 0.5 + 0.5 * torch.rand(len(pictures), 1, 1, 1, generator=generator)
    base = 1 - strength * torch.tensor([0.0, 0.3, 0.5]).view(3, 1, 1)
    return (1 - pictures) * base


def pixelated(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Reduce to 11 × 11 blocks of about 3 pixels, one colour each, with six levels per channel."""
    blocks = F.adaptive_avg_pool2d(pictures, BLOCKS)
    return F.interpolate((blocks * 5).round() / 5, size=pictures.shape[-2:], mode="nearest")


def dimmed(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Dim to lamp light: 0.30 to 0.45 of the brightness, with a slight warm cast."""
    low, high = DIM
    light = low + (high - low) * torch.rand(len(pictures), 1, 1, 1, generator=generator)
    return pictures * light * torch.tensor([1.0, 0.94, 0.82]).view(3, 1, 1)


def peppered(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Add salt-and-pepper noise: 12 % of the pixels become black or white."""
    lot = torch.rand(len(pictures), 1, *pictures.shape[2:], generator=generator)
    return pictures.masked_fill(lot < PEPPER / 2, 0.0).masked_fill(lot > 1 - PEPPER / 2, 1.0)


def _smooth_field(n: int, channels: int, knots: int, side: int, generator: torch.Generator) -> Tensor:
    """Return [n, channels, side, side] normal values at knots × knots points, interpolated in between."""
    values = torch.randn(n, channels, knots, knots, generator=generator)
    return F.interpolate(values, size=(side, side), mode="bilinear", align_corners=True)


def _phrase(kind: int) -> str:
    """ "a star", "an arrow", "the letter k", "the digit three"."""
    words = noun(kind)
    return f"{_article(words)} {words}" if kind in SHAPE_KINDS else f"the {words}"


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


KIND_WORDS = Words(tuple(_phrase(kind) for kind in range(len(KINDS))), TEMPLATES)


def _shape_with(adjectives: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{_article(adjective)} {adjective} shape" for adjective in adjectives)


DOMAINS = {
    "digits": Domain("Digits", digits.NAMES, digits.WORDS, _real_digits),
    "letters": Domain(
        "Letters",
        LETTERS,
        Words(tuple(_phrase(kind) for kind in LETTER_KINDS), TEMPLATES),
        _drawn("kind", LETTER_KINDS, as_sketch, kinds=LETTER_KINDS, textures=[SOLID], apart=APART, fixed=_medium),
    ),
    "shapes": Domain(
        "Shapes",
        SHAPES,
        Words(tuple(_phrase(kind) for kind in SHAPE_KINDS), TEMPLATES),
        _drawn("kind", SHAPE_KINDS, inverted, kinds=SHAPE_KINDS, apart=APART, fixed=_alone),
    ),
    "textures": Domain(
        "Textures",
        TEXTURES,
        Words(_shape_with(TEXTURES), ("a photo of {}", "a blurry photo of {}", "a picture of {}", "{}")),
        _drawn("texture", range(len(TEXTURES)), pixelated, kinds=BROAD_SHAPES, apart=APART, fixed=_large_and_whole),
    ),
    "colours": Domain(
        "Colours",
        COLOUR_NAMES,
        Words(_shape_with(COLOUR_NAMES), TEMPLATES),
        _drawn(
            "colour",
            range(len(COLOUR_NAMES)),
            dimmed,
            kinds=SHAPE_KINDS,
            textures=[SOLID],  # a pattern has a second shade
            apart=APART,
            fixed=_alone,
        ),
    ),
    "counts": Domain(
        "Counts",
        COUNTS,
        Words(
            ("a shape", *(f"{count} shapes" for count in COUNTS[1:])),
            ("a photo of {}", "a noisy photo of {}", "a picture of {}", "{}"),
        ),
        _drawn(
            "count",
            range(len(COUNTS)),
            peppered,
            kinds=SHAPE_KINDS,
            textures=[SOLID],  # a pattern of small parts would count as well
            apart=APART,
            fixed=_same_size_in_groups,
        ),
    ),
}


def _general(size: int) -> General:
    """Return the plain micro world: 48 kinds to classify, and held-out combinations with distinct captions."""
    generator = torch.Generator().manual_seed(mixed_seed(NAME, "general", "test"))
    every = range(len(KINDS))
    scenes = _scenes("kind", every, GENERAL_PER_KIND, generator, fixed=_alone)
    test = Split(_resized(draw(scenes, generator), size), scenes.kind)

    generator = torch.Generator().manual_seed(mixed_seed(NAME, "general", "pairs"))
    scenes = sample_scenes(4 * GENERAL_PAIRS, generator, held_out=True)
    scenes = replace(scenes, style=torch.full_like(scenes.style, PLAIN))
    first: dict[str, int] = {}
    for row, caption in enumerate(captions(scenes, generator)):
        first.setdefault(caption, row)
    told, rows = zip(*list(first.items())[:GENERAL_PAIRS], strict=True)
    pictures = draw(scenes.select(torch.tensor(rows)), generator)
    return General(Pairs(_resized(pictures, size), told, torch.arange(len(told))), test, KIND_WORDS)


def _references(order: Sequence[str], size: int, task: int, count: int) -> Pairs:
    """Return `count` images of the micro world as in pre-training, each with its kind in the first template.

    Kinds alternate, so that every batch is mixed; labels are kinds. The seed is 42 + the index of the task's domain in
    order I, whatever the order, as in GNSP.
    """
    generator = torch.Generator().manual_seed(REFERENCE_SEED + ORDERS["I"].index(order[task]))

    def mostly_plain(scenes: Scenes) -> dict[str, Tensor | int]:
        kept = torch.rand(len(scenes), generator=generator) < 0.3
        return {"count": 0, "style": torch.where(kept, scenes.style, PLAIN)}

    per_kind = -(-count // len(KINDS))
    scenes = _scenes("kind", range(len(KINDS)), per_kind, generator, fixed=mostly_plain)
    in_turn = torch.arange(per_kind * len(KINDS)).view(len(KINDS), per_kind).T.flatten()[:count]
    scenes = scenes.select(in_turn)
    sentences = [texts[0] for texts in KIND_WORDS.texts(0)]
    return Pairs(
        _resized(draw(scenes, generator), size), tuple(sentences[k] for k in scenes.kind.tolist()), scenes.kind
    )
