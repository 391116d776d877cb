"""A small procedural world of shapes, letters and digits: images and captions made on the fly, from a seed.

>>> generator = torch.Generator().manual_seed(0)
>>> scenes = sample_scenes(192, generator, kinds=[*SHAPE_KINDS, *LETTER_KINDS])
>>> images = draw(scenes, generator)        # [192, 3, 32, 32] in 0..1
>>> texts = captions(scenes, generator)     # "a photo of two striped red stars"
"""

from cl_core.synthetic_world.captions import captions, known_words, noun
from cl_core.synthetic_world.drawing import Scenes, draw, sample_scenes
from cl_core.synthetic_world.vocabulary import (
    ATTRIBUTE_SIZES,
    BACKGROUNDS,
    COLOUR_NAMES,
    COLOURS,
    COUNTS,
    DIGIT_KINDS,
    DIGITS,
    KINDS,
    LETTER_KINDS,
    LETTERS,
    POSITIONS,
    SHAPE_KINDS,
    SHAPES,
    SIZES,
    STYLES,
    TEXTURES,
    is_held_out,
)

__all__ = [
    "ATTRIBUTE_SIZES", "BACKGROUNDS", "COLOURS", "COLOUR_NAMES", "COUNTS", "DIGITS", "DIGIT_KINDS", "KINDS",
    "LETTERS", "LETTER_KINDS", "POSITIONS", "SHAPES", "SHAPE_KINDS", "SIZES", "STYLES", "TEXTURES", "Scenes",
    "captions", "draw", "is_held_out", "known_words", "noun", "sample_scenes",
]  # fmt: skip
