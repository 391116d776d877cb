"""RanPAC, FeCAM and SLCA against their formulas, by numbers worked out by hand or with NumPy."""

import numpy as np
import pytest
import torch

from cl_core.config import ConfigError
from cl_core.methods import fecam, ranpac, slca
from cl_core.methods.parts.class_gaussians import ClassGaussians
from cl_core.methods.parts.replay_head import TEMPERATURE

H = torch.tensor([[1.0, 0], [2, 0], [0, 1], [0, 2], [1, 1]], dtype=torch.float64)
Y = torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 1, 1])).double()


def finished(trainer):
    return [event for moment in trainer.run() for event in moment]


# ---------------------------------------------------------------- RanPAC


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [
        (1.0, [[0.4375, -0.0625], [0.0625, 0.5625]]),
        (0.1, [[0.505385, -0.08285], [0.057995, 0.64623]]),
        (10.0, [[0.188235, -0.011765], [0.047059, 0.247059]]),
    ],
)
def test_the_ridge_is_solved_on_sums(penalty, expected):
    second, cross = H.mT @ H, H.mT @ Y
    assert second.tolist() == [[6, 1], [1, 6]] and cross.tolist() == [[3, 1], [0, 4]]
    found = ranpac.ridge(second, cross, penalty)
    torch.testing.assert_close(found.mT, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


def test_the_penalty_is_the_one_that_errs_least_on_what_was_held_out():
    errors = dict(zip(ranpac.PENALTIES, ranpac.penalty_errors(H, Y).tolist(), strict=True))
    assert [errors[10.0**p] for p in range(-8, -4)] == pytest.approx([0.26] * 4, abs=1e-4)
    assert (errors[0.1], errors[1.0], errors[10.0]) == pytest.approx((0.257785, 0.25, 0.34), abs=1e-5)
    assert ranpac.chosen_penalty(H, Y) == 1.0


def test_few_rows_choose_no_penalty_but_the_smallest():
    assert ranpac.chosen_penalty(H[:1], Y[:1]) == ranpac.PENALTIES[0]


def test_with_an_ever_larger_penalty_the_weights_become_class_sums():
    found = ranpac.ridge(H.mT @ H, H.mT @ Y, 1e9)
    torch.testing.assert_close(1e9 * found, H.mT @ Y, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("units", [0, 40])
def test_learned_in_tasks_or_at_once_the_weights_are_the_same(tiny_trainer, units):
    settings = {"units": units, "first_session": "none", "penalty": 3.0}
    trainer = tiny_trainer("ranpac", settings=settings, tasks=5)
    finished(trainer)
    method, stream = trainer.method, trainer.stream
    batches = [next(task.ordered("train", 10_000)) for task in reversed(list(stream))]  # in another order
    with torch.no_grad():
        f = torch.cat([method.features(trainer.backbone, batch.images).pooled for batch in batches])
        labels = torch.cat([batch.labels for batch in batches])
        h = (torch.relu(f @ method.random) if units else f).double().numpy()
        y = np.eye(10)[labels.numpy()]
        expected = np.linalg.solve(h.T @ h + 3.0 * np.eye(h.shape[1]), h.T @ y)
        scores = method.classify(f, range(10)).numpy()
    np.testing.assert_allclose(scores, h @ expected, atol=1e-3)


def test_only_the_first_session_moves_features_and_says_so(tiny_trainer):
    trainer = tiny_trainer("ranpac", settings={"units": 30, "tuning_epochs": 3, "tuning_rate": 0.1}, tasks=2)
    before, random = trainer.method.prompts.clone(), trainer.method.random.clone()
    moments, after = trainer.run(), None
    said = []
    for moment in moments:
        said += moment
        after = trainer.method.prompts.clone() if after is None else after
    stages = [event for event in said if event.kind == "StageEnded"]
    assert [s.stage for s in stages] == ["first session"] and len(stages[0].losses["cross_entropy"]) == 3
    assert not torch.equal(before, after) and torch.equal(after, trainer.method.prompts)
    assert torch.equal(random, trainer.method.random)
    assert not [event for event in said if event.kind == "StepEnded"]


# ---------------------------------------------------------------- FeCAM


def test_a_covariance_is_shrunk_made_a_correlation_and_measures_a_distance():
    covariance = torch.tensor([[2, 0.5], [0.5, 1]], dtype=torch.float64)
    shrunk = fecam.shrunk(covariance, 1.0, 0.0)
    assert shrunk.tolist() == [[3.5, 0.5], [0.5, 2.5]]
    correlation = fecam.correlation(shrunk)
    assert correlation[0, 1].item() == pytest.approx(0.169031, abs=1e-6)
    difference = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    found = fecam.mahalanobis(difference, torch.linalg.pinv(correlation))
    assert found.item() == pytest.approx(2.406828, abs=1e-6)
    again = fecam.correlation(fecam.shrunk(7 * covariance, 1.0, 0.0))
    torch.testing.assert_close(again, correlation)


def test_the_mean_covariance_leaves_zeros_and_the_diagonal_out():
    covariance = torch.tensor([[2, 0.5, 0], [0.5, 1, 0], [0, 0, 3]], dtype=torch.float64)
    found = fecam.shrunk(covariance, 0.0, 10.0)
    assert found[0].tolist() == [2, 5.5, 5.0]
    assert fecam.shrunk(torch.eye(2), 0.0, 10.0).tolist() == [[1, 0], [0, 1]]


def test_fecam_is_numpys_distance_of_unit_features(tiny_trainer):
    trainer = tiny_trainer("fecam", tasks=5)
    finished(trainer)
    method, features = trainer.method, {}
    with torch.no_grad():
        for task in trainer.stream:
            batch = next(task.ordered("train", 10_000))
            f = method.features(trainer.backbone, batch.images).pooled.double().numpy()
            f /= np.linalg.norm(f, axis=1, keepdims=True)
            features |= {c: f[batch.labels.numpy() == c] for c in task.classes}
        images = next(trainer.stream[0].ordered("test", 7)).images
        pooled = method.features(trainer.backbone, images).pooled
        scores = method.classify(pooled, range(2, 10))
    x = pooled.double().numpy()
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    for column, label in enumerate(range(2, 10)):
        covariance = np.cov(features[label], rowvar=False)
        covariance += np.diag(covariance).mean() * np.eye(len(covariance))
        deviation = np.sqrt(np.diag(covariance))
        inverse = np.linalg.pinv(covariance / np.outer(deviation, deviation))
        difference = x - features[label].mean(axis=0)
        expected = -np.einsum("bi,ij,bj->b", difference, inverse, difference)
        np.testing.assert_allclose(scores[:, column].numpy(), expected, rtol=1e-4)


# ---------------------------------------------------------------- SLCA


def test_scores_are_divided_by_the_mean_norm_over_tasks():
    logits, tasks = torch.tensor([[3.0, 4, 0, 1]]), [range(0, 2), range(2, 4)]
    found = logits / (TEMPERATURE * slca.task_norms(logits, tasks))
    assert found[0].tolist() == pytest.approx([10, 13.3333, 0, 3.3333], abs=1e-3)
    again = 5 * logits / (TEMPERATURE * slca.task_norms(5 * logits, tasks))
    torch.testing.assert_close(again, found)


def test_reverse_cross_entropy():
    logits = torch.tensor([[0.7, 0.2, 0.1]]).log()
    assert slca.reverse_cross_entropy(logits, torch.tensor([0])).item() == pytest.approx(2.763102, abs=1e-5)


def test_older_means_and_norms_are_moved_as_published():
    tasks = [range(2 * i, 2 * i + 2) for i in range(5)]
    scales = slca.mean_scales(tasks)
    assert (scales[0].item(), scales[9].item()) == pytest.approx((0.92, 1.0)) and len(scales) == 10
    assert slca.shrunk_norms(torch.tensor(0.02), torch.tensor(4)).item() == pytest.approx(1 / 1.08)
    unequal = slca.mean_scales([range(0, 3), range(3, 4)])
    assert unequal.tolist() == pytest.approx([0.95, 0.95, 0.95, 1.0])  # a class belongs to the task it came in


def test_alignment_answers_and_leaves_the_trained_heads_as_they_were(tiny_trainer):
    trainer = tiny_trainer("slca", settings={"rate": 1e-2, "head_rate": 0.1, "draws": 32, "align_rate": 0.1}, tasks=2)
    stages, heads = [], {}
    for moment in trainer.run():
        for event in moment:
            if event.kind == "TaskEnded":
                heads[event.clock.task] = [w.detach().clone() for w in trainer.method.head.weights]
                trained = torch.cat(heads[event.clock.task])
                assert torch.equal(trained, trainer.method.head.weight) == (event.clock.task == 0)
            if event.kind == "StageEnded":
                stages.append(event)
    assert torch.equal(heads[0][0], heads[1][0])
    assert [(s.stage, s.clock.task) for s in stages] == [("classifier alignment", 1)]
    assert len(stages[0].losses["cross_entropy"]) == 5


def test_scaling_norms_at_test_multiplies_features_and_leaves_the_bias(tiny_trainer):
    trainer = tiny_trainer("slca", settings={"drift": "norms", "draws": 8, "align_epochs": 1}, tasks=2)
    finished(trainer)
    method, pooled = trainer.method, torch.randn(3, trainer.backbone.pooled_width)
    with torch.no_grad():
        found, old = method.classify(pooled, range(10)), method.head.classify(1.02 * pooled)
        torch.testing.assert_close(found[:, :5], old[:, :5])
        assert torch.equal(found[:, 5:], method.head.classify(pooled)[:, 5:])


# ---------------------------------------------------------------- Gaussians


@pytest.mark.parametrize("kind", ["class", "shared", "diagonal"])
def test_gaussians_are_numpys_and_draws_follow_them(kind, seeded):
    gaussians = ClassGaussians(3, kind, draws=20_000)
    gaussians.add_classes(range(2))
    mixing = torch.tensor([[1.0, 0.5, 0], [0, 1, 0.3], [0, 0, 0.2]])
    x = torch.randn(60, 3, generator=seeded(1)) @ mixing + 1
    labels = torch.arange(60) % 2
    for rows in (slice(0, 25), slice(25, 60)):
        gaussians.see(x[rows], labels[rows])
    gaussians.learn(range(2))
    own = [np.cov(x[labels == c].numpy(), rowvar=False) for c in range(2)]
    expected = {"class": own[1], "shared": (own[0] + own[1]) / 2, "diagonal": np.diag(np.diag(own[1]))}[kind]
    np.testing.assert_allclose(gaussians.covariance(1).numpy(), expected, atol=1e-6)
    drawn, targets = gaussians.epoch(range(2), seeded(2), torch.tensor([1.0, 0.5]))
    near = drawn[targets == 1].numpy()
    np.testing.assert_allclose(near.mean(axis=0), 0.5 * x[labels == 1].numpy().mean(axis=0), atol=0.03)
    np.testing.assert_allclose(np.cov(near, rowvar=False), expected, atol=0.06)


def test_a_class_of_one_image_can_be_drawn_from(seeded):
    gaussians = ClassGaussians(3)
    gaussians.add_classes(range(1))
    gaussians.see(torch.ones(1, 3), torch.zeros(1, dtype=torch.int64))
    gaussians.learn(range(1))
    assert torch.isfinite(gaussians.draw(0, 5, seeded(0))).all()


@pytest.mark.parametrize(
    ("method", "settings", "sentence"),
    [
        ("ranpac", {"units": -1}, r"units must lie in \[0, 100000\], got -1"),
        ("fecam", {"covariance": "full"}, "covariance must be one of class, shared, diagonal, got 'full'"),
        ("slca", {"momentum": 1.0}, r"momentum must lie in \[0, 0.999\], got 1.0"),
    ],
)
def test_settings_out_of_bounds_are_refused(tiny_trainer, method, settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        tiny_trainer(method, settings=settings)
