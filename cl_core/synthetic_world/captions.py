"""English for scenes: what the text side of the micro-CLIP reads.

    [a [style] photo of | a picture of] [a | two | three | four] [size] [texture] [colour] NOUN
    [on a COLOUR background] [in the center | on the left | on the right | at the top | at the bottom]

NOUN is the kind ("star", "letter k", "digit three") or, now and then, only what it is one of ("shape", "letters").
Every optional part is kept or dropped by lot, so that no caption names everything and short ones stay common.
"""

from __future__ import annotations

import torch

from cl_core.synthetic_world.drawing import Scenes
from cl_core.synthetic_world.vocabulary import (
    BACKGROUNDS,
    COLOUR_NAMES,
    COUNTS,
    DIGIT_KINDS,
    DIGITS,
    KINDS,
    LETTER_KINDS,
    SHAPE_KINDS,
    SIZES,
    STYLES,
    TEXTURES,
)

NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PLACES = ("in the center", "on the left", "on the right", "at the top", "at the bottom")
PLURALS = {"cross": "crosses"}


def noun(kind: int, many: bool = False, lot: float = 0.0) -> str:
    """The words for a kind; `lot` in 0..1 picks between "digit three", "number three" and "digit 3"."""
    if kind in SHAPE_KINDS:
        shape = KINDS[kind]
        return PLURALS.get(shape, shape + "s") if many else shape
    if kind in LETTER_KINDS:
        return f"letter {KINDS[kind].lower()}"
    digit = kind - DIGIT_KINDS.start
    word = "digit" if lot < 0.6 else "number"
    return f"{word} {NUMBER_WORDS[digit] if lot < 0.45 or lot >= 0.75 else DIGITS[digit]}"


def family(kind: int, many: bool = False) -> str:
    """What a kind is one of: "shape", "letter" or "digit"."""
    word = "shape" if kind in SHAPE_KINDS else "letter" if kind in LETTER_KINDS else "digit"
    return word + "s" if many else word


def captions(scenes: Scenes, generator: torch.Generator) -> list[str]:
    """One caption a scene, lower case, repeatable from the generator."""
    values = {name: column.tolist() for name, column in scenes.as_dict().items()}
    lots = torch.rand(len(scenes), 10, generator=generator, device=generator.device).tolist()
    return [_caption({name: values[name][i] for name in values}, lots[i]) for i in range(len(scenes))]


def _caption(scene: dict[str, int], lot: list[float]) -> str:
    many = scene["count"] > 0
    is_glyph = scene["kind"] not in SHAPE_KINDS
    adjectives = [
        word
        for word, kept in (
            (SIZES[scene["size"]], lot[0] < 0.3),
            (TEXTURES[scene["texture"]], lot[1] < 0.6),  # the hardest attribute is named most often
            (COLOUR_NAMES[scene["colour"]], lot[2] < 0.55),
        )
        if kept
    ]
    generic = lot[9] < 0.12 and (adjectives or many)  # "three red shapes": so that colour can be named without a kind
    words = [*adjectives, family(scene["kind"], many) if generic else noun(scene["kind"], many, lot[3])]
    if not many:
        words.insert(0, "the" if is_glyph and not adjectives and lot[4] < 0.7 else article(words[0]))
    elif is_glyph and not generic:
        words[-1:] = ["letter" if scene["kind"] in LETTER_KINDS else "digit", words[-1].split()[1]]
        words = [COUNTS[scene["count"]], "times", "the", *words]
    else:
        words.insert(0, COUNTS[scene["count"]])
    style = STYLES[scene["style"]]
    if lot[5] < 0.45:
        words = ["a", *([style] if lot[6] < 0.5 else []), "photo", "of", *words]
    elif lot[5] < 0.65:
        words = ["a", "picture", "of", *words]
    if lot[7] < 0.25:
        ground = BACKGROUNDS[scene["background"]]
        words += ["on", article(ground), ground, "background"]
    if lot[8] < 0.2:
        words.append(PLACES[scene["position"]])
    return " ".join(words)


def article(word: str) -> str:
    """ "a" or "an", as the first letter asks."""
    return "an" if word[0] in "aeiou" else "a"


def known_words() -> set[str]:
    """Every word a caption can contain: what a tokenizer for the micro-CLIP must know."""
    every = (*SHAPE_KINDS, LETTER_KINDS.start, DIGIT_KINDS.start)
    shapes = {noun(kind, many) for kind in SHAPE_KINDS for many in (False, True)}
    shapes |= {family(kind, many) for kind in every for many in (False, True)}
    names = shapes | set(SIZES) | set(TEXTURES) | set(COLOUR_NAMES) | set(STYLES) | set(COUNTS) | set(NUMBER_WORDS)
    letters = {KINDS[kind].lower() for kind in LETTER_KINDS} | set(DIGITS)
    grammar = {"a", "an", "the", "times", "photo", "picture", "of", "on", "background", "letter", "digit", "number"}
    return names | letters | grammar | {word for place in PLACES for word in place.split()}
