"""Wrappers of other programs' loops, called as those programs call them. The programs themselves need not be installed:
what a wrapper takes from them is a base class. Where they are, `test_examples.py` trains with them."""

from __future__ import annotations

import importlib
import sys
from contextlib import closing
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from cl_core.recorder import Recorder
from cl_core.store import RunFolder, RunReader


@pytest.fixture
def wrapper(monkeypatch):
    """`wrapper("avalanche_plugin", "avalanche.core", "SupervisedPlugin")`: the module with a stand-in base class."""

    def load(name, package, base):
        parts = package.split(".")
        for i in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:i]), ModuleType(".".join(parts[:i])))
        setattr(sys.modules[package], base, type(base, (), {}))
        monkeypatch.delitem(sys.modules, f"cl_core.interop.{name}", raising=False)
        found = importlib.import_module(f"cl_core.interop.{name}")
        monkeypatch.delitem(sys.modules, f"cl_core.interop.{name}")
        return found

    return load


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4))


def events(folder, kind):
    with closing(RunReader(RunFolder(folder))) as reader:
        return [stored.event for stored in reader.since(kinds=(kind,))]


def rows(folder, readout="class-incremental"):
    return [event.row for event in events(folder, "AccuracyMeasured") if event.readout == readout]


# ---------------------------------------------------------------- Avalanche


class Strategy:
    """A strategy as its plugins see it."""

    def __init__(self, experiences=2):
        self.model = model()
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1)
        self.loss = torch.tensor(1.0)
        self.stream = SimpleNamespace(name="train", __len__=lambda: experiences)
        self.count = experiences
        self.metrics = {}
        self.evaluator = SimpleNamespace(get_last_metrics=lambda: self.metrics)
        self.at(0)

    def at(self, number, stream="train"):
        origin = type("Stream", (), {"name": stream, "__len__": lambda _: self.count})()
        self.experience = SimpleNamespace(current_experience=number, origin_stream=origin)


def evaluated(plugin, strategy, numbers, accuracies, prefix=""):
    """As Avalanche evaluates: experience after experience, then the metrics."""
    plugin.before_eval(strategy)
    for number in numbers:
        strategy.at(number, "test")
        plugin.after_eval_exp(strategy)
    name = "Top1_Acc_Exp/eval_phase/test_stream/Task{0:03}/Exp{0:03}"
    strategy.metrics = {
        **{name.format(i): value for i, value in accuracies.items()},
        "Top1_Acc_Stream/eval_phase/test_stream/Task000": 0.5,
        "Loss_Exp/eval_phase/test_stream/Task000/Exp000": 1.0,
    }
    plugin.after_eval(strategy)


def trained(plugin, strategy, number, steps=3):
    strategy.at(number)
    plugin.before_training_exp(strategy)
    for step in range(steps):
        strategy.loss = torch.tensor(1.0 / (1 + step))
        plugin.after_update(strategy)
    plugin.after_training_epoch(strategy)
    plugin.after_training_exp(strategy)


def test_an_avalanche_strategy_is_recorded(wrapper, tmp_path):
    made = wrapper("avalanche_plugin", "avalanche.core", "SupervisedPlugin")
    strategy = Strategy()
    plugin = made.RecorderPlugin(tmp_path / "r", scenario="task-incremental", every=1)
    evaluated(plugin, strategy, [0, 1], {0: 0.25, 1: 0.3})
    for task, accuracies in enumerate(({0: 0.9, 1: 0.2}, {0: 0.7, 1: 0.8})):
        trained(plugin, strategy, task)
        evaluated(plugin, strategy, [0, 1], accuracies)
    assert rows(tmp_path / "r", "task-incremental") == [[90.0, 20.0], [70.0, 80.0]]
    assert rows(tmp_path / "r", "zero-shot") == [[25.0, 30.0]]
    losses = [event.losses["total"] for event in events(tmp_path / "r", "StepEnded")]
    assert losses == pytest.approx([1, 1 / 2, 1 / 3] * 2)
    assert events(tmp_path / "r", "StateChanged")[-1].state == "finished"
    assert len(events(tmp_path / "r", "EpochEnded")) == 2


def test_metrics_of_an_earlier_evaluation_are_not_taken_for_new_ones(wrapper, tmp_path):
    """Avalanche's last metrics keep what was not evaluated again."""
    made = wrapper("avalanche_plugin", "avalanche.core", "SupervisedPlugin")
    strategy = Strategy()
    plugin = made.RecorderPlugin(tmp_path / "r", scenario="task-incremental")
    trained(plugin, strategy, 0)
    evaluated(plugin, strategy, [0], {0: 0.9, 1: 0.1})
    trained(plugin, strategy, 1)
    plugin.close()
    assert rows(tmp_path / "r", "task-incremental") == [[90.0, None]], "and the second task was not evaluated"
    assert len(events(tmp_path / "r", "TaskEnded")) == 2


# ---------------------------------------------------------------- Lightning


def test_a_lightning_module_is_recorded_and_accumulated_batches_are_one_step(wrapper, tmp_path):
    made = wrapper("lightning_callback", "lightning.pytorch", "Callback")
    recorder = Recorder(tmp_path / "r", model(), tasks=2)
    callback = made.RecorderCallback(recorder)
    trainer = SimpleNamespace(global_step=0, is_global_zero=True)
    for task in range(2):
        callback.on_train_start(trainer, None)
        for batch in range(4):
            trainer.global_step += batch % 2  # gradients of two batches make a step
            callback.on_train_batch_end(trainer, None, {"loss": torch.tensor(float(batch))}, None, batch)
        callback.on_train_epoch_end(trainer, None)
        recorder.end_task(task, accuracies={task: 50.0})
    assert [event.losses["total"] for event in events(tmp_path / "r", "StepEnded")] == [1.0, 3.0, 1.0, 3.0]
    assert len(events(tmp_path / "r", "EpochEnded")) == 2


def test_other_processes_of_lightning_say_nothing_and_a_loss_may_be_missing(wrapper, tmp_path):
    made = wrapper("lightning_callback", "lightning.pytorch", "Callback")
    recorder = Recorder(tmp_path / "r", model(), tasks=1)
    callback = made.RecorderCallback(recorder)
    callback.on_train_batch_end(SimpleNamespace(global_step=1, is_global_zero=False), None, None, None, 0)
    callback.on_train_batch_end(SimpleNamespace(global_step=2, is_global_zero=True), None, None, None, 0)
    recorder.end_task(accuracies={0: 50.0})
    (step,) = events(tmp_path / "r", "StepEnded")
    assert step.losses == {}


# ---------------------------------------------------------------- Hugging Face Trainer


def test_trainers_logs_are_joined_with_their_steps(wrapper, tmp_path):
    made = wrapper("trainer_callback", "transformers", "TrainerCallback")
    recorder = Recorder(tmp_path / "r", model(), tasks=1)
    callback = made.RecorderCallback(recorder)
    state = SimpleNamespace(is_world_process_zero=True)
    for step in range(3):
        callback.on_step_end(None, state, None)
        if step == 1:
            callback.on_log(None, state, None, logs={"loss": 0.5})
            callback.on_log(None, state, None, logs={"eval_loss": 9.0})
    callback.on_epoch_end(None, state, None)
    callback.on_log(None, state, None, logs={"train_loss": 7.0, "loss": 8.0})
    callback.on_train_end(None, state, None)
    recorder.end_task(accuracies={0: 50.0})
    assert [event.losses for event in events(tmp_path / "r", "StepEnded")] == [{}, {"total": 0.5}, {}]
    assert len(events(tmp_path / "r", "EpochEnded")) == 1
