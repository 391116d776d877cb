"""The readout is linear discriminant analysis, whatever the order and size of the batches it was told."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from cl_core.observers.lda_readout import SHRINKAGE, ClassStatistics
from tests.training.elsewhere import DEVICE, Elsewhere


@pytest.fixture
def drawn():
    """Features [120, 7] of four classes with different means and a common, skewed spread; and new ones [60, 7]."""
    generator = np.random.default_rng(4)
    mixing, means = generator.normal(size=(7, 7)), 2 * generator.normal(size=(4, 7))
    labels = generator.integers(0, 4, 180)
    features = means[labels] + generator.normal(size=(180, 7)) @ mixing
    features, labels = torch.from_numpy(features), torch.from_numpy(labels)
    return features[:120], labels[:120], features[120:]


def told(features, labels, classes=4, size=1000):
    statistics = ClassStatistics(classes, features.shape[1])
    for start in range(0, len(features), size):
        statistics.add(features[start : start + size], labels[start : start + size])
    return statistics


def test_scores_follow_the_formula_written_out(drawn):
    features, labels, new = (value.numpy() for value in drawn)
    means = np.stack([features[labels == c].mean(axis=0) for c in range(4)])
    centred = features - means[labels]
    within = centred.T @ centred / len(features)
    covariance = (1 - SHRINKAGE) * within + SHRINKAGE * np.trace(within) / 7 * np.eye(7)
    inverse = np.linalg.inv(covariance)
    expected = np.array([[m @ inverse @ x - 0.5 * m @ inverse @ m for m in means] for x in new])
    scores = told(*drawn[:2]).classify(drawn[2])
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-8)


def test_it_decides_like_scikit_learns_discriminant_analysis(drawn):
    """With as many images in every class scikit-learn's pooled covariance and equal priors are ours."""
    features, labels, new = (value.numpy() for value in drawn)
    kept = np.concatenate([np.nonzero(labels == c)[0][:20] for c in range(4)])
    analysis = LinearDiscriminantAnalysis("lsqr", priors=[0.25] * 4).fit(features[kept], labels[kept])
    ours = told(torch.from_numpy(features[kept]), torch.from_numpy(labels[kept]))
    np.testing.assert_allclose(ours.means.numpy(), analysis.means_, rtol=1e-10)
    np.testing.assert_allclose((ours.scatter / ours.counts.sum()).numpy(), analysis.covariance_, rtol=1e-8)
    assert (ours.classify(drawn[2]).argmax(dim=1).numpy() == analysis.predict(new)).mean() > 0.95


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_order_and_size_of_batches_does_not_matter(drawn, size):
    features, labels, new = drawn
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(size))
    whole, shuffled = told(features, labels), told(features[order], labels[order], size=size)
    torch.testing.assert_close(shuffled.means, whole.means)
    torch.testing.assert_close(shuffled.scatter, whole.scatter)
    assert torch.equal(shuffled.counts, whole.counts)
    torch.testing.assert_close(shuffled.classify(new), whole.classify(new))


def test_classes_without_images_are_never_chosen(drawn):
    features, labels, new = drawn
    scores = told(features, labels, classes=6).classify(new)
    assert (scores[:, 4:] == -torch.inf).all() and torch.isfinite(scores[:, :4]).all()


def test_a_single_image_a_class_decides_by_the_nearest_mean():
    features = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
    statistics = told(features, torch.tensor([0, 1]), classes=2)
    assert statistics.classify(torch.tensor([[1.0, 9.0], [3.0, -9.0]])).argmax(dim=1).tolist() == [0, 1]


def test_statistics_keep_their_size_and_travel_as_state(drawn):
    features, labels, new = drawn
    statistics, copy = told(features, labels), ClassStatistics(4, 7)
    assert sum(v.numel() for v in statistics.state_dict().values()) == 4 + 4 * 7 + 7 * 7
    copy.load_state_dict(statistics.state_dict())
    assert torch.equal(copy.classify(new), statistics.classify(new))


def test_nothing_can_be_classified_before_anything_was_told():
    with pytest.raises(ValueError, match="no class statistics yet"):
        ClassStatistics(3, 2).classify(torch.zeros(1, 2))


def test_on_a_device_a_batch_is_waited_for_once_however_many_classes_it_holds(drawn):
    features, labels, new = drawn
    here = told(features, labels, size=40)
    with Elsewhere() as device:
        there = ClassStatistics(4, 7).to(DEVICE)
        for part, classes in zip(features.split(40), labels.split(40), strict=True):
            there.add(part.to(DEVICE), classes.to(DEVICE))
        assert len(device.waits) == 3
        scores = there.classifier()
        for batch in new.split(10):
            scores(batch.to(DEVICE))
        assert len(device.waits) == 4, "whether anything was told, once"
        for name, value in there.state_dict().items():
            assert torch.equal(value.cpu(), here.state_dict()[name]), name
