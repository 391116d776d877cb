"""The micro world is repeatable, keeps its promise about held-out combinations, and shows what the labels say."""

import dataclasses

import pytest
import torch

from cl_core.synthetic_world import (
    COLOURS,
    DIGIT_KINDS,
    KINDS,
    LETTER_KINDS,
    SHAPE_KINDS,
    TEXTURES,
    Scenes,
    draw,
    is_held_out,
    sample_scenes,
)
from cl_core.synthetic_world.atlas import load_atlas
from cl_core.synthetic_world.handwriting import load_skeletons, pen_distance


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_scene(**changes: int) -> Scenes:
    values = dict(kind=0, colour=0, texture=0, size=2, count=0, position=0, background=11, style=0)
    return Scenes(**{name: torch.tensor([value]) for name, value in (values | changes).items()})


def ink(scenes: Scenes, seed: int = 0) -> torch.Tensor:
    """Where red objects on black are: [B, 32, 32]."""
    return draw(scenes, seeded(seed))[:, 0] > 0.45


def test_the_same_seed_draws_the_same_images_and_another_seed_others():
    first, second, other = (draw(sample_scenes(64, g), g) for g in (seeded(1), seeded(1), seeded(2)))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_images_lie_in_range_with_the_right_shape():
    generator = seeded()
    images = draw(sample_scenes(256, generator), generator)
    assert images.shape == (256, 3, 32, 32)
    assert images.isfinite().all() and images.min() >= 0 and images.max() <= 1


@pytest.mark.parametrize("held_out", [False, True])
def test_sampling_respects_the_held_out_rule(held_out):
    scenes = sample_scenes(4000, seeded(), held_out=held_out)
    assert (is_held_out(scenes.kind, scenes.colour, scenes.texture) == held_out).all()


def test_the_held_out_rule_keeps_about_one_combination_in_eleven_and_every_value_on_both_sides():
    axes = (torch.arange(len(KINDS)), torch.arange(len(COLOURS)), torch.arange(len(TEXTURES)))
    held_out = is_held_out(*torch.meshgrid(*axes, indexing="ij"))
    assert held_out.float().mean() == pytest.approx(1 / 11, abs=0.01)
    for others in ((1, 2), (0, 2), (0, 1)):
        assert held_out.flatten().any() and held_out.amax(others).all() and not held_out.float().amin(others).any()


def test_only_the_kinds_asked_for_appear_and_all_of_them_do():
    wanted = [*SHAPE_KINDS, *LETTER_KINDS]
    scenes = sample_scenes(4000, seeded(), kinds=wanted)
    assert set(scenes.kind.tolist()) == set(wanted)


def test_object_and_background_never_share_a_colour():
    scenes = sample_scenes(4000, seeded())
    assert (scenes.colour != scenes.background).all()


def test_a_larger_size_covers_more_pixels():
    areas = [ink(one_scene(size=size)).sum() for size in range(3)]
    assert areas[0] < areas[1] < areas[2]


def test_a_position_moves_the_ink_to_its_side():
    def centre(position: int) -> torch.Tensor:
        rows, columns = ink(one_scene(size=0, position=position))[0].nonzero().float().mean(0)
        return torch.stack([columns, rows])

    middle, left, right, top, bottom = (centre(position) for position in range(5))
    assert left[0] < middle[0] - 5 and right[0] > middle[0] + 5
    assert top[1] < middle[1] - 5 and bottom[1] > middle[1] + 5


def test_a_count_shows_as_that_many_separate_pieces():
    from scipy.ndimage import label

    for count in range(4):
        _, pieces = label(ink(one_scene(kind=3, count=count, size=1))[0].numpy())
        assert pieces == count + 1


def test_hollow_shapes_show_the_background_in_their_middle():
    assert ink(one_scene())[0, 14:18, 14:18].all()
    assert not ink(one_scene(texture=TEXTURES.index("hollow")))[0, 14:18, 14:18].any()


@pytest.mark.parametrize("texture", ["striped", "dotted", "checkered"])
def test_patterns_are_coarse_enough_to_see_on_large_objects(texture):
    plain = draw(one_scene(colour=9), seeded())[0, :, 10:22, 10:22]
    patterned = draw(one_scene(colour=9, texture=TEXTURES.index(texture)), seeded())[0, :, 10:22, 10:22]
    assert patterned.std() > plain.std() + 0.15


def test_every_kind_has_drawings_and_the_outlines_stay_inside_their_maps():
    atlas = load_atlas()
    assert (atlas.variants > 0).all() and int(atlas.variants.sum()) == len(atlas.distances)
    rim = torch.cat([atlas.distances[:, [0, -1]].flatten(), atlas.distances[:, :, [0, -1]].flatten()])
    assert (rim < 0).all() and (atlas.distances.amax((1, 2)) > 0).all()


def test_handwritten_digits_fill_their_frame_and_differ_from_writing_to_writing():
    digits = torch.arange(10).repeat(20)
    distance = pen_distance(digits, seeded())
    written = distance < 3.0
    assert written[:, :3].any((1, 2)).all() and written[:, -3:].any((1, 2)).all()
    assert not torch.equal(distance[:10], distance[10:20])


def test_pen_paths_have_no_gaps_between_strokes_points():
    paths, first, variants = load_skeletons()
    assert int(variants.sum()) == len(paths) and first.tolist() == [0, *variants.cumsum(0).tolist()[:-1]]
    assert paths.diff(dim=1).norm(dim=-1).quantile(0.9) * 15 < 2.2  # pixels; the pen is wider than that


def test_digits_look_like_real_ones_in_amount_of_ink():
    from sklearn.datasets import load_digits

    scenes = sample_scenes(600, seeded(), kinds=DIGIT_KINDS)
    same = torch.full_like(scenes.kind, 3)
    scenes = dataclasses.replace(scenes, style=same, texture=0 * same, size=2 * same // 3, count=0 * same)
    scenes = dataclasses.replace(scenes, colour=0 * same + 9, background=0 * same + 11, position=0 * same)
    drawn = draw(scenes, seeded()).mean()
    assert float(drawn) == pytest.approx(load_digits().images.mean() / 16, abs=0.08)
