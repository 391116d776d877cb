"""CODA-Prompt against its formulas.

Smith et al. CODA-Prompt. CVPR 2023, arXiv:2211.13218.
"""

import numpy as np
import pytest
import torch

from cl_core.backbones.io_types import BlockIntervention
from cl_core.backbones.vit import random_vit
from cl_core.config import ConfigError
from cl_core.methods.coda_prompt import PARTS, CodaPrompt, CodaPromptConfig
from cl_core.streams.stream import Batch

SMALL = {"pool": 12, "prompt_length": 4}


@pytest.fixture(scope="module")
def backbone():
    return random_vit()


@pytest.fixture
def method(backbone):
    """Four tasks are coming, three have begun; the components of earlier ones have been trained a little."""
    made = CodaPrompt(CodaPromptConfig(**SMALL), backbone, seed=3)
    made.setup([None] * 4, backbone)
    for task in range(3):
        if task:
            with torch.no_grad():
                for part in PARTS:
                    own = getattr(made, part)[task - 1]
                    own.add_(0.1 * made.drawn(*own.shape, of=f"moved {part}", task=task))
        made.begin_task(task, range(2 * task, 2 * task + 2))
    return made


@pytest.fixture(scope="module")
def images():
    return torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("part", PARTS)
def test_fresh_components_are_orthonormal_over_all_tasks(part, backbone):
    method = CodaPrompt(CodaPromptConfig(), backbone, seed=0)  # 48 of the pool's 100 have room
    method.setup([None] * 5, backbone)
    for task in range(5):
        method.begin_task(task, range(2 * task, 2 * task + 2))
    rows = method.all_of(part).detach()
    assert rows.shape[:2] == (2, 45)
    assert float((rows @ rows.mT - torch.eye(45)).abs().max()) < 1e-4


@pytest.mark.parametrize("part", PARTS)
def test_new_components_are_orthogonal_to_what_old_ones_were_trained_to_be(part, method):
    *old, new = (own.detach() for own in getattr(method, part))
    old = torch.cat(old, dim=1)
    assert float((old @ old.mT - torch.eye(6)).abs().max()) > 0.05, "training has bent the old ones"
    assert float((new @ new.mT - torch.eye(3)).abs().max()) < 1e-4
    assert float((new @ old.mT).abs().max()) < 1e-4


def weights_by_hand(method, query, block):
    q = query.double().numpy()
    keys, attentions = (method.all_of(p).detach()[block].double().numpy() for p in ("keys", "attentions"))
    return [
        float((q * a) @ k / np.sqrt(((q * a) ** 2).sum()) / np.sqrt((k**2).sum()))
        for a, k in zip(attentions, keys, strict=True)
    ]


@torch.no_grad()
def test_mixing_weights_are_cosines_of_the_attended_query_with_the_keys(method, backbone, images):
    queries = backbone(images).pooled
    mixed = method.mixture(queries)
    assert mixed.shape == (2, 5, 9) and float(mixed.min()) < 0
    for block in range(2):
        for i in range(5):
            np.testing.assert_allclose(mixed[block, i], weights_by_hand(method, queries[i], block), atol=1e-5)


@torch.no_grad()
def test_a_prefix_is_the_weighted_sum_of_components_half_keys_half_values(method, backbone, images):
    image, edits = images[3:4], {}
    for block in range(2):
        prompts = method.all_of("prompts")[block].reshape(9, 4, 48)
        weights = torch.tensor(weights_by_hand(method, backbone(image).pooled[0], block), dtype=torch.float32)
        prefix = sum(w * p for w, p in zip(weights, prompts, strict=True))
        edits[block] = BlockIntervention(prefix=(prefix[None, :2], prefix[None, 2:]))
    expected = backbone(image, edits=edits).pooled
    torch.testing.assert_close(method.features(backbone, image).pooled, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(method.features(backbone, images).pooled[3:4], expected, atol=1e-5, rtol=1e-5)


def test_components_of_old_tasks_stay_bit_for_bit(tiny_trainer):
    trainer, kept = tiny_trainer("coda_prompt", tasks=5, settings={"pool": 10, "rate": 0.05}), {}
    for moment in trainer.run():
        if moment[-1].kind == "TaskEnded":
            own = [getattr(trainer.method, part) for part in PARTS]
            kept[trainer.cursor.task] = [rows[-1].detach().clone() for rows in own]
            for task, then in kept.items():
                assert all(torch.equal(rows[task], was) for rows, was in zip(own, then, strict=True))
    assert sorted(kept) == list(range(5))


def test_only_the_newest_components_have_a_gradient_and_all_of_them_act(method, backbone, images):
    loss = method.loss(backbone, Batch(images, torch.tensor([4, 5, 4, 5, 4])))
    loss.parts["cross_entropy"].backward()
    for part in PARTS:
        *old, new = getattr(method, part)
        assert all(p.grad is None for p in old) and float(new.grad.norm()) > 0
    assert set(loss.parts) == {"cross_entropy"}


def test_the_orthogonality_loss_is_the_mean_squared_departure_summed_over_blocks_and_parts(backbone, images):
    method = CodaPrompt(CodaPromptConfig(**SMALL, orthogonality=0.5), backbone, seed=3)
    method.setup([None] * 4, backbone)
    method.begin_task(0, range(2))
    labels = torch.tensor([0, 1, 0, 1, 0])
    assert float(method.loss(backbone, Batch(images, labels)).parts["orthogonality"].detach()) < 1e-10
    with torch.no_grad():
        method.keys[0].mul_(2.0)  # Z Zᵀ = 4 I: departure 3 on the diagonal, 3 of 9 entries
    assert float(method.loss(backbone, Batch(images, labels)).parts["orthogonality"].detach()) == pytest.approx(
        0.5 * 2 * 3 * 9 / 9, rel=1e-4
    )


@torch.no_grad()
def test_selection_gives_every_blocks_shares_of_the_mixture(method, backbone, images):
    chosen = method.selection(backbone, images)
    assert [c.layer for c in chosen] == [0, 1] and all(c.of == "task" for c in chosen)
    for block, selection in enumerate(chosen):
        assert selection.owners == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        w = np.abs(weights_by_hand(method, backbone(images).pooled[0], block))
        np.testing.assert_allclose(selection.weights[0], w / w.sum(), atol=1e-5)


def test_a_pool_without_a_component_for_every_task_is_refused(backbone):
    method = CodaPrompt(CodaPromptConfig(pool=3), backbone, seed=0)
    with pytest.raises(ConfigError, match=r"at least the number of tasks \(5\)"):
        method.setup([None] * 5, backbone)
    with pytest.raises(ConfigError, match="must be even"):
        CodaPromptConfig(prompt_length=5)
