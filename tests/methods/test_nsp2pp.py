"""VPT-NSP²++: masks by importance, what each lets through, and that without masks it is NSP²."""

import pytest
import torch

from cl_core.config import ConfigError
from cl_core.linalg import blended_projector
from cl_core.methods.nsp2pp import contrastive, most_important
from tests.stopped import until

SETTINGS = {"prompt_rate": 0.05, "temperature": 1.0, "important": 0.1, "refine_epochs": 2, "draws": 16}


@pytest.fixture
def pp(tiny_trainer):
    return lambda tasks=2, **settings: tiny_trainer("nsp2pp", settings={**SETTINGS, **settings}, tasks=tasks)


def test_a_relaxed_projector_keeps_what_the_card_says():
    found = blended_projector(torch.diag(torch.tensor([5.0, 0, 0])), eta=0.96, nullity=2)
    assert found.diagonal().tolist() == pytest.approx([0.04, 0.718823, 0.718823], abs=1e-6)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.1, 2), (1 / 12, 1), (0.5, 6), (1.0, 12)])
def test_exactly_the_largest_share_counted_up_matters(share, count, seeded):
    values = torch.rand(3, 4, generator=seeded(0))
    chosen = most_important(values, share)
    assert int(chosen.sum()) == count
    if 0 < count < 12:
        assert values[chosen].min() > values[~chosen].max()
    assert int(most_important(torch.zeros(3, 4), share).sum()) == count  # ties go to the first


def test_the_contrastive_loss_is_its_sum_over_partners(seeded):
    x = torch.nn.functional.normalize(torch.randn(5, 3, generator=seeded(1), dtype=torch.float64), dim=1)
    labels, total = torch.tensor([0, 0, 1, 0, 2]), 0.0
    for i in (0, 1, 3):  # 2 and 4 have no partner
        others = [a for a in range(5) if a != i]
        denominator = sum(torch.exp(x[i] @ x[a] / 0.07) for a in others)
        partners = [p for p in others if labels[p] == labels[i]]
        total -= sum(torch.log(torch.exp(x[i] @ x[p] / 0.07) / denominator) for p in partners) / len(partners)
    assert contrastive(x, labels).item() == pytest.approx(float(total) / 3)
    assert contrastive(x[:2], torch.tensor([0, 1])).item() == 0


def test_importance_is_the_size_of_the_summed_gradient_averaged_over_prompts(pp):
    trainer = until(pp(importance="cross-entropy"), 0, "measure")
    method, backbone = trainer.method, trainer.backbone
    prompts = method.tuning.prompts.detach().clone().requires_grad_()
    total = 0.0
    for batch in trainer.stream[0].ordered("train", 100):
        pooled = backbone(batch.images, prompts=prompts).pooled
        total = total + method.tuning.loss_of(pooled, batch.labels).parts["cross_entropy"]
    total.backward()
    torch.testing.assert_close(method.old, prompts.grad.abs().mean(dim=1), rtol=1e-4, atol=1e-7)


def test_masks_part_all_channels_and_say_what_a_step_becomes(pp):
    trainer = until(pp(strict=0.9, relax=0.3), 1)
    method = trainer.method
    masks = method.masks()
    assert torch.equal(sum(mask.int() for mask in masks.values()), torch.ones_like(method.old, dtype=torch.int32))
    assert masks["old"].any() and masks["new"].any() and masks["neither"].any()
    step = torch.randn(method.tuning.prompts.shape, generator=torch.Generator().manual_seed(0))
    found = method.constraints()["tuning.prompts"].step(step)
    wide = {name: mask[:, None].expand_as(step) for name, mask in masks.items()}
    assert not found[wide["old"]].any() and torch.equal(found[wide["new"]], step[wide["new"]])
    b2, b1 = method._projector("mixture", 0.6).float(), method._projector("affinity", 0.6).float()
    torch.testing.assert_close(found[wide["neither"]], (b2 @ step @ b1)[wide["neither"]])


def test_channels_that_only_old_tasks_need_stay_bit_for_bit(pp):
    trainer = until(pp(weight_decay=0.0), 1)
    before = trainer.method.tuning.prompts.detach().clone()
    mask = trainer.method.masks()["old"][:, None].expand_as(before)
    until(trainer, 1, "survey")
    now = trainer.method.tuning.prompts.detach()
    assert mask.any() and torch.equal(now[mask], before[mask]) and not torch.equal(now[~mask], before[~mask])


def test_with_empty_masks_and_no_relaxation_training_is_that_of_nsp2(pp, tiny_trainer):
    mine = pp(important=0.0, relax=0.0, refine_epochs=0)
    theirs = tiny_trainer(
        "nsp2",
        settings={"prompt_rate": 0.05, "temperature": 1.0, "eta_affinity": 1.0, "eta_mixture": 1.0},
        tasks=2,
    )
    for trainer in (mine, theirs):
        for _ in trainer.run():
            pass
    assert torch.equal(mine.method.tuning.prompts, theirs.method.tuning.prompts)


def test_refined_heads_answer_and_trained_ones_stay(pp):
    trainer, stages, heads = pp(), [], {}
    for moment in trainer.run():
        for event in moment:
            if event.kind == "TaskEnded":
                heads[event.clock.task] = trainer.method.tuning.heads[0].weight.detach().clone()
            if event.kind == "StageEnded":
                stages.append(event)
    assert torch.equal(heads[0], heads[1])
    assert [(s.stage, s.clock.task) for s in stages] == [("head refinement", 0), ("head refinement", 1)]
    method, pooled = trainer.method, torch.randn(3, trainer.backbone.pooled_width)
    assert not torch.equal(method.classify(pooled, range(10)), method.tuning.classify(pooled))


def test_one_epoch_takes_every_batch(pp):
    """The release breaks out of its loop after the first one."""
    steps = [e for moment in pp().run() for e in moment if e.kind == "StepEnded" and e.clock.task == 0]
    assert len(steps) == 2 * pp().stream[0].steps(25)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"prompt_length": 0}, "prompt_length must be at least 1, got 0"),
        ({"prompt_length": 2}, "prompt_length must be ≥ 3 for the elbow rule, got 2"),
        ({"strict": 0.2, "relax": 0.3}, "relax must be at most strict = 0.2, got 0.3"),
    ],
)
def test_what_does_not_go_together_is_refused(pp, settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        pp(**settings)
