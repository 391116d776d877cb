"""DualPrompt: what stays, what is chosen, where prompts act.

Wang et al. DualPrompt. ECCV 2022, arXiv:2204.04799.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cl_core.backbones.io_types import BlockIntervention
from cl_core.backbones.vit import random_vit
from cl_core.methods.dualprompt import DualPrompt, DualPromptConfig
from cl_core.streams.stream import Batch


@pytest.fixture(scope="module")
def backbone():
    return random_vit()


@pytest.fixture
def method(backbone):
    """Three tasks begun, entries apart from each other."""
    made = DualPrompt(DualPromptConfig(), backbone, seed=3)
    for task in range(3):
        made.begin_task(task, range(2 * task, 2 * task + 2))
        with torch.no_grad():
            made.entries[task].add_(made.drawn(*made.entries[task].shape, of="moved", task=task))
    return made


@pytest.fixture(scope="module")
def images():
    return torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_entries_and_keys_of_old_tasks_stay_bit_for_bit_while_general_prompts_move(tiny_trainer):
    trainer = tiny_trainer("dualprompt", tasks=5, settings={"rate": 0.05})
    kept, general = {}, []
    for moment in trainer.run():
        if moment[-1].kind != "TaskEnded":
            continue
        method, task = trainer.method, trainer.cursor.task
        general.append(method.general.detach().clone())
        kept[task] = [method.entries[task].detach().clone(), method.keys[task].detach().clone()]
        for earlier, (entry, key) in kept.items():
            assert torch.equal(method.entries[earlier], entry) and torch.equal(method.keys[earlier], key)
    assert sorted(kept) == list(range(5))
    assert not any(torch.equal(one, other) for one, other in pairwise(general))


def test_an_entry_starts_as_a_copy_of_the_one_before_and_its_key_anew(backbone):
    method = DualPrompt(DualPromptConfig(), backbone, seed=3)
    method.begin_task(0, range(2))
    with torch.no_grad():
        method.entries[0].add_(1.0)
    method.begin_task(1, range(2, 4))
    assert torch.equal(method.entries[1], method.entries[0]) and method.entries[1] is not method.entries[0]
    assert not torch.equal(method.keys[1], method.keys[0])
    assert not method.entries[0].requires_grad and not method.keys[0].requires_grad
    assert set(method.pool()) == {"general", "entries.1", "keys.1"}


@torch.no_grad()
def test_a_test_image_takes_the_entry_with_the_nearest_key(method, backbone, images):
    queries = backbone(images).pooled.double().numpy()
    keys = np.stack([key.double().numpy() for key in method.keys])
    cosines = queries @ keys.T / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(keys, axis=1)
    expected = cosines.argmax(axis=1)
    (chosen,) = method.selection(backbone, images)
    assert (chosen.layer, chosen.of, chosen.owners) == (-1, "task", [0, 1, 2])
    assert chosen.weights.argmax(dim=1).tolist() == expected.tolist() and (chosen.weights.sum(dim=1) == 1).all()
    for image, task in zip(images, expected, strict=True):
        seen = backbone(image[None], edits=by_hand(method, int(task)))
        torch.testing.assert_close(
            method.features(backbone, image[None]).pooled, seen.pooled, atol=1e-6, rtol=1e-5, msg=f"entry {task}"
        )


def by_hand(method, task):
    """Two blocks: general prompts in the first, an expert's in the second."""
    general, entry = method.general.detach()[0], method.entries[task].detach()[0]
    return {
        0: BlockIntervention(prefix=(general[0][None], general[1][None])),
        1: BlockIntervention(prefix=(entry[0][None], entry[1][None])),
    }


@torch.no_grad()
def test_the_batch_does_not_matter_to_an_image(method, backbone, images):
    queries = backbone(images).pooled
    for key, query in zip(method.keys, queries, strict=False):
        key.copy_(query - queries.mean(dim=0))
    chosen = method.chosen(backbone, images)
    assert len(chosen.unique()) > 1
    pooled = method.features(backbone, images).pooled
    for i in range(len(images)):
        alone = method.features(backbone, images[i : i + 1]).pooled[0]
        torch.testing.assert_close(alone, pooled[i], atol=1e-5, rtol=1e-5)


def test_training_uses_the_current_entry_whatever_the_keys_say(method, backbone, images):
    with torch.no_grad():
        for key, sign in zip(method.keys, (1, 1, -1), strict=True):  # the current task's key is the farthest
            key.copy_(sign * backbone(images).pooled.mean(dim=0))
    assert 2 not in method.chosen(backbone, images).tolist()
    labels = torch.tensor([4, 5, 4, 5, 4, 5])
    loss = method.loss(backbone, Batch(images, labels))
    logits = method.heads.heads[-1](backbone(images, edits=by_hand(method, 2)).pooled)
    torch.testing.assert_close(loss.parts["cross_entropy"], F.cross_entropy(logits, labels - 4))
    near = torch.cosine_similarity(backbone(images).pooled, method.keys[2].detach()[None]).mean()
    torch.testing.assert_close(loss.parts["pull"].detach(), -near)
    sum(loss.parts.values()).backward()
    assert all(p.grad is None for p in (*method.entries[:2], *method.keys[:2]))
    assert all(float(p.grad.norm()) > 0 for p in (method.general, method.entries[2], method.keys[2]))


def test_prompts_act_in_their_own_blocks_alone(backbone):
    six = type("Six", (), {"depth": 6, "width": 48, "pooled_width": 48})()
    method = DualPrompt(DualPromptConfig(), six, seed=0)
    assert (method.general_layers, method.expert_layers) == (range(2), range(2, 5))
    small = DualPrompt(DualPromptConfig(), backbone, seed=0)
    assert (small.general_layers, small.expert_layers) == (range(1), range(1, 2))


@torch.no_grad()
def test_a_block_alone_attends_as_within_the_network(method, backbone, images):
    taps = [(kind, layer) for layer in range(2) for kind in ("input", "attention")]
    seen = method.features(backbone, images, taps).taps
    edit = method.edit(backbone, images)
    for layer in range(2):
        _, found = backbone.edited_block(layer, seen["input", layer], edit, frozenset({"attention"}))
        torch.testing.assert_close(found["attention"], seen["attention", layer], atol=1e-6, rtol=1e-5)
        assert found["attention"].shape[-1] == backbone.tokens + 5
