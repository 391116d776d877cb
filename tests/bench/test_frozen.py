"""The frozen reference: its LDA is the engine's readout where their shrinkages meet, and it reads every image once."""

import pytest
import torch

from bench.frozen import by_task, lda_accuracy, logistic_accuracy, sides
from cl_core.observers.lda_readout import SHRINKAGE, ClassStatistics


@pytest.fixture(scope="module")
def found():
    return sides("synthetic", "random-vit", "test")


def test_all_training_and_test_images_are_read_with_all_classes(found):
    (features, labels), (unknown, truth) = found
    assert len(features) == len(labels) == 200 and len(unknown) == len(truth) == 100
    assert set(labels.tolist()) == set(truth.tolist()) == set(range(10))
    (_, learned), (_, held_out) = sides("synthetic", "random-vit", "validation")
    assert len(learned) == 160 and len(held_out) == 40, "of the training images"


def test_tasks_are_classes_in_order_of_arrival_numbered_from_zero(found):
    cut = by_task(*found, tasks=5)
    assert len(cut) == 5 and sum(len(train[1]) for train, _ in cut) == 200
    for task, (train, test) in enumerate(cut):
        assert set(train[1].tolist()) == set(test[1].tolist()) == {0, 1}
        assert torch.equal(test[0], found[1][0][found[1][1] // 2 == task])


def test_lda_is_the_engines_readout_at_its_shrinkage(found):
    (features, labels), (unknown, truth) = found
    statistics = ClassStatistics(10, features.shape[1])
    statistics.add(features, labels)
    right = (statistics.classify(unknown).argmax(1) == truth).double().mean()
    assert lda_accuracy(*found, SHRINKAGE) == pytest.approx(100 * float(right))


@pytest.mark.parametrize(("accuracy", "setting"), [(lda_accuracy, 1e-2), (logistic_accuracy, 1.0)])
def test_readouts_tell_separate_clouds_apart_and_not_clouds_that_are_one(accuracy, setting):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat(60)
    noise = torch.randn(2, len(labels), 8, generator=generator)
    apart = noise + 6 * torch.eye(8)[labels]
    assert accuracy((apart[0], labels), (apart[1], labels), setting) > 98
    assert accuracy((noise[0], labels), (noise[1], labels), setting) < 45, "chance is 25"
