"""STAR-Prompt against its formulas, re-derived here where they can be.

Menabue et al. Semantic Residual Prompts for Continual Learning. ECCV 2024, arXiv:2403.06870.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.mixture import GaussianMixture

from cl_core.backbones.clip import random_clip
from cl_core.backbones.io_types import BlockIntervention
from cl_core.backbones.vit import random_vit
from cl_core.config import ConfigError, Preprocessing, TrainingConfig
from cl_core.methods.parts.class_prompts import PLACEHOLDER, ClassKeys, KeyConfig, overlap_of_words
from cl_core.methods.parts.clip_queries import ImageQueries
from cl_core.methods.parts.gaussian_mixtures import GaussianMixtures, fitted
from cl_core.methods.parts.replay_head import AlignedHead, rescaled
from cl_core.methods.parts.semantic_residuals import SITES, SemanticResiduals, crowding
from tests.stopped import events_until

SENTENCES = [f"{PLACEHOLDER} {name}." for name in ("the digit one", "a star", "two red stars", "the letter k")]
QUICK = {"key_epochs": 2, "key_replay_epochs": 1, "replay_epochs": 1, "replay_growth": 1, "draws": 32, "components": 2}


@pytest.fixture(scope="module")
def clip():
    return random_clip()


@pytest.fixture(scope="module")
def vit():
    return random_vit()


@pytest.fixture
def star(tiny_trainer):
    def make(tasks=5, **settings):
        chosen = {"companion": "random-clip", **QUICK, **settings}
        return tiny_trainer("star_prompt", tasks=tasks, settings=chosen)

    return make


def copied(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def rows_of(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def keys_of(clip, **others):
    keys = ClassKeys(KeyConfig(**others), SENTENCES, [[s] for s in SENTENCES], clip, 0)
    keys.add_classes(0, range(2))
    return keys


def level_two(site="heads", *, strict=False, modulated=True, tasks=2, width=48, each=3):
    """Two blocks, `each` classes a task, queries of width 24."""
    made = SemanticResiduals(2, width, 24, site, 0, strict=strict, modulated=modulated)
    for task in range(tasks):
        made.add_classes(range(task * each, (task + 1) * each), tasks * each, torch.device("cpu"))
    return made


# ---------------------------------------------------------------- level 1: keys


def test_with_the_placeholders_own_embedding_a_key_is_clips_embedding_of_the_sentence(clip):
    keys = keys_of(clip)
    word = clip.parameter("token_embedding.weight")[keys.texts[0, 1]]
    plain = clip.encode_text(keys.texts)
    assert torch.equal(keys.embed(clip, word.expand(4, -1), range(4)), plain)
    other = keys.embed(clip, rows_of(4, len(word)), range(4))
    assert (other * plain).sum(dim=1).max() < 0.999, "the word must matter"
    torch.testing.assert_close(other.norm(dim=1), torch.ones(4), atol=1e-6, rtol=0)


def test_a_word_is_heard_because_the_tower_is_causal_and_padding_is_not(clip):
    keys, words = keys_of(clip), rows_of(4, 32)
    padded = F.pad(keys.texts, (0, 0))
    padded[padded == 0] = 5
    assert (padded != keys.texts).any()
    first = clip.encode_text(keys.texts, replaced={1: words})
    torch.testing.assert_close(clip.encode_text(padded, replaced={1: words}), first, atol=1e-6, rtol=0)


def test_the_overlap_of_words_is_the_double_sum_and_grows_with_the_square():
    words, old = rows_of(3, 8, seed=1), rows_of(4, 8, seed=2)
    double = sum(float(u @ v) ** 2 for u in words for v in old) / 12
    assert float(overlap_of_words(words, old)) == pytest.approx(double, rel=1e-5)
    assert float(overlap_of_words(words, 2 * old)) == pytest.approx(4 * double, rel=1e-5)
    assert overlap_of_words(words, old[:0]) == 0
    words.requires_grad_(), old.requires_grad_()
    overlap_of_words(words, old).backward()
    assert old.grad is None and words.grad.abs().sum() > 0


def test_learning_a_task_writes_to_the_words_and_keys_of_its_classes_alone(star):
    trainer = star(tasks=2)
    events_until(trainer, 0, "measure")
    method = trainer.method
    words, keys = method.keys.words.clone(), method.keys.keys.clone()
    events = events_until(trainer, 1, "train")
    assert torch.equal(method.keys.words[:5], words) and torch.equal(method.keys.keys[:5], keys)
    assert not torch.equal(method.keys.keys[5:], method.keys.templates[5:])
    moved = next(e for e in events if e.kind == "KeysMoved")
    assert moved.kept.shape == (10,) and moved.kept.min() > 1 - 1e-6 and moved.nearest.max() < 1
    stages = [e for e in events if e.kind == "StageEnded" and e.clock.task == 1]
    assert [e.stage for e in stages] == ["class keys", "replay into the keys"]
    assert [len(e.losses["cross_entropy"]) for e in stages] == [2, 1]


def test_learning_lowers_the_loss_and_separates_the_images(clip):
    keys = keys_of(clip, key_overlap=0.0, key_rate=0.05, key_epochs=30, stage_batch=16)
    z = F.normalize(rows_of(2, 24, seed=3).repeat_interleave(20, dim=0) + 0.1 * rows_of(40, 24), dim=1)
    labels = torch.arange(2).repeat_interleave(20)
    losses = keys.learn(clip, z, labels, range(2))["cross_entropy"]
    keys.freeze(clip, range(2))
    assert losses[-1] < 0.3 * losses[0]
    assert ((z @ keys.keys.mT).argmax(dim=1) == labels).float().mean() > 0.95


def test_replay_moves_the_current_words_only_unless_all_may_move(clip):
    mixtures = GaussianMixtures(1, 24, 40)
    mixtures.add_classes(range(4))
    for label in range(4):
        mixtures.fit(label, rows_of(30, 24, seed=label) + 2 * rows_of(1, 24, seed=10 + label), 0)
    for moving in (False, True):
        keys = keys_of(clip, keys="moving" if moving else "learned", key_replay_epochs=2, stage_batch=64)
        keys.add_classes(1, range(2, 4))
        before = keys.words.clone()
        keys.freeze(clip, range(2))
        keys.rebalance(clip, mixtures, range(2, 4))
        assert torch.equal(keys.words[:2], before[:2]) is not moving
        assert not torch.equal(keys.words[2:], before[2:])


def test_words_that_may_move_take_their_keys_with_them(star):
    trainer = star(tasks=2, keys="moving", key_replay_rate=0.5)
    moved = [e for e in events_until(trainer, 1, "train") if e.kind == "KeysMoved"][-1]
    assert moved.kept[:5].min() < 1 - 1e-2 and moved.kept[5:].min() > 1 - 1e-6


def test_drifting_keys_are_trained_by_every_task_on_its_own_images_without_replay(star):
    trainer = star(tasks=2, keys="drifting", key_rate=0.5)
    events = events_until(trainer, 1, "train")
    moved = [e for e in events if e.kind == "KeysMoved"][-1]
    assert moved.kept[:5].min() < 1 - 1e-3 and moved.kept[5:].min() > 1 - 1e-6
    assert [e.stage for e in events if e.kind == "StageEnded"] == ["class keys"] * 2


def test_templates_are_what_the_stream_says_of_its_classes(star):
    trainer = star(tasks=2, keys="templates")
    events = events_until(trainer, 0, "begin")
    clip, words = trainer.method.queries.model, trainer.stream[0].words
    expected = [F.normalize(clip.encode_text(clip.tokenize(texts)).mean(dim=0), dim=0) for texts in words.texts()]
    torch.testing.assert_close(trainer.method.keys.keys, torch.stack(expected), atol=1e-6, rtol=0)
    assert not [e for e in events if e.kind == "StageEnded"]


# ---------------------------------------------------------------- queries


def test_the_image_tower_runs_once_per_image_and_an_embedding_does_not_depend_on_its_neighbours(clip):
    queries, images = ImageQueries(clip, clip.preparation, 1000), rows_of(40, 3, 16, 16)
    numbers = torch.arange(40)
    first = queries(images, numbers)
    assert queries.passes == 40
    again = queries(images[[3, 3, 39, 0]], numbers[[3, 3, 39, 0]])
    assert queries.passes == 40 and torch.equal(again, first[[3, 3, 39, 0]])
    alone = ImageQueries(clip, clip.preparation, 1000)
    assert torch.equal(torch.cat([alone(images[i : i + 1]) for i in (7, 39)]), first[[7, 39]])
    torch.testing.assert_close(first, clip(images).pooled, atol=1e-5, rtol=1e-5)


def test_the_memory_of_queries_is_bounded_and_can_be_switched_off(clip):
    images, numbers = rows_of(6, 3, 16, 16), torch.arange(6)
    for limit, passes in ((4, 6), (0, 12)):
        queries = ImageQueries(clip, clip.preparation, limit)
        first = queries(images, numbers)
        assert len(queries._kept) == limit
        assert torch.equal(queries(images[2:], numbers[2:]), first[2:])
        assert queries.passes == passes - (2 if limit == 0 else 0)


def test_the_first_models_scaling_is_undone_before_the_seconds_is_applied(clip):
    pictures, mine = torch.rand(2, 3, 16, 16), Preprocessing(16, (0.4, 0.3, 0.2), (0.2, 0.3, 0.4))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (mine.mean, mine.std))
    theirs = (pictures - 0.5) / 0.5
    queries = ImageQueries(clip, mine, 0)
    torch.testing.assert_close(queries.prepared((pictures - mean) / std), theirs, atol=1e-5, rtol=0)
    assert queries.prepared(torch.rand(1, 3, 32, 32)).shape == (1, 3, 16, 16)
    same = ImageQueries(clip, clip.preparation, 0)
    assert same.prepared(theirs) is theirs


# ---------------------------------------------------------------- level 2: selection and residuals


def direct_scores(level, z, keys):
    """s as the definition has it, product of every query with every filter formed."""
    filters = torch.cat(list(level.filters), dim=1).softmax(dim=-1)  # [L, n, d]
    weighted = F.normalize(z[None, :, None] * filters[:, None], dim=-1)  # [L, B, n, d]
    return 5 * (weighted * keys).sum(dim=-1)


def queries_and_keys(count=7, classes=6, seed=0):
    return rows_of(count, 24, seed=seed), F.normalize(rows_of(classes, 24, seed=seed + 1), dim=1)


def test_factored_scores_are_the_direct_ones_and_do_not_see_the_length_of_a_query():
    level, (z, keys) = level_two(), queries_and_keys()
    scores = level.scores(z, keys)
    torch.testing.assert_close(scores, direct_scores(level, z, keys), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(level.scores(100 * z, keys), scores, atol=1e-5, rtol=1e-5)
    assert scores.abs().max() <= 5 + 1e-5


def test_every_image_takes_one_class_a_block_with_its_score():
    level, (z, keys) = level_two(), queries_and_keys()
    scores = level.scores(z, keys)
    weights = level.weights(scores)
    assert ((weights != 0).sum(dim=-1) == 1).all()
    torch.testing.assert_close(weights.sum(dim=-1), scores.amax(dim=-1), atol=1e-5, rtol=0)
    plain = level_two(modulated=False).weights(scores)
    assert set(plain.unique().tolist()) == {0.0, 1.0} and torch.equal(plain != 0, weights != 0)


def test_with_uniform_filters_the_keys_decide_alone():
    level, (z, keys) = level_two(), queries_and_keys(count=50)
    with torch.no_grad():
        for filters in level.filters:
            filters.zero_()
    taken = level.scores(z, keys).argmax(dim=-1)
    assert all(torch.equal(of_block, (F.normalize(z, dim=1) @ keys.mT).argmax(dim=1)) for of_block in taken)


def test_filters_start_with_unit_rows_and_residuals_short_of_unit_and_nearly_orthogonal():
    level = SemanticResiduals(2, 192, 128, "heads", 0, strict=False, modulated=True)
    level.add_classes(range(10), 100, torch.device("cpu"))
    level.add_classes(range(10, 100), 100, torch.device("cpu"))
    level.requires_grad_(False)
    filters, residuals = torch.cat(list(level.filters), dim=1), torch.cat(list(level.residuals), dim=1)[:, :, 0]
    torch.testing.assert_close(filters.norm(dim=-1), torch.ones(2, 100), atol=1e-5, rtol=0)
    norms = residuals.norm(dim=-1)
    assert norms.mean() == pytest.approx(0.577, abs=0.01) and (norms - 0.577).abs().max() < 0.12
    among = residuals[0] @ residuals[0].mT
    assert 0 < (among - among.diagonal().diag()).abs().max() < 0.2


@pytest.mark.parametrize("site", SITES)
def test_only_current_rows_get_gradient_and_unselected_filters_only_through_the_estimator(vit, site):
    z, keys = queries_and_keys(count=5)
    images = rows_of(5, 3, 16, 16)
    pooled = {}
    for strict in (False, True):
        level = level_two(site, strict=strict)
        scores = level.scores(z, keys)
        weights = level.weights(scores)
        pooled[strict] = vit(images, edits=level.edits(weights)).pooled
        (pooled[strict] * rows_of(*pooled[strict].shape, seed=9)).sum().backward()
        assert all(p.grad is None for p in (level.filters[0], level.residuals[0]))
        taken = F.one_hot(scores.argmax(dim=-1), 6).sum(dim=1)[:, 3:] > 0  # [L, c] by some image
        assert not taken.all(), "an entry must be left for the test to mean anything"
        residual = level.residuals[1].grad.abs().sum(dim=(2, 3)) > 0
        filters = level.filters[1].grad.abs().sum(dim=2) > 0
        assert torch.equal(residual, taken)
        assert torch.equal(filters, taken) if strict else filters.all()
    assert torch.equal(pooled[False], pooled[True]), "the two differ backwards only"


def test_without_modulation_no_gradient_reaches_the_filters(vit):
    level, (z, keys) = level_two(modulated=False), queries_and_keys(count=5)
    vit(rows_of(5, 3, 16, 16), edits=level.edits(level.weights(level.scores(z, keys)))).pooled.sum().backward()
    assert level.filters[1].grad is None and level.residuals[1].grad.abs().sum() > 0


@pytest.mark.parametrize("site", ["heads", "stream"])
def test_residuals_of_zero_leave_the_vit_as_it_is_bit_for_bit(vit, site):
    level, (z, keys) = level_two(site), queries_and_keys()
    with torch.no_grad():
        for residuals in level.residuals:
            residuals.zero_()
    images = rows_of(7, 3, 16, 16)
    assert torch.equal(vit(images, edits=level.edits(level.weights(level.scores(z, keys)))).pooled, vit(images).pooled)


def test_the_released_place_is_the_papers_behind_the_output_projection(vit):
    images, shift = rows_of(4, 3, 16, 16), rows_of(4, 48, seed=2)
    heads = vit(
        images, edits={0: BlockIntervention(head_shift=shift), 1: BlockIntervention(head_shift=0.5 * shift)}
    ).pooled
    outer = [shift @ vit.vit.blocks[0].attn.proj.weight.T, 0.5 * shift @ vit.vit.blocks[1].attn.proj.weight.T]
    stream = vit(images, edits={at: BlockIntervention(stream_shift=x) for at, x in enumerate(outer)}).pooled
    torch.testing.assert_close(heads, stream, atol=1e-5, rtol=1e-5)
    assert (heads - vit(images).pooled).abs().max() > 0.1


def test_a_residual_reaches_every_token_alike_and_the_taps_tell_it_apart(vit):
    images, shift = rows_of(4, 3, 16, 16), rows_of(4, 48, seed=2)
    for edit in (BlockIntervention(head_shift=shift), BlockIntervention(stream_shift=shift)):
        taps = vit(images, edits={0: edit}, taps=[("bare", 0), ("branch", 0)]).taps
        added = taps["branch", 0] - taps["bare", 0]
        assert float(added.std(dim=1).max()) < 1e-5 * float(added.norm(dim=-1).mean())
    plain = vit(images, taps=[("bare", 0), ("branch", 0)]).taps
    torch.testing.assert_close(plain["bare", 0], plain["branch", 0], atol=1e-6, rtol=0)
    prefix = vit(images, edits={0: BlockIntervention(prefix=(shift[:, None], shift[:, None]))}, taps=list(plain)).taps
    torch.testing.assert_close(prefix["bare", 0], plain["bare", 0], atol=1e-6, rtol=0)
    assert (prefix["branch", 0] - plain["branch", 0]).abs().max() > 1e-3


def test_crowding_is_zero_for_unit_rows_orthogonal_to_old_ones_whatever_their_mutual_angles():
    basis = torch.linalg.qr(rows_of(8, 8, dtype=torch.float64))[0]
    old, new = basis[None, :3], torch.stack([basis[4], F.normalize(basis[4] + basis[5], dim=0)])[None]
    assert float(crowding(new, old)) < 1e-20
    double = sum(float(r @ s) ** 2 for r in new[0] for s in 2 * new[0]) / 4
    norms = sum((float(r @ r) - 1) ** 2 for r in new[0]) / 2
    assert float(crowding(new, 2 * new)) == pytest.approx(double + norms)


@pytest.mark.parametrize("site", SITES)
def test_the_penalty_is_silent_in_the_first_task_and_pulls_at_current_rows_only(site):
    assert level_two(site, tasks=1).penalty() == 0
    level = level_two(site)
    level.penalty().backward()
    assert level.residuals[0].grad is None and (level.residuals[1].grad.flatten(2).norm(dim=2) > 0).all()


# ---------------------------------------------------------------- mixtures


def clusters(count=400, width=6, seed=0):
    centres = 3 * rows_of(3, width, seed=seed + 1, dtype=torch.float64)
    return centres[torch.arange(count) % 3] + 0.3 * rows_of(count, width, seed=seed, dtype=torch.float64)


@pytest.mark.parametrize("components", [1, 3])
def test_a_mixture_has_the_mean_and_the_variances_of_its_data(components):
    x = clusters()
    found = fitted(x, components, 0)
    mean = found.weights @ found.means
    variance = found.weights @ (found.variances + found.means.square()) - mean.square()
    torch.testing.assert_close(mean, x.mean(dim=0), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(variance, x.var(dim=0, correction=0) + 1e-6, atol=1e-6, rtol=1e-6)
    assert float(found.weights.sum()) == pytest.approx(1, abs=1e-9)


def test_densities_are_scikit_learns_and_more_components_fit_clusters_better():
    x, fresh = clusters(), clusters(seed=0)[:50] + 0.05
    model = GaussianMixture(3, covariance_type="diag", reg_covar=1e-6, max_iter=500, random_state=4).fit(x.numpy())
    found = fitted(x, 3, 4)
    np.testing.assert_allclose(found.log_density(fresh).numpy(), model.score_samples(fresh.numpy()), rtol=1e-6)
    normal = torch.distributions.Normal(x.mean(dim=0), (x.var(dim=0, correction=0) + 1e-6).sqrt())
    torch.testing.assert_close(fitted(x, 1, 0).log_density(fresh), normal.log_prob(fresh).sum(dim=1))
    assert found.log_density(x).mean() > fitted(x, 1, 0).log_density(x).mean() + 1


def test_draws_have_the_models_moments_and_shares(seeded):
    x = clusters()
    found, count = fitted(x, 3, 0), 25_600
    drawn = found.draw(count, seeded(1))
    scale = x.var(dim=0, correction=0).sum().sqrt()
    assert (drawn.mean(dim=0) - x.mean(dim=0)).norm() / scale < 0.0125
    assert (drawn.var(dim=0) / x.var(dim=0) - 1).abs().mean() < 0.02
    nearest = torch.cdist(drawn, found.means).argmin(dim=1)
    shares = torch.bincount(nearest, minlength=3) / count
    torch.testing.assert_close(shares.double(), found.weights, atol=0.015, rtol=0)


def test_few_or_equal_images_give_as_many_components_as_there_are(seeded):
    mixtures = GaussianMixtures(5, 4, 8)
    mixtures.add_classes(range(3))
    mixtures.fit(0, torch.ones(1, 4), 0)
    mixtures.fit(1, torch.ones(20, 4), 0)
    mixtures.fit(2, rows_of(3, 4), 0)
    assert [len(mixtures[label].weights) for label in range(3)] == [1, 1, 3]
    assert torch.equal(mixtures[0].means[0], torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(mixtures[0].variances, torch.full((1, 4), 1e-6, dtype=torch.float64))
    x, labels = mixtures.epoch(range(3), seeded(0))
    assert x.shape == (24, 4) and torch.bincount(labels).tolist() == [8, 8, 8] and x.dtype == torch.float32
    torch.testing.assert_close(x[labels < 2], torch.ones(16, 4), atol=0.01, rtol=0)


# ---------------------------------------------------------------- the head that answers


def test_rescaled_rows_have_norm_ten_and_do_not_see_the_size_of_the_head():
    logits = rows_of(5, 4) + 0.5
    torch.testing.assert_close(rescaled(logits).norm(dim=1), torch.full((5,), 10.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(rescaled(7 * logits), rescaled(logits), atol=1e-5, rtol=1e-5)


def test_the_trained_head_never_sees_the_replay_and_the_first_task_has_none(star):
    trainer = star(tasks=2)
    method = trainer.method
    events = events_until(trainer, 0, "measure")
    assert torch.equal(method.head.weight, method.head.weights[0]) and not stages(events, "head")
    trained = copied(method)
    events = events_until(trainer, 1, "measure")
    assert len(stages(events, "head")) == 1 and len(stages(events, "head")[0].losses["cross_entropy"]) == 2  # E2 + 1·t
    for name in ("weights", "biases"):
        assert torch.equal(getattr(method.head, name)[0], trained[f"head.{name}.0"])
    assert not torch.equal(method.head.weight[:5], method.head.weights[0])


def stages(events, word):
    return [e for e in events if e.kind == "StageEnded" and word in e.stage]


def test_replay_repairs_a_head_that_prefers_the_newest_classes():
    mixtures, head = GaussianMixtures(1, 8, 64), AlignedHead(8, 0)
    centres = 2 * torch.eye(8)[:4]
    for task, classes in enumerate((range(2), range(2, 4))):
        head.add_classes(task, classes)
        mixtures.add_classes(classes)
    for label, centre in enumerate(centres):
        mixtures.fit(label, centre + 0.1 * rows_of(50, 8, seed=label), 0)
    with torch.no_grad():
        for weights, at in zip(head.weights, (0, 2), strict=True):
            weights.copy_(centres[at : at + 2])
        head.biases[1] += 10
    x = centres.repeat(5, 1) + 0.1 * rows_of(20, 8, seed=9)
    labels = torch.arange(4).repeat(5)

    def right():
        return float((head.classify(x).argmax(dim=1) == labels).float().mean())

    assert right() == 0.5
    head.align(mixtures, rate=0.5, epochs=20, batch=64)
    assert right() == 1.0
    head.align(None)
    assert right() == 0.5


# ---------------------------------------------------------------- the whole


def test_what_earlier_tasks_left_is_bit_identical_and_both_models_stay_as_they_are(star):
    trainer = star(tasks=2)
    method = trainer.method
    models = {"vit": copied(trainer.backbone), "clip": copied(method.queries.model)}
    events_until(trainer, 0, "measure")
    before = {k: v for k, v in copied(method).items() if ".0" in k or k.startswith(("keys", "embeddings", "tokens"))}
    events_until(trainer, 1, "measure")
    after = method.state_dict()
    for name, value in before.items():
        assert torch.equal(after[name][: len(value)], value), name
    assert any("residuals.0" in name for name in before) and any("filters.0" in name for name in before)
    for name, model in (("vit", trainer.backbone), ("clip", method.queries.model)):
        assert all(torch.equal(value, model.state_dict()[k]) for k, value in models[name].items()), name
        assert not any(p.requires_grad for p in model.parameters())
    assert not any("queries" in name or "clip" in name for name in after)


def test_the_selection_is_by_class_for_every_block_and_by_the_keys_alone(star):
    trainer = star(tasks=2)
    events = events_until(trainer, 1, "begin")
    measured = {e.layer: e for e in events if e.kind == "SelectionMeasured"}
    assert sorted(measured) == [-1, 0, 1] and measured[-1].owners == list(range(5))
    for event in measured.values():
        torch.testing.assert_close(torch.from_numpy(event.counts[:5].sum(axis=1)), torch.ones(5), atol=1e-5, rtol=0)
        assert event.accuracy == pytest.approx(100 * event.counts[:5].diagonal().mean(), abs=1e-3)
    images = next(trainer.stream[0].ordered("test", 50))
    z = trainer.method.queries(images.images)
    alone = (z @ trainer.method.keys.keys.mT).argmax(dim=1)
    assert measured[-1].accuracy == pytest.approx(100 * float((alone == images.labels).float().mean()), abs=1e-3)


def test_what_is_measured_after_a_task_is_within_its_bounds(star):
    events = events_until(star(tasks=2), 0, "measure")
    ratio = next(e for e in events if e.kind == "ResidualMeasured")
    assert ratio.ratio.shape == (2,) and (ratio.ratio > 0).all() and (ratio.stream > 0).all()
    fits = [e for e in events if e.kind == "MixtureFitted"]
    assert [e.label for e in fits] == list(range(5)) and all(0 < e.shown <= 1 for e in fits)
    assert all(e.real.shape == e.sampled.shape == e.single.shape == (20, 2) for e in fits)
    likeness = {e.space: e for e in events if e.kind == "IntraClassMeasured"}
    assert set(likeness) == {"query", "features"}
    for event in likeness.values():
        n, r = 20, event.concentration.astype(np.float64)
        np.testing.assert_allclose(event.within, (n * r**2 - 1) / (n - 1), atol=1e-5)
        assert (event.within > event.between).all() and 20 <= event.nearest_mean <= 100


def test_mean_cosines_are_those_of_all_pairs():
    from cl_core.events import Clock
    from cl_core.methods.parts.feature_stats import intra_class

    x, labels = rows_of(12, 5) + 1, torch.arange(12) % 2
    event = intra_class(Clock(), "features", x, labels, range(2))
    unit = F.normalize(x, dim=1)
    cosines = unit @ unit.mT
    own = labels[:, None] == labels
    off = ~torch.eye(12, dtype=torch.bool)
    assert event.within[0] == pytest.approx(float(cosines[own & off & (labels == 0)[:, None]].mean()), abs=1e-5)
    assert event.between[0] == pytest.approx(float(cosines[~own].mean()), abs=1e-5)


@pytest.mark.parametrize(
    "settings", [{"components": 0}, {"components": 1}, {"site": "prefix"}, {"modulation": False}, {"strict_mask": True}]
)
def test_every_ablation_runs_to_its_end(star, settings):
    events = [e for moment in star(tasks=2, **settings).run() for e in moment]
    rows = [e.row for e in events if e.kind == "AccuracyMeasured" and e.readout == "class-incremental"]
    assert len(rows) == 2 and all(value is not None for value in rows[-1])
    assert bool([e for e in events if e.kind == "MixtureFitted"]) is (settings.get("components") != 0)


def test_separable_images_are_retrieved_by_perfect_keys(clip):
    """Keys at the centres of their classes' embeddings, fresh filters: selection is right and stays so."""
    centres = F.normalize(rows_of(6, 24, seed=5), dim=1)
    z = 3 * centres.repeat_interleave(30, dim=0) + 0.1 * rows_of(180, 24)
    labels = torch.arange(6).repeat_interleave(30)
    level = level_two()
    taken = level.scores(z, centres).argmax(dim=-1)
    assert ((taken == labels).float().mean(dim=1) >= 0.99).all()
    first = SemanticResiduals(2, 48, 24, "heads", 0, strict=False, modulated=True)
    first.add_classes(range(3), 6, torch.device("cpu"))
    early = first.scores(z[:90], centres[:3]).argmax(dim=-1)
    assert (
        (early == labels[:90]).float().mean(dim=1) - (taken[:, :90] == labels[:90]).float().mean(dim=1)
    ).max() < 0.01


def test_the_schedule_is_a_quarter_of_a_cosine_by_epoch():
    training = TrainingConfig(schedule="quarter cosine", epochs=20)
    factors = [training.learning_rate_factor(epoch, epochs=20) for epoch in range(20)]
    assert factors[0] == 1 and factors[-1] == pytest.approx(0.0157, abs=1e-4)
    assert factors[7] == pytest.approx(math.cos(99 * math.pi * 7 / (200 * 19)))
    assert training.learning_rate_factor(0, epochs=1) == 1


def test_streams_it_cannot_serve_and_companions_that_do_not_fit_are_refused(tiny_trainer):
    with pytest.raises(ConfigError, match="stream synthetic-domains says which task"):
        tiny_trainer("star_prompt", stream="synthetic-domains", settings={"companion": "random-clip"})
    with pytest.raises(ConfigError, match="companion of star_prompt must be a clip backbone, got random-vit"):
        tiny_trainer("star_prompt", settings={"companion": "random-vit"})


def test_a_stream_without_words_is_refused(star):
    from dataclasses import replace

    from cl_core.streams.stream import TaskStream

    trainer = star(tasks=2)
    speechless = TaskStream("x", "class-incremental", tuple(replace(t, words=None) for t in trainer.stream))
    with pytest.raises(ConfigError, match=r"stream x does not say its classes in words \(tasks T1, T2\)"):
        trainer.method.setup(speechless, trainer.backbone)


# ---------------------------------------------------------------- the control without CLIP, and augmented mixtures


def test_without_a_companion_features_are_the_frozen_ones_and_only_the_head_is_trained(tiny_trainer):
    trainer = tiny_trainer("star_prompt", tasks=2, settings={**QUICK, "companion": "none"})
    events = [event for moment in trainer.run() for event in moment]
    method, images = trainer.method, next(trainer.stream[0].ordered("test", 6)).images
    assert torch.equal(method.features(trainer.backbone, images).pooled, trainer.backbone.features(images).pooled)
    assert [group.name for group in method.groups()] == ["head"]
    assert {name.split(".")[0] for name in method.state_dict()} == {"head", "tokens"}
    assert {name for e in events if e.kind == "StepEnded" for name in e.losses} == {"cross_entropy", "total"}
    assert [e.stage for e in events if e.kind == "StageEnded"] == ["replay into the head"]
    assert not [e for e in events if e.kind in ("SelectionMeasured", "KeysMoved", "MeasurementStopped")]
    assert len(method.tokens.weights) == len(trainer.stream.class_names)


def test_the_control_needs_no_words_of_the_stream(tiny_config):
    from dataclasses import replace

    from cl_core.training.factory import build, new_stream

    def wordless(name, settings, preparation, seed):
        stream = new_stream(name, settings, preparation, seed)
        return replace(stream, tasks=tuple(replace(task, words=None) for task in stream))

    settings = {**QUICK, "companion": "none"}
    assert build(tiny_config("star_prompt", tasks=2, settings=settings), stream_of=wordless).method.guided is False


@pytest.mark.parametrize("passes", [0, 1, 3])
def test_mixtures_of_the_head_are_fitted_on_so_many_augmented_passes(tiny_trainer, passes):
    trainer = tiny_trainer(
        "star_prompt",
        tasks=2,
        settings={**QUICK, "companion": "random-clip", "mixture_passes": passes, "components": 1},
        training={"batch_size": 50, "flip": True, "random_crop": 0.3},
    )
    events_until(trainer, 0, "survey")
    method, fits = trainer.method, {}
    method.tokens.fit = lambda label, x, seed: fits.update({label: x})
    events_until(trainer, 0, "measure")
    plain = torch.cat(
        [method.features(trainer.backbone, b.images).pooled for b in trainer.stream[0].ordered("train", 100)]
    ).detach()
    labels = trainer.stream[0].train.labels
    for label, x in fits.items():
        own = plain[labels == label]
        assert len(x) == max(1, passes) * len(own)
        nearest = torch.cdist(x, own).min(dim=1).values
        assert bool((nearest < 1e-4).all()) == (passes == 0)
    if passes > 1:  # each pass draws anew
        x = fits[0]
        assert torch.cdist(x, x).fill_diagonal_(1.0).min() > 0
