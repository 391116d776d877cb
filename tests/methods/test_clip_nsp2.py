"""CLIP-NSP²: prompts in CLIP's image tower, what is collected of them, what is trained and what stands still."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cl_core.backbones.clip import random_clip
from cl_core.linalg import blended_projector
from cl_core.training.factory import build
from tests.stopped import events_until

DOMAINS = {"backbone": "random-clip", "stream": "synthetic-domains", "tasks": 5, "training": {"batch_size": 50}}
PLAIN = {"rate": 0.01, "prompt_length": 3}


@pytest.fixture
def trainer_of(tiny_config):
    return lambda method="clip_nsp2", **settings: build(
        tiny_config(method, settings={**PLAIN, **settings} if method == "clip_nsp2" else settings, **DOMAINS)
    )


@pytest.fixture(scope="module")
def clip():
    return random_clip()


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_prompts_are_tokens_whose_outputs_are_dropped(clip):
    """Against open_clip's own blocks, fed the longer sequence."""
    images, prompts = drawn(4, 3, 16, 16), {0: drawn(3, 48, seed=1), 1: drawn(2, 48, seed=2)}
    visual = clip.clip.visual
    tokens = clip.embed(images)
    for layer, block in enumerate(visual.transformer.resblocks):
        longer = torch.cat([tokens, prompts[layer].expand(4, -1, -1)], dim=1)
        tokens = block(longer)[:, : tokens.shape[1]]
    expected = visual.ln_post(tokens[:, 0]) @ visual.proj
    torch.testing.assert_close(clip(images, prompts=prompts).pooled, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(clip(images, prompts={}).pooled, clip(images).pooled, atol=0, rtol=0)
    assert (clip(images).pooled - expected).abs().max() > 1e-2


def test_what_is_collected_are_queries_pulled_back_through_keys_and_attention_paid_to_prompts(trainer_of):
    trainer = trainer_of()
    events_until(trainer, 0, "measure")
    method, clip = trainer.method, trainer.backbone
    batch = next(trainer.stream[0].ordered("train", 1000))
    edit = method.edit(clip, batch.images)
    for layer in method.prompted_blocks:
        with torch.no_grad():
            taps = clip.features(batch.images, edit, (("q", layer), ("attention", layer))).taps
        attention = clip.blocks["image"][layer].attn
        width = clip.width
        keys = attention.in_proj_weight[width : 2 * width].view(clip.heads, -1, width).double()
        q, paid = taps["q", layer].double(), taps["attention", layer].double()
        rows = torch.einsum("bhnk,hkd->bhnd", q, keys).flatten(0, 2)
        to_prompts = paid[..., q.shape[2] :].flatten(0, 2)
        for moment, stacked in ((method.moments.affinity, rows), (method.moments.mixture, to_prompts)):
            expected = stacked.mT @ stacked / len(stacked)
            torch.testing.assert_close(moment[layer], expected, rtol=1e-4, atol=1e-5 * float(expected.max()))


def test_the_second_task_projects_the_step_from_both_sides(trainer_of):
    trainer = trainer_of(eta_affinity=0.9, eta_mixture=0.8, norm_weight=0.0, weight_decay=0.0)
    events_until(trainer, 1, "train")
    method, before = trainer.method, trainer.method.prompts.detach().clone()
    next(trainer.run())
    gradient = method.prompts.grad
    step = -0.01 * gradient / (gradient.abs() + 1e-8)  # Adam's first step
    left = blended_projector(method.moments.mixture, eta=0.8).float()
    right = blended_projector(method.moments.affinity, eta=0.9).float()
    torch.testing.assert_close(method.prompts.detach() - before, left @ step @ right, atol=2e-6, rtol=1e-3)


def test_prompts_and_the_logit_scale_are_trained_and_nothing_else(trainer_of):
    for train_scale in (True, False):
        trainer = trainer_of(train_scale=train_scale)
        before = {name: value.clone() for name, value in trainer.backbone.state_dict().items()}
        start = float(trainer.method.log_scale.detach())
        assert start == pytest.approx(float(trainer.backbone.clip.logit_scale))
        events_until(trainer, 0, "measure")
        assert (float(trainer.method.log_scale.detach()) != start) == train_scale
        names = {name for group in trainer.method.groups() for name in group.parameters}
        assert names == ({"prompts", "log_scale"} if train_scale else {"prompts"})
        assert all(torch.equal(value, before[name]) for name, value in trainer.backbone.state_dict().items())


def test_texts_are_read_once_because_they_stand_still(trainer_of):
    trainer = trainer_of()
    events_until(trainer, 0, "measure")
    first = trainer.method.class_texts
    steps = trainer.method.prompts.detach().clone()
    next(trainer.run())
    assert trainer.method.class_texts is first and torch.equal(steps, trainer.method.prompts)
    read, calls = trainer.backbone.encode_text, []
    trainer.backbone.encode_text = lambda *a, **k: calls.append(1) or read(*a, **k)
    events_until(trainer, 1, "survey")
    assert trainer.method.class_texts.equal(first) and len(calls) <= 2  # the next task's texts, and all after refresh


def test_the_row_before_training_is_that_of_the_untouched_model_and_not_of_random_prompts(trainer_of):
    rows = []
    for method in ("clip_nsp2", "zero_shot"):
        said = next(trainer_of(method).run())
        rows += [event.row for event in said if event.kind == "AccuracyMeasured" and event.readout == "zero-shot"]
    assert len(rows) == 2 and rows[0] == rows[1]


def test_a_test_image_is_scored_by_cosine_times_the_trained_scale(trainer_of):
    trainer = trainer_of()
    events_until(trainer, 1, "begin")
    method, pooled = trainer.method, drawn(3, trainer.backbone.joint_width)
    expected = method.log_scale.exp() * F.normalize(pooled, dim=1) @ method.class_texts[:4].mT
    torch.testing.assert_close(method.classify(pooled, range(4)), expected)


def test_spectra_and_updates_are_said_of_the_blocks_with_prompts(trainer_of):
    trainer = trainer_of(prompt_blocks=1)
    events = [event for moment in trainer.run() for event in moment]
    assert {e.layer for e in events if e.kind in ("SpectrumMeasured", "UpdateMeasured")} == {0}
    directions = [e for e in events if e.kind == "UpdateByDirection"]
    assert directions and {e.source for e in directions} == {"steps"}
    assert not [e for e in events if e.kind == "MeasurementStopped"]
