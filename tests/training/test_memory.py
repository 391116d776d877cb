"""Running out of memory: a sentence, a batch size that was tried, and a way on from what is kept."""

from __future__ import annotations

import dataclasses
from contextlib import closing

import pytest
import torch

from cl_core.config import describe
from cl_core.methods.sequential import Sequential
from cl_core.store import RunReader, create_run, fork_run
from cl_core.summary import summarise
from cl_core.training import checkpoint, device
from cl_core.training.device import Memory
from cl_core.training.oom import fitting
from cl_core.training.worker import drive

ROOM = 12  # images whose gradients fit


@pytest.fixture
def new_run(tiny_config, tmp_path):
    def make(**others):
        config = tiny_config("sequential", **{"tasks": 2, "training": {"batch_size": 40}, **others})
        return create_run(tmp_path, config)

    return make


def cramped(monkeypatch, error, *, from_task=0, room=ROOM):
    """From a task on, a training loss of more than `room` images does not fit. Returns what was asked for."""
    intact, asked = Sequential.loss, []

    def loss(self, backbone, batch):
        asked.append(len(batch.labels))
        if len(batch.labels) > room and len(self.tuning.heads) > from_task:
            raise error
        return intact(self, backbone, batch)

    monkeypatch.setattr(Sequential, "loss", loss)
    monkeypatch.setattr("cl_core.training.trainer.memory", lambda device: Memory(2**29, 2**33))
    return asked


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_the_run_ends_with_the_batch_met_the_memory_there_is_and_a_batch_size_that_was_tried(
    new_run, monkeypatch, error
):
    folder = new_run()
    asked = cramped(monkeypatch, error)
    ended = drive(folder)
    assert ended.state == "failed" and asked == [40, 20, 10]
    assert "out of memory with 40 images in task T1, step 1: cpu had 0.5 of 8.0 GiB free" in ended.reason
    assert "loss and gradients of 10 images were tried then and fitted" in ended.reason
    assert ended.reason.endswith("no task was finished: start anew with --set batch_size=10")
    assert type(error).__name__ in ended.details, "what failed stays in the log"
    with closing(RunReader(folder)) as reader:
        (said,) = (stored.event for stored in reader.since(kinds=("RunFailed",)))
    assert said.fits == 10, "and a page can offer it"


def test_what_was_learned_is_kept_and_a_fork_with_the_batch_size_that_was_named_goes_on_from_there(
    new_run, monkeypatch, tmp_path
):
    folder = new_run()
    cramped(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"), from_task=1)
    reason = drive(folder).reason
    assert "in task T2, step 7" in reason
    assert f"T1 is finished and kept: `plastiscope fork {folder.name} --after-task 1 --set batch_size=10`" in reason
    assert [(c.boundary, c.task) for c in checkpoint.complete(folder)] == [(True, 1)]
    made = fork_run(folder, 1, [("batch_size", 10)], describe(Sequential.Config), name="smaller")
    assert drive(made).state == "finished"
    matrix = summarise(made).accuracy_matrix
    assert matrix[0] == summarise(folder).accuracy_matrix[0] and None not in matrix[1]


def test_where_not_even_one_image_fits_no_batch_size_is_named(new_run, monkeypatch):
    cramped(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"), room=0)
    reason = drive(new_run()).reason
    assert "not even one image fitted then" in reason and "batch_size" not in reason


def test_after_the_memory_is_there_again_a_resumed_run_ends_as_an_undisturbed_one(new_run, monkeypatch):
    whole, folder = new_run(name="whole"), new_run(name="cut")
    drive(whole)
    with monkeypatch.context() as patch:
        cramped(patch, torch.OutOfMemoryError("CUDA out of memory"), from_task=1)
        assert drive(folder).state == "failed"
    assert drive(folder).state == "finished"
    assert summarise(folder).accuracy_matrix == summarise(whole).accuracy_matrix


def test_the_stage_is_named_where_no_step_failed(new_run, monkeypatch):
    def end_task(self, clock):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Sequential, "end_task", end_task)
    reason = drive(new_run()).reason
    assert "out of memory while looking over the training images of task T1" in reason and "batch_size" not in reason


def test_evaluation_goes_on_in_smaller_batches_and_counts_the_same(tiny_trainer, monkeypatch):
    whole = [e.row for m in tiny_trainer(tasks=2).run() for e in m if e.kind == "AccuracyMeasured"]
    trainer = tiny_trainer(tasks=2)
    intact = trainer.evaluation.features

    def features(batch, taps=()):
        if len(batch.labels) > 20 and not taps:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return intact(batch, taps)

    monkeypatch.setattr(trainer.evaluation, "features", features)
    trainer.evaluation.diagnostics = dataclasses.replace(trainer.evaluation.diagnostics, readout=False)
    rows = [e.row for m in trainer.run() for e in m if e.kind == "AccuracyMeasured"]
    assert trainer.evaluation.batch <= 20
    assert rows == [row for place, row in enumerate(whole) if place in (0, 2, 3, 6)]


def test_statistics_are_recomputed_in_smaller_batches_too(tiny_trainer, monkeypatch):
    told = lambda trainer: [e.row for m in trainer.run() for e in m if e.kind == "AccuracyMeasured"]
    whole, trainer, sizes = told(tiny_trainer(tasks=2)), tiny_trainer(tasks=2), []
    intact = trainer.evaluation._recomputed

    def cramped(learned):
        """Room for 20 images, while statistics are recomputed only."""
        sizes.append(trainer.evaluation.batch)
        with monkeypatch.context() as patch:
            patch.setattr(trainer.evaluation, "features", features)
            return intact(learned)

    def features(batch, taps=(), seen=trainer.evaluation.features):
        if len(batch.labels) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return seen(batch, taps)

    monkeypatch.setattr(trainer.evaluation, "_recomputed", cramped)
    assert told(trainer) == whole
    assert sizes == [250, 125, 62, 31, 15] and trainer.evaluation.batch == 15


def test_what_images_take_from_a_pool_is_counted_in_smaller_batches_too(tiny_trainer, monkeypatch):
    def told(room):
        trainer = tiny_trainer("dualprompt", tasks=2, training={"epochs": 1})
        intact, said = trainer.method.selection, []

        def selection(backbone, images, ids=None):
            if len(images) > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return intact(backbone, images, ids)

        monkeypatch.setattr(trainer.method, "selection", selection)
        for moment in trainer.run():
            said += [(e.layer, e.counts.tobytes(), e.accuracy) for e in moment if e.kind == "SelectionMeasured"]
        return said, trainer.evaluation.batch

    (whole, usual), (said, smaller) = told(1000), told(20)
    assert said == whole and len(whole) == 2 and (usual, smaller) == (250, 15)


def test_where_not_even_one_image_fits_evaluation_ends(tiny_trainer, monkeypatch):
    evaluation = tiny_trainer(tasks=2).evaluation

    def features(images, taps=()):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(evaluation, "features", features)
    with pytest.raises(torch.OutOfMemoryError):
        evaluation.portioned(lambda: evaluation._recomputed([0]))
    assert evaluation.batch == 1


@pytest.mark.parametrize(("room", "found"), [(100, 32), (31, 16), (1, 1), (0, 0)])
def test_the_largest_half_that_fits_is_found(room, found):
    def attempt(size):
        if size > room:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert fitting(attempt, 64, torch.device("cpu")) == found


def test_memory_is_said_in_gibibytes():
    assert str(Memory(2**29, 2**33)) == "0.5 of 8.0 GiB"
    here = device.memory(torch.device("cpu"))
    assert here is None or 0 < here.free <= here.total
