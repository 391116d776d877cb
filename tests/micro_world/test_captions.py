"""Captions say what the scene shows, in few and known words."""

import dataclasses

import torch

from cl_core.synthetic_world import COLOUR_NAMES, KINDS, captions, known_words, noun, sample_scenes
from cl_core.synthetic_world.captions import family


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_captions_are_short_and_use_known_words_only():
    texts = captions(sample_scenes(5000, seeded()), seeded(1))
    words = [text.split() for text in texts]
    assert max(len(caption) for caption in words) <= 18  # start and end tokens make 20
    assert set().union(*words) <= known_words()


def test_captions_repeat_from_their_seed_and_leave_things_out_by_lot():
    scenes = sample_scenes(200, seeded())
    assert captions(scenes, seeded(1)) == captions(scenes, seeded(1))
    assert captions(scenes, seeded(1)) != captions(scenes, seeded(2))


def test_a_colour_that_is_named_is_the_objects_or_the_backgrounds():
    scenes = sample_scenes(500, seeded())
    for text, colour, background in zip(
        captions(scenes, seeded()), scenes.colour.tolist(), scenes.background.tolist(), strict=True
    ):
        front, _, behind = text.partition(" on a")
        assert {word for word in front.split() if word in COLOUR_NAMES} <= {COLOUR_NAMES[colour]}
        assert {word for word in behind.split() if word in COLOUR_NAMES} <= {COLOUR_NAMES[background]}


def test_every_kind_has_its_own_noun_and_every_caption_contains_it():
    assert len({noun(kind) for kind in range(len(KINDS))}) == len(KINDS)
    scenes = sample_scenes(500, seeded())
    scenes = dataclasses.replace(scenes, count=torch.zeros_like(scenes.count))
    for text, kind in zip(captions(scenes, seeded()), scenes.kind.tolist(), strict=True):
        assert any(words in text for words in (*(noun(kind, lot=lot) for lot in (0.1, 0.5, 0.7, 0.9)), family(kind)))


def test_only_what_it_is_one_of_is_named_where_something_else_is_said():
    scenes = sample_scenes(2000, seeded())
    texts = captions(scenes, seeded(1))
    generic = [text for text in texts if {"shape", "shapes"} & set(text.split())]
    assert 0.01 < len(generic) / len(texts) < 0.1  # a few, of the quarter that are shapes
    assert not {"a shape", "a photo of a shape", "a picture of a shape"} & set(texts)
