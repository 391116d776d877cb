"""Training pictures changed by seed: what is drawn, what pixels become, and that nobody else's draws are touched."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from cl_core.config import Preprocessing, TrainingConfig
from cl_core.streams.augmentation import RATIO, Augmentation, crops, cut
from cl_core.streams.stream import Split, Task

EVERYTHING = Augmentation("cifar10", 0.2, True)


@pytest.fixture
def pictures(seeded):
    """Twelve smooth coloured pictures of 16×16 in 0..1."""
    coarse = torch.rand(12, 3, 4, 4, generator=seeded(0))
    return F.interpolate(coarse, size=(16, 16), mode="bilinear")


@pytest.fixture
def task(pictures):
    split = Split((pictures * 255).byte(), torch.arange(12) % 2)
    return Task(3, range(2), ("a", "b"), split, split, Preprocessing(24, (0.5,) * 3, (0.25,) * 3))


def test_no_setting_means_no_augmentation_at_all():
    assert Augmentation.of(TrainingConfig()) is None
    asked = TrainingConfig(auto_augment="imagenet", random_crop=0.3, flip=True)
    assert Augmentation.of(asked) == Augmentation("imagenet", 0.3, True)


def test_crops_have_the_areas_and_shapes_that_were_asked_for_and_lie_within(seeded):
    boxes = crops(20_000, 0.08, seeded(1))
    (left, top), (width, height) = boxes[:, :2].T, boxes[:, 2:].T
    assert left.min() >= 0 and top.min() >= 0
    assert (left + width).max() <= 1 + 1e-6 and (top + height).max() <= 1 + 1e-6
    area, ratio = width * height, (width / height).log()
    assert area.min() >= 0.08 - 1e-6 and ratio.abs().max() <= math.log(RATIO) + 1e-6
    assert abs(float(ratio.mean())) < 0.005, "wide as often as high"
    free = width < 0.5  # far from the edges, where no draw was thrown away
    assert float((left / (1 - width))[free].mean()) == pytest.approx(0.5, abs=0.01), "anywhere that fits"


def test_areas_are_distributed_as_torchvisions_crops_are(seeded):
    from torchvision.transforms import v2

    theirs = v2.RandomResizedCrop(8, scale=(0.3, 1.0))
    picture = torch.empty(3, 500, 500)
    torch.manual_seed(0)
    areas = torch.tensor(
        [p["height"] * p["width"] / 500**2 for p in (theirs.make_params([picture]) for _ in range(4000))]
    )
    ours = crops(4000, 0.3, seeded(2))[:, 2:].prod(dim=1)
    shares = torch.linspace(0.05, 0.95, 19)
    assert (ours.quantile(shares) - areas.quantile(shares)).abs().max() < 0.03


def test_where_no_draw_fits_the_whole_picture_is_taken(seeded):
    boxes = crops(4000, 1.0, seeded(0))  # a share of 1 fits only at a ratio of exactly 1
    assert torch.equal(boxes, torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(4000, 4))


def test_the_whole_picture_cut_out_is_the_picture_enlarged(pictures):
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(12, 4)
    enlarged = F.interpolate(pictures, size=(40, 40), mode="bicubic").clamp(0, 1)
    torch.testing.assert_close(cut(pictures, whole, 40), enlarged, atol=1e-5, rtol=0)


def test_a_crop_shows_what_lies_in_its_box():
    across = torch.linspace(0, 1, 33)[:-1] + 1 / 64  # brightness = place, at the centres of 32 pixels
    ramps = torch.stack([across.expand(32, 32), across[:, None].expand(32, 32), torch.zeros(32, 32)])[None]
    found = cut(ramps, torch.tensor([[0.25, 0.5, 0.5, 0.25]]), 8)[0]
    centres = (torch.arange(8) + 0.5) / 8
    torch.testing.assert_close(found[0], (0.25 + 0.5 * centres).expand(8, 8), atol=2e-3, rtol=0)
    torch.testing.assert_close(found[1], (0.5 + 0.25 * centres)[:, None].expand(8, 8), atol=2e-3, rtol=0)


def test_half_of_the_pictures_are_mirrored_and_the_others_untouched(pictures):
    many = pictures.repeat(50, 1, 1, 1)
    shown = Augmentation(flip=True)(many, 16, 5)
    mirrored = torch.tensor([torch.equal(s, m.flip(-1)) for s, m in zip(shown, many, strict=True)])
    untouched = torch.tensor([torch.equal(s, m) for s, m in zip(shown, many, strict=True)])
    assert (mirrored ^ untouched).all() and 250 < int(mirrored.sum()) < 350


@pytest.mark.parametrize("stored", ["bytes", "floats"])
def test_a_policy_changes_pictures_within_their_range_whatever_they_are_stored_as(pictures, stored):
    given = (pictures * 255).byte() if stored == "bytes" else pictures
    shown = Augmentation("cifar10")(given, 24, 1)
    assert shown.dtype == torch.float32 and shown.shape == pictures.shape and shown.min() >= 0 and shown.max() <= 1
    as_stored = given.float() / 255 if stored == "bytes" else given
    assert ((shown - as_stored).abs().amax(dim=(1, 2, 3)) > 0.05).sum() >= 6, "most sub-policies are seen to act"


def test_the_same_seed_shows_the_same_pixels_and_another_one_others(pictures):
    assert torch.equal(EVERYTHING(pictures, 24, 7), EVERYTHING(pictures, 24, 7))
    assert not torch.equal(EVERYTHING(pictures, 24, 7), EVERYTHING(pictures, 24, 8))


def test_nobody_elses_random_numbers_are_touched(pictures):
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    EVERYTHING(pictures, 24, 7)
    assert torch.equal(torch.rand(4), wanted)


def test_batches_differ_from_epoch_to_epoch_and_are_the_same_from_wherever_an_epoch_is_entered(task):
    def epoch(number, start=0):
        return [b.images for b in task.batches(5, seed=1, epoch=number, start=start, augmentation=EVERYTHING)]

    whole = epoch(0)
    assert [b.shape for b in whole] == [(5, 3, 24, 24), (5, 3, 24, 24), (2, 3, 24, 24)]
    for start in (1, 2):
        for one, other in zip(epoch(0, start), whole[start:], strict=True):
            assert torch.equal(one, other)
    assert not torch.equal(epoch(1)[0], whole[0])


def test_augmentation_changes_neither_order_nor_labels_nor_what_evaluation_sees(task):
    changed = list(task.batches(5, seed=1, epoch=0, augmentation=EVERYTHING))
    plain = list(task.batches(5, seed=1, epoch=0))
    assert [b.labels.tolist() for b in changed] == [b.labels.tolist() for b in plain]
    assert not torch.equal(changed[0].images, plain[0].images)
    assert torch.equal(next(task.ordered("train", 12)).images, task.prepare(task.train.pictures))


def test_a_run_trains_on_changed_pictures_only_where_it_is_told_to(tiny_trainer):
    def first_loss(**training):
        events = (e for moment in tiny_trainer("sequential", tasks=2, training=training).run() for e in moment)
        return next(e.losses["total"] for e in events if e.kind == "StepEnded")

    assert first_loss() == first_loss(random_crop=1.0) != first_loss(random_crop=0.2)
