"""Observers read and never change: whoever fails is left out, and what is large is saved once."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from cl_core.config import DiagnosticsConfig
from cl_core.methods.parts.clip_weights import key
from cl_core.observers.observer import Observer
from cl_core.observers.probe import Probe
from cl_core.observers.prompt_spectra import PromptSpectra
from cl_core.observers.weights import WeightWatch
from cl_core.store import create_run
from cl_core.training import checkpoint
from cl_core.training.factory import build

EAGER = {"prompt_rate": 0.05, "temperature": 1.0}


def state_of(trainer):
    return {name: value.clone() for name, value in trainer.method.state_dict().items()}


def run(trainer):
    return [event for moment in trainer.run() for event in moment]


@pytest.mark.parametrize("point", ["started", "step_taken", "collect", "task_trained", "task_learned", "epoch_ended"])
def test_an_observer_that_fails_is_left_out_and_training_goes_on_as_without_it(tiny_trainer, monkeypatch, point):
    plain = tiny_trainer("nsp2", settings=EAGER, tasks=2, diagnostics=vars(DiagnosticsConfig.off()))
    run(plain)
    trainer = tiny_trainer("nsp2", settings=EAGER, tasks=2)
    failing = trainer.observers.find(PromptSpectra)
    if point == "collect":  # which reads the method's own moments otherwise
        failing.taps = (("q", 0),)

    def fails(*_):
        raise RuntimeError("out of paint\nand of patience")

    monkeypatch.setattr(failing, point, fails)
    said = run(trainer)
    (stopped,) = [event for event in said if event.kind == "MeasurementStopped"]
    assert (stopped.measurement, stopped.reason) == ("prompt spectra", "RuntimeError: out of paint")
    assert "in fails" in stopped.details
    assert {"AttentionCompared", "PromptsDrifted"} <= {event.kind for event in said}, "the others go on"
    assert all(torch.equal(value, plain.method.state_dict()[name]) for name, value in state_of(trainer).items())
    again = tiny_trainer("nsp2", settings=EAGER, tasks=2)
    again.restore(trainer.state())
    assert failing.name in again.observers.stopped, "a resumed run does not try again"


def test_running_out_of_memory_while_measuring_ends_no_run(tiny_trainer, monkeypatch):
    trainer = tiny_trainer("sequential", tasks=2)

    def cramped(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer.observers.find(Probe), "task_measured", cramped)
    kinds = [event.kind for event in run(trainer)]
    assert kinds.count("MeasurementStopped") == 1 and kinds.count("TaskEnded") == 2


def test_observers_have_different_names():
    def below(kind):
        return {kind}.union(*map(below, kind.__subclasses__()))

    names = [kind.name for kind in below(Observer) if "name" in vars(kind)]
    assert len(names) == len(set(names)) >= 10


# ---------------------------------------------------------------- what is large is saved once


def boundaries(config, folder):
    """(bytes written at each boundary, checkpoints), a checkpoint of the real kind after every task."""
    trainer, written, saved = build(config), [], []
    for moment in trainer.run():
        if moment[0].kind == "AccuracyMeasured":
            saved.append(checkpoint.save(folder, trainer.state(), len(saved) + 1, boundary=True))
            found = [file.stat() for file in folder.path.rglob("*") if file.is_file()]
            files = {(of.st_dev, of.st_ino): of.st_size for of in found}  # a linked file counts once
            written.append(sum(files.values()) - sum(written))
    return written, saved


def test_checkpoints_grow_with_the_tasks_and_not_with_their_square(tiny_config, tmp_path):
    config = tiny_config("sequential", settings={"prompt_length": 1}, tasks=5, diagnostics={"probe_images": 20})
    written, saved = boundaries(config, create_run(tmp_path, config))
    reference = (saved[0].path / "reference-probe-task-0.safetensors").stat()
    assert reference.st_size > 0.2 * written[0], "the probe's references must weigh something for this to say anything"
    assert reference.st_nlink == 5, "one file, which every later checkpoint holds too"
    assert max(written) < 1.2 * min(written)


def test_a_checkpoint_can_be_read_when_those_before_it_are_gone(tiny_config, tmp_path):
    import shutil

    config = tiny_config("sequential", tasks=2)
    _, saved = boundaries(config, create_run(tmp_path, config))
    shutil.rmtree(saved[0].path)
    trainer = build(config)
    trainer.restore(checkpoint.load(saved[1]))
    assert trainer.observers.find(Probe).measured() == [0, 1]


def test_where_there_are_no_hard_links_references_are_copied(tiny_config, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError("not on this file system")

    monkeypatch.setattr("os.link", refused)
    config = tiny_config("sequential", tasks=2)
    _, saved = boundaries(config, create_run(tmp_path, config))
    assert set(checkpoint.load(saved[1])["references"]) == {"probe-task-0", "probe-task-1"}


# ---------------------------------------------------------------- checkpoints of older versions


def as_it_was(trainer):
    """The trainer's state in the layout of the time before observers had their own."""
    state = trainer.state()
    observers, references = state.pop("observers"), state.pop("references")
    method, raw_update_sums = dict(state["method"]), {}
    for name in ("prompt spectra", "input spectra"):
        for key_, value in observers.get(name, {}).items():
            part, rest = key_.split("/", 1)
            if part == "asked":
                raw_update_sums[rest] = value
            elif part == "moments":
                method[f"moments.{rest}"] = value
            else:
                method["previous_prompts" if rest == "deep_prompts" else f"previous_{key(rest)}"] = value
    if "moments.affinity" in method:
        method |= {f"moments.task_{s}": torch.zeros_like(method[f"moments.{s}"]) for s in ("affinity", "mixture")}
    probe = {
        f"task_{name.rsplit('-', 1)[1]}_{kind}": value for name, t in references.items() for kind, value in t.items()
    }
    weights = {name.replace(".", "_"): value for name, value in observers["weights"].items()}
    gap = observers["modality gap"]
    return {**state, "method": method, "proposals": raw_update_sums, "probe": probe, "gap": gap, "weights": weights}


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("sequential", EAGER),
        ("nsp2", EAGER),
        ("lwf", EAGER),
        ("gnsp", {}),
        ("gnsp", {"project": "none"}),
        ("nusa_cl", {}),
    ],
)
def test_a_checkpoint_of_an_older_version_goes_on_as_before(tiny_config, method, settings):
    clip = method in ("gnsp", "nusa_cl")
    others = {"backbone": "random-clip", "stream": "synthetic-domains"} if clip else {}
    config = tiny_config(method, settings=settings, tasks=2, **others)
    trainer, moments = build(config), None
    moments = trainer.run()
    for moment in moments:
        if moment[0].kind == "StepEnded" and trainer.cursor.task == 1:
            break
    state = copy.deepcopy(as_it_was(trainer))

    def plain(event):
        body = {k: v.tobytes() if isinstance(v, np.ndarray) else repr(v) for k, v in event.body().items()}
        return event.kind, {name: value for name, value in body.items() if name != "seconds"}

    whole = [plain(event) for moment in moments for event in moment]
    again = build(config)
    again.restore(state)
    assert [plain(event) for moment in again.run() for event in moment] == whole
    kept, theirs = (one.observers.find(WeightWatch).state_dict() for one in (again, trainer))
    assert kept.keys() == theirs.keys()
