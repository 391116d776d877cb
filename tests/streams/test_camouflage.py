"""Camouflage: the direction of stripes tells a shape from the ground, and nothing simpler does."""

import math
from collections import Counter

import pytest
import torch

from cl_core.config import Preprocessing, StreamConfig
from cl_core.streams import camouflage as module
from cl_core.streams.camouflage import NAMES, TEST, TRAIN, camouflage, camouflaged, outlines
from cl_core.synthetic_world import known_words

USUAL = Preprocessing(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def whole():
    return camouflage(StreamConfig(tasks=1), USUAL, 0)[0]


def split_in_the_middle(n):
    """Left half inside, right half outside."""
    inside = torch.zeros(n, 32, 32)
    inside[..., :16] = 1
    return inside


def direction(pictures):
    """[n, 3, h, w] → [n] direction across the stripes in 0..π, from the structure tensor."""
    grey = pictures.mean(1)
    across, down = grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2], grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]
    xx, yy, xy = (value.sum((1, 2)) for value in (across * across, down * down, across * down))
    return (torch.atan2(2 * xy, xx - yy) / 2) % math.pi


def test_every_class_has_equally_many_pictures_with_something_to_see(whole):
    assert Counter(whole.train.labels.tolist()) == dict.fromkeys(range(10), TRAIN)
    assert Counter(whole.test.labels.tolist()) == dict.fromkeys(range(10), TEST)
    for part in (whole.train, whole.test):
        assert part.pictures.min() >= 0 and part.pictures.max() <= 1
        assert part.pictures.std((2, 3)).amax(1).min() > 0.08, "stripes are seen in some channel of every picture"


def test_stripes_within_cross_those_without():
    pictures = camouflaged(split_in_the_middle(200), seeded())
    within, without = direction(pictures[..., :14]), direction(pictures[..., 18:])
    apart = (within - without).abs()
    assert ((apart - math.pi / 2).abs() < 0.25).float().mean() > 0.98


def test_neither_light_nor_colour_tells_the_inside_from_the_outside():
    pictures = camouflaged(split_in_the_middle(400), seeded())
    contrast = pictures.amax((2, 3)) - pictures.amin((2, 3))  # [n, 3]
    difference = pictures[..., :16].mean((2, 3)) - pictures[..., 16:].mean((2, 3))
    assert (difference.abs() < 0.2 * contrast + 0.02).float().mean() > 0.95, "less than a stripe's worth"
    assert difference.mean(0).abs().max() < 0.01, "and to neither side on average"
    spread = [float(side.std((2, 3)).mean()) for side in (pictures[..., :16], pictures[..., 16:])]
    assert spread[0] == pytest.approx(spread[1], rel=0.03)


def test_outlines_are_one_inside_zero_outside_and_fill_the_picture():
    found = outlines(torch.arange(10).repeat(20), seeded())
    assert ((found < 0.05) | (found > 0.95)).float().mean() > 0.85, "only a rim is in between"
    assert found[:, 14:18, 14:18].mean() > 0.6, "shapes stand near the centre"
    border = torch.cat([found[:, 0], found[:, -1], found[..., 0], found[..., -1]], dim=1)
    assert border.mean() < 0.08, "large squares touch the border"
    area = found.mean((1, 2)).view(20, 10).mean(0)
    assert area[NAMES.index("square")] > area[NAMES.index("circle")] > area[NAMES.index("star")] > 0.1


def test_the_same_pictures_come_out_again_whatever_happened_before(whole):
    module._pictures.cache_clear()
    torch.manual_seed(9)
    again = camouflage(StreamConfig(tasks=1), USUAL, 0)[0]
    assert torch.equal(whole.train.pictures, again.train.pictures)
    assert torch.equal(whole.test.pictures, again.test.pictures)


def test_it_can_be_said_in_words_of_the_micro_world_and_has_the_pre_training_world(whole):
    assert set(" ".join(s for texts in whole.words.texts() for s in texts).split()) <= known_words()
    world = camouflage(StreamConfig(tasks=5), USUAL, 0).world
    assert world is not None and world(3).shape == (3, 3, 32, 32)
