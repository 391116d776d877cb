"""MG-CLIP against its formulas, re-derived here in double precision.

Huang et al. Mind the Gap: Preserving and Compensating for the Modality Gap in CLIP-Based Continual Learning. ICCV 2025,
arXiv:2507.09118.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cl_core.backbones.clip import random_clip
from cl_core.config import ConfigError
from cl_core.events import Clock
from cl_core.methods.mg_clip import MgClip, MgClipConfig, epochs_before, pair_logits, relative_change
from cl_core.methods.parts.visual_head import VisualHead, class_means, floored_cosine, fused_score, visual_logits
from tests.stopped import events_until


@pytest.fixture
def mg_clip(tiny_trainer):
    return lambda tasks=5, **settings: tiny_trainer("mg_clip", backbone="random-clip", tasks=tasks, settings=settings)


def copied(state):
    return {name: value.clone() for name, value in state.items()}


def rows_of(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def unit_rows(*shape, seed=0, dtype=torch.float64):
    return F.normalize(rows_of(*shape, seed=seed, dtype=dtype) + 0.3, dim=-1)


# ---------------------------------------------------------------- MGP: the rule


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((0.02, 0.05, 0.12), 2),
        ((0.2, 0.3), 1),
        ((0.05, 0.2), 1),
        ((0.01,) * 10, 10),
        ((0.1,) * 10, 10),  # at the line is not beyond it
        ((0.01, 0.02, math.nan), 2),
    ],
)
def test_the_epochs_are_those_completed_before_the_first_violation(changes, expected):
    assert epochs_before(changes, 0.1) == expected


def test_the_relative_change_does_not_depend_on_the_scale_nor_on_the_sign_of_the_first_mean():
    for scale in (1.0, 14.3, 100.0):
        assert relative_change(scale * 0.21, scale * 0.17) == pytest.approx(0.04 / 0.21, abs=1e-9)
    assert relative_change(-0.2, -0.3) == pytest.approx(0.5)
    assert relative_change(-0.2, 0.1) == pytest.approx(1.5)
    assert relative_change(0.0, 0.0) == 0 and relative_change(0.0, 0.1) > 1e6


def test_pair_means_count_every_batch_once_and_leave_out_the_matching_class():
    logits, targets = 30 * rows_of(7, 4).double(), torch.tensor([0, 3, 1, 1, 2, 0, 3])
    found = torch.stack([pair_logits(z, y) for z, y in zip(logits.split(4), targets.split(4), strict=True)]).mean(0)
    z, y = logits.numpy(), targets.numpy()
    batches = (range(4), range(4, 7))
    positive = np.mean([np.mean([z[i, y[i]] for i in b]) for b in batches])
    negative = np.mean([np.mean([np.delete(z[i], y[i]).mean() for i in b]) for b in batches])
    torch.testing.assert_close(found, torch.tensor([positive, negative], dtype=torch.float64))


def test_pair_means_do_not_change_under_a_common_rotation():
    x, t, targets = unit_rows(9, 6), unit_rows(4, 6, seed=1), torch.arange(9) % 4
    turned = torch.linalg.qr(rows_of(6, 6, seed=2, dtype=torch.float64)).Q
    torch.testing.assert_close(pair_logits(x @ turned @ (t @ turned).mT, targets), pair_logits(x @ t.mT, targets))


def test_the_centroids_inner_product_follows_from_the_pair_means():
    """mean x · mean t = (pos + (C−1) neg) / (C s): neg falls when centroids part or when the class texts spread."""
    scale, x, t, targets = 20.0, unit_rows(12, 6), unit_rows(5, 6, seed=1), torch.arange(12) % 5
    positive, negative = pair_logits(scale * x @ t.mT, targets)
    torch.testing.assert_close(x.mean(0) @ t.mean(0), (positive + 4 * negative) / (5 * scale))


def test_a_rehearsal_says_what_the_untouched_model_measures_and_follows_the_rule(mg_clip):
    trainer = mg_clip(rate=0.01)
    (chosen,) = [e for e in events_until(trainer, 0, "train") if e.kind == "EpochsChosen"]
    backbone, task = random_clip(), trainer.stream[0]
    texts = backbone.encode_text(backbone.tokenize(s for (s,) in task.words.texts(0)))
    found = []
    for batch in task.batches(25, seed=0, epoch=0):
        x = F.normalize(backbone(batch.images).pooled, dim=1)
        found.append(pair_logits(float(backbone.logit_scale) * x @ texts.mT, batch.labels))
    positive, negative = torch.stack(found).mean(0).tolist()
    assert (chosen.positive[0], chosen.similarity[0]) == pytest.approx((positive, negative), abs=1e-5)
    changes = [relative_change(chosen.similarity[0], value) for value in chosen.similarity[1:]]
    assert chosen.epochs == epochs_before(changes, 0.1) == trainer.method.epochs(5)
    assert all(change <= 0.1 for change in changes[:-1])
    assert changes[-1] > 0.1 or len(changes) == 10


def test_a_rehearsal_leaves_no_trace_but_the_number_of_epochs(mg_clip):
    trainer = mg_clip(rate=0.01)
    method, task = trainer.method, trainer.stream[0]
    method.begin_task(0, task.classes)
    before, random = copied(method.state_dict()), torch.get_rng_state()
    method.prepare_task(trainer.backbone, lambda number: task.batches(25, seed=0, epoch=number), Clock(0))
    after = method.state_dict()
    assert {name for name in after if not torch.equal(after[name], before[name])} == {"found_epochs"}
    assert set(after) == set(before) and torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None for p in method.parameters())


def test_a_rehearsal_that_breaks_off_leaves_no_trace_at_all(mg_clip):
    trainer = mg_clip(rate=0.01)
    method, task = trainer.method, trainer.stream[0]
    method.begin_task(0, task.classes)
    before, asked = copied(method.state_dict()), []

    def breaks_off(number):
        asked.append(number)
        if len(asked) == 3:  # measured, trained one epoch, about to measure again
            assert any(up.any() for up in method.up.values())
            raise KeyboardInterrupt
        return task.batches(25, seed=0, epoch=number)

    with pytest.raises(KeyboardInterrupt):
        method.prepare_task(trainer.backbone, breaks_off, Clock(0))
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_a_threshold_that_is_never_reached_gives_all_epochs_and_a_strict_one_gives_one(mg_clip):
    for threshold, expected, measured in ((10.0, 4, 5), (0.0, 1, 2)):
        trainer = mg_clip(tasks=2, gap_threshold=threshold, max_epochs=4)
        (chosen,) = [e for e in events_until(trainer, 0, "train") if e.kind == "EpochsChosen"]
        assert (chosen.epochs, len(chosen.similarity), len(chosen.positive)) == (expected, measured, measured)


def test_every_task_is_trained_for_the_epochs_found_and_for_the_planned_ones_where_they_are_fixed(mg_clip):
    for settings, expected in (({"gap_threshold": 10.0, "max_epochs": 3}, 3), ({"epoch_rule": "fixed"}, 2)):
        events = [e for m in mg_clip(tasks=2, **settings).run() for e in m]
        ended = [(e.clock.task, e.clock.epoch) for e in events if e.kind == "EpochEnded"]
        assert ended == [(task, epoch) for task in range(2) for epoch in range(expected)]
        assert any(e.kind == "EpochsChosen" for e in events) == (expected == 3)


def test_the_rule_needs_two_classes_in_the_first_task(mg_clip):
    with pytest.raises(ConfigError, match="epoch_rule=fixed"):
        mg_clip(tasks=10)
    mg_clip(tasks=10, epoch_rule="fixed")


# ---------------------------------------------------------------- what is trained


def test_before_training_the_adapted_model_is_clip(mg_clip):
    trainer = mg_clip()
    images, backbone = rows_of(3, 3, 16, 16), trainer.backbone
    plain, tokens = random_clip(), backbone.tokenize(["a photo of a bar", "an upright red bar"])
    adaptation = trainer.method.adaptation()
    torch.testing.assert_close(backbone(images, adaptation=adaptation).pooled, plain(images).pooled, atol=1e-6, rtol=0)
    adapted = backbone.encode_text(tokens, adaptation=adaptation)
    torch.testing.assert_close(adapted, plain.encode_text(tokens), atol=1e-6, rtol=0)


def test_branches_sit_on_keys_and_values_of_both_towers_and_count_as_the_formula_says():
    method, widths = MgClip(MgClipConfig(), random_clip(), 0), {"image": 48, "text": 32}
    (group,) = method.groups()
    count = sum(p.numel() for p in group.parameters.values())
    assert count == sum(p.numel() for p in method.parameters()) == sum(2 * 2 * (2 * 8 * w) for w in widths.values())
    assert 12 * 2 * (2 * 8 * 768) + 12 * 2 * (2 * 8 * 512) == 491_520  # the same formula for ViT-B/16
    branches = method.adaptation().branches
    assert set(branches) == {f"{tower}.{k}.{part}" for tower in widths for k in range(2) for part in "kv"}
    for name, branch in branches.items():
        width = widths[name.split(".")[0]]
        assert branch.scale == 1 / 8 and branch.down.shape == (8, width) and not branch.up.any()
        bound = math.sqrt(6 / (8 + width))
        assert 0.9 * bound < branch.down.abs().max() <= bound


def test_a_branch_equals_its_merged_weight():
    backbone, images = random_clip(), rows_of(2, 3, 16, 16)
    method = MgClip(MgClipConfig(alpha=8.0), backbone, 0)
    with torch.no_grad():
        for number, up in enumerate(method.up.values()):
            up.copy_(0.3 * rows_of(*up.shape, seed=number))
        adaptation = method.adaptation()
        merged = {}
        for name in method.maps:
            place = backbone.linear_map(name)
            weight = merged.setdefault(place.parameter, backbone.parameter(place.parameter).clone())
            weight[place.rows] += method.up[name.replace(".", "_")] @ method.down[name.replace(".", "_")]
        expected = backbone(images, adaptation=replace(adaptation, weights=merged, branches={})).pooled
        torch.testing.assert_close(backbone(images, adaptation=adaptation).pooled, expected, atol=1e-5, rtol=0)
        assert not torch.allclose(expected, backbone(images).pooled, atol=1e-2)


def test_steps_change_the_branches_only_and_a_tasks_end_the_head_only(mg_clip):
    trainer = mg_clip()
    events_until(trainer, 1, "train")
    start, backbone = copied(trainer.method.state_dict()), copied(trainer.backbone.state_dict())
    events_until(trainer, 1, "survey")
    trained = copied(trainer.method.state_dict())
    assert {n for n in start if not torch.equal(start[n], trained[n])} == set(trainer.method.groups()[0].parameters)
    events_until(trainer, 1, "measure")
    ended = trainer.method.state_dict()
    assert {n for n in ended if not torch.equal(trained[n], ended[n])} == {"visual.rows", "visual.filled"}
    assert all(torch.equal(value, backbone[name]) for name, value in trainer.backbone.state_dict().items())


def test_branches_go_on_from_task_to_task(mg_clip):
    trainer = mg_clip()
    events_until(trainer, 0, "measure")
    ended = copied(dict(trainer.method.named_parameters()))
    events_until(trainer, 1, "train")
    assert all(torch.equal(value, ended[name]) for name, value in trainer.method.named_parameters())
    assert all(up.any() for up in trainer.method.up.values())


def test_the_loss_is_cross_entropy_over_the_tasks_own_classes_without_smoothing(mg_clip):
    trainer = mg_clip()
    events_until(trainer, 1, "train")
    method, backbone = trainer.method, trainer.backbone
    batch = next(iter(trainer.stream[1].batches(25, seed=0, epoch=0)))
    with torch.no_grad():
        loss = method.loss(backbone, batch).parts["cross_entropy"]
        adaptation = method.adaptation()
        texts = backbone.encode_text(method._training_tokens, adaptation=adaptation)  # all classes, old ones included
        x = F.normalize(backbone(batch.images, adaptation=adaptation).pooled, dim=1)
        logits = float(backbone.logit_scale) * x @ texts.mT
    expected = F.cross_entropy(logits[:, 2:4], batch.labels - 2)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)
    assert F.cross_entropy(logits[:, :4], batch.labels) > expected + 0.01


# ---------------------------------------------------------------- MGC: the head and the fusion


def test_head_logits_lie_between_minus_one_and_one_and_see_directions_only():
    head = VisualHead(6)
    head.add_classes(3)
    head.rows = rows_of(3, 6)
    pooled = 5 * rows_of(8, 6, seed=1)
    logits = head(pooled, range(3))
    assert logits.abs().max() <= 1 + 1e-6
    head.rows = head.rows * torch.tensor([[0.01], [3.0], [400.0]])
    torch.testing.assert_close(head(7 * pooled, range(3)), logits, atol=1e-6, rtol=0)


def test_a_local_loss_pulls_at_no_old_row_and_at_the_new_ones_as_if_they_were_alone():
    x, rows, targets = unit_rows(8, 6), rows_of(5, 6, seed=1, dtype=torch.float64).requires_grad_(), torch.arange(8) % 2
    F.cross_entropy(visual_logits(x, rows)[:, 3:], targets).backward()
    alone = rows.detach()[3:].clone().requires_grad_()
    F.cross_entropy(visual_logits(x, alone), targets).backward()
    assert not rows.grad[:3].any()
    torch.testing.assert_close(rows.grad[3:], alone.grad)


def test_rows_start_at_class_means_and_follow_adam_with_a_cosine_to_one_percent(seeded):
    pooled, labels = 3 * rows_of(10, 6), torch.tensor([4, 5] * 5)
    x, targets = F.normalize(pooled, dim=1), labels - 4

    def learned(epochs):
        head = VisualHead(6)
        head.add_classes(6)
        head.see(pooled[:7], labels[:7])
        head.see(pooled[7:], labels[7:])
        head.learn(range(4, 6), rate=0.05, epochs=epochs, batch=4, seed=3)
        assert head.filled.tolist() == [False] * 4 + [True] * 2 and not head.rows[:4].any()
        assert head.knows(range(4, 6)) and not head.knows(range(3, 6)) and not head.knows(range(4, 8))
        return head.rows[4:]

    means = torch.stack([x[targets == c].mean(0) for c in range(2)])
    torch.testing.assert_close(class_means(x, targets, 2), means)
    torch.testing.assert_close(learned(0), means)

    generator, place = seeded(3), means.double().numpy()
    first, second, number = np.zeros_like(place), np.zeros_like(place), 0
    for _ in range(2):
        for chosen in torch.randperm(10, generator=generator).split(4):
            rate = 0.05 * (0.01 + 0.99 * (1 + math.cos(math.pi * number / 6)) / 2)
            number += 1
            rows = torch.tensor(place, requires_grad=True)
            F.cross_entropy(visual_logits(x[chosen].double(), rows), targets[chosen]).backward()
            gradient = rows.grad.numpy()
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            place = place - rate * (first / (1 - 0.9**number)) / (np.sqrt(second / (1 - 0.999**number)) + 1e-8)
    np.testing.assert_allclose(learned(2).numpy(), place, atol=1e-5)


def test_the_rate_falls_from_one_to_one_percent():
    assert (floored_cosine(0), floored_cosine(0.5), floored_cosine(1)) == pytest.approx((1, 0.505, 0.01))
    assert floored_cosine(0.1) == pytest.approx(0.976, abs=5e-4)  # the second of ten epochs


def test_old_rows_stay_bit_for_bit_while_later_tasks_are_learned(mg_clip):
    trainer, kept = mg_clip(), {}
    for moment in trainer.run():
        if moment[-1].kind == "TaskEnded":
            for task in trainer.stream[: trainer.cursor.task + 1]:
                rows = trainer.method.visual.rows[task.classes.start : task.classes.stop].clone()
                assert torch.equal(kept.setdefault(task.index, rows), rows) and rows.any()
    assert len(kept) == 5 and trainer.method.visual.filled.all()


def test_fused_scores_sum_to_one_and_follow_the_formula():
    text, visual = 30 * rows_of(6, 5), torch.tanh(rows_of(6, 5, seed=1))
    z, q = text.double().numpy(), visual.double().numpy()

    def softmax(a):
        return np.exp(a) / np.exp(a).sum(1, keepdims=True)

    for double in (True, False):
        score = fused_score(text, visual, 4.0, double=double)
        torch.testing.assert_close(score.sum(1), torch.ones(6))
        once = softmax(z - z.max(1, keepdims=True))
        expected = ((softmax(once) if double else once) + 4 * softmax(q)) / 5
        np.testing.assert_allclose(score.numpy(), expected, atol=1e-6)


def test_with_a_single_softmax_the_visual_head_hardly_counts():
    """Text 0.9 against 0.1, image the other way: the second softmax brings both down to comparable ranges."""
    text, visual = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.2, 0.6]])
    assert fused_score(text, visual, 4.0, double=True).argmax() == 1
    assert fused_score(text, visual, 4.0, double=False).argmax() == 0


def test_fusion_chooses_the_classifier_and_only_the_classes_asked_for_compete(mg_clip):
    trainer = mg_clip()
    events_until(trainer, 2, "begin")
    method, pooled = trainer.method, 4 * rows_of(6, 24)

    def scores(classes, **settings):
        method.config = replace(method.config, **settings)
        with torch.no_grad():
            return method.classify(pooled, classes)

    both = {fusion: scores(range(4), fusion=fusion) for fusion in ("double", "single", "text", "visual")}
    torch.testing.assert_close(both["double"], fused_score(both["text"], both["visual"], 4.0, double=True))
    torch.testing.assert_close(both["single"], fused_score(both["text"], both["visual"], 4.0, double=False))
    assert not torch.equal(both["double"], both["single"])
    torch.testing.assert_close(scores(range(2, 4), fusion="visual"), both["visual"][:, 2:])
    expected = fused_score(both["text"][:, 2:], both["visual"][:, 2:], 4.0, double=True)
    torch.testing.assert_close(scores(range(2, 4), fusion="double"), expected)
    only_text = fused_score(both["text"], both["visual"], 0.0, double=False)
    torch.testing.assert_close(scores(range(4), fusion="single", visual_weight=0.0), only_text)


def test_classes_without_a_visual_head_are_scored_by_text_alone(mg_clip):
    trainer = mg_clip()
    events_until(trainer, 1, "train")  # the second task has begun: its rows are there, and empty
    method, pooled = trainer.method, 4 * rows_of(6, 24)
    with torch.no_grad():
        for classes in (range(2, 4), range(8, 10), range(4), range(10)):
            expected = method.scale * F.normalize(pooled, dim=1) @ method.class_texts[classes.start : classes.stop].mT
            torch.testing.assert_close(method.classify(pooled, classes), expected)
        torch.testing.assert_close(method.classify(pooled, range(2)).sum(1), torch.ones(6))


def test_what_is_kept_is_branches_and_head(mg_clip):
    trainer = mg_clip()
    events = events_until(trainer, 2, "begin")
    kept = [e.kept_bytes for e in events if e.kind == "TaskEnded"]
    assert kept[0] == 4 * 5120 + 2 * (4 * 24 + 1) + 8  # numbers of the branches; rows and their flags; E
    assert kept[1] - kept[0] == 2 * (4 * 24 + 1)


def test_weights_as_adapted_are_the_models_plus_an_eighth_of_b_a(mg_clip):
    trainer = mg_clip()
    events_until(trainer, 1, "begin")
    adapted = trainer.method.adapted_weights(trainer.backbone)
    for name, weight in adapted.items():
        plain, place = trainer.backbone.map_weight(name), name.replace(".", "_")
        if name[-1] in "qo":
            assert torch.equal(weight, plain)
        else:
            torch.testing.assert_close(weight - plain, trainer.method.up[place] @ trainer.method.down[place] / 8)
