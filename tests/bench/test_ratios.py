"""The benches run end to end and return what their tables show. No time is asserted: machines differ."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from bench import published_nsp2, ratios
from bench.bare import BareClip, BareViT, OwnLoss, bare_loop
from bench.meters import held_bytes, peak_bytes
from cl_core.registry import BACKBONES, METHODS

CPU = torch.device("cpu")
STREAMS = {"vit": "synthetic", "clip": "synthetic-domains"}
SHORT = {
    "star_prompt": ["companion=random-clip", "draws=8", "key_epochs=1", "key_replay_epochs=1", "replay_epochs=1"],
    "clip_refine": ["refine_pairs=40", "refine_batch=20"],
    "nsp2pp": ["draws=8", "refine_epochs=1"],
    "slca": ["draws=8", "align_epochs=1"],
}


def tiny(method):
    """Untrained models on drawn bars: five steps a task, of which one ends the epoch and three are not compared."""
    needs = METHODS[method].needs
    backbone = next(name for name, entry in BACKBONES.items() if entry.needs == needs and "random" in name)
    settings = ["training.epochs=1", "training.batch_size=8", "stream.tasks=5", *SHORT.get(method, [])]
    config = ratios.config_of(method, "cpu", {needs: backbone}, settings)
    return replace(config, stream=STREAMS[needs])


# One of each way in which a method changes the model or is trained: the bench itself says where it finds no bare loop.
KINDS = ["sequential", "joint", "zero_shot", "replay", "l2p", "coda_prompt", "code_cl", "finetune", "nusa_cl", "gnsp"]
KINDS += ["star_prompt"]


@pytest.mark.parametrize("method", KINDS)
def test_every_kind_of_method_has_a_row(method):
    row = ratios.measured(tiny(method), pairs=1, repeats=1)
    cells = row.cells()
    assert len(cells) == len(ratios.HEADER) and cells[0] == method
    assert row.survey > 0 and row.diagnostics > 0
    assert (row.begin is None) == (method == "joint")
    if method in ("zero_shot", "fecam", "ranpac"):
        assert row.step is None and cells[1:3] == ["–", "–"] and row.bare == "trains nothing"
        return
    assert row.own.middle > 0 and row.own.count >= 1
    assert row.step is not None, f"no bare loop was found: {row.bare}"
    assert 0 < row.step.low <= row.step.middle <= row.step.high < math.inf
    assert row.memory > 0 and row.memory_end > 0 and "trained freely" in row.bare


def test_a_task_is_trained_again_until_there_are_as_many_pairs_as_were_wanted():
    row = ratios.measured(tiny("sequential"), pairs=4, repeats=1)
    assert row.step.count == row.own.count == 4


def floor_of(method):
    course = ratios.Course(tiny(method))
    while course.stage in ("start", "begin"):
        course.advance()
    return course, bare_loop(OwnLoss(course.trainer), course.task, next(course.batches()), torch.float32)


def test_a_bare_loop_trains_what_the_method_trains_and_leaves_the_backbone_alone():
    course, bare = floor_of("nsp2")
    prompts = course.trainer.method.tuning.prompts
    assert isinstance(bare, BareViT) and [p.shape for p in bare.trained] == [prompts.shape]
    frozen = {name: value.clone() for name, value in course.trainer.backbone.state_dict().items()}
    before = [p.detach().clone() for p in (prompts, bare.trained[0])]
    bare.step(next(course.batches()))
    assert torch.equal(prompts, before[0]) and not torch.equal(bare.trained[0], before[1])
    assert all(torch.equal(value, frozen[name]) for name, value in course.trainer.backbone.state_dict().items())


def test_prompts_that_differ_from_image_to_image_are_one_set_in_the_bare_loop():
    _, bare = floor_of("coda_prompt")
    assert {p.shape[0] for p in bare.trained} == {1} and "edits" in bare.entering


def test_weights_beside_branches_are_trained_by_the_library_itself():
    course, bare = floor_of("nusa_cl")
    assert isinstance(bare, BareClip) and bare.texts is None
    backbone = course.trainer.backbone
    beside = {backbone.linear_map(name).parameter for name in backbone.attention_maps()}
    assert {name for name, p in bare.clip.named_parameters() if p.requires_grad} == beside
    assert not any(p.requires_grad for p in backbone.parameters())


def test_the_peak_counts_what_is_alive_at_once():
    def work():
        first = torch.zeros(1000, 1000)  # 4 MB
        second = first + 1  # 8 MB alive
        del first
        return second + 1  # 8 MB again

    peak, result = peak_bytes(work, CPU)
    assert result[0, 0] == 2 and peak == pytest.approx(8_000_000, abs=100)  # scalars are allocated too


def test_held_counts_a_storage_once_and_stays_out_of_what_is_named():
    layer, other = nn.Linear(10, 10, bias=False), {"of": torch.zeros(50)}
    holder = {"weight": layer.weight, "view": layer.weight[0], "call": lambda: layer, "other": other}
    assert held_bytes([holder], CPU) == 400 + 200
    assert held_bytes([holder], CPU, [other]) == 400


def test_ours_and_the_published_procedure_arrive_at_the_same_projectors():
    config = published_nsp2.config_of(
        "cpu", "random-vit", ["training.epochs=2", "training.batch_size=25", "prompt_rate=0.05"]
    )
    pair = published_nsp2.Pair(replace(config, stream="synthetic"))
    for _ in range(3):
        times = pair.task()
        assert times.projectors_apart < 1e-4 and times.nullities_differ == 0
        assert times.prompts_apart < 1e-3  # from the second task on these steps were projected
        assert min(*times.steps, *times.end) > 0 and times.step_ratio > 0
    moved = pair.ours.trainer.method.tuning.prompts - ratios.Course(pair.config).trainer.method.tuning.prompts
    assert moved.abs().max() > 0.01


def test_the_published_cut_follows_the_same_rule_on_long_spectra(seeded):
    from cl_core.linalg import blended_projector, elbow_nullity, spectrum

    for width, seed in ((8, 0), (130, 1), (192, 2)):
        rows = torch.randn(400, width, generator=seeded(seed), dtype=torch.float64)
        moment = (rows * torch.linspace(3, 0.1, width) ** 2).mT @ (rows * torch.linspace(3, 0.1, width) ** 2) / 400
        found, nullity = published_nsp2.blended(moment, 0.97)
        assert nullity == elbow_nullity(spectrum(moment))
        torch.testing.assert_close(found, blended_projector(moment, eta=0.97), atol=1e-9, rtol=0)
