"""EWC against its formulas: gradients image by image, the penalty, and what a stiff spring does."""

import pytest
import torch
import torch.nn.functional as F

from tests.stopped import until

EAGER = {"prompt_rate": 0.05, "temperature": 2.0}


@pytest.fixture
def ewc(tiny_trainer):
    def make(training=None, tasks=2, **settings):
        return tiny_trainer("ewc", settings={**EAGER, **settings}, tasks=tasks, training=training or {})

    return make


def fisher_one_by_one(trainer, task):
    """mean_x (∂ log p(y | x) / ∂θ)² by a backward pass for every image."""
    method, batch = trainer.method, next(trainer.stream[task].ordered("train", 10_000))
    total = torch.zeros_like(method.tuning.prompts, dtype=torch.float64)
    for image, label in zip(batch.images, batch.labels, strict=True):
        prompts = method.tuning.prompts.detach().clone().requires_grad_()
        logits = method.tuning.heads[task](trainer.backbone(image[None], prompts=prompts).pooled) / 2.0
        likelihood = -F.cross_entropy(logits, label[None] - trainer.stream[task].classes.start)
        total += torch.autograd.grad(likelihood, prompts)[0].double().square()
    return total / len(batch.labels)


def test_the_fisher_is_the_mean_square_of_each_images_gradient(ewc):
    trainer = until(ewc(), 0, "measure")
    expected = fisher_one_by_one(trainer, 0)
    assert expected.max() > 0
    torch.testing.assert_close(trainer.method.fisher, expected, rtol=1e-3, atol=1e-5 * float(expected.max()))


def test_the_pass_that_gives_gradients_gives_the_stored_features_too(ewc):
    trainer, looked = until(ewc(), 0, "survey"), []
    trainer.backbone.vit.patch_embed.register_forward_hook(lambda module, given, out: looked.append(len(out)))
    task, shown = trainer.stream[0], bool(trainer.observers.taps)
    until(trainer, 0, "measure")
    assert sum(looked) == len(task.train) * (2 if shown else 1)
    batch = next(task.ordered("train", 10_000))
    means = [trainer.evaluation.features(batch).pooled[batch.labels == c].double().mean(dim=0) for c in task.classes]
    stored = trainer.evaluation.statistics
    rows = slice(task.classes.start, task.classes.stop)
    torch.testing.assert_close(stored.means[rows].double(), torch.stack(means), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory", ["separate", "online"])
def test_the_penalty_is_the_sum_of_the_springs(ewc, memory):
    trainer, places, fishers = ewc(tasks=5, memory=memory, fading=0.5, stiffness=7.0), [], []
    for task in range(2):
        until(trainer, task, "measure")
        places.append(trainer.method.tuning.prompts.detach().double().clone())
        fishers.append(fisher_one_by_one(trainer, task))
    method = trainer.method
    with torch.no_grad():
        method.tuning.prompts += 0.2 * torch.randn_like(method.tuning.prompts)
    now = method.tuning.prompts.detach().double()
    if memory == "separate":
        squares = sum((f * (now - place).square()).sum() for f, place in zip(fishers, places, strict=True))
    else:
        squares = ((0.5 * fishers[0] + fishers[1]) * (now - places[1]).square()).sum()
    assert float(method.penalty()) == pytest.approx(0.5 * 7.0 * float(squares), rel=1e-3)


def test_without_stiffness_it_is_sequential_bit_for_bit(ewc, tiny_trainer):
    plain, free = tiny_trainer("sequential", settings=EAGER, tasks=2), ewc(stiffness=0.0)
    for trainer in (plain, free):
        for _ in trainer.run():
            pass
    states = [{k: v for k, v in t.method.state_dict().items() if k.startswith("tuning.")} for t in (free, plain)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_a_stiff_spring_leaves_the_prompts_where_they_were(ewc):
    """Adam's steps have full length whatever the stiffness, so the rate falls to 0: what is left is where it rests."""

    def moved(stiffness):
        training = {"epochs": 40, "batch_size": 50, "schedule": "cosine"}
        trainer = until(ewc(training=training, stiffness=stiffness, prompt_rate=0.002), 1)
        before = trainer.method.tuning.prompts.detach().clone()
        until(trainer, 1, "survey")
        return float((trainer.method.tuning.prompts.detach() - before).abs().max())

    assert moved(1e12) < 1e-4 < 1e-3 < moved(0.0)


def test_the_penalty_begins_at_nothing_and_is_absent_in_the_first_task(ewc):
    steps = [e for moment in ewc(stiffness=1e3).run() for e in moment if e.kind == "StepEnded"]
    assert all("penalty" not in e.losses for e in steps if e.clock.task == 0)
    later = [e.losses["penalty"] for e in steps if e.clock.task == 1]
    assert later[0] == pytest.approx(0, abs=1e-9) and max(later) > 1e-9
