"""The joint space by its formulas, and its measurement on a real (untrained) pair of towers."""

import numpy as np
import pytest
import torch

from cl_core.events import Clock
from cl_core.observers import gap, joint_space
from cl_core.observers.gap import ModalityGap
from cl_core.presets import resolve
from cl_core.store import create_run
from cl_core.training import checkpoint
from cl_core.training.factory import build


def unit(rng, *shape):
    rows = rng.normal(size=shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture
def clouds():
    """Forty pairs in eight dimensions that lie near each other."""
    rng = np.random.default_rng(0)
    x, t = unit(rng, 40, 8), None
    t = x + 0.4 * rng.normal(size=x.shape) + 0.3
    return x, t / np.linalg.norm(t, axis=1, keepdims=True)


# ---------------------------------------------------------------- formulas


def test_equal_clouds_have_no_gap_and_opposite_points_the_largest(clouds):
    x, _ = clouds
    pole = np.tile([1.0, 0, 0], (5, 1))
    assert joint_space.modality_gap(x, x[::-1]) == pytest.approx(0, abs=1e-12)
    assert joint_space.modality_gap(pole, -pole) == pytest.approx(2)
    assert joint_space.paired_distance(pole, -pole) == pytest.approx(2)


def test_a_common_rotation_changes_no_number(clouds):
    x, t = clouds
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))

    def numbers(x, t):
        positive, negative = joint_space.pair_cosines(x @ t.T)
        return [
            joint_space.modality_gap(x, t),
            joint_space.paired_distance(x, t),
            positive.mean(),
            negative.mean(),
            joint_space.separation(positive, negative),
            joint_space.area_under_roc(positive, negative),
            *joint_space.retrieval_recall(x @ t.T).values(),
        ]

    np.testing.assert_allclose(numbers(x @ turn, t @ turn), numbers(x, t), rtol=1e-9)


def test_the_squared_gap_follows_from_mean_lengths_and_mean_cosines(clouds):
    """Δ² = ‖mean x‖² + ‖mean t‖² − 2 (μ₊ + (n − 1) μ₋) / n."""
    x, t = clouds
    n = len(x)
    positive, negative = joint_space.pair_cosines(x @ t.T)
    assert (len(positive), len(negative)) == (n, n * (n - 1))
    means = np.linalg.norm(x.mean(axis=0)) ** 2 + np.linalg.norm(t.mean(axis=0)) ** 2
    expected = means - 2 * (positive.mean() + (n - 1) * negative.mean()) / n
    assert joint_space.modality_gap(x, t) ** 2 == pytest.approx(expected)


def test_retrieval_of_the_identity_is_perfect_and_ties_count_against_it():
    assert joint_space.retrieval_recall(np.eye(7)) == {"1": 100.0, "5": 100.0}
    assert joint_space.retrieval_recall(np.ones((7, 7))) == {"1": 0.0, "5": 0.0}
    assert joint_space.retrieval_recall(np.ones((5, 5))) == {"1": 0.0, "5": 100.0}, "all five are among the five best"
    cosines = np.array([[0.9, 0.1, 0.2], [0.8, 0.5, 0.1], [0.1, 0.2, 0.7]])
    assert joint_space.retrieval_recall(cosines, (1, 2)) == {"1": pytest.approx(200 / 3), "2": 100.0}
    assert joint_space.retrieval_recall(cosines.T, (1,)) == {"1": 100.0}


def test_area_under_roc_has_its_known_values():
    area = joint_space.area_under_roc
    assert area(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert area(np.array([0.0]), np.array([1.0])) == 0
    assert area(np.array([1.0, 1.0]), np.array([1.0])) == 0.5
    assert area(np.array([1.0, 3.0]), np.array([0.0, 2.0])) == 0.75
    rng = np.random.default_rng(2)
    positive, negative = rng.integers(0, 9, 30).astype(float), rng.integers(0, 7, 50).astype(float)
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    truth = np.repeat([1, 0], [30, 50])
    expected = sklearn_metrics.roc_auc_score(truth, np.concatenate([positive, negative]))
    assert area(positive, negative) == pytest.approx(expected)


def test_separation_counts_in_standard_deviations():
    assert joint_space.separation(np.array([4.0, 6.0]), np.array([0.0, 2.0])) == pytest.approx(4)
    assert np.isnan(joint_space.separation(np.ones(3), np.zeros(3)))


def test_a_line_tells_clouds_apart_only_where_there_is_a_gap():
    rng = np.random.default_rng(3)
    together = rng.normal(size=(100, 4))
    assert joint_space.linear_probe(together, together + 20) == 100
    assert joint_space.linear_probe(together, together) == pytest.approx(50)
    assert np.isnan(joint_space.linear_probe(together[:3], together[:3]))


def test_shares_sum_to_one_and_lose_nothing_at_the_ends():
    found = joint_space.shares(np.array([-1.0000001, 0.0, 1.0000001, 1.0]), gap.EDGES)
    assert found.sum() == pytest.approx(1) and found[-1] == 0.5 and found[0] == 0.25


def test_the_first_axis_shows_the_whole_gap_at_the_first_moment(clouds):
    x, t = clouds[:2]
    centre, axes = joint_space.gap_axes(x, t)
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)
    drawn = ((x - centre) @ axes.T).mean(axis=0) - ((t - centre) @ axes.T).mean(axis=0)
    np.testing.assert_allclose(drawn, [joint_space.modality_gap(x, t), 0], atol=1e-12)


def test_axes_are_orthonormal_and_never_flip(clouds):
    rows = np.concatenate(clouds)
    centre, axes = joint_space.principal_axes(rows)
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(joint_space.principal_axes(rows[::-1])[1], axes, atol=1e-9)
    placed = (rows - centre) @ axes.T
    assert placed[:, 0].var() > placed[:, 1].var() > ((rows - centre) ** 2).sum() / len(rows) / 8 / 4


def test_class_similarities_and_accuracy_on_a_known_case():
    x, t = np.array([[1.0, 0], [0, 1], [0.6, 0.8]]), np.array([[1.0, 0], [0, 1]])
    positive, negative = joint_space.class_similarities(x, t, np.array([0, 1, 0]))
    assert (positive, negative) == (pytest.approx(2.6 / 3), pytest.approx(0.8 / 3))
    assert joint_space.nearest_text_accuracy(x, t, np.array([0, 1, 0])) == pytest.approx(200 / 3)
    assert np.isnan(joint_space.class_similarities(x, t[:1], np.zeros(3, dtype=int))[1])


def test_a_vector_without_length_has_no_direction():
    assert np.isnan(joint_space.cosine(np.zeros(3), np.ones(3)))


# ---------------------------------------------------------------- the measurement


@pytest.fixture
def clip_trainer():
    """Two domains for untrained towers, ready for its first task."""

    def make(method="finetune", **others):
        pytest.importorskip("open_clip", reason="open_clip is not installed")
        record = {"method": method, "backbone": "random-clip", "stream": "micro-mtil", "device": "cpu"}
        trainer = build(resolve({**record, "stream_settings": {"tasks": 2}, **others}))
        trainer.method.begin_task(0, trainer.stream[0].classes)
        return trainer

    return make


def said(events):
    """What events say, as bytes or text, so that NaN equals itself."""
    return [
        (e.kind, {k: v.tobytes() if isinstance(v, np.ndarray) else repr(v) for k, v in e.body().items()})
        for e in events
    ]


def shifted(trainer):
    """Move the picture tower a little, as training would."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in trainer.method.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    trainer.method.refresh()


def test_the_same_model_measures_the_same_and_draws_no_random_number(clip_trainer):
    trainer = clip_trainer()
    measured = trainer.observers.find(ModalityGap)
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes()
    first = measured.measure(trainer.method, trainer.backbone, Clock())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tobytes() == before[1]
    assert said(measured.measure(trainer.method, trainer.backbone, Clock())) == said(first)
    assert all(p.grad is None for p in trainer.method.parameters())


def test_towers_are_asked_again_only_after_weights_have_moved(clip_trainer):
    trainer, passed = clip_trainer(), []
    measured = trainer.observers.find(ModalityGap)
    trainer.backbone.tokenizer = _counted(trainer.backbone.tokenizer, passed, "tokens")
    measured._look = _counted(measured._look, passed, "pictures")
    count = lambda: (passed.count("tokens"), passed.count("pictures"))
    measured.measure(trainer.method, trainer.backbone, Clock())
    once = count()
    assert once == (1, 2 + len(trainer.stream))
    measured.measure(trainer.method, trainer.backbone, Clock())
    assert count() == once
    shifted(trainer)
    measured.measure(trainer.method, trainer.backbone, Clock(0))
    assert count() == (1, 2 * once[1]), "sentences stay the same, pictures are embedded anew"
    next(trainer.method.parameters()).data.add_(0.1)  # as fused optimisers do: the version counter stays
    measured.measure(trainer.method, trainer.backbone, Clock(1))
    assert count() == (1, 3 * once[1])


def _counted(work, calls, name):
    def counted(*given, **named):
        calls.append(name)
        return work(*given, **named)

    return counted


def test_every_field_says_what_its_name_says(clip_trainer):
    trainer = clip_trainer()
    measured = trainer.observers.find(ModalityGap)
    space, *tasks = measured.measure(trainer.method, trainer.backbone, Clock())
    n = len(trainer.stream.general.pairs)
    assert space.pairs == n and space.images.shape == space.texts.shape == (n, 2)
    assert 0 <= space.length <= 2 and space.direction == pytest.approx(1)
    assert len(space.edges) == len(space.positive) + 1 == len(space.negative) + 1
    assert space.positive.sum() == pytest.approx(1) and space.negative.sum() == pytest.approx(1)
    mean = (space.positive_mean + (n - 1) * space.negative_mean) / n
    assert space.length**2 == pytest.approx(space.image_mean**2 + space.text_mean**2 - 2 * mean, abs=1e-6)
    assert set(space.image_to_text) == set(space.text_to_image) == {"1", "5"}
    assert 0 <= space.auc <= 1 and 0 <= space.general_accuracy <= 100 and 0 <= space.linear_probe <= 100
    both = np.concatenate([space.images, space.texts]).astype(float)
    np.testing.assert_allclose(both.mean(axis=0), 0, atol=2e-3, err_msg="drawn around the centre of both clouds")
    assert [e.evaluated for e in tasks] == [0, 1]
    assert all(abs(e.positive) <= 1 and abs(e.negative) <= 1 and 0 <= e.gap <= 2 for e in tasks)


def test_similarities_are_those_of_the_tasks_own_pictures_and_texts(clip_trainer):
    trainer = clip_trainer()
    measured = trainer.observers.find(ModalityGap)
    event = measured.measure(trainer.method, trainer.backbone, Clock())[2]
    task = trainer.stream[1]
    chosen = task.probes(gap.PICTURES)
    with torch.no_grad():
        pooled = trainer.method.features(trainer.backbone, task.prepare(chosen.pictures)).pooled
    x = torch.nn.functional.normalize(pooled, dim=1)
    cosines = x @ trainer.method.class_texts[task.classes.start : task.classes.stop].mT
    own = cosines.gather(1, chosen.labels[:, None] - task.classes.start)
    assert event.positive == pytest.approx(float(own.mean()), abs=1e-6)
    others = (cosines.sum() - own.sum()) / (cosines.numel() - len(own))
    assert event.negative == pytest.approx(float(others), abs=1e-6)


def test_later_measurements_are_drawn_on_the_first_axes_also_after_a_resume(clip_trainer, tmp_path):
    trainer = clip_trainer()
    measured = trainer.observers.find(ModalityGap)
    assert measured.state_dict() == {}
    first = measured.measure(trainer.method, trainer.backbone, Clock())
    saved = checkpoint.save(
        create_run(tmp_path, trainer.config), {"cursor": {"task": 0}, "gap": measured.state_dict()}, 1, boundary=True
    )
    shifted(trainer)
    later = measured.measure(trainer.method, trainer.backbone, Clock(0))
    assert later[0].direction < 1 and not np.array_equal(later[0].images, first[0].images)
    resumed = ModalityGap(trainer.stream)
    resumed.load_state_dict(checkpoint.load(saved)["gap"])
    assert said(resumed.measure(trainer.method, trainer.backbone, Clock(0))) == said(later)
    for name, value in measured.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)
    alone = ModalityGap(trainer.stream)
    assert alone.measure(trainer.method, trainer.backbone, Clock(0))[0].direction == pytest.approx(1)


def test_before_anything_was_measured_the_state_is_restored_as_nothing(clip_trainer):
    trainer = clip_trainer()
    measured = trainer.observers.find(ModalityGap)
    fresh = ModalityGap(trainer.stream)
    fresh.load_state_dict(measured.state_dict())
    assert fresh.state_dict() == {}


def test_without_a_general_set_only_the_tasks_are_measured(clip_trainer):
    trainer = clip_trainer(stream="synthetic")
    measured = trainer.observers.find(ModalityGap)
    assert trainer.stream.general is None
    events = measured.measure(trainer.method, trainer.backbone, Clock())
    assert [(e.kind, e.evaluated) for e in events] == [("SimilaritiesMeasured", 0), ("SimilaritiesMeasured", 1)]


def test_a_method_without_a_text_tower_says_nothing(tiny_trainer):
    trainer = tiny_trainer("sequential", tasks=2)
    measured = trainer.observers.find(ModalityGap)
    assert measured.measure(trainer.method, trainer.backbone, Clock()) == []
