"""GNSP: what is collected, what is left free, which side is projected, and that an adaptive step leaves the space."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from cl_core.backbones.clip import random_clip
from cl_core.config import ConfigError
from cl_core.linalg import eigenbasis, gram, tail_energy_cut, tail_projector
from cl_core.methods.gnsp import GNSP, GnspConfig
from cl_core.methods.parts.feature_covariance import InputMoments, projected_layers
from cl_core.methods.parts.reference_pairs import ReferencePairs, alignment, distillation, same_caption
from cl_core.observers.input_spectra import InputSpectra
from cl_core.observers.kept import kept_bytes
from cl_core.store import create_run
from cl_core.streams.stream import Pairs
from cl_core.training import checkpoint
from cl_core.training.factory import build

SMALL = {"rate": 1e-3, "reference_images": 20, "reference_batch": 8, "rho": 0.3}


@pytest.fixture(scope="module")
def backbone():
    return random_clip()


@pytest.fixture(scope="module")
def trainer_of(tiny_config):
    def make(settings=(), *, stream="synthetic-domains", **others):
        chosen = {"backbone": "random-clip", "stream": stream, "tasks": 2, **others}
        return build(tiny_config("gnsp", settings={**SMALL, **dict(settings)}, **chosen))

    return make


def weights(method):
    return {name: method.clip[name].detach().clone() for name in method.clip.names}


def until_task(trainer, index):
    """Run to the moment before the first step of a task; what was said on the way."""
    said = []
    for moment in trainer.run():
        said.extend(moment)
        if moment[-1].kind == "TaskStarted" and moment[-1].clock.task == index:
            return said
    raise AssertionError("no such task")


def spectra_of(kind, d, seeded):
    x = torch.randn(4 * d, d, generator=seeded(1), dtype=torch.float64)
    return {"flat": x, "decaying": x * torch.logspace(0, -2, d), "lifted": x + 3 * torch.ones(d)}[kind]


# ---------------------------------------------------------------- the projector


@pytest.mark.parametrize("kind", ["flat", "decaying", "lifted"])
@pytest.mark.parametrize("rho", [0.05, 0.15, 0.5])
def test_the_projector_keeps_the_tail_of_the_spectrum_and_nothing_else(kind, rho, seeded):
    moment = gram(spectra_of(kind, 24, seeded))
    values, vectors = eigenbasis(moment)
    k, p = tail_energy_cut(values, rho), tail_projector(moment, rho)
    assert torch.allclose(p, p.mT, atol=1e-6) and torch.allclose(p @ p, p, atol=1e-5)
    assert p.trace() == pytest.approx(24 - k, abs=1e-3)
    assert (p @ vectors[:, :k]).abs().amax() < 1e-5 if k else True
    assert torch.allclose(p @ vectors[:, k:], vectors[:, k:], atol=1e-5)
    assert (p @ moment).trace() / moment.trace() < rho
    assert values[max(k - 1, 0) :].sum() / values.sum() >= rho, "one direction more would be too many"
    assert torch.allclose(tail_projector(7 * moment, rho), p, atol=1e-5)


def test_the_cut_of_small_spectra_and_its_course_with_rho():
    for spectrum, rho, k in (
        ([1.0] * 4, 0.15, 4),
        ([1.0] * 8, 0.15, 7),
        ([1.0] * 16, 0.15, 14),
        ([1.0, 0.0, 0.0, 0.0], 0.15, 1),
        ([4.0, 2.0, 1.0, 1.0], 0.25, 3),
    ):
        assert tail_energy_cut(torch.tensor(spectrum), rho) == k
    values = torch.logspace(0, -3, 30, dtype=torch.float64)
    cuts = [tail_energy_cut(values, rho) for rho in torch.linspace(0, 1, 21).tolist()]
    assert cuts == sorted(cuts, reverse=True)


def test_a_plain_gradient_step_reaches_past_inputs_less_than_the_first_free_eigenvalue(seeded):
    x = spectra_of("decaying", 24, seeded)
    values, k = eigenbasis(gram(x))[0], tail_energy_cut(eigenbasis(gram(x))[0], 0.15)
    change = -0.1 * torch.randn(40, 24, generator=seeded(2), dtype=torch.float64) @ tail_projector(gram(x), 0.15)
    assert (change @ x.mT).square().sum() <= values[k] * change.square().sum() * (1 + 1e-4)


def test_features_of_low_rank_are_not_touched_at_all_by_a_plain_gradient_step(seeded):
    x = torch.randn(60, 5, generator=seeded(3), dtype=torch.float64) @ torch.randn(5, 24, dtype=torch.float64)
    assert tail_energy_cut(eigenbasis(gram(x))[0], 1e-9) == 5
    change = torch.randn(40, 24, generator=seeded(2), dtype=torch.float64) @ tail_projector(gram(x), 1e-9)
    assert (change @ x.mT).norm() < 1e-5 * change.norm() * x.norm()


def test_an_adaptive_step_leaves_the_space_that_its_gradients_lie_in(seeded):
    x = torch.randn(400, 64, generator=seeded(4)) * torch.logspace(0, -1, 64)
    p = tail_projector(gram(x), 0.15)
    leaks = {}
    for kind in (torch.optim.SGD, torch.optim.AdamW):
        weight = torch.nn.Parameter(torch.zeros(32, 64))
        optimiser = kind([weight], lr=1e-2, weight_decay=0.0)
        for _ in range(20):
            weight.grad = torch.randn(32, 64, generator=seeded(5)) @ p
            optimiser.step()
        change = weight.detach()
        leaks[kind] = (change - change @ p).norm() / change.norm()
    assert leaks[torch.optim.SGD] < 1e-5 and leaks[torch.optim.AdamW] > 0.01


def test_linear_layers_are_projected_from_the_right_and_the_image_projection_from_the_left(backbone, seeded):
    for layer in projected_layers(backbone):
        shape = backbone.parameter(layer.parameter).shape
        gradient, side = torch.randn(shape, generator=seeded(6)), layer.input_last(torch.empty(shape)).shape[1]
        p = tail_projector(gram(torch.randn(30, side, generator=seeded(7))), 0.3)
        assert shape[0] != shape[1], "only then would a mix-up of sides show"
        expected = p @ gradient if layer.parameter == "visual.proj" else gradient @ p
        assert torch.equal(layer.on_input(gradient, p), expected) or torch.allclose(
            layer.on_input(gradient, p), expected, atol=1e-6
        )


# ---------------------------------------------------------------- moments


def inputs(layers, seeded, seed, batches=3):
    made = seeded(seed)
    widths = {"c_fc": 48, "c_proj": 192, "proj": 48}
    return [
        {
            x.parameter: torch.randn(5, *(() if x.space == "proj" else (4,)), widths[x.space], generator=made)
            for x in layers
        }
        for _ in range(batches)
    ]


@pytest.mark.parametrize("accumulation", ["released", "equal", "fading"])
def test_moments_of_tasks_are_added_at_unit_norm_or_fade(accumulation, backbone, seeded):
    moments = GNSP(GnspConfig(accumulation=accumulation), backbone, 0).moments
    past = {name: torch.zeros_like(moments[name]) for name in moments.names}
    for task in range(1, 4):
        for batch in inputs(moments.layers, seeded, task):
            for name, rows in batch.items():
                moments.add(name, rows)
        moments.fold_task()
        for name in moments.names:
            fades = accumulation == "fading" or (accumulation == "released" and name == "visual.proj")
            before = past[name] / past[name].norm() if fades and task > 1 else past[name]
            own = moments[name] - before
            assert own.norm() == pytest.approx(1, abs=1e-5)
            assert moments[name].norm() <= (2 if fades else task) + 1e-5
            past[name] = moments[name].clone()
    assert int(moments.tasks) == 3


def test_moments_know_no_order_and_no_size_within_a_batch(backbone, seeded):
    layers = projected_layers(backbone)
    found = []
    for change in (lambda x: x, lambda x: x.flip(0), lambda x: torch.cat([x, x])):
        moments = InputMoments(backbone, layers, ())
        for batch in inputs(layers, seeded, 8):
            for name, rows in batch.items():
                moments.add(name, change(rows))
        moments.fold_task()
        found.append({name: moments[name].clone() for name in moments.names})
    for other in found[1:]:
        assert all(torch.allclose(other[name], found[0][name], atol=1e-6) for name in other)


def test_what_is_collected_is_what_each_matrix_reads(trainer_of):
    trainer = trainer_of()
    until_task(trainer, 1)
    method, pictures, totals = trainer.method, trainer.stream[0], {}
    for batch in pictures.ordered("train", 16):
        with torch.no_grad():
            taps = trainer.backbone(
                batch.images, adaptation=method.adaptation(), taps=tuple(layer.tap for layer in method.layers)
            ).taps
        for layer in method.layers:
            rows = taps[layer.tap].flatten(0, -2)
            g = rows.mT @ rows
            totals[layer.parameter] = totals.get(layer.parameter, 0) + g / g.norm()
    for name, total in totals.items():
        assert torch.allclose(method.moments[name], total / total.norm(), atol=1e-5)


# ---------------------------------------------------------------- the two losses


def test_distillation_is_zero_and_flat_where_the_student_says_what_the_teacher_says(seeded):
    v = 5 * torch.randn(6, 6, generator=seeded(9), dtype=torch.float64)
    u = v.clone().requires_grad_()
    loss = distillation(v, u, 2.0)
    loss.backward()
    assert loss.abs() < 1e-10 and u.grad.abs().amax() < 1e-6


def test_distillation_is_the_soft_cross_entropy_less_its_floor(seeded):
    v, u = (3 * torch.randn(6, 6, generator=seeded(s), dtype=torch.float64) for s in (10, 11))

    def kd(v, u, tau=2.0):
        return -(tau**2) * (torch.softmax(v / tau, 1) * torch.log_softmax(u / tau, 1)).sum(1).mean()

    floor = 4 * torch.distributions.Categorical(logits=v / 2).entropy().mean()
    assert kd(v, v) == pytest.approx(float(floor), rel=1e-9)
    expected = kd(v, u) + kd(v.mT, u.mT) - kd(v, v) - kd(v.mT, v.mT)
    assert float(distillation(v, u, 2.0)) == pytest.approx(float(expected), rel=1e-9)


def test_captions_of_the_same_kind_are_all_right_answers(seeded):
    assert torch.equal(same_caption(torch.arange(5)), torch.eye(5).double())
    labels = torch.tensor([2, 0, 2, 1, 0, 2])
    targets = same_caption(labels)
    assert torch.allclose(targets.sum(1), torch.ones(6).double(), atol=1e-7) and torch.equal(targets, targets.mT)
    u = torch.randn(6, 6, generator=seeded(12), dtype=torch.float64)
    smooth = 0.8 * targets + 0.2 / 6
    expected = -sum((smooth * torch.log_softmax(z, 1)).sum(1).mean() for z in (u, u.mT))
    assert float(alignment(u, labels, 0.2)) == pytest.approx(float(expected), rel=1e-9)


def test_references_come_in_a_fixed_order_and_are_cycled(backbone, seeded):
    pictures, captions = torch.rand(10, 3, 16, 16, generator=seeded(13)), tuple(f"a picture of {n}" for n in range(10))
    pairs = ReferencePairs(backbone, Pairs(pictures, captions, torch.arange(10)), lambda x: x, 4, 10.0)
    assert pairs.batches == 3 and [len(captions[pairs.rows(b)]) for b in range(3)] == [4, 4, 2]
    pairs.ask_teacher(backbone)
    with torch.no_grad():
        x = torch.nn.functional.normalize(backbone(pictures[4:8]).pooled, dim=1)
        t = backbone.encode_text(backbone.tokenize(captions[4:8]))
    assert torch.allclose(pairs.teacher[1], 10 * x @ t.mT, atol=1e-4)


def test_the_untouched_model_is_its_own_teacher_at_the_start(trainer_of):
    trainer = trainer_of()
    until_task(trainer, 0)
    losses = next(trainer.run())[0].losses
    assert set(losses) == {"cross_entropy", "distillation", "alignment", "total"}
    assert losses["distillation"] == pytest.approx(0, abs=1e-5) and losses["alignment"] > 0


@pytest.mark.parametrize("off", ["distillation", "alignment"])
def test_a_weight_of_zero_switches_its_part_off(off, trainer_of):
    trainer = trainer_of({off: 0.0})
    until_task(trainer, 0)
    losses = next(trainer.run())[0].losses
    assert {"cross_entropy", "distillation", "alignment"} - set(losses) == {off}
    assert bool(trainer.method._references.teacher) == (off != "distillation")


def test_a_stream_without_references_is_refused_unless_nothing_asks_for_them(trainer_of):
    with pytest.raises(ConfigError, match="set distillation=0 and alignment=0"):
        trainer_of(stream="synthetic")
    alone = trainer_of({"distillation": 0.0, "alignment": 0.0}, stream="synthetic")
    losses = [e.losses for moment in alone.run() for e in moment if e.kind == "StepEnded"]
    assert losses and all(set(part) == {"cross_entropy", "total"} for part in losses)


def test_the_place_in_the_cycle_survives_stopping(trainer_of, tmp_path):
    """One reference batch at a time is gone through: 3 batches, 4 steps a task, stopped after the second step."""
    trainer, losses = trainer_of(), []
    folder = create_run(tmp_path, trainer.config)
    for number, moment in enumerate(itertools.islice(trainer.run(), 12)):
        if moment[0].kind == "StepEnded" and int(trainer.method.steps) == 2:
            saved = checkpoint.save(folder, trainer.state(), number, boundary=False)
            losses = [e.losses for m in trainer.run() for e in m if e.kind == "StepEnded"]
            break
    again = trainer_of()
    again.restore(checkpoint.load(saved))
    assert int(again.method.steps) == 2
    assert losses and [e.losses for m in again.run() for e in m if e.kind == "StepEnded"] == losses


# ---------------------------------------------------------------- what moves, and where to


def test_the_first_task_moves_both_towers_and_later_ones_only_the_projected_layers(trainer_of):
    trainer = trainer_of()
    untouched = weights(trainer.method)
    until_task(trainer, 1)
    before, names = weights(trainer.method), {layer.parameter for layer in trainer.method.layers}
    assert len(names) == 2 * trainer.backbone.depth + 1
    moved = {name for name, value in before.items() if not torch.equal(value, untouched[name])}
    assert "text_projection" in moved and names < moved
    assert not trainer.method.text_is_trained
    for _ in trainer.run():
        pass
    after = weights(trainer.method)
    assert {name for name, value in after.items() if not torch.equal(value, before[name])} == names


def test_the_first_task_can_be_held_to_the_layers_of_later_ones(trainer_of):
    trainer = trainer_of({"first_task": "projected layers"})
    said = until_task(trainer, 1)
    assert set(trainer.method.clip.names) == {layer.parameter for layer in trainer.method.layers}
    assert not trainer.method.text_is_trained and trainer.method._references is None  # drawn anew for each task
    assert all(not e.applied_norm for e in said if e.kind == "StepEnded"), "nothing is protected yet"


@pytest.mark.parametrize("project", ["gradient", "update", "shrink", "none"])
def test_where_the_change_of_a_task_lies(project, trainer_of):
    trainer = trainer_of({"project": project})
    until_task(trainer, 1)
    found = trainer.observers.find(InputSpectra).protecting(trainer.method)
    protecting = {name: p.clone() for name, p in found.items()}
    before, said = weights(trainer.method), [event for moment in trainer.run() for event in moment]
    after = weights(trainer.method)
    updates = {e.layer: e for e in said if e.kind == "UpdateMeasured"}
    leaks = []
    for layer in trainer.method.layers:
        change, p = layer.input_last(after[layer.parameter] - before[layer.parameter]), protecting[layer.parameter]
        leak = float((change - change @ p).norm() / change.norm())
        assert updates[layer.block].leak[layer.space] == pytest.approx(leak, abs=1e-4)
        leaks.append(leak)
    assert max(leaks) < 1e-3 if project == "update" else min(leaks) > 0.01
    steps = [e for e in said if e.kind == "StepEnded"]
    for step in steps:
        assert len(step.applied_norm) == (0 if project == "none" else len(trainer.method.layers))
        for name, applied in step.applied_norm.items():
            assert applied < step.proposed_norm[name]
    if project == "shrink":
        for layer in trainer.method.layers:
            p, name = protecting[layer.parameter], f"clip.{layer.parameter.replace('.', '/')}"
            gain = math.sqrt(float(p.trace()) / len(p))
            assert steps[0].applied_norm[name] / steps[0].proposed_norm[name] == pytest.approx(gain, rel=1e-4)


def test_spectra_and_updates_are_said_of_every_layer(trainer_of):
    said = [event for moment in trainer_of().run() for event in moment]
    spectra = [e for e in said if e.kind == "SpectrumMeasured"]
    expected = [(0, "c_fc"), (0, "c_proj"), (1, "c_fc"), (1, "c_proj"), (1, "proj")]
    assert [(e.layer, e.space) for e in spectra] == 2 * expected
    for e in spectra:
        assert e.rule == "tail 0.3" and e.used and (e.gain_free, e.gain_protected) == (1, 0)
        assert e.nullity == len(e.eigenvalues) - tail_energy_cut(torch.from_numpy(e.eigenvalues), 0.3)
        assert e.protected_energy > 0.7 - 1e-6
    first, second = ([e for e in said if e.kind == "UpdateMeasured" and e.clock.task == t] for t in (0, 1))
    assert [e.layer for e in first] == [e.layer for e in second] == [0, 1]
    assert all(e.movement > 0 for e in first + second)
    assert all(value is None for e in first for part in (e.leak, e.residual, e.isotropic) for value in part.values())
    assert all(0 < value <= 1 for e in second for part in (e.leak, e.residual, e.isotropic) for value in part.values())


def test_moments_are_kept_and_copies_for_display_are_not(backbone):
    squares = sum(width**2 for width in (48, 192, 48, 192, 48))
    counters = 8 * 2
    assert kept_bytes(GNSP(GnspConfig(), backbone, 0)) == 4 * squares + counters
    unprotected = GNSP(GnspConfig(project="none"), backbone, 0)
    assert kept_bytes(unprotected) == 8
    assert not unprotected.collectors(backbone) and not hasattr(unprotected, "moments")


def test_another_rho_after_loading_moves_the_cut(trainer_of):
    trainer = trainer_of()
    until_task(trainer, 1)
    ranks = []
    for rho in (0.05, 0.3, 0.9):
        trainer.method.config = replace(trainer.method.config, rho=rho)
        trainer.method.refresh()
        ranks.append([round(float(p.trace())) for p in trainer.method.projectors.values()])
    assert all(a <= b <= c for a, b, c in zip(*ranks, strict=True)) and ranks[0] != ranks[2]


def test_a_steps_event_stays_small_however_many_layers_are_projected():
    """ViT-B/16 has 25 projected matrices: three kinds, and the total is what the single norms give."""
    from cl_core.training.train_step import by_kind

    names = [
        f"clip.visual/transformer/resblocks/{i}/mlp/{part}/weight" for i in range(12) for part in ("c_fc", "c_proj")
    ]
    norms = {name: 0.5 + place for place, name in enumerate([*names, "clip.visual/proj"])}
    found = by_kind(norms)
    assert sorted(found) == [
        "clip.visual/proj",
        "clip.visual/transformer/resblocks/*/mlp/c_fc/weight",
        "clip.visual/transformer/resblocks/*/mlp/c_proj/weight",
    ]
    assert sum(v**2 for v in found.values()) == pytest.approx(sum(v**2 for v in norms.values()))
    few = dict(list(norms.items())[:8])
    assert by_kind(few) is few
