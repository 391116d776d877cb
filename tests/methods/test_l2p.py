"""L2P against its formulas: which prompts an image takes, where they enter, what pulls the keys.

Wang et al. Learning to Prompt for Continual Learning. CVPR 2022, arXiv:2112.08654.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cl_core.backbones.vit import random_vit
from cl_core.config import ConfigError
from cl_core.methods.l2p import L2P, L2PConfig
from cl_core.methods.parts.query_features import KEPT_BYTES, PORTION, FrozenQueries
from cl_core.observers.kept import kept_bytes
from cl_core.streams.stream import Batch

NUMBERS = torch.arange(5)
SMALL = {"pool": 6, "prompt_length": 2, "taken": 3}


@pytest.fixture(scope="module")
def backbone():
    return random_vit()


@pytest.fixture
def method(backbone):
    made = L2P(L2PConfig(**SMALL), backbone, seed=3)
    made.begin_task(0, range(2))
    return made


@pytest.fixture(scope="module")
def images():
    return torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def nearest_by_hand(query, keys, count):
    """Indices of the `count` largest cosines of one query, in numpy."""
    q, k = query.double().numpy(), keys.detach().double().numpy()
    cosines = [float(q @ row / np.sqrt(q @ q) / np.sqrt(row @ row)) for row in k]
    return sorted(range(len(cosines)), key=lambda m: -cosines[m])[:count], cosines


def test_an_image_takes_the_prompts_whose_keys_have_the_largest_cosine(method, backbone, images):
    queries = backbone(images).pooled
    nearness, taken = method.nearest(method.query(backbone, images))
    for i, query in enumerate(queries):
        expected, cosines = nearest_by_hand(query, method.keys, 3)
        assert taken[i].tolist() == expected
        np.testing.assert_allclose(nearness[i].detach(), [cosines[m] for m in expected], atol=1e-5)
    (chosen,) = method.selection(backbone, images)
    assert (chosen.layer, chosen.of, set(chosen.owners)) == (-1, "", {-1})
    assert [row.nonzero().flatten().tolist() for row in chosen.weights] == [sorted(t.tolist()) for t in taken]
    assert (chosen.weights.sum(dim=1) == 3).all()


def test_pooled_is_the_mean_of_the_prompt_outputs_after_the_final_norm(method, backbone, images):
    """The same with tokens put together by hand, one image alone."""
    image = images[2:3]
    taken, _ = nearest_by_hand(backbone(image).pooled[0], method.keys, 3)
    tokens = backbone.embed(image)
    prompts = method.prompts.detach()[taken].reshape(1, 6, backbone.width)
    tokens = torch.cat([prompts, tokens], dim=1)
    for layer in range(backbone.depth):
        tokens, _ = backbone.block(layer, tokens)
    expected = backbone.vit.norm(tokens)[:, :6].mean(dim=1)
    with torch.no_grad():
        torch.testing.assert_close(method.features(backbone, image).pooled, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_what_an_image_takes_and_how_it_is_seen_does_not_depend_on_the_batch(method, backbone, images):
    queries = backbone(images).pooled
    method.keys[:5].copy_(queries - queries.mean(dim=0))  # each image's nearest key is its own
    together = method.selection(backbone, images)[0].weights
    method.query = FrozenQueries()
    assert all(torch.equal(method.selection(backbone, images[i : i + 1])[0].weights[0], together[i]) for i in range(5))
    assert len(together.unique(dim=0)) > 1, "a vote of the batch would make all rows equal"
    pooled = method.features(backbone, images).pooled
    shuffled = method.features(backbone, images[[4, 0, 2]]).pooled
    torch.testing.assert_close(shuffled, pooled[[4, 0, 2]], atol=1e-5, rtol=1e-5)


def test_the_loss_is_cross_entropy_less_the_summed_cosines_of_what_was_taken(method, backbone, images):
    labels = torch.tensor([0, 1, 1, 0, 1])
    loss = method.loss(backbone, Batch(images, labels))
    summed = [sum(sorted(nearest_by_hand(q, method.keys, 3)[1])[-3:]) for q in backbone(images).pooled]
    assert float(loss.parts["pull"].detach()) == pytest.approx(-0.1 * np.mean(summed), rel=1e-4)
    logits = method.classify(method.features(backbone, images).pooled, range(2))
    torch.testing.assert_close(loss.parts["cross_entropy"], F.cross_entropy(logits, labels))


def test_the_temperature_divides_logits_in_the_loss_alone(method, backbone, images):
    labels = torch.tensor([0, 1, 1, 0, 1])
    warm = L2P(L2PConfig(**SMALL, temperature=4.0), backbone, seed=3)
    warm.begin_task(0, range(2))
    pooled = warm.features(backbone, images).pooled
    logits = warm.classify(pooled, range(2))
    assert torch.equal(logits, method.classify(method.features(backbone, images).pooled, range(2)))
    torch.testing.assert_close(
        warm.loss(backbone, Batch(images, labels)).parts["cross_entropy"], F.cross_entropy(logits / 4, labels)
    )


def test_only_prompts_and_keys_that_were_taken_are_pulled(method, backbone, images):
    loss = method.loss(backbone, Batch(images[:1], torch.tensor([1])))
    sum(loss.parts.values()).backward()
    taken = method.selection(backbone, images[:1])[0].weights[0] > 0
    assert torch.equal(method.prompts.grad.flatten(1).norm(dim=1) > 0, taken)
    assert torch.equal(method.keys.grad.norm(dim=1) > 0, taken)


@torch.no_grad()
def test_attention_is_that_of_the_images_own_tokens_with_prompts_last(method, backbone, images):
    taps = [(kind, layer) for layer in range(backbone.depth) for kind in ("input", "attention")]
    edit = method.edit(backbone, images)
    seen = backbone.features(images, edit, taps)
    assert set(seen.taps) == set(taps)
    for layer in range(backbone.depth):
        attention, tokens = seen.taps["attention", layer], seen.taps["input", layer]
        assert attention.shape[2:] == (backbone.tokens, backbone.tokens + 6)
        torch.testing.assert_close(attention.sum(dim=-1), torch.ones_like(attention[..., 0]))
        _, found = backbone.edited_block(layer, tokens, edit, frozenset({"attention"}))
        torch.testing.assert_close(found["attention"], attention, atol=1e-6, rtol=1e-5)
    # Class token first: the raw map has its attention on itself at [0, 0], and on the first prompt at [0, 1].
    raw = backbone.block(0, seen.taps["input", 0], taps={"attention"})[1]["attention"]
    mine = seen.taps["attention", 0]
    assert torch.equal(mine[:, :, 0, 0], raw[:, :, 0, 0])
    assert torch.equal(mine[:, :, 0, backbone.tokens], raw[:, :, 0, 1])
    assert torch.equal(mine[:, :, 1, 1], raw[:, :, 7, 7])


def test_taking_more_than_there_are_is_refused():
    with pytest.raises(ConfigError, match=r"taken must be at most pool \(4\), got 5"):
        L2PConfig(pool=4, taken=5)


def test_defaults_are_those_of_the_released_settings():
    c = L2PConfig()
    assert (c.pool, c.prompt_length, c.taken, c.pull, c.rate) == (10, 5, 5, 0.1, 0.03 * 16 / 256)


# ---------------------------------------------------------------- queries, which all pools share


class Counting:
    """A backbone that counts the images it is asked for."""

    def __init__(self, backbone):
        self.backbone, self.name, self.pooled_width, self.passes = backbone, backbone.name, backbone.pooled_width, []
        self.computing_in = backbone.computing_in

    def features(self, images):
        self.passes.append(len(images))
        return self.backbone.features(images)


def test_a_query_is_computed_once_and_equals_the_frozen_models_feature(backbone, images):
    counting, query = Counting(backbone), FrozenQueries()
    first = query(counting, images, NUMBERS)
    torch.testing.assert_close(first, backbone(images).pooled, atol=1e-5, rtol=1e-5)
    assert torch.equal(query(counting, images[[3, 3, 1]].clone(), NUMBERS[[3, 3, 1]]), first[[3, 3, 1]])
    assert counting.passes == [PORTION] and len(query) == 5 and not first.requires_grad


def test_a_query_is_in_full_precision_whatever_steps_are_trained_in(backbone, images):
    whole = FrozenQueries()(backbone, images)
    with backbone.computing_in(torch.bfloat16):
        assert torch.equal(FrozenQueries()(backbone, images), whole)


def test_the_bound_on_what_is_kept_is_said_once_before_training(tiny_trainer):
    moments = list(tiny_trainer("l2p", tasks=2).run())
    (kept,) = [event for moment in moments for event in moment if event.kind == "AnswersKept"]
    assert kept in moments[0] and kept.model == "random-vit"
    assert kept.images == KEPT_BYTES // (4 * 48) and kept.bytes <= KEPT_BYTES


def test_a_query_has_the_same_bits_whatever_else_was_asked_for(backbone):
    many = torch.randn(2 * PORTION + 3, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    whole = FrozenQueries()(backbone, many)
    assert torch.equal(FrozenQueries()(backbone, many.flip(0)), whole.flip(0))
    one_by_one = FrozenQueries()
    assert torch.equal(torch.cat([one_by_one(backbone, image) for image in many.split(1)]), whole)


def test_few_queries_are_kept_and_the_least_recently_used_go_first(backbone, images):
    counting, query = Counting(backbone), FrozenQueries(kept_bytes=3 * 4 * backbone.pooled_width)
    query(counting, images, NUMBERS)
    assert len(query) == 3 and counting.passes == [PORTION]
    query(counting, images[2:], NUMBERS[2:])
    assert len(counting.passes) == 1, "the last three are still there"
    query(counting, images[:1], NUMBERS[:1])
    assert len(counting.passes) == 2 and len(query) == 3


def test_queries_are_no_state_of_a_run(tiny_trainer):
    method = tiny_trainer("l2p", tasks=2).method
    method.begin_task(0, range(2))
    assert not any("query" in name for name in method.state_dict())
    expected = 4 * (10 * 5 * 48 + 10 * 48 + 2 * 48 + 2)
    assert kept_bytes(method) == expected
