"""Fwd-Prompt (vision adaptation): spaces, picking, and what a step may move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cl_core.config import ConfigError
from cl_core.linalg import core_space, gram, space_shares
from cl_core.methods.fwd_prompt import FwdPrompt, FwdPromptConfig
from cl_core.observers.subspaces import Subspaces
from cl_core.training.factory import build
from tests.stopped import until

SMALL = {"pool_size": 6, "prompt_length": 2, "prompt_rate": 0.05, "energy": 0.9}


@pytest.fixture(scope="module")
def trainer_of(tiny_config):
    def make(settings=(), **others):
        chosen = {"tasks": 2, "training": {"batch_size": 50}, **others}
        return build(tiny_config("fwd_prompt", settings={**SMALL, **dict(settings)}, **chosen))

    return make


@pytest.fixture(scope="module")
def images(trainer_of):
    task = trainer_of().stream[0]
    return task.prepare(task.test.pictures)


def course(trainer):
    """Every moment: (events, prompts, keys) after it."""
    for moment in trainer.run():
        pool = trainer.method.pool
        yield moment, pool.prompts.detach().clone(), pool.keys.detach().clone()


def steps_of(trainer):
    """(task, step of the prompts, step of the keys, rows picked) for every training step."""
    before = trainer.method.pool.prompts.detach().clone(), trainer.method.pool.keys.detach().clone()
    for moment, prompts, keys in course(trainer):
        if moment[0].kind == "StepEnded":
            yield moment[0].clock.task, prompts - before[0], keys - before[1], trainer.method.pool._taken.clone()
        before = prompts, keys


def test_rows_that_were_not_picked_do_not_move_though_adam_remembers_them(trainer_of):
    still, moved = 0, 0
    for _, step, key_step, picked in steps_of(
        trainer_of({"projection": "none", "pool_size": 20}, training={"batch_size": 5})
    ):
        assert not step[~picked].any() and not key_step[~picked].any()
        still += int((~picked).sum())
        moved += int(step[picked].any(dim=1).sum())
    assert still and moved


def test_the_first_task_is_learned_alike_bit_for_bit_whatever_the_projection(trainer_of):
    ends = []
    for projection in ("none", "residual-only", "pretrained-only", "both", "random"):
        found = [
            p
            for moment, p, _ in course(trainer_of({"projection": projection}, tasks=1))
            if moment[0].kind == "StepEnded"
        ]
        ends.append(found[-1])
    assert all(torch.equal(ends[0], other) for other in ends[1:])


@pytest.mark.parametrize("projection", ["residual-only", "pretrained-only", "both", "random"])
def test_from_the_second_task_on_steps_lie_in_the_projectors_range(trainer_of, projection):
    trainer = trainer_of({"projection": projection, "energy": 0.8})
    seen = 0
    for task, step, _, _ in steps_of(trainer):
        if task == 1:
            p = trainer.method.spaces.projector
            assert float((step.double() @ p - step.double()).norm()) < 1e-5 * float(step.norm())
            if projection == "residual-only":
                core = trainer.method.spaces.cores[0]
                assert float((step.double() @ core).norm() / step.norm()) < 1e-4
            seen += 1
    assert seen == 4


def test_without_projection_steps_do_reach_the_old_core(trainer_of):
    trainer = trainer_of({"projection": "none", "energy": 0.8})
    leaks = [
        float((step.double() @ trainer.method.spaces.cores[0]).norm() / step.norm())
        for task, step, _, _ in steps_of(trainer)
        if task == 1
    ]
    assert min(leaks) > 0.1


def test_the_random_control_has_the_rank_of_both_and_is_drawn_by_seed_and_task(trainer_of):
    ranks = {}
    for name, seed in (("both", 0), ("random", 0), ("random again", 0), ("random other", 1)):
        trainer = trainer_of({"projection": name.split()[0], "energy": 0.8}, seed=seed)
        for moment in trainer.run():
            if moment[0].kind == "TaskEnded" or moment[-1].kind == "TaskEnded":
                break
        ranks[name] = trainer.method.spaces
    p = {name: spaces.projector for name, spaces in ranks.items()}
    assert float(p["both"].trace()) == pytest.approx(float(p["random"].trace()), abs=1e-9)
    assert float(p["both"].trace()) == pytest.approx(ranks["both"].free, abs=1e-9) and ranks["both"].free > 0
    assert torch.equal(p["random"], p["random again"]) and not torch.equal(p["random"], p["random other"])


def test_the_moment_is_that_of_the_tokens_at_the_site_without_prompts(trainer_of):
    trainer = trainer_of({"site": 1, "statistics": 10_000})
    next(trainer.run())
    task = trainer.stream[0]
    tokens = trainer.backbone(task.prepare(task.train.pictures), taps=(("input", 1),)).taps["input", 1]
    torch.testing.assert_close(
        trainer.method.spaces.moments[0], gram(tokens.double().flatten(0, 1)), rtol=1e-5, atol=1e-3
    )
    assert int(trainer.method.spaces.rows[0]) == tokens.shape[0] * tokens.shape[1]


def test_statistics_stop_at_their_number_of_images(trainer_of):
    trainer = trainer_of({"statistics": 60})
    next(trainer.run())
    assert int(trainer.method.spaces.rows[0]) == 60 * trainer.backbone.tokens


def test_the_pretrained_space_of_weights_is_that_of_query_key_and_value(trainer_of):
    trainer = trainer_of({"pretrained_space": "weights", "site": 1})
    next(trainer.run())
    weight = trainer.backbone.vit.blocks[1].attn.qkv.weight.double()
    torch.testing.assert_close(trainer.method.spaces.pretrained_moment, weight.mT @ weight)
    values = torch.linalg.svdvals(weight).square()
    expected = 1 + int((values.cumsum(0)[:-1] < SMALL["energy"] * values.sum()).sum())
    assert trainer.method.spaces.pretrained.shape[1] == expected


def test_a_stream_without_that_world_is_refused_unless_weights_are_taken(trainer_of):
    trainer = trainer_of()
    bare = replace(trainer.stream, world=None)
    with pytest.raises(ConfigError, match="set pretrained_space=weights"):
        trainer.method.setup(bare, trainer.backbone)
    FwdPrompt(FwdPromptConfig(pretrained_space="weights"), trainer.backbone, 0).setup(bare, trainer.backbone)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prompt_length": 9, "pool_size": 4}, r"prompt_length must be at most pool_size = 4, got 9"),
        ({"site": 2}, r"site must be a block of random-vit, 0 … 1, got 2"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_a_sentence(trainer_of, settings, words):
    with pytest.raises(ConfigError, match=words):
        trainer_of(settings)


def test_picking_is_by_cosine_for_each_image_and_independent_of_the_batch(trainer_of, images):
    trainer = trainer_of()
    pool = trainer.method.pool
    queries = pool.query(trainer.backbone, images)
    rows = pool.pick(queries)[1]
    cosines = F.cosine_similarity(queries[:, None], pool.keys[None], dim=-1)
    for image, taken in zip(cosines.tolist(), rows.tolist(), strict=True):
        assert set(taken) == set(sorted(range(len(image)), key=lambda j: -image[j])[:2])
    alone = torch.cat([pool.pick(pool.query(trainer.backbone, image[None]))[1] for image in images])
    assert torch.equal(alone, rows)
    (selection,) = trainer.method.selection(trainer.backbone, images)
    assert torch.equal(selection.weights.nonzero()[:, 1].view(-1, 2), rows.sort(dim=1).values)


def test_predictions_do_not_depend_on_who_else_is_in_the_batch(trainer_of, images):
    trainer = trainer_of()
    for _ in trainer.run():
        pass
    together = trainer.method.features(trainer.backbone, images).pooled
    alone = torch.cat([trainer.method.features(trainer.backbone, image[None]).pooled for image in images])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


def test_queries_are_those_of_the_untouched_model_and_of_a_task_their_moment_is_kept(trainer_of):
    trainer = trainer_of()
    run = trainer.run()
    next(run)
    pool, task = trainer.method.pool, trainer.stream[0]
    pictures = task.prepare(task.train.pictures)
    expected = F.normalize(trainer.backbone(pictures).pooled, dim=1)
    torch.testing.assert_close(pool.query(trainer.backbone, pictures), expected)
    assert not pool.past_queries.any()
    for moment in run:
        if moment[-1].kind == "TaskEnded":
            break
    torch.testing.assert_close(pool.past_queries, gram(expected.double()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", ["trainable", "project", "freeze-used"])
def test_a_key_moves_as_its_policy_allows(trainer_of, policy):
    trainer = trainer_of({"key_policy": policy, "key_energy": 0.9})
    moved = []
    for task, _, step, _ in steps_of(trainer):
        if task == 1:
            old, used = core_space(trainer.method.pool.past_queries, 0.9), trainer.method.pool.used
            moved.append((float((step.double() @ old).norm()), float(step[used].norm()), float(step.norm())))
    along, of_used, whole = np.array(moved).sum(axis=0)
    assert whole > 0 or policy == "freeze-used"
    assert (along < 1e-5 * whole) == (policy == "project") or whole == 0
    assert (of_used == 0) == (policy == "freeze-used")


@pytest.mark.parametrize("site", [0, 1])
def test_what_is_shown_has_prompts_last_in_every_block_and_blocks_run_on_it(trainer_of, images, site):
    trainer = trainer_of({"site": site})
    method, backbone = trainer.method, trainer.backbone
    taps = [(kind, layer) for layer in range(2) for kind in ("input", "attention", "output")]
    edit = method.edit(backbone, images)
    looked = backbone.features(images, edit, taps)
    n, b = backbone.tokens, len(images)
    for layer in range(2):
        assert looked.taps["input", layer].shape == (b, n + 2, backbone.width)
        assert looked.taps["output", layer].shape == (b, n, backbone.width)
        attention = looked.taps["attention", layer]
        assert attention.shape == (b, backbone.heads, n, n + 2)
        torch.testing.assert_close(attention.sum(dim=-1), torch.ones(b, backbone.heads, n))
        assert bool((attention[..., n:] > 0).all()) == (layer >= site)
        _, alone = backbone.edited_block(layer, looked.taps["input", layer], edit, frozenset({"attention"}))
        torch.testing.assert_close(alone["attention"], attention)
    rows = method.pool.pick(method.pool.query(backbone, images))[1]
    torch.testing.assert_close(looked.taps["input", site][:, n:], method.pool.prompts[rows])


def test_what_is_measured_adds_up(trainer_of):
    trainer = trainer_of({"energy": 0.8}, tasks=5)
    said = [e for moment in trainer.run() for e in moment if e.kind == "SubspaceMeasured"]
    reference, *tasks = said
    width = trainer.backbone.width
    assert reference.clock.task == -1 and [e.clock.task for e in tasks] == [0, 1, 2, 3, 4]
    assert reference.budget == {
        "free pre-trained": reference.rank,
        "conflicting": 0,
        "occupied": 0,
        "free residual": width - reference.rank,
    }
    taken = 0
    for event in tasks:
        t = event.clock.task
        assert sum(event.budget.values()) == width and min(event.budget.values()) >= 0
        assert event.budget["conflicting"] + event.budget["occupied"] >= taken
        taken = event.budget["conflicting"] + event.budget["occupied"]
        assert len(event.overlap) == len(event.chance) == len(event.angles) == t + 1
        assert ((event.overlap >= 0) & (event.overlap <= 1 + 1e-6)).all()
        assert float(event.eigenvalues.sum()) == pytest.approx(1, abs=1e-5)
        assert event.rank == 1 + int((np.cumsum(event.eigenvalues.astype(float))[:-1] < 0.8 - 1e-7).sum())
        assert 1 <= event.effective_rank <= width and len(event.leak_chance) == t
        if event.gradient:
            assert sum(event.gradient.values()) == pytest.approx(1, abs=1e-6) and 0 <= event.kept <= 1 + 1e-9
    assert tasks[0].kept == pytest.approx(1)


def test_the_shares_told_are_those_of_the_gradients(trainer_of):
    """One step a task: what is told of the second task is its only gradient."""
    trainer = trainer_of({"energy": 0.8}, training={"batch_size": 100, "epochs": 1})
    said = []
    for moment in trainer.run():
        if moment[0].kind == "StepEnded" and moment[0].clock.task == 1:
            spaces, gradient = trainer.method.spaces, trainer.method.pool.prompts.grad.double().clone()
            shares = space_shares(gradient, spaces.pretrained, spaces.conflicting, spaces.occupied)
            kept = float((gradient @ spaces.projector).square().sum() / gradient.square().sum())
        said += [e for e in moment if e.kind == "SubspaceMeasured" and e.clock.task == 1]
    np.testing.assert_allclose(list(said[0].gradient.values()), shares.numpy(), atol=1e-6)
    assert said[0].kept == pytest.approx(kept, abs=1e-6) and 0 < kept < 1


def test_identical_tasks_overlap_wholly_and_take_nothing_more(trainer_of):
    trainer = trainer_of()
    spaces, rule = trainer.method.spaces, trainer.method.config.allocation()
    rows = torch.randn(500, trainer.backbone.width, generator=torch.Generator().manual_seed(3)) @ torch.diag(
        torch.logspace(0, -2, trainer.backbone.width)
    )
    spaces.see_weights(trainer.backbone, 0)
    sizes = []
    for _ in range(2):
        spaces.begin_task()
        spaces.see(rows)
        spaces.end_task()
        spaces.refresh(rule)
        sizes.append((spaces.conflicting.shape[1], spaces.occupied.shape[1]))
    assert sizes[0] == sizes[1]
    *earlier, core = spaces.cores
    told = trainer.observers.find(Subspaces)._measured(
        trainer._clock(0),
        trainer.method,
        spaces.moments[-1],
        core,
        [spaces.pretrained, *earlier],
        torch.zeros(2, trainer.backbone.width),
    )
    assert told.overlap[1] == pytest.approx(1, abs=1e-6) and told.angles[1].max() < 1e-3


def test_probe_forward_transfer_is_measured_before_and_after_on_every_task(trainer_of):
    trainer = trainer_of(tasks=5, diagnostics={"forward": True})
    said = [e for moment in trainer.run() for e in moment if e.kind == "ForwardTransferMeasured"]
    assert [e.clock.task for e in said] == [-1, 0, 1, 2, 3, 4]
    assert all(len(e.row) == 5 and all(0 <= value <= 100 for value in e.row) for e in said)
    features = {}
    for part in ("train", "test"):
        images = torch.cat([task.prepare(getattr(task, part).pictures) for task in trainer.stream])
        labels = torch.cat([getattr(task, part).labels for task in trainer.stream])
        features[part] = F.normalize(trainer.method.features(trainer.backbone, images).pooled.detach(), dim=1), labels
    x, labels = features["train"]
    means = torch.stack([x[labels == c][: said[-1].images_per_class].mean(dim=0) for c in range(10)])
    x, labels = features["test"]
    right = (x @ F.normalize(means, dim=1).mT).argmax(dim=1) == labels
    expected = [100 * float(right[(labels // 2) == task].float().mean()) for task in range(5)]
    assert said[-1].row == pytest.approx(expected, abs=1e-4)


def test_tasks_that_look_alike_take_little_more_than_one_of_them(trainer_of):
    """Two tasks whose inputs differ little: by energy they share directions, by every direction each takes its own."""
    taken = {}
    for rule in ("energy", "every direction"):
        trainer = trainer_of({"accumulation": rule, "energy": 0.9, "pretrained_space": "weights", "reuse": 0.0})
        for _ in trainer.run():
            pass
        spaces = trainer.method.spaces
        taken[rule] = spaces.conflicting.shape[1] + spaces.occupied.shape[1]
        moment, held = spaces.moments[1], torch.linalg.qr(torch.cat([spaces.conflicting, spaces.occupied], dim=1)).Q
        assert float((held.mT @ moment @ held).trace() / moment.trace()) >= 0.9 - 1e-9
    assert taken["energy"] < taken["every direction"]


def test_embeddings_at_the_site_are_measured_on_what_the_steps_look_up_anyway(tiny_config):
    settings = {"prompt_length": 2, "site": 1, "pretrained_space": "weights", "statistics": 30}
    trainer = until(build(tiny_config("fwd_prompt", tasks=2, settings=settings, training={"batch_size": 20})), 0)
    assert trainer.prefix.asked == 30
    until(trainer, 0, "survey")
    assert trainer.prefix.asked == len(trainer.stream[0].train)
