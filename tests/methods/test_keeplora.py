"""KeepLoRA against its card: which vectors of a weight are kept, where branches point, and what never moves."""

import numpy as np
import pytest
import torch

from cl_core.methods.keeplora import principal, residual_factors
from cl_core.methods.parts.clip_weights import key
from cl_core.training.factory import build
from tests.stopped import until

W = torch.tensor([[0, 3, 0], [2, 0, 0], [0, 0, 1]], dtype=torch.float64)
G = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 10]], dtype=torch.float64)


@pytest.fixture
def keep(tiny_config):
    def make(tasks=2, **settings):
        usual = {"rate": 0.01, "rank": 4, "weights_image": 0.5, "features": 0.8}
        return build(
            tiny_config(
                "keeplora",
                backbone="random-clip",
                stream="synthetic-domains",
                tasks=tasks,
                settings={**usual, **settings},
            )
        )

    return make


def test_inputs_are_kept_by_right_singular_vectors_and_released_code_takes_left_ones():
    assert principal(W, 0.85, "input").abs().tolist() == [[0], [1], [0]]
    assert principal(W, 0.85, "output").abs().tolist() == [[1], [0], [0]]


def test_the_branch_is_the_best_one_beside_what_is_kept():
    a, b = residual_factors(G, principal(W, 0.85, "input"), 1)
    np.testing.assert_allclose(a[:, 0].abs().numpy(), [0.558057, 0, 0.829803], atol=1e-6)
    expected = [[1.7007, 4.0240, 6.8108], [0, 0, 0], [2.5288, 5.9837, 10.1273]]
    np.testing.assert_allclose((a @ b).numpy(), expected, atol=2e-4)
    assert b.norm().item() == pytest.approx(14.4995, abs=1e-4)


def test_with_the_released_side_the_top_input_direction_is_open():
    a, _ = residual_factors(G, principal(W, 0.85, "output"), 1)
    np.testing.assert_allclose(a[:, 0].abs().numpy(), [0, 0.625015, 0.780612], atol=1e-6)


def test_where_no_room_is_left_the_branch_is_nothing():
    a, b = residual_factors(G, torch.eye(3, dtype=torch.float64), 2)
    assert not a.any() and not b.any()
    a, b = residual_factors(G, torch.eye(3, dtype=torch.float64)[:, :2], 2)
    assert a[:, 1].tolist() == [0, 0, 0] and a[:, 0].abs().tolist() == pytest.approx([0, 0, 1])
    assert torch.isfinite(b).all() and not b[1].any()


@pytest.mark.parametrize("side", ["input", "output"])
def test_a_task_begins_with_the_function_the_last_one_ended_with(keep, side):
    trainer = keep(side=side)
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    until(trainer, 0, "train")
    with torch.no_grad():
        now = trainer.method.features(trainer.backbone, images).pooled
    torch.testing.assert_close(now, trainer.backbone(images).pooled, atol=1e-5, rtol=1e-4)
    assert any(branch.up.any() for branch in trainer.method.branches().values())
    until(trainer, 0, "measure")
    with torch.no_grad():
        before = trainer.method.features(trainer.backbone, images).pooled
    until(trainer, 1, "train")
    with torch.no_grad():
        torch.testing.assert_close(
            trainer.method.features(trainer.backbone, images).pooled, before, atol=1e-5, rtol=1e-4
        )


def test_nothing_is_written_along_what_is_kept_and_the_change_has_the_branchs_rank(keep):
    trainer = keep()
    bases = {name: trainer.method.stored.basis(name).clone() for name in trainer.method.maps}
    weights = trainer.method.adapted_weights(trainer.backbone)
    weights = {name: weight.clone() for name, weight in weights.items()}
    for task in range(2):
        until(trainer, task, "train")
        down = {name: getattr(trainer.method.down, key(name)).clone() for name in bases}
        until(trainer, task, "measure")
        now = trainer.method.adapted_weights(trainer.backbone)
        for name, basis in bases.items():
            assert torch.equal(down[name], getattr(trainer.method.down, key(name)))
            assert (down[name].double() @ basis).abs().max() < 1e-6
            change = (now[name] - weights[name]).double()
            sizes = torch.linalg.svdvals(change)
            assert sizes[0] > 1e-5 and (sizes[4:] < 1e-3 * sizes[0]).all()
            assert (change @ basis).norm() < 1e-3 * change.norm()
        weights = {name: weight.clone() for name, weight in now.items()}
        grown = {name: trainer.method.stored.basis(name).clone() for name in bases}
        assert all(grown[n].shape[1] >= basis.shape[1] for n, basis in bases.items())
        assert any(grown[n].shape[1] > basis.shape[1] for n, basis in bases.items())
        for basis in grown.values():
            torch.testing.assert_close(basis.mT @ basis, torch.eye(basis.shape[1], dtype=torch.float64))
        bases = grown


def test_what_a_map_reads_of_texts_is_what_its_hooks_would_see(keep):
    """The text tower is run block by block; open_clip's own modules say what enters them."""
    trainer = until(keep(), 0, "train")
    method, clip = trainer.method, trainer.backbone.clip
    for branch in method.branches().values():
        branch.up.data.zero_()
    with torch.no_grad():
        for name in method.clip.names:
            method.clip[name].copy_(trainer.backbone.parameter(name))
        seen = []
        block = clip.transformer.resblocks[1]
        hook = block.ln_1.register_forward_hook(lambda module, given, out: seen.append(out))
        tokens = method._training_tokens[method.classes.start : method.classes.stop]
        clip.encode_text(tokens)
        hook.remove()
        method._grams.clear()
        method._see_texts()
    real = torch.arange(tokens.shape[1]) <= tokens.argmax(dim=-1)[:, None]
    rows = seen[0][real].double()
    torch.testing.assert_close(method._grams["text.1.k"], rows.mT @ rows, rtol=1e-4, atol=1e-4)
    method._grams.clear()


def test_image_inputs_are_seen_and_shown_map_by_map(keep):
    said = [event for moment in keep().run() for event in moment]
    assert not [e for e in said if e.kind == "MeasurementStopped"]
    spectra = [e for e in said if e.kind == "SpectrumMeasured"]
    assert {e.space for e in spectra} == {"q", "k", "v", "o"} and all(e.used and e.nullity >= 0 for e in spectra)
    assert all(e.protected_energy > 0.79 for e in spectra)
    updates = [e for e in said if e.kind == "UpdateMeasured" and e.clock.task == 1]
    assert updates and all(leak < 1e-3 for e in updates for leak in e.leak.values())
    assert {e.name for e in said if e.kind == "WeightSpectrumMeasured"} >= {"image.0.q", "text.0.o"}


def test_the_text_tower_stands_still_if_the_image_tower_alone_is_chosen(keep):
    trainer = keep(towers="image")
    assert all(name.startswith("image.") for name in trainer.method.maps) and not trainer.method.text_is_trained
    for _ in trainer.run():
        pass
