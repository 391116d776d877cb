"""LwF against its formula: what the old heads said, how far they have come from it, and what it costs to hold it."""

from itertools import islice

import numpy as np
import pytest
import torch

from cl_core.methods.lwf import LwF
from cl_core.methods.parts.teacher_table import TeacherTable
from cl_core.observers.kept import kept_bytes
from cl_core.streams.stream import Batch
from tests.stopped import until

EAGER = {"prompt_rate": 0.05, "temperature": 2.0}


@pytest.fixture
def lwf(tiny_trainer):
    def make(training=None, **settings):
        return tiny_trainer("lwf", settings={**EAGER, **settings}, tasks=2, training=training or {})

    return make


def trained(trainer):
    return {k: v.clone() for k, v in trainer.method.state_dict().items() if k.startswith("tuning.")}


def test_without_distillation_it_is_sequential_bit_for_bit(lwf, tiny_trainer):
    plain, free = tiny_trainer("sequential", settings=EAGER, tasks=2), lwf(distillation=0.0)
    for trainer in (plain, free):
        for _ in trainer.run():
            pass
    mine, theirs = trained(free), trained(plain)
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_the_distillation_is_the_divergence_from_what_the_old_heads_said(lwf):
    trainer = until(lwf(distillation=3.0, softness=0.1), 1)
    method, backbone = trainer.method, trainer.backbone
    then = method.tuning.prompts.detach().clone()
    with torch.no_grad():
        method.tuning.prompts += 0.5 * torch.randn(then.shape, generator=torch.Generator().manual_seed(0))
    batch = next(trainer.stream[1].batches(25, seed=0, epoch=0))
    head = method.tuning.heads[0]

    def probabilities(prompts):
        with torch.no_grad():
            logits = head(backbone(batch.images, prompts=prompts).pooled).double().numpy() / (2.0 * 0.1)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    p, q = probabilities(then), probabilities(method.tuning.prompts)
    expected = 3.0 * (p * np.log(p / q)).sum(axis=1).mean()
    found = method.loss(backbone, batch).parts["distillation"].detach()
    assert expected > 1e-4 and float(found) == pytest.approx(expected, rel=1e-3)


def test_the_distillation_begins_at_nothing_with_every_task_and_not_at_all_with_the_first(lwf):
    trainer = lwf()
    steps = [event for moment in trainer.run() for event in moment if event.kind == "StepEnded"]
    first, second = ([e for e in steps if e.clock.task == task] for task in (0, 1))
    assert all("distillation" not in e.losses for e in first)
    assert second[0].losses["distillation"] == pytest.approx(0, abs=1e-6)
    assert max(e.losses["distillation"] for e in second) > 1e-6


def test_the_teacher_is_asked_once_an_image_and_its_answers_are_forgotten_with_the_task(lwf, monkeypatch):
    trainer, asked = until(lwf(), 1), []
    method, taught = trainer.method, LwF.teacher_logits
    monkeypatch.setattr(LwF, "teacher_logits", lambda self, *of: asked.append(len(of[1])) or taught(self, *of))
    assert len(method.teacher.keys) == 0, "nothing is held before it is needed"
    until(trainer, 1, "survey")
    task = trainer.stream[1]
    assert sum(asked) == len(task.train)
    monkeypatch.undo()
    for batch in task.batches(7, seed=3, epoch=4):
        torch.testing.assert_close(
            method.teacher.find(batch.ids), method.teacher_logits(trainer.backbone, batch.images)
        )
    assert method.teacher.find(trainer.stream[0].train.ids[:3]) is None
    kept = kept_bytes(method)
    until(trainer, 1, "measure")
    assert len(method.teacher.keys) == 0 and kept_bytes(method) < kept


def test_augmented_images_are_shown_to_the_teacher_every_time_and_nothing_of_them_is_held(lwf):
    trainer = until(lwf(training={"batch_size": 25, "flip": True}), 1)
    method = trainer.method
    changed = trainer.feed.batches(trainer.stream[1], 10, seed=0, epoch=0, augmentation=trainer.augmentation)
    (batch,) = islice(changed, 1)
    assert batch.ids is None
    for images in (batch.images, batch.images + 0.01):
        part = method.loss(trainer.backbone, Batch(images, batch.labels)).parts["distillation"]
        assert float(part.detach()) == pytest.approx(0, abs=1e-6), "the model has not moved from its teacher"
    assert len(method.teacher.keys) == 0
    until(trainer, 1, "survey")
    assert len(method.teacher.keys) == 0


def test_strong_distillation_holds_the_old_answers_better(lwf):
    def moved(weight):
        training = {"epochs": 15, "batch_size": 50, "schedule": "cosine"}
        trainer = until(lwf(training=training, distillation=weight), 1)
        batch = next(trainer.stream[1].ordered("train", 50))
        method = trainer.method
        before = method.old_logits(method.features(trainer.backbone, batch.images).pooled).detach()
        for _ in trainer.run():
            pass
        after = method.tuning.heads[0](method.features(trainer.backbone, batch.images).pooled) / 2.0
        return float((after - before).detach().square().mean())

    assert moved(1e4) < 0.5 * moved(0.0)


def test_a_table_takes_the_size_of_the_state_it_is_given():
    full, empty = TeacherTable(), TeacherTable()
    ids = torch.tensor([7, 3, 12, 4, 9])
    full.keep(ids[:3], torch.arange(6.0).view(3, 2))
    full.keep(ids[1:], torch.arange(2.0, 10.0).view(4, 2))  # what is known already stays as it is
    full.keep(None, torch.ones(2, 2))
    empty.load_state_dict(full.state_dict())
    for table in (full, empty):
        assert torch.equal(table.find(ids), torch.arange(10.0).view(5, 2))
        assert table.find(torch.tensor([7, 8])) is None and table.find(None) is None
    full.clear()
    empty.load_state_dict(full.state_dict())
    assert empty.find(ids) is None
