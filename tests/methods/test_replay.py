"""Replay: a buffer that is fair to every image, and losses that are what they say."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cl_core.method_defaults import as_first_written, method_defaults
from cl_core.methods.parts.reservoir import Reservoir
from cl_core.observers.kept import kept_bytes
from cl_core.training.factory import build, new_stream
from tests.stopped import until

EAGER = {"prompt_rate": 0.05, "temperature": 2.0}


def numbered(count, start=0):
    """Images whose every value is their number, which is their label too."""
    labels = torch.arange(start, start + count)
    return labels.float()[:, None, None, None].expand(-1, 3, 2, 2), labels


@pytest.fixture
def replay(tiny_trainer):
    def make(tasks=2, **settings):
        return tiny_trainer("replay", settings={**EAGER, "buffer": 20, "replay_batch": 8, **settings}, tasks=tasks)

    return make


# ---------------------------------------------------------------- the buffer


def test_every_image_stays_with_the_same_chance():
    """2,000 images for 100 places, 12 buffers: kept counts per twentieth of the stream against B/n, by chi-square."""
    seen, places, buffers, parts = 2000, 100, 12, 20
    counts = torch.zeros(parts)
    for seed in range(buffers):
        reservoir = Reservoir(places, 1, seed)
        images, labels = torch.zeros(seen, 3, 1, 1), torch.arange(seen)
        for some in range(0, seen, 250):
            reservoir.offer(images[some : some + 250], labels[some : some + 250])
        assert len(set(reservoir.labels.tolist())) == places
        counts += torch.bincount(reservoir.labels * parts // seen, minlength=parts)
    expected = buffers * places / parts
    statistic = float(((counts - expected) ** 2 / expected).sum())
    half = (parts - 1) / 2
    p = 1 - float(torch.special.gammainc(torch.tensor(half), torch.tensor(statistic / 2)))
    assert p > 0.001, f"chi-square {statistic:.1f}, counts {counts.tolist()}"
    assert math.isclose(float(counts.sum()), buffers * places)


def test_a_buffer_that_is_not_full_keeps_everything_and_images_stay_with_their_labels():
    reservoir = Reservoir(30, 2, 0)
    reservoir.offer(*numbered(10))
    assert len(reservoir) == 10 and sorted(reservoir.labels[:10].tolist()) == list(range(10))
    reservoir.offer(*numbered(200, start=10))
    assert len(reservoir) == 30
    assert torch.equal(reservoir.images[:, 0, 0, 0], reservoir.labels.float())


def test_a_draw_takes_different_images_and_purposes_are_independent():
    reservoir = Reservoir(40, 2, 0)
    reservoir.offer(*numbered(40))
    first, again, other = (reservoir.draw(15, purpose).labels.tolist() for purpose in ("a", "a", "b"))
    assert first == again != other and len(set(first)) == 15
    assert len(reservoir.draw(100, "a")) == 40 and len(Reservoir(5, 2, 0).draw(3, "a")) == 0


def test_logits_keep_the_width_they_had_when_they_were_kept():
    reservoir = Reservoir(4, 2, 0)
    reservoir.widen(2)
    reservoir.offer(*numbered(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    reservoir.widen(5)
    reservoir.offer(*numbered(2, start=2), torch.ones(2, 5))
    assert reservoir.known.tolist() == [2, 2, 5, 5]
    assert reservoir.logits[:2].tolist() == [[1, 2, 0, 0, 0], [3, 4, 0, 0, 0]]


# ---------------------------------------------------------------- the method


@pytest.mark.parametrize("rule", ["er", "der++"])
def test_without_a_buffer_it_is_sequential_bit_for_bit(replay, tiny_trainer, rule):
    plain, free = tiny_trainer("sequential", settings=EAGER, tasks=2), replay(buffer=0, rule=rule)
    for trainer in (plain, free):
        for _ in trainer.run():
            pass
    states = [{k: v for k, v in t.method.state_dict().items() if k.startswith("tuning.")} for t in (free, plain)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


@pytest.mark.parametrize("rivals", ["replayed", "all"])
def test_the_loss_is_the_batchs_and_the_buffers_parts(replay, rivals):
    trainer = until(replay(rule="der++", rivals=rivals, replay_weight=0.7, logit_weight=0.2), 1)
    for _ in zip(range(3), trainer.run(), strict=False):
        pass
    method, backbone, task = trainer.method, trainer.backbone, trainer.stream[1]
    batch = next(task.batches(25, seed=5, epoch=0))
    again = method.reservoir.draw(8, "labels")
    former = method.reservoir.draw(8, "logits")
    shown = lambda drawn: task.prepare(drawn.images)

    def z(images):
        pooled = backbone(images, prompts=method.tuning.prompts).pooled
        return torch.cat([head(pooled) for head in method.tuning.heads], dim=1) / 2.0

    own = z(batch.images) if rivals == "all" else z(batch.images)[:, task.classes]
    targets = batch.labels if rivals == "all" else batch.labels - task.classes.start
    gaps = [
        (row[:known] - kept[:known]).square()
        for row, kept, known in zip(z(shown(former)), former.logits, former.known.tolist(), strict=True)
    ]
    expected = {
        "cross_entropy": F.cross_entropy(own, targets),
        "replay": 0.7 * F.cross_entropy(z(shown(again)), again.labels),
        "former_logits": 0.2 * torch.cat(gaps).mean(),
    }
    assert set(former.known.tolist()) == {5, 10}, "images of both tasks are compared"
    found = method.loss(backbone, batch).parts
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-4), name


def test_kept_logits_are_those_of_the_moment_the_image_was_offered(replay):
    trainer = until(replay(rule="der++", buffer=1000), 0)
    method, batch = trainer.method, next(trainer.stream[0].batches(25, seed=0, epoch=0))
    expected = method.tuning.classify(method.features(trainer.backbone, batch.images).pooled).detach() / 2.0
    next(trainer.run())
    assert torch.equal(method.reservoir.images[:25], batch.pictures)
    torch.testing.assert_close(method.reservoir.logits[:25], expected)


def test_earlier_heads_are_trained_by_the_buffer_and_the_backbone_sees_each_step_once(replay):
    trainer = until(replay(), 1)
    before = trainer.method.tuning.heads[0].weight.detach().clone()
    next(trainer.run())
    assert not torch.equal(trainer.method.tuning.heads[0].weight, before)
    assert [g.name for g in trainer.method.groups()] == ["prompts", "head", "earlier heads"]


def test_images_are_kept_as_the_stream_has_them_and_changed_anew_at_every_draw(tiny_trainer):
    settings, training = {**EAGER, "buffer": 50, "replay_batch": 8}, {"flip": True, "random_crop": 0.3, "epochs": 1}
    plain = until(tiny_trainer("replay", settings=settings, training=training, tasks=2), 1)
    held = plain.method.reservoir.images[: len(plain.method.reservoir)]
    whole = plain.stream[0].train.pictures
    assert all(any(torch.equal(one, other) for other in whole) for one in held[:10])
    batch = next(plain.stream[1].batches(25, seed=0, epoch=0, augmentation=plain.augmentation))
    first, again, other = (batch.shown(held[:4], purpose) for purpose in ("labels", "labels", "logits"))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first, plain.stream[1].prepare(held[:4]))
    changed = until(tiny_trainer("replay", settings={**settings, "kept": "changed"}, training=training, tasks=2), 1)
    held = changed.method.reservoir.images[: len(changed.method.reservoir)]
    prepared = changed.stream[0].prepare(whole)
    assert not any(torch.equal(one, other) for one in held[:10] for other in prepared)


def test_without_augmentation_both_ways_of_keeping_train_the_same(replay):
    states = []
    for kept in ("plain", "changed"):
        trainer = replay(kept=kept)
        for _ in trainer.run():
            pass
        states.append({k: v for k, v in trainer.method.state_dict().items() if k.startswith("tuning.")})
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_bytes_stay_bytes_and_tasks_that_differ_meet_at_one_size(tiny_config):
    config = tiny_config("replay", settings={**EAGER, "buffer": 20, "replay_batch": 8}, training={"epochs": 1}, tasks=2)

    def stored(*sides):
        def stream_of(*arguments):
            whole = new_stream(*arguments)
            tasks = [replace(t, train=smaller(t.train, side)) for t, side in zip(whole, sides, strict=True)]
            return replace(whole, tasks=tuple(tasks))

        return build(config, stream_of=stream_of)

    small, mixed = stored(8, 8), stored(8, 16)
    assert small.method.reservoir.images.shape == (20, 3, 8, 8)
    assert small.method.reservoir.images.dtype == torch.uint8 and mixed.method.reservoir.images.dtype == torch.float32
    assert mixed.method.reservoir.images.shape == (20, 3, 16, 16)
    for trainer in (small, mixed):
        losses = [e.losses for moment in trainer.run() for e in moment if e.kind == "StepEnded"]
        assert "replay" in losses[-1] and len(trainer.method.reservoir) == 20
    assert small.method.reservoir.images.any() and float(mixed.method.reservoir.images.max()) <= 1


def smaller(split, side):
    """Pictures as bytes at another side."""
    pictures = F.interpolate(split.pictures, size=(side, side))
    return replace(split, pictures=(pictures * 255).round().byte())


def test_runs_from_before_the_setting_keep_what_they_trained_on():
    record = {"method": "replay", "backbone": "micro-vit", "stream": "split-digits"}
    assert as_first_written(record)["settings"]["kept"] == "changed"
    assert method_defaults("replay")["kept"] == "plain"


def test_stored_images_count_as_kept(replay):
    sizes = [kept_bytes(replay(buffer=places).method) for places in (0, 10)]
    side = replay().backbone.preparation.size
    assert sizes[1] - sizes[0] == 10 * (3 * side * side * 4 + 8 + 8)


def test_the_buffer_holds_images_of_all_tasks(replay):
    trainer = replay(tasks=5, buffer=60)
    for _ in trainer.run():
        pass
    held = {int(label) // 2 for label in trainer.method.reservoir.labels}
    assert held == set(range(5))
