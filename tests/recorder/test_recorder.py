"""A loop of somebody's own: what it says becomes an ordinary run, and saying it changes nothing."""

from __future__ import annotations

import gc
import re
import warnings
from contextlib import closing

import numpy as np
import pytest
import torch
from torch import nn

from cl_core.commands import Pause
from cl_core.config import ConfigError
from cl_core.linalg import energy_rank
from cl_core.recorder import Recorder
from cl_core.store import RunFolder, RunReader, StoreError, fork_run, send
from cl_core.summary import summarise
from cl_core.training.worker import drive

WIDTH, CLASSES = 12, 4


def data(task, count=80):
    """Two classes a task, each a direction of its own, on the first six of twelve inputs (first task) or the rest."""
    generator = torch.Generator().manual_seed(task)
    labels = torch.arange(count) % 2 + 2 * task
    inputs = 0.1 * torch.randn(count, WIDTH, generator=generator)
    inputs[:, : WIDTH // 2] *= task == 0
    inputs[:, WIDTH // 2 :] *= task == 1
    inputs[torch.arange(count), 3 * labels] += 1
    return inputs, labels


def batches(task):
    inputs, labels = data(task)
    return list(zip(inputs.split(20), labels.split(20), strict=True))


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(WIDTH, 16), nn.ReLU(), nn.Linear(16, CLASSES))


def train(model, optimizer, task, recorder=None, passes=3):
    for _ in range(passes):
        for inputs, labels in batches(task):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), labels)
            loss.backward()
            optimizer.step()
            if recorder is not None:
                recorder.step(loss=loss)
        if recorder is not None:
            recorder.end_epoch()


def recorded(folder, *, project=None, **options):
    """Two tasks, recorded; the model as trained."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    recorder = Recorder(folder, model, tasks=["cats", "dogs"], every=1, optimizer=optimizer, **options)
    if project is not None:
        recorder.project(optimizer, energy=project)
    for task in range(2):
        train(model, optimizer, task, recorder)
        recorder.end_task(task, evaluate={"cats": batches(0), "dogs": batches(1)} if task else {"cats": batches(0)})
    return model


def events(folder, kind):
    with closing(RunReader(RunFolder(folder))) as reader:
        return [stored.event for stored in reader.since(kinds=(kind,))]


def test_a_recorded_loop_is_a_finished_run_with_its_numbers(tmp_path):
    model = recorded(tmp_path / "runs" / "mine", seed=3, settings={"lr": 0.01}, stream="pets", method="plain Adam")
    folder = RunFolder(tmp_path / "runs" / "mine")
    summary = summarise(folder)
    inputs, labels = data(1)
    right = 100 * float((model(inputs).argmax(1) == labels).float().mean())
    assert summary.state == "finished" and summary.method == "plain Adam" and summary.seed == 3
    assert summary.accuracy_matrix[1][1] == pytest.approx(right)
    assert summary.accuracy_matrix[0][1] is None and summary.accuracy_matrix[0][0] is not None
    steps = events(folder.path, "StepEnded")
    assert [e.clock.step for e in steps] == list(range(24)) and {e.clock.task for e in steps} == {0, 1}
    assert [e.clock.epoch for e in steps[:8]] == [0] * 4 + [1] * 4
    assert steps[0].losses["total"] > steps[11].losses["total"] > 0 and steps[0].learning_rates == {"group 1": 0.01}
    assert {e.clock.epoch for e in events(folder.path, "TaskEnded")} == {2}
    means = events(folder.path, "EpochEnded")
    assert len(means) == 6
    assert means[0].losses["total"] == pytest.approx(np.mean([e.losses["total"] for e in steps[:4]]))
    assert folder.config().origin and folder.config().settings == {"lr": 0.01}


def test_recording_changes_no_bit_of_the_training(tmp_path):
    alone = network()
    optimizer = torch.optim.Adam(alone.parameters(), 1e-2)
    for task in range(2):
        train(alone, optimizer, task)
    probes = {"cats": data(0)[0][:8]}
    watched = recorded(tmp_path / "mine", weights=True, probes=probes)
    for name, value in alone.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name


def test_moments_are_those_of_the_inputs_and_the_cut_is_the_energy_rule(tmp_path):
    model = network()
    recorder = Recorder(tmp_path / "mine", model, tasks=2, energy=0.9)
    for task in range(2):
        recorder.step(loss=1.0)
        recorder.end_task(task, observe=batches(task))
    total = sum(data(t)[0].mT @ data(t)[0] / len(data(t)[0]) for t in range(2)).double()
    wanted = torch.linalg.eigvalsh(total).flip(0)
    found = events(tmp_path / "mine", "SpectrumMeasured")[2]  # first layer after the second task
    assert (found.clock.task, found.layer, found.space) == (1, 0, f"inputs {WIDTH}")
    np.testing.assert_allclose(found.eigenvalues, wanted, rtol=1e-3, atol=1e-6)
    assert WIDTH - found.nullity == energy_rank(wanted, 0.9)
    assert found.rule == "energy 0.9" and not found.used and (found.gain_free, found.gain_protected) == (1, 1)


def test_the_update_inside_the_protected_space_is_what_it_says(tmp_path):
    model = network()
    recorder = Recorder(tmp_path / "mine", model, tasks=2)
    recorder.step(loss=1.0)
    recorder.end_task(0, observe=batches(0))
    watched = recorder._watch.modules[0]
    inside, outside = watched.vectors[:, 0], watched.vectors[:, -1]
    with torch.no_grad():
        model[0].weight += 3 * torch.outer(torch.ones(16) / 4, inside) + 4 * torch.outer(torch.ones(16) / 4, outside)
    recorder.step(loss=1.0)
    recorder.end_task(1)
    update = next(e for e in events(tmp_path / "mine", "UpdateMeasured") if e.clock.task == 1 and e.layer == 0)
    spread = events(tmp_path / "mine", "UpdateByDirection")[0]
    assert update.leak[f"inputs {WIDTH}"] == pytest.approx(0.6, abs=1e-4)
    assert spread.source == "net change" and spread.energies[0][0] == pytest.approx(9, rel=1e-4)
    assert spread.energies[0][-1] == pytest.approx(16, rel=1e-4)
    first = next(e for e in events(tmp_path / "mine", "UpdateMeasured") if e.clock.task == 0 and e.layer == 0)
    assert first.leak == {f"inputs {WIDTH}": None}


def test_projected_steps_leave_old_inputs_alone_and_the_old_task_known(tmp_path):
    plain = recorded(tmp_path / "plain", modules=["0"])
    kept = recorded(tmp_path / "kept", modules=["0"], project=0.999)
    inputs, _ = data(0)
    start = network()
    optimizer = torch.optim.Adam(start.parameters(), 1e-2)
    train(start, optimizer, 0)
    moved = [float(((m[0].weight.detach() - start[0].weight.detach()) @ inputs.mT).norm()) for m in (plain, kept)]
    assert moved[1] < 0.15 * moved[0]
    steps = events(tmp_path / "kept", "StepEnded")
    assert not steps[0].proposed_norm and 0 < steps[-1].applied_norm["0"] < steps[-1].proposed_norm["0"]
    assert events(tmp_path / "kept", "SpectrumMeasured")[0].used
    assert events(tmp_path / "kept", "UpdateByDirection")[0].source == "steps"


def test_project_names_what_stays_unprotected(tmp_path):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recorder = Recorder(tmp_path / "mine", model, tasks=2, modules=["0"])
    assert recorder.project(optimizer) == ["0.bias", "2.weight", "2.bias"]
    with pytest.raises(ValueError, match="called before"):
        recorder.project(optimizer)
    recorder.close()


def test_features_of_probes_are_compared_with_those_of_their_own_time(tmp_path):
    recorded(tmp_path / "mine", probes={"cats": data(0)[0][:8], 1: data(1)[0][:8]})
    found = events(tmp_path / "mine", "FeaturesCompared")
    assert [(e.clock.task, e.probe_task) for e in found] == [(0, 0), (1, 0), (1, 1)]
    assert found[0].feature_drift == pytest.approx(0, abs=1e-6) and found[2].output_drift == 0
    assert found[1].output_drift > 0.01


def test_weights_before_and_after_each_task(tmp_path):
    recorded(tmp_path / "mine", weights=True)
    found = [e for e in events(tmp_path / "mine", "WeightSpectrumMeasured") if e.name == "model.0.w12"]
    assert [e.clock.task for e in found] == [0, 1]
    np.testing.assert_array_equal(found[0].after, found[1].before)
    np.testing.assert_allclose(found[0].before, torch.linalg.svdvals(network()[0].weight.detach()), rtol=1e-4)


@pytest.mark.parametrize(
    "module, inputs",
    [
        (nn.Conv2d(3, 4, 3, stride=2, padding=1), torch.randn(5, 3, 8, 8)),
        (nn.Linear(6, 4), torch.randn(5, 7, 6)),
        (nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(5, 7, 8)),
    ],
)
def test_rows_times_weight_is_what_a_module_computes(tmp_path, module, inputs):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x):
            return module(x, x, x)[0] if isinstance(module, nn.MultiheadAttention) else module(x)

    model = Model()
    recorder = Recorder(tmp_path / "mine", model, tasks=1)
    watched = recorder._watch.modules[0]
    rows = watched._rows(inputs, 10**6)
    if isinstance(module, nn.MultiheadAttention):
        wanted = nn.functional.linear(inputs.flatten(0, 1), module.in_proj_weight)
    else:
        out = nn.functional.conv2d(inputs, module.weight, None, 2, 1) if inputs.ndim == 4 else inputs @ module.weight.mT
        wanted = out.flatten(2).transpose(1, 2).flatten(0, 1) if inputs.ndim == 4 else out.flatten(0, 1)
    torch.testing.assert_close(rows @ watched.matrix().mT, wanted, atol=1e-5, rtol=1e-5)
    model(inputs)
    assert watched.seen == len(rows)
    assert len(watched._rows(inputs, 10)) <= 10 + len(rows) // len(inputs)
    recorder.close()


def test_inputs_of_an_evaluation_are_not_taken_for_training(tmp_path):
    model = network()
    recorder = Recorder(tmp_path / "mine", model, tasks=1, every=1)
    with torch.no_grad():
        model(data(0)[0])
    assert recorder._watch.modules[0].seen == 0
    model(data(0)[0])
    assert recorder._watch.modules[0].seen == 80
    recorder.close()


def test_inputs_that_are_not_finite_are_left_out_and_said(tmp_path):
    model = network()
    recorder = Recorder(tmp_path / "mine", model, tasks=1, modules=["0"], every=1)
    model(torch.full((20, WIDTH), float("nan")))
    recorder.step(loss=float("nan"))
    with pytest.warns(UserWarning, match="inputs of 0 were not finite"):
        recorder.end_task(0, accuracies=[50.0])
    assert summarise(recorder.folder).state == "finished" and not events(tmp_path / "mine", "SpectrumMeasured")


def test_every_says_which_steps_are_looked_at(tmp_path):
    model = network()
    recorder = Recorder(tmp_path / "mine", model, tasks=1, every=3)
    seen = []
    for _ in range(7):
        before = recorder._watch.modules[0].seen
        model(data(0)[0][:4])
        seen.append(recorder._watch.modules[0].seen > before)
        recorder.step(loss=0.0)
    assert seen == [True, False, False, True, False, False, True]
    recorder.close()


def test_few_rows_are_said(tmp_path):
    model = network()
    recorder = Recorder(tmp_path / "mine", model, tasks=2, every=1)
    for task in range(2):
        model(data(0)[0][:3])
        recorder.step(loss=0.0)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            recorder.end_task(task)
        assert len(said) == (1 if task == 0 else 0), "once a run, whatever its modules and tasks"
        if said:
            assert re.search(r"0 \(3 rows, 12 directions\), 2 \(3 rows, .*observe=loader", str(said[0].message))


def test_a_run_of_someone_elses_loop_is_neither_resumed_nor_forked(tmp_path):
    recorder = Recorder(tmp_path / "mine", network(), tasks=2)
    recorder.step(loss=1.0)
    recorder.close()
    folder = RunFolder(tmp_path / "mine")
    with closing(RunReader(folder)) as reader:
        assert reader.status().state == "stopped" and not reader.status().resumable
    before = folder.database.read_bytes()
    with pytest.raises(StoreError, match="continue it in the program that trained it"):
        drive(folder)
    with pytest.raises(StoreError, match="continue it in the program that trained it"):
        fork_run(folder, 1, [], [])
    assert folder.database.read_bytes() == before


def test_commands_of_a_page_are_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr("cl_core.recorder.recorder.FLUSH", 0.0)
    recorder = Recorder(tmp_path / "mine", network(), tasks=1)
    send(recorder.folder, Pause())
    recorder.step(loss=1.0)
    refused = events(tmp_path / "mine", "CommandRefused")
    assert [e.command for e in refused] == ["pause"] and "custom training loop" in refused[0].reason
    recorder.close()


def test_what_the_loop_said_before_it_broke_is_kept(tmp_path):
    with pytest.raises(RuntimeError), Recorder(tmp_path / "mine", network(), tasks=2) as recorder:
        recorder.step(loss=1.0)
        raise RuntimeError("out of paper")
    assert summarise(RunFolder(tmp_path / "mine")).state == "failed"
    assert events(tmp_path / "mine", "RunFailed")[0].reason == "RuntimeError: out of paper"
    assert len(events(tmp_path / "mine", "StepEnded")) == 1


def test_a_dropped_recorder_leaves_a_stopped_run_and_gives_it_free(tmp_path):
    recorder = Recorder(tmp_path / "mine", network(), tasks=2, modules=())
    recorder.step(loss=1.0)
    recorder.end_task(0, accuracies={0: 93.1})
    del recorder
    gc.collect()
    with closing(RunReader(RunFolder(tmp_path / "mine"))) as reader:
        assert (reader.status().state, reader.status().pid) == ("stopped", None)


def test_accuracies_computed_elsewhere_and_rows_of_other_readouts(tmp_path):
    recorder = Recorder(tmp_path / "mine", network(), tasks=["cats", "dogs"], modules=())
    recorder.untrained(accuracies=[25.0, 30.0])
    recorder.step(losses={"ce": torch.tensor(1.0), "penalty": 0.5})
    assert recorder.end_task("cats", accuracies={"cats": 93.1}) == {"cats": 93.1}
    recorder.step(loss=1.0)
    recorder.end_task("dogs", accuracies=[80.0, None], readouts={"task-incremental": [99.0, 98.0]})
    summary = summarise(recorder.folder)
    assert summary.accuracy_matrix == [[93.1, None], [80.0, None]] and summary.zero_shot == [25.0, 30.0]
    assert summary.readouts["task-incremental"][1] == [99.0, 98.0]
    assert events(tmp_path / "mine", "StepEnded")[0].losses == {"ce": 1.0, "penalty": 0.5, "total": 1.5}


@pytest.mark.parametrize("keep, future", [(False, None), (True, 5.0)])
def test_a_class_incremental_row_ends_at_the_diagonal_unless_asked_otherwise(tmp_path, keep, future):
    recorder = Recorder(tmp_path / "mine", network(), tasks=2, modules=(), keep_future=keep)
    recorder.end_task(0, accuracies=[90.0, 5.0], evaluate=None if keep else {1: []})
    assert summarise(recorder.folder).accuracy_matrix[0] == [90.0, future]
    recorder.close()


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda r: r.end_task(1, accuracies=[1.5]), "not the one whose turn it is"),
        (lambda r: r.end_task("birds"), "no task 'birds'"),
        (lambda r: r.end_task(0, accuracies={"cats": 0.93}), "look like shares"),
        (lambda r: r.end_task(0, accuracies={"cats": 193}), r"lie in \[0, 100\], got 193"),
        (lambda r: r.end_task(0, evaluate={"cats": []}), "gave no batch"),
        (lambda r: r.end_task(0, evaluate={"cats": [torch.zeros(2, 12)]}), "is not \\(inputs, labels\\)"),
        (lambda r: r.step(loss=torch.zeros(3)), r"one number, got a tensor of shape \[3\]"),
        (lambda r: r.project(torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.1)), "trains none of the watched"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, call, sentence):
    recorder = Recorder(tmp_path / "mine", network(), tasks=["cats", "dogs"])
    with recorder, pytest.raises(ValueError, match=sentence):
        call(recorder)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"tasks": []}, "tasks are a list of names"),
        ({"tasks": ["a", "a"]}, "a name of its own"),
        ({"tasks": 2, "scenario": "online"}, "scenario must be one of"),
        ({"tasks": 2, "modules": ["9"]}, "no module '9'; it has 0, 2"),
        ({"tasks": 2, "modules": ["1"]}, "cannot be watched: only Linear"),
        ({"tasks": 2, "energy": 1.5}, "energy must lie in"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_before_a_folder_is_made(tmp_path, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recorder(tmp_path / "mine", network(), **options)
    assert not (tmp_path / "mine").exists()


def test_a_method_that_is_called_as_one_of_ours_gets_none_of_its_settings(tmp_path):
    recorder = Recorder(tmp_path / "mine", network(), tasks=1, method="nsp2", settings={"lr": 0.1})
    recorder.close()
    assert recorder.folder.config().settings == {"lr": 0.1}


def test_a_taken_folder_is_not_written_into(tmp_path):
    Recorder(tmp_path / "mine", network(), tasks=1).close()
    with pytest.raises(StoreError, match="exists already; record into another folder"):
        Recorder(tmp_path / "mine", network(), tasks=1)


def test_only_a_run_trained_elsewhere_may_lack_its_seed(tiny_config):
    from dataclasses import replace

    with pytest.raises(ConfigError, match="seed must be a whole number"):
        replace(tiny_config(), seed=None)


# ---------------------------------------------------------------- attention


class Encoder(nn.Module):
    """Two blocks of PyTorch's attention over four patches and a class token."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.cls = nn.Linear(12, 8), nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = nn.ModuleList(nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))
        self.head = nn.Linear(8, 4)

    def forward(self, images):
        patches = images.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        x = torch.cat([self.cls.expand(len(images), -1, -1), self.embed(patches)], dim=1)
        for block in self.blocks:
            x = x + block(x, x, x, need_weights=False)[0]
        return self.head(x[:, 0])


def test_attention_is_recomputed_as_pytorch_computes_it():
    from cl_core.recorder.attention import AttentionWatch, attention_of

    for batch_first in (True, False):
        torch.manual_seed(0)
        model = nn.ModuleDict({"a": nn.MultiheadAttention(8, 2, batch_first=batch_first)}).eval()
        x = torch.randn(3, 5, 8)
        given = x if batch_first else x.transpose(0, 1)
        causal = torch.full((5, 5), float("-inf")).triu(1)
        for mask in (None, causal, causal.isinf()):
            expected = model["a"](given, given, given, attn_mask=mask, average_attn_weights=False)[1]
            with torch.no_grad():
                (look,) = AttentionWatch(model).look(
                    lambda given=given, mask=mask, model=model: model["a"](given, given, given, attn_mask=mask)
                )
            torch.testing.assert_close(look.attention, expected.detach())
            torch.testing.assert_close(attention_of(model["a"], x, mask), look.attention)


def test_attention_of_timm_and_open_clip_models_is_found_and_sums_to_one():
    open_clip, timm = pytest.importorskip("open_clip"), pytest.importorskip("timm")
    from cl_core.recorder.attention import AttentionWatch, grid_of

    vit = timm.models.VisionTransformer(img_size=16, patch_size=8, embed_dim=16, depth=3, num_heads=2, num_classes=4)
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        looks = AttentionWatch(vit.eval()).look(lambda: vit(x))
        block = vit.blocks[0]
        block.attn.fused_attn = False
        expected = []
        hook = block.attn.attn_drop.register_forward_pre_hook(lambda _, given: expected.append(given[0]))
        vit(x)
        hook.remove()
    torch.testing.assert_close(looks[0].attention, expected[0])
    assert len(looks) == 3 and grid_of(vit, 5) == (2, 2)
    assert AttentionWatch(vit).watched()[1] == "blocks.1.attn.qkv"
    small = {"image_size": 16, "patch_size": 8, "layers": 2, "width": 64}
    clip = open_clip.model.CLIP(16, small, {"context_length": 8, "vocab_size": 9, "width": 16, "heads": 2, "layers": 1})
    with torch.no_grad():
        looks = AttentionWatch(clip.visual.eval()).look(lambda: clip.visual(x))
    assert len(looks) == 2 and torch.allclose(looks[1].attention.sum(-1), torch.ones(()))


def test_attention_on_probes_is_compared_with_that_of_their_own_time(tmp_path):
    model = Encoder()
    probe = torch.randn(3, 3, 4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    before = [p.clone() for p in model.parameters()]
    recorder = Recorder(
        tmp_path / "r", model, tasks=["a", "b"], probes={"a": probe}, attention=True, features="head", every=1
    )
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    for task in range(2):
        for _ in range(4):
            loss = nn.functional.cross_entropy(model(torch.randn(6, 3, 4, 4)), torch.full((6,), task))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            recorder.step(loss=loss)
        recorder.end_task(accuracies={"a": 50.0})
    first, second = events(tmp_path / "r", "AttentionCompared")
    assert (first.total_variation == 0).all() and (first.total_variation_local == 0).all()
    assert first.class_attention.shape == (3, 2, 2, 5) and second.probe_task == 0
    assert (second.total_variation > 0).all() and (second.total_variation_local > 0).all()
    np.testing.assert_allclose(second.class_attention.astype(float).sum(-1), 1, atol=2e-3)
    (told,) = events(tmp_path / "r", "ProbesChosen")
    assert told.images.shape == (3, 4, 4, 3) and told.images.min() == 0 and told.images.max() == 255
    plan = events(tmp_path / "r", "RunStarted")[0]
    assert plan.backbone["patch_grid"] == [2, 2] and plan.backbone["heads"] == 2 and plan.backbone["depth"] == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"attention": True}, "measured on probes"),
        ({"attention": True, "probes": {0: torch.zeros(1, 4)}, "modules": ()}, "chooses the watched modules"),
        ({"attention": True, "probes": {0: torch.zeros(1, 4)}}, "no attention to record"),
    ],
)
def test_attention_that_cannot_be_recorded_is_refused_before_a_folder_is_made(tmp_path, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recorder(tmp_path / "r", nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), tasks=2, **options)
    assert not (tmp_path / "r").exists()
