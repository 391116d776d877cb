"""`plastiscope sweep` with real workers: it trains, goes on after a kill, keeps failures apart and stops on request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future
from pathlib import Path

import pytest

from cl_core.cli import main
from cl_core.store import RunReader, find_run, list_runs, lock_owner
from cl_core.sweeps import Sweep, axis, conducted_by, load, local, sweep_status, worker
from tests.recorded_sweep import softness, write, write_run

TINY = ["--method", "sequential", "--backbone", "random-vit", "--stream", "synthetic", "--device", "cpu"]
TINY += ["--set", "stream.tasks=2", "--set", "epochs=1", "--set", "batch_size=50"]


@pytest.fixture
def say(tmp_path, capsys):
    """`say("--name", "x")` → (exit status, standard output, standard error), with runs in a folder of the test."""

    def run(*arguments):
        status = main(["sweep", *map(str, arguments), "--runs", str(tmp_path)])
        found = capsys.readouterr()
        return status, found.out, found.err

    return run


class Here(Executor):
    """In the place of a worker process: what is handed in is done at once, in this process, which has torch already."""

    _processes = None

    def submit(self, work, *arguments):
        done: Future = Future()
        done.set_result(work(*arguments))
        return done


@pytest.fixture
def here(monkeypatch):
    """Runs of a sweep are trained in this process. That workers train, two tests below show."""
    monkeypatch.setattr(local.LocalEngine, "_worker", lambda engine: Here())
    monkeypatch.setattr(worker.gc, "freeze", lambda: None)


def stamps(runs: Path) -> dict[str, int]:
    return {folder.name: folder.database.stat().st_mtime_ns for folder in list_runs(runs)}


def wait_for(what, seconds=200.0):
    end = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < end:
        time.sleep(0.05)
    assert found
    return found


def test_a_grid_is_trained_reported_and_not_trained_again(say, here, tmp_path):
    grid = [*TINY, "--grid", "prompt_length=2,3", "--name", "two", "--workers", "2"]
    status, out, err = say(*grid, "--budget", "100")
    assert status == 0 and "2 of 2 finished" in err
    assert "prompt_length 2" in out and "Of the settings that forget at most 100 pp," in out
    before = stamps(tmp_path)
    assert set(before) == {"two-prompt_length-2-seed-0", "two-prompt_length-3-seed-0"}
    config = find_run(tmp_path, "two-prompt_length-3-seed-0").config()
    assert config.group == "sweep two" and config.settings["prompt_length"] == 3
    status, out, err = say(*grid, "--json")
    record = json.loads(out)
    assert status == 0 and err == "" and stamps(tmp_path) == before
    assert record["state"] == "finished" and set(record["runs"].values()) == {"finished"} and len(record["spots"]) == 2
    assert record["failed"] == {} and record["frontier"]
    assert say()[1].startswith("two") and "2 of 2 runs finished; done" in say()[1]


def test_a_sweep_goes_on_after_a_kill(say, here, tmp_path):
    """The conductor dies; its worker saves the run in training and ends; the same command trains the rest."""
    grid = [*TINY, "--set", "epochs=20", "--grid", "prompt_length=2,3", "--name", "cut", "--workers", "1"]
    command = [sys.executable, "-m", "cl_core", "sweep", *grid, "--runs", str(tmp_path)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:

        def second_run_in_training():
            names = [f for f in list_runs(tmp_path) if f.name == "cut-prompt_length-3-seed-0"]
            return names and RunReader(names[0]).latest("StepEnded") and lock_owner(names[0])

        pid = wait_for(second_run_in_training)
        first.kill()
        first.wait()
        wait_for(lambda: not Path(f"/proc/{pid}").exists() if Path("/proc").exists() else True)
    finally:
        if first.poll() is None:
            first.kill()
    assert conducted_by(tmp_path, "cut") is None
    now = sweep_status(load(tmp_path, "cut"), tmp_path)
    kept = now.of("finished")[0].folder.database.stat().st_mtime_ns
    assert [found.state for found in now.runs] in (["finished", "stopped"], ["finished", "finished"])
    status, out, err = say(*grid, "--json")
    assert status == 0, err
    assert json.loads(out)["runs"] == dict.fromkeys(
        ("cut-prompt_length-2-seed-0", "cut-prompt_length-3-seed-0"), "finished"
    )
    assert now.of("finished")[0].folder.database.stat().st_mtime_ns == kept, "a finished run was touched"


def test_a_failure_is_kept_apart_and_told_at_the_end(say, here, tmp_path):
    """One run's checkpoint is damaged: it fails again, the other run of the grid is trained all the same."""
    settings = ("stream.tasks=2", "epochs=1", "batch_size=50")
    base = {"method": "sequential", "backbone": "random-vit", "stream": "synthetic", "device": "cpu"}
    first, _ = Sweep("hurt", (base,), settings, (axis("prompt_length=2,3"),)).points
    folder = write_run(tmp_path, first, [], "failed", "out of memory")
    checkpoint = folder.checkpoints / "00000002"
    checkpoint.mkdir()
    for name in ("state.json", "state.safetensors", "done"):
        (checkpoint / name).write_text("{")
    status, out, err = say(*TINY, "--grid", "prompt_length=2,3", "--name", "hurt", "--workers", "1")
    assert status == 1 and "1 of 2 runs failed" in err and "hurt-prompt_length-2-seed-0: " in err.splitlines()[-1]
    assert "Traceback" not in err and "prompt_length 2" not in out
    assert [found.state for found in sweep_status(load(tmp_path, "hurt"), tmp_path).runs] == ["failed", "finished"]


def test_what_cannot_be_meant_is_refused_in_a_sentence(say, tmp_path):
    for arguments, sentence in (
        (["--method", "nsp3"], "Did you mean nsp2?"),
        (["--method", "nsp2", "--preset", "nsp2-micro"], "give one of them"),
        (["--method", "nsp2", "--seeds", "0,x"], "--seeds takes whole numbers"),
        (["--name", "nowhere"], "there is no sweep nowhere"),
        (["--stop"], "--stop needs the --name"),
        (["--method", "nsp2", "--address", "auto"], "belong to --engine ray"),
        (["--method", "nsp2", "--workers", "0"], "workers must be at least 1"),
    ):
        status, out, err = say(*arguments)
        assert (status, out) == (2, "") and sentence in err, arguments
    assert "no sweeps in" in say()[1] and not list(tmp_path.iterdir())


def test_a_finished_sweep_is_reported_without_torch_or_workers(tmp_path):
    write(tmp_path, softness())
    code = "import sys\nfrom cl_core.cli import main\nsys.exit(main(sys.argv[1:]) or 'torch' in sys.modules)"
    command = [sys.executable, "-c", code, "sweep", "--name", "softness", "--budget", "20", "--runs", str(tmp_path)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "* eta_affinity+eta_mixture 0.5" in done.stdout and "80.5 ± 0.7" in done.stdout
    assert "forget at most 20 pp, eta_affinity+eta_mixture 0.5 learns most" in done.stdout


def test_ctrl_c_saves_what_is_in_training(tmp_path):
    grid = [*TINY, "--set", "epochs=100", "--grid", "prompt_length=2,3", "--name", "held", "--workers", "1"]
    command = [sys.executable, "-m", "cl_core", "sweep", *grid, "--runs", str(tmp_path)]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        wait_for(lambda: any(RunReader(f).latest("StepEnded") for f in list_runs(tmp_path)))
        os.killpg(child.pid, signal.SIGINT)  # as a terminal does: the workers get it too
        _, err = child.communicate(timeout=60)
    finally:
        if child.poll() is None:
            child.kill()
    assert child.returncode == 0 and "saving runs in training" in err and "goes on with the 2 runs" in err
    assert [f.state for f in sweep_status(load(tmp_path, "held"), tmp_path).runs] == ["stopped", "queued"]


def test_ray_is_asked_for_by_name_and_told_of_if_it_is_missing(say, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    status, _, err = say("--method", "nsp2", "--engine", "ray")
    assert status == 2 and "pip install '.[ray]'" in err


def test_the_same_sweep_on_ray(say, tmp_path, monkeypatch):
    """One node, two workers, two short runs. Ray ends with the sweep, and is told to report nothing to anybody."""
    ray = pytest.importorskip("ray", reason="ray is not installed (extra `ray`)")
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    status, out, err = say(*TINY, "--grid", "prompt_length=2,3", "--engine", "ray", "--workers", "2", "--name", "ray")
    assert status == 0 and "ports are open" in err
    assert sweep_status(load(tmp_path, "ray"), tmp_path).finished == 2 and "prompt_length 3" in out
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0" and not ray.is_initialized()
