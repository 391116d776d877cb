"""One run on a GPU at a time; the others stand in line and say so."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager

import pytest
import torch

from cl_core.commands import Pause, Stop
from cl_core.store import RunReader, create_run, send
from cl_core.training import device, worker
from cl_core.training.device import GpuLock
from cl_core.training.worker import drive

GPU = torch.device("cuda")


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """`gpus(2)`: this process sees so many; nothing is computed on them."""

    def seen(count, visible=None):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        chosen = []
        monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
        monkeypatch.setattr(device, "free_memory", lambda device: None)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        monkeypatch.delenv(device.RUNS_PER_DEVICE, raising=False)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return chosen

    return seen


def test_a_gpu_is_given_to_one_run_and_the_next_takes_it_when_that_has_ended(gpus):
    gpus(1)
    with GpuLock(GPU) as second:
        with GpuLock(GPU) as first:
            assert first.take("alone") and first.take("alone"), "taken stays taken"
            assert not second.take("late")
            assert f"in training there: alone (process {os.getpid()})" in second.reason()
        assert second.take("late")


def test_each_run_takes_the_first_gpu_that_is_free(gpus):
    chosen = gpus(2)
    with GpuLock(GPU) as first, GpuLock(GPU) as second, GpuLock(GPU) as third:
        assert first.take("a") and second.take("b") and not third.take("c")
        assert chosen == [0, 1]
        assert "a (process" in third.reason() and "b (process" in third.reason()


def test_a_gpu_is_known_by_what_the_environment_calls_it(gpus, monkeypatch):
    gpus(1, visible="3")
    with GpuLock(GPU) as first, GpuLock(GPU) as second:
        assert first.take("on three")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
        assert second.take("on five")


@pytest.mark.parametrize("asked", ["argument", "environment"])
def test_runs_share_a_gpu_where_that_was_asked_for(gpus, monkeypatch, asked):
    gpus(1)
    if asked == "environment":
        monkeypatch.setenv(device.RUNS_PER_DEVICE, "2")
    turns = [GpuLock(GPU, **({"sharing": 2} if asked == "argument" else {})) for _ in range(3)]
    try:
        assert [turn.take("r") for turn in turns] == [True, True, False]
    finally:
        for turn in turns:
            turn.__exit__()


def test_a_processor_is_everybodys(gpus):
    gpus(1)
    with GpuLock(torch.device("cpu")) as first, GpuLock(torch.device("cpu")) as second:
        assert first.take("a") and second.take("b")


# ---------------------------------------------------------------- a run in line


@pytest.fixture
def folder(tiny_config, tmp_path):
    return create_run(tmp_path / "runs", tiny_config("sequential", tasks=1, stream_settings={"tasks": 1}))


@contextmanager
def occupied(gpus, monkeypatch, rounds=()):
    """The only GPU is at work; what is in `rounds` happens at each look while the run waits. It then becomes free."""
    gpus(1)
    monkeypatch.setattr(worker, "choose_device", lambda name: GPU)
    rounds = list(rounds)
    with GpuLock(GPU) as other:
        assert other.take("other")

        def sleep(seconds):
            assert rounds is not None
            rounds.pop(0)() if rounds else other.__exit__()

        monkeypatch.setattr(worker.time, "sleep", sleep)
        yield


def said(folder, *kinds):
    with closing(RunReader(folder)) as reader:
        return [stored.event for stored in reader.since(kinds=kinds)]


def state(folder):
    with closing(RunReader(folder)) as reader:
        return reader.status()


def test_a_second_run_is_queued_says_for_whom_it_waits_and_then_trains(folder, gpus, monkeypatch):
    seen, told = [], []
    with occupied(gpus, monkeypatch, [lambda: seen.append(state(folder))]):
        assert drive(folder, on_wait=told.append).state == "finished"
    (waiting,) = seen
    assert waiting.state == "queued" and waiting.live and not waiting.resumable
    assert "in training there: other" in waiting.reason and told == [waiting.reason]
    assert [event.state for event in said(folder, "StateChanged")][-2:] == ["running", "finished"]


def test_a_queued_run_can_be_stopped_and_nothing_else(folder, gpus, monkeypatch):
    orders = [lambda: send(folder, Pause()), lambda: send(folder, Stop())]
    with occupied(gpus, monkeypatch, orders):
        assert drive(folder).state == "stopped"
    (refused,) = said(folder, "CommandRefused")
    assert refused.command == "pause" and "waits for its device" in refused.reason
    assert state(folder).resumable and not said(folder, "RunStarted")
    monkeypatch.undo()
    assert drive(folder).state == "finished"


def test_a_run_whose_worker_dies_in_line_is_gone_and_can_be_resumed(folder, gpus, monkeypatch):
    class Killed(BaseException): ...

    def killed():
        raise Killed

    with occupied(gpus, monkeypatch, [killed]), pytest.raises(Killed):
        drive(folder)
    assert state(folder).state == "gone" and state(folder).resumable
