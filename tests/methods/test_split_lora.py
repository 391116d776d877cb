"""SplitLoRA against its formulas: where A lies, how long it is, what never moves, and the running moment."""

import numpy as np
import pytest
import torch

from cl_core.linalg import splitting_cut
from cl_core.observers.kept import kept_bytes
from tests.stopped import until

SETTINGS = {"rate": 0.02, "rank": 5, "alpha": 3.0, "temperature": 1.0}


@pytest.fixture
def split(tiny_trainer):
    return lambda tasks=2, **settings: tiny_trainer("split_lora", settings={**SETTINGS, **settings}, tasks=tasks)


def inputs_of(trainer, task):
    """Inputs of every block's attention on a task's training images: [L, n, d] in double precision."""
    method, backbone = trainer.method, trainer.backbone
    batch = next(trainer.stream[task].ordered("train", 10_000))
    taps = [("normed", layer) for layer in range(backbone.depth)]
    with torch.no_grad():
        found = method.features(backbone, batch.images, taps).taps
    return torch.stack([found[tap].flatten(0, 1) for tap in taps]).double()


def test_the_moment_is_the_mean_over_all_tokens_of_all_tasks(split):
    trainer, seen = split(tasks=5), []
    for task in range(3):
        until(trainer, task, "measure")
        seen.append(inputs_of(trainer, task))
        rows = torch.cat(seen, dim=1)
        expected = rows.mT @ rows / rows.shape[1]
        torch.testing.assert_close(trainer.method.moment, expected, rtol=1e-5, atol=1e-5 * float(expected.max()))


def test_the_second_tasks_branches_read_nothing_of_the_protected_directions(split):
    method = until(split(), 1).method
    for layer, moment in enumerate(method.moment):
        values, vectors = np.linalg.eigh(moment.numpy())
        cut = splitting_cut(torch.tensor(values[::-1].copy()), tasks=1, alpha=3.0)
        major = vectors[:, ::-1][:, :cut]
        for down in method.down[layer]:
            assert np.linalg.norm(down.numpy() @ major) < 1e-5 * np.linalg.norm(down.numpy())
            assert np.linalg.matrix_rank(down.numpy()) == 5


def test_branches_are_as_long_as_a_kaiming_draw(split):
    trainer = until(split(), 0)
    first = trainer.method.down.clone()
    assert first.abs().max() <= 48**-0.5 and first.std() == pytest.approx((48 * 3) ** -0.5, rel=0.1)
    second = until(trainer, 1).method.down
    drawn = (torch.rand(second.shape, generator=torch.Generator().manual_seed(_seed(1))) * 2 - 1) * 48**-0.5
    torch.testing.assert_close(2 * second.flatten(2).norm(dim=2), drawn.flatten(2).norm(dim=2), rtol=1e-5, atol=0)


def test_the_branches_of_task_t_are_scaled_by_one_over_t(split):
    """The release's factor since May 2025; with `scaling="none"` A is as long in every task."""
    scaled, plain = split(tasks=5), split(tasks=5, scaling="none")
    for task in range(3):
        one, other = (until(trainer, task).method.down.flatten(1).norm() for trainer in (scaled, plain))
        assert float(one * (task + 1)) == pytest.approx(float(other), rel=1e-5)


def _seed(task):
    from cl_core.streams.stream import mixed_seed

    return mixed_seed(0, "branches", task)


def test_a_new_task_begins_with_the_outputs_the_last_one_ended_with(split):
    trainer = until(split(), 0, "measure")
    images = next(trainer.stream[0].ordered("test", 10)).images
    before = trainer.method.features(trainer.backbone, images).pooled.detach()
    method = until(trainer, 1).method
    assert not method.up.any() and method.merged.any()
    assert torch.equal(method.features(trainer.backbone, images).pooled, before)


def test_training_moves_only_b_and_leaks_nothing_into_what_is_protected(split):
    trainer = until(split(), 1)
    down = trainer.method.down.clone()
    said = [event for moment in trainer.run() for event in moment]
    assert torch.equal(trainer.method.down, down)
    updates = [e for e in said if e.kind == "UpdateMeasured"]
    assert len(updates) == trainer.backbone.depth
    assert all(e.leak["kv"] < 1e-5 and e.movement > 1e-4 and 0 < e.residual["kv"] < 1 for e in updates)


def test_the_change_of_the_first_block_on_old_inputs_is_what_the_minor_directions_carry(split):
    """Block 0 reads what no block has changed, so there the guarantee is exact: only minor energy can act."""
    trainer = until(split(alpha=1.0), 0, "measure")
    rows, moment = inputs_of(trainer, 0)[0], trainer.method.moment[0].clone()
    before = trainer.method.merged[0].clone()
    for _ in trainer.run():
        pass
    update = (trainer.method.merged[0] - before).double()
    values, vectors = torch.linalg.eigh(moment)
    cut = splitting_cut(values.flip(0), tasks=1, alpha=1.0)
    minor = vectors.flip(1)[:, cut:]
    for change in update:
        seen, granted = rows @ change.mT, rows @ minor @ minor.mT @ change.mT
        torch.testing.assert_close(seen, granted, atol=1e-5 * float(seen.abs().max() + 1), rtol=1e-4)


def test_spectra_and_trade_off_say_where_the_cut_falls(split):
    trainer = split(tasks=5)
    said = [event for moment in trainer.run() for event in moment]
    spectra = [e for e in said if e.kind == "SpectrumMeasured"]
    curves = [e for e in said if e.kind == "TradeOffMeasured"]
    assert len(spectra) == len(curves) == 5 * trainer.backbone.depth
    for shown, curve in zip(spectra, curves, strict=True):
        assert (shown.layer, shown.clock, shown.space) == (curve.layer, curve.clock, curve.space) and shown.used
        assert shown.nullity == len(shown.eigenvalues) - curve.protected
        lowest = int(np.argmin(curve.stability_loss.astype(float) - curve.plasticity_gain))
        assert curve.protected == max(lowest, 1) + 1
        assert curve.stability_loss[0] < shown.clock.task + 1 and curve.plasticity_gain[0] == 3.0


def test_weights_are_said_to_be_those_that_act(split):
    trainer = until(split(), 1)
    for _ in zip(range(2), trainer.run(), strict=False):
        pass
    method, backbone = trainer.method, trainer.backbone
    weights = method.adapted_weights(backbone)
    assert list(weights) == [f"image.{layer}.{which}" for layer in range(backbone.depth) for which in "kv"]
    images = next(trainer.stream[0].ordered("test", 5)).images
    found = method.features(backbone, images, [("normed", 1), ("k", 1), ("v", 1)]).taps
    for which in "kv":
        own = backbone.vit.blocks[1].attn.qkv.bias.view(3, -1)["qkv".index(which)]
        expected = found["normed", 1] @ weights[f"image.1.{which}"].mT + own
        torch.testing.assert_close(found[which, 1].transpose(1, 2).flatten(2), expected, atol=1e-5, rtol=1e-5)


def test_branches_are_not_counted_as_kept(split):
    small, large = (kept_bytes(split(rank=rank).method) for rank in (1, 20))
    assert small == large > 0
