"""NSP² against its formulas, re-derived here with numpy in double precision.

Lu et al. Visual Prompt Tuning in Null Space for Continual Learning. NeurIPS 2024, arXiv:2406.05658.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cl_core.backbones.vit import random_vit
from cl_core.config import ConfigError, TrainingConfig
from cl_core.events import Clock
from cl_core.methods.method import new_optimiser
from cl_core.methods.nsp2 import NSP2, NSP2Config
from cl_core.methods.sequential import Sequential
from cl_core.streams.stream import Batch, class_order
from tests.stopped import until

EAGER = {"prompt_rate": 0.05, "temperature": 2.0}


# ---------------------------------------------------------------- the formulas again, in numpy


def elbow(values):
    """Size of the free set of a descending spectrum shorter than 128: from the largest second difference on."""
    curvature = values[:-2] - 2 * values[1:-1] + values[2:]
    cut = 1 + int(np.argmax(curvature))
    return len(values) - max(i for i in range(len(values)) if values[i] >= values[cut])


def blend(moment, eta, nullity=None, scale="frobenius"):
    """B̃ = η Π/‖Π‖_F + (1 − η) I from a singular value decomposition of C."""
    _, values, right = np.linalg.svd(moment)
    free = right[len(values) - (elbow(values) if nullity is None else nullity) :]
    projector = free.T @ free
    norm = np.linalg.norm(projector) if scale == "frobenius" else 1.0
    return eta * projector / norm + (1 - eta) * np.eye(len(values))


def sides(method, eta):
    """(B̃₂, B̃₁) per layer, from the moments the method holds."""
    mixture, affinity = method.moments.mixture.numpy(), method.moments.affinity.numpy()
    return [(blend(c2, eta), blend(c1, eta)) for c1, c2 in zip(affinity, mixture, strict=True)]


def pulled_back_rows(backbone, features, layer):
    """J₁: one row q_h[n] W_kʰ for every image, head and token."""
    q = features.taps["q", layer].double().numpy()  # [B, H, N, d/H]
    weight = backbone.vit.blocks[layer].attn.qkv.weight.double().numpy()[backbone.width : 2 * backbone.width]
    depth = q.shape[-1]
    rows = [
        q[b, h, n] @ weight[h * depth : (h + 1) * depth]
        for b in range(q.shape[0])
        for h in range(q.shape[1])
        for n in range(q.shape[2])
    ]
    return np.stack(rows)


def attention_rows(features, layer):
    """J₂: attention of every image, head and image token on the prompts."""
    attention = features.taps["attention", layer].double().numpy()
    return attention[..., attention.shape[2] :].reshape(-1, attention.shape[-1] - attention.shape[2])


# ---------------------------------------------------------------- runs stopped at the right place


@pytest.fixture
def nsp2(tiny_trainer):
    return lambda tasks=2, **settings: tiny_trainer("nsp2", settings={**EAGER, **settings}, tasks=tasks)


def prompts_of(trainer):
    return trainer.method.tuning.prompts.detach().double().numpy().copy()


# ---------------------------------------------------------------- the step


def test_a_step_is_the_optimisers_own_step_between_the_two_projectors(nsp2):
    trainer = until(nsp2(), 1)
    before, (event,) = prompts_of(trainer), next(trainer.run())
    gradient = trainer.method.tuning.prompts.grad.double().numpy() + trainer.method.config.weight_decay * before
    candidate = -0.05 * gradient / (np.abs(gradient) + 1e-8)  # Adam's first step of a task
    expected = np.stack([b2 @ u @ b1 for (b2, b1), u in zip(sides(trainer.method, 0.97), candidate, strict=True)])
    step = prompts_of(trainer) - before
    np.testing.assert_allclose(step, expected, atol=1e-5 * np.abs(expected).max() + 2e-7)
    assert event.proposed_norm["tuning.prompts"] == pytest.approx(np.linalg.norm(candidate), rel=1e-3)
    assert event.applied_norm["tuning.prompts"] == pytest.approx(np.linalg.norm(expected), rel=1e-3)


def test_several_steps_follow_adam_with_projected_steps_rederived_in_double_precision(nsp2):
    trainer = until(nsp2(weight_decay=0.01), 1)
    projectors, place = sides(trainer.method, 0.97), prompts_of(trainer)
    first, second = np.zeros_like(place), np.zeros_like(place)
    steps = trainer.run()
    for k in range(1, 6):
        next(steps)
        gradient = trainer.method.tuning.prompts.grad.double().numpy() + 0.01 * place
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        update = -0.05 * (first / (1 - 0.9**k)) / (np.sqrt(second / (1 - 0.999**k)) + 1e-8)
        place = place + np.stack([b2 @ u @ b1 for (b2, b1), u in zip(projectors, update, strict=True)])
        np.testing.assert_allclose(prompts_of(trainer), place, atol=3e-6)


def test_without_projectors_training_is_plain_adam_on_prompts_and_head(tiny_trainer):
    trainer = until(tiny_trainer("sequential", settings={**EAGER, "head_rate": 0.02, "weight_decay": 0.01}), 0)
    backbone, task = trainer.backbone, trainer.stream[0]
    prompts = trainer.method.tuning.prompts.detach().clone().requires_grad_()
    weight, bias = (p.detach().clone().requires_grad_() for p in trainer.method.tuning.heads[0].parameters())
    groups = [{"params": [prompts], "lr": 0.05}, {"params": [weight, bias], "lr": 0.02}]
    adam = torch.optim.Adam(groups, weight_decay=0.01)
    steps = trainer.run()
    for epoch in range(2):
        for batch in task.batches(25, seed=0, epoch=epoch):
            logits = backbone(batch.images, prompts=prompts).pooled @ weight.T + bias
            adam.zero_grad()
            F.cross_entropy(logits / 2.0, batch.labels - task.classes.start).backward()
            adam.step()
            next(steps)
            for mine, theirs in zip((prompts, weight, bias), trainer.method.tuning.parameters(), strict=True):
                torch.testing.assert_close(theirs, mine, atol=1e-6, rtol=1e-6)


def test_adams_moments_do_not_depend_on_the_projectors(nsp2):
    found = {}
    for eta in (0.0, 1.0):
        trainer = until(nsp2(weight_decay=0.0), 1)
        trainer.method.config = replace(trainer.method.config, eta_affinity=eta, eta_mixture=eta)
        trainer.method.refresh()
        next(trainer.run())
        state = trainer.optimiser.state[trainer.method.tuning.prompts]
        found[eta] = state["exp_avg"], state["exp_avg_sq"], trainer.method.tuning.prompts.detach()
    assert torch.equal(found[0.0][0], found[1.0][0])
    assert torch.equal(found[0.0][1], found[1.0][1])
    assert not torch.equal(found[0.0][2], found[1.0][2])


def test_nothing_is_projected_in_the_first_task_and_something_in_the_second(nsp2):
    for moment in nsp2().run():
        for event in moment:
            if event.kind == "StepEnded":
                proposed, applied = event.proposed_norm["tuning.prompts"], event.applied_norm["tuning.prompts"]
                assert (applied == proposed) if event.clock.task == 0 else (applied < 0.9 * proposed)


def test_heads_are_never_projected(nsp2):
    trainer = until(nsp2(), 1)
    assert set(trainer.method.constraints()) == {"tuning.prompts"}


def test_projectors_outlive_a_rebuilt_optimiser(nsp2):
    """They are found by the parameter's name, not by an object that a rebuilt optimiser may replace."""
    trainer = until(nsp2(), 1)
    next(trainer.run())
    trainer.optimiser = new_optimiser(trainer.method.groups())
    ((event,), *_) = [next(trainer.run())]
    assert event.applied_norm["tuning.prompts"] < 0.9 * event.proposed_norm["tuning.prompts"]


def test_projection_none_without_the_norm_loss_is_sequential_training_bit_for_bit(tiny_trainer):
    def course(method, **settings):
        trainer = tiny_trainer(method, settings={**EAGER, **settings}, tasks=5)
        events = [e for m in trainer.run() for e in m]
        rows = [e.row for e in events if e.kind == "AccuracyMeasured" and e.readout == "class-incremental"]
        return [e.losses for e in events if e.kind == "StepEnded"], rows, trainer.method.tuning.state_dict()

    losses, rows, state = course("sequential")
    plain_losses, plain_rows, plain_state = course("nsp2", projection="none", norm_weight=0.0)
    assert (plain_losses, plain_rows) == (losses, rows)
    assert all(torch.equal(state[name], plain_state[name]) for name in state)
    assert course("nsp2", norm_weight=0.0)[0] != losses


# ---------------------------------------------------------------- projectors


def test_eta_zero_makes_both_sides_the_identity(nsp2):
    method = until(nsp2(eta_affinity=0.0, eta_mixture=0.0), 1).method
    assert torch.equal(method.rows, torch.eye(4).expand(2, 4, 4))
    assert torch.equal(method.columns, torch.eye(48).expand(2, 48, 48))


@pytest.mark.parametrize("scale", ["frobenius", "plain"])
def test_projectors_are_the_blend_of_identity_and_null_projector_in_either_scale(nsp2, scale):
    method = until(nsp2(scale=scale, eta_affinity=0.9, eta_mixture=0.7), 1).method
    for layer in range(2):
        c1, c2 = method.moments.affinity[layer].numpy(), method.moments.mixture[layer].numpy()
        np.testing.assert_allclose(method.columns[layer].numpy(), blend(c1, 0.9, scale=scale), atol=1e-5)
        np.testing.assert_allclose(method.rows[layer].numpy(), blend(c2, 0.7, scale=scale), atol=1e-5)


def test_one_side_only_leaves_the_other_the_identity(nsp2):
    both = until(nsp2(), 1).method
    for side, kept, dropped in (("affinity", "columns", "rows"), ("mixture", "rows", "columns")):
        method = until(nsp2(sides=side), 1).method
        assert torch.equal(getattr(method, kept), getattr(both, kept))
        width = getattr(method, dropped).shape[-1]
        assert torch.equal(getattr(method, dropped), torch.eye(width).expand(2, width, width))


def test_shrink_only_shrinks_as_much_on_average_and_prefers_no_direction(nsp2):
    real, control = until(nsp2(), 1).method, until(nsp2(projection="shrink-only"), 1).method
    for name in ("rows", "columns"):
        mine, theirs = getattr(control, name), getattr(real, name)
        torch.testing.assert_close(torch.linalg.matrix_norm(mine), torch.linalg.matrix_norm(theirs), rtol=1e-5, atol=0)
        identity = torch.eye(mine.shape[-1])
        torch.testing.assert_close(mine, mine[:, :1, :1] * identity)
        assert not torch.allclose(theirs, theirs[:, :1, :1] * identity)


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99])
def test_the_energy_rule_protects_the_fewest_directions_that_hold_the_share(nsp2, energy):
    method = until(nsp2(rule="energy", energy_affinity=energy, energy_mixture=energy), 1).method
    for space in ("affinity", "mixture"):
        for layer in range(2):
            values = np.linalg.eigvalsh(getattr(method.moments, space)[layer].numpy())[::-1]
            held = np.cumsum(values) / values.sum()
            protected = int(np.argmax(held >= energy)) + 1
            assert int(method.cuts()[space].nullity[layer]) == len(values) - protected


def test_what_is_said_of_the_cut_is_what_the_next_task_obeys(nsp2):
    trainer = nsp2(eta_affinity=0.9, eta_mixture=0.8)
    said = {}
    for moment in trainer.run():
        said.update({(e.layer, e.space): e for e in moment if e.kind == "SpectrumMeasured"})
        if (trainer.cursor.task, trainer.cursor.stage) == (1, "train"):
            break
    assert len(said) == 4
    for (layer, space), event in said.items():
        matrix = {"affinity": trainer.method.columns, "mixture": trainer.method.rows}[space][layer].double()
        gains = torch.linalg.eigvalsh(matrix).numpy()
        protected = len(gains) - event.nullity
        np.testing.assert_allclose(gains[:protected], event.gain_protected, atol=1e-5)
        np.testing.assert_allclose(gains[protected:], event.gain_free, atol=1e-5)
        values = np.linalg.eigvalsh(getattr(trainer.method.moments, space)[layer].numpy())[::-1]
        np.testing.assert_allclose(event.eigenvalues, values, rtol=1e-4, atol=1e-6 * values[0])
        assert event.nullity == elbow(values)
        assert event.protected_energy == pytest.approx(values[:protected].sum() / values.sum(), rel=1e-6)
        assert event.used


def test_the_mixture_side_of_four_prompts_frees_two_or_three_directions(nsp2):
    for moment in nsp2(tasks=5).run():
        for event in moment:
            if event.kind == "SpectrumMeasured" and event.space == "mixture":
                assert event.nullity in (2, 3)


def test_fewer_than_three_prompts_have_no_elbow_and_are_refused_with_the_way_out():
    with pytest.raises(ConfigError, match=r"prompt_length must be ≥ 3 for the elbow rule, got 2; use rule=energy"):
        NSP2Config(prompt_length=2)
    NSP2Config(prompt_length=2, rule="energy")


# ---------------------------------------------------------------- what is collected


def surveyed(backbone, method, batches):
    """One task's survey of these batches of images, folded in."""
    looked = []
    for images in batches:
        (collector,) = method.collectors(backbone)
        features = method.features(backbone, images, collector.taps)
        collector.add(features, Batch(images, torch.zeros(len(images), dtype=torch.int64)))
        looked.append(features)
    method.end_task(Clock())
    return looked


def images(count, seed, dtype=torch.float32):
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def fresh(backbone, seed=0, **settings):
    return NSP2(NSP2Config(**settings), backbone, seed).requires_grad_(False)


@torch.no_grad()
def test_moments_are_the_means_of_explicitly_stacked_rows():
    backbone = random_vit()
    method = fresh(backbone)
    (features,) = surveyed(backbone, method, [images(6, seed=1)])
    for layer in range(2):
        j1, j2 = pulled_back_rows(backbone, features, layer), attention_rows(features, layer)
        assert j1.shape == (6 * 3 * 5, 48) and j2.shape == (6 * 3 * 5, 4)
        for moment, rows in ((method.moments.affinity, j1), (method.moments.mixture, j2)):
            expected = rows.T @ rows / len(rows)
            np.testing.assert_allclose(moment[layer].numpy(), expected, atol=1e-5 * np.abs(expected).max())


@torch.no_grad()
def test_moments_are_symmetric_and_semi_definite_and_attention_is_never_negative():
    backbone = random_vit()
    method = fresh(backbone)
    surveyed(backbone, method, [images(6, seed=1), images(6, seed=2)])
    for moment in (method.moments.affinity, method.moments.mixture):
        torch.testing.assert_close(moment, moment.mT, atol=1e-7, rtol=0)
        values = torch.linalg.eigvalsh(moment)
        assert (values[:, 0] >= -1e-6 * values[:, -1]).all()
    assert (method.moments.mixture >= 0).all()
    traces = method.moments.mixture.diagonal(dim1=-2, dim2=-1).sum(dim=-1) / 2
    assert (traces < 1).all() and (traces > 0).all()


@torch.no_grad()
def test_a_second_task_adds_its_own_moments_and_leaves_the_first_ones_as_they_were():
    backbone = random_vit()
    both, first, second = fresh(backbone), fresh(backbone), fresh(backbone)
    surveyed(backbone, both, [images(6, seed=1)])
    surveyed(backbone, both, [images(5, seed=2), images(5, seed=3)])
    surveyed(backbone, first, [images(6, seed=1)])
    surveyed(backbone, second, [images(5, seed=2), images(5, seed=3)])
    for space in ("affinity", "mixture"):
        sums = getattr(first.moments, space) + getattr(second.moments, space)
        torch.testing.assert_close(getattr(both.moments, space), sums, rtol=1e-12, atol=0)
    assert int(both.moments.tasks) == 2


@torch.no_grad()
@pytest.mark.parametrize("weighting", ["batches", "images"])
def test_a_short_batch_counts_as_a_whole_one_unless_images_are_counted(weighting):
    backbone = random_vit()
    method = fresh(backbone, weighting=weighting)
    looked = surveyed(backbone, method, [images(8, seed=1), images(2, seed=2)])
    shares = {"batches": (1, 1), "images": (8, 2)}[weighting]
    for layer in range(2):
        means = [rows.T @ rows / len(rows) for rows in (attention_rows(features, layer) for features in looked)]
        expected = sum(share * mean for share, mean in zip(shares, means, strict=True))
        np.testing.assert_allclose(method.moments.mixture[layer].numpy(), expected, atol=1e-6)
        assert np.abs(means[0] - means[1]).max() > 1e-4, "the batches must differ for the weights to show"


def test_the_trainer_collects_every_training_image_once_with_the_prompts_as_they_stand(nsp2):
    trainer = until(nsp2(), 0, "measure")
    method, task = trainer.method, trainer.stream[0]
    again = fresh(trainer.backbone)
    again.tuning.prompts.copy_(method.tuning.prompts)
    surveyed(trainer.backbone, again, [batch.images for batch in task.ordered("train", 100)])
    assert len(task.train) == 100
    torch.testing.assert_close(method.moments.affinity, again.moments.affinity)
    torch.testing.assert_close(method.moments.mixture, again.moments.mixture)


# ---------------------------------------------------------------- the two conditions

PROMPTS = 20  # more prompts than the 15 rows of one image, so that an exact null space exists


def exact(fold, unit_gain, equal_spread):
    """A backbone and method in float64, with the whole null space of a single image's rows: η = 1, plain projectors."""
    backbone = random_vit().double()
    if unit_gain:
        for block in backbone.vit.blocks:
            block.norm1.weight.fill_(1.0)
    method = fresh(
        backbone,
        prompt_length=PROMPTS,
        rule="energy",
        energy_affinity=1.0,
        energy_mixture=1.0,
        eta_affinity=1.0,
        eta_mixture=1.0,
        scale="plain",
        fold_norm=fold,
    ).double()
    prompts = method.tuning.prompts
    if equal_spread:
        prompts /= prompts.std(dim=-1, correction=0, keepdim=True)
    else:
        prompts *= torch.linspace(0.5, 2.0, PROMPTS, dtype=torch.float64)[:, None]
    (features,) = surveyed(backbone, method, [images(1, seed=1, dtype=torch.float64)])
    method.refresh()
    return backbone, method, features


def seen_with_frozen_statistics(backbone, features, old, prompts, layer=0):
    """Affinities and attention output of the image tokens if LayerNorm kept the statistics of the `old` prompts."""
    block = backbone.vit.blocks[layer]
    mean, spread = old.mean(dim=-1, keepdim=True), old.std(dim=-1, correction=0, keepdim=True)
    normed = (prompts - mean) / spread * block.norm1.weight + block.norm1.bias
    weight, bias = block.attn.qkv.weight, block.attn.qkv.bias
    width, heads = backbone.width, backbone.heads
    keys = (normed @ weight[width : 2 * width].T + bias[width : 2 * width]).view(-1, heads, width // heads)
    values = (normed @ weight[2 * width :].T + bias[2 * width :]).view(-1, heads, width // heads)
    q, k, v = (features.taps[kind, layer] for kind in ("q", "k", "v"))
    count = q.shape[2]
    affinities = torch.einsum("bhnd,mhd->bhnm", q, keys)
    whole = torch.cat([q @ k[:, :, :count].mT, affinities], dim=-1) / math.sqrt(q.shape[-1])
    values = torch.cat([v[:, :, :count], values.permute(1, 0, 2).expand(len(q), -1, -1, -1)], dim=2)
    return affinities, whole.softmax(dim=-1) @ values


@torch.no_grad()
def drifts(fold, unit_gain, equal_spread):
    """Change of affinities and of the attention output by a projected step, relative to an unprojected one as long."""
    backbone, method, _ = exact(fold, unit_gain, equal_spread)
    old = method.tuning.prompts.clone()
    features = backbone(
        images(1, seed=1, dtype=torch.float64), prompts=old, taps=[(kind, 0) for kind in ("q", "k", "v")]
    )
    proposed = 0.1 * torch.randn(old.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    projected = method.constraints()["tuning.prompts"].step(proposed)
    proposed *= projected[0].norm() / proposed[0].norm()
    base, after, control = (
        seen_with_frozen_statistics(backbone, features, old[0], (old + step)[0])
        for step in (torch.zeros_like(old), projected, proposed)
    )
    return [
        float((now - then).norm() / (free - then).norm()) for then, now, free in zip(base, after, control, strict=True)
    ]


@torch.no_grad()
def test_past_rows_see_nothing_of_a_strictly_projected_step():
    backbone, method, features = exact(fold=False, unit_gain=False, equal_spread=False)
    step = torch.randn(method.tuning.prompts.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    step = method.constraints()["tuning.prompts"].step(step)
    assert (step.flatten(1).norm(dim=1) > 0.1).all(), "a null space must be left, or nothing is tested"
    for layer in range(2):
        j1, j2, own = pulled_back_rows(backbone, features, layer), attention_rows(features, layer), step[layer].numpy()
        assert np.linalg.norm(j1 @ own.T) / (np.linalg.norm(j1) * np.linalg.norm(own)) < 1e-7
        assert np.linalg.norm(j2 @ own) / (np.linalg.norm(j2) * np.linalg.norm(own)) < 1e-7


def test_with_unit_gain_and_equal_spreads_attention_does_not_move_for_frozen_norm_statistics():
    affinity, output = drifts(fold=False, unit_gain=True, equal_spread=True)
    assert affinity < 1e-6 and output < 1e-6


def test_with_a_generic_gain_and_uneven_spreads_attention_does_move():
    affinity, output = drifts(fold=False, unit_gain=False, equal_spread=False)
    assert affinity > 0.05 and output > 0.05


def test_folding_gain_and_spread_into_the_moments_makes_both_conditions_exact():
    affinity, output = drifts(fold=True, unit_gain=False, equal_spread=False)
    assert affinity < 1e-6 and output < 1e-6


# ---------------------------------------------------------------- the prompt-distribution loss


def test_the_norm_loss_is_zero_with_zero_gradient_where_the_last_task_ended():
    method = NSP2(NSP2Config(), random_vit(), seed=0)
    value = method.norm_drift()
    value.backward()
    assert value == 0
    assert torch.equal(method.tuning.prompts.grad, torch.zeros_like(method.tuning.prompts))


def test_the_norm_loss_and_its_gradient_follow_the_formula_written_out():
    method = NSP2(NSP2Config(), random_vit(), seed=0)
    prompts, old = method.tuning.prompts, method.previous_prompts.double().numpy()
    with torch.no_grad():
        prompts += 0.1 * torch.randn(prompts.shape, generator=torch.Generator().manual_seed(3))
    method.norm_drift().backward()
    layers, tokens, width = prompts.shape
    value, gradient, now = 0.0, np.zeros(prompts.shape), prompts.detach().double().numpy()
    for layer in range(layers):
        for m in range(tokens):
            mean, spread = now[layer, m].mean(), np.sqrt(now[layer, m].var())
            by_mean, by_spread = mean - old[layer, m].mean(), spread - np.sqrt(old[layer, m].var())
            value += (abs(by_mean) + abs(by_spread)) / tokens
            gradient[layer, m] = np.sign(by_mean) / (tokens * width)
            gradient[layer, m] += np.sign(by_spread) * (now[layer, m] - mean) / (spread * width * tokens)
    assert method.norm_drift().item() == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(prompts.grad.numpy(), gradient, rtol=1e-4, atol=1e-7)


def test_the_norm_loss_begins_with_the_second_task_at_zero_and_is_weighted(nsp2):
    trainer = nsp2(norm_weight=3.0)
    first = {}
    for moment in trainer.run():
        for event in moment:
            if event.kind == "StepEnded":
                assert ("norm_drift" in event.losses) == (event.clock.task == 1)
                first.setdefault(event.clock.task, event.losses)
                last = event.losses
    assert first[1]["norm_drift"] == 0
    assert last["norm_drift"] > 0
    batch = next(trainer.stream[1].batches(4, seed=0, epoch=0))
    trainer.method.previous_prompts.zero_()
    part = trainer.method.loss(trainer.backbone, batch).parts["norm_drift"]
    torch.testing.assert_close(part, 3.0 * trainer.method.norm_drift())


def test_the_norm_loss_refers_to_the_end_of_the_task_just_before(nsp2):
    trainer = nsp2(tasks=5)
    ended = {}
    for moment in trainer.run():
        if moment[-1].kind == "TaskEnded":
            ended[trainer.cursor.task] = trainer.method.tuning.prompts.detach().clone()
        if trainer.cursor.stage == "train" and trainer.cursor.task:
            assert torch.equal(trainer.method.previous_prompts, ended[trainer.cursor.task - 1])
    assert len(ended) == 5 and not torch.equal(ended[0], ended[1])


# ---------------------------------------------------------------- heads, schedule, class order


def test_test_time_logits_are_the_stored_heads_side_by_side(nsp2):
    trainer = until(nsp2(tasks=5), 3)
    pooled = torch.randn(4, 48, generator=torch.Generator().manual_seed(1))
    state = trainer.method.state_dict()
    heads = [(state[f"tuning.heads.{t}.weight"], state[f"tuning.heads.{t}.bias"]) for t in range(4)]
    expected = torch.cat([pooled @ weight.T + bias for weight, bias in heads], dim=1)
    torch.testing.assert_close(trainer.method.classify(pooled, range(8)), expected, atol=1e-6, rtol=0)


def test_the_second_head_starts_from_the_first_as_released_and_later_ones_are_drawn(nsp2):
    trainer = nsp2(tasks=5)
    heads = trainer.method.tuning.heads
    bound = 48**-0.5
    for moment in trainer.run():
        if moment[0].kind == "TaskStarted":
            task = trainer.cursor.task
            if task == 0:
                assert (heads[0].bias == 0).all() and 0.01 < heads[0].weight.std() < 0.03
            elif task == 1:
                assert torch.equal(heads[1].weight, heads[0].weight) and heads[1].weight is not heads[0].weight
            else:
                assert heads[task].weight.abs().max() <= bound and heads[task].weight.std() > 0.4 * bound
                assert not torch.equal(heads[task].weight, heads[task - 1].weight)
    drawn = until(nsp2(head_init="fresh"), 1).method.tuning.heads
    assert not torch.equal(drawn[0].weight, drawn[1].weight)


def test_the_loss_sees_only_the_current_tasks_classes_at_its_temperature(nsp2):
    trainer = until(nsp2(), 1)
    method, task = trainer.method, trainer.stream[1]
    batch = next(task.batches(10, seed=0, epoch=0))
    loss = method.loss(trainer.backbone, batch)
    logits = method.classify(method.features(trainer.backbone, batch.images).pooled, task.classes)
    targets = batch.labels - task.classes.start
    torch.testing.assert_close(loss.parts["cross_entropy"], F.cross_entropy(logits / 2.0, targets))
    assert loss.correct == (logits.argmax(dim=1) == targets).float().mean()


def test_the_released_schedule_decays_after_four_and_seven_long_epochs(tiny_trainer):
    released = TrainingConfig(epochs=10, milestones=(4, 7))
    factors = [released.learning_rate_factor(epoch) for epoch in range(10)]
    assert factors == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])
    trainer = tiny_trainer("nsp2", tasks=5, training={"epochs": 3, "milestones": [1, 2]})
    rates = {}
    for moment in trainer.run():
        for event in moment:
            if event.kind == "StepEnded":
                rates.setdefault((event.clock.task, event.clock.epoch), set()).add(
                    (event.learning_rates["prompts"], trainer.optimiser.param_groups[0]["lr"])
                )
    for (_, epoch), found in rates.items():  # every task starts again at the full rate
        ((said, used),) = found
        assert said == used == pytest.approx(0.01 * 0.1**epoch)


@pytest.mark.parametrize("seed", [0, 2024, 2025])
def test_class_orders_are_numpys_pcg64_shuffle_in_place(seed):
    order = np.arange(100)
    np.random.Generator(np.random.PCG64(seed)).shuffle(order)
    assert class_order(100, seed) == order.tolist()
    assert sorted(order.tolist()) == list(range(100)) != order.tolist()


def test_prompts_start_uniform_between_minus_one_and_one_and_are_carried_on(nsp2):
    method = Sequential(Sequential.Config(prompt_length=64), random_vit(), seed=3)
    values = method.tuning.prompts.detach()
    assert values.min() > -1.0001 and values.max() < 1 and abs(values.mean()) < 0.03
    assert values.std() == pytest.approx(3**-0.5, rel=0.03)
    trainer = nsp2()
    before = None
    for moment in trainer.run():
        if moment[-1].kind == "TaskEnded":
            before = trainer.method.tuning.prompts.detach().clone()
        if moment[0].kind == "TaskStarted" and before is not None:
            assert torch.equal(trainer.method.tuning.prompts, before)
    assert before is not None
