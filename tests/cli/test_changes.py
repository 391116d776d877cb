"""`plastiscope turn` and `fork`: changing what is still to come of a run, from a terminal."""

from __future__ import annotations

import json

import pytest

from cl_core.store import create_run, find_run, fork_of, list_runs
from tests.cli.test_cli import KEYS, TINY, one_sentence, process, wait_for_steps


@pytest.fixture
def parent(say):
    assert say("run", "--method", "nsp2", *TINY, "--name", "parent")[0] == 0
    return "parent"


def test_a_fork_trains_what_is_left_and_shows_where_it_came_from(say, runs, parent):
    command = ("fork", parent, "--after-task", 1, "--set", "eta_affinity=0.1", "--set", "epochs=2", "--name", "child")
    status, out, err = say(*command, "--json")
    report = json.loads(out.splitlines()[-1])
    assert status == 0 and list(report) == KEYS and (report["run"], report["state"]) == ("child", "finished")
    assert "after T2" in err and "after T1" not in err, "only what is left is trained"
    whole = json.loads(say("show", parent, "--json")[1])
    assert report["accuracy_matrix"][0] == whole["accuracy_matrix"][0]
    shown = json.loads(say("show", "child", "--json")[1])
    assert shown["fork"]["parent"] == "parent" and shown["fork"]["changed"] == {
        "epochs": [1, 2],
        "eta_affinity": [0.97, 0.1],
    }
    assert shown["config"]["training"]["epochs"] == 2 and whole["fork"] is None
    assert "fork of parent after T1: eta_affinity 0.97 → 0.1, epochs 1 → 2" in say("show", "child")[1]


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (("--after-task", 1, "--set", "prompt_length=9"), 2, "prompt_length sets shapes"),
        (("--after-task", 1, "--set", "eta_affinity=9"), 2, "eta_affinity must lie in [0, 1], got 9"),
        (("--after-task", 1, "--set", "temperature=hot"), 2, "temperature must be float, got 'hot'"),
        (("--after-task", 1, "--set", "epochs"), 2, "--set takes key=value"),
        (("--after-task", 2), 1, "nothing left to train"),
        (("--after-task", 7), 1, "nothing left to train"),
        ((), 2, ""),
    ],
)
def test_a_fork_that_cannot_be_is_refused_in_one_sentence_and_leaves_nothing(
    say, runs, shared, arguments, status, reason
):
    before = len(list_runs(shared))
    found, out, err = say("fork", "parent", *arguments, "--runs", shared, "--name", "child")
    assert (found, out) == (status, "") and reason in err and len(list_runs(shared)) == before
    if reason:
        one_sentence(err)


@pytest.fixture(scope="module")
def shared(tmp_path_factory, tiny_config):
    """A folder with one finished run of two tasks."""
    from cl_core.training.worker import drive

    folder = tmp_path_factory.mktemp("runs")
    drive(create_run(folder, tiny_config("nsp2", tasks=2, training={"epochs": 1, "batch_size": 50}, name="parent")))
    return folder


def test_a_setting_that_sets_sizes_without_saying_so_is_found_by_laying_the_checkpoint_in(say, shared, monkeypatch):
    """As if nobody had marked it: the checkpoint no longer fits, and no folder is left."""
    from cl_core.cli import changes

    rows = changes.describe
    monkeypatch.setattr(changes, "describe", lambda kind: [{**row, "fixed": ""} for row in rows(kind)])
    status, _, err = say("fork", "parent", "--after-task", 1, "--set", "prompt_length=9", "--runs", shared)
    assert status == 2 and "the checkpoint does not fit these settings of nsp2" in one_sentence(err)
    assert [folder.name for folder in list_runs(shared)] == ["parent"]


def test_a_living_run_is_turned_paused_and_stopped_from_another_terminal(say, runs, tiny_config):
    config = tiny_config("nsp2", tasks=2, training={"epochs": 900, "batch_size": 50}, name="busy")
    child = process("work", create_run(runs, config).path, runs=runs)
    try:
        wait_for_steps(runs, child)
        status, out, err = say("resume", "busy")
        assert (status, out) == (1, "") and "already being worked on" in one_sentence(err)
        status, out, _ = say("turn", "busy", "norm_weight=2.5", "--json")
        told = json.loads(out)
        assert status == 0 and (told["name"], told["old"], told["new"]) == ("norm_weight", 1.0, 2.5)
        status, out, err = say("turn", "busy", "prompt_length=9")
        assert (status, out) == (1, "") and "busy refused: prompt_length sets shapes" in one_sentence(err)
        status, out, _ = say("pause", "busy", "--json")
        assert status == 0 and json.loads(out) == {"run": "busy", "state": "paused"}
        status, out, _ = say("stop", "busy", "--json")
        assert status == 0 and json.loads(out) == {"run": "busy", "state": "stopped"}
        assert child.wait(30) == 0
    finally:
        child.kill()
    shown = json.loads(say("show", "busy", "--json")[1])
    (turned,) = shown["turned"]
    assert shown["state"] == "stopped" and turned["new"] == 2.5 and turned["step"] + 1 == told["step"]
    assert f"turned: norm_weight 1.0 → 2.5 from step {told['step']} on (T1)" in say("show", "busy")[1]
    status, _, err = say("turn", "busy", "norm_weight=3")
    assert status == 1 and "plastiscope fork" in one_sentence(err)
    status, _, err = say("stop", "busy")
    assert status == 1 and "is not running (it is stopped)" in one_sentence(err)
    assert fork_of(find_run(runs, "busy")) is None


@pytest.mark.parametrize("setting", ["norm_weight", "norm_weight=nan", "norm_weight=[1]"])
def test_an_order_that_is_none_is_bad_usage(say, shared, setting):
    status, out, err = say("turn", "parent", setting, "--runs", shared)
    assert (status, out) == (2, "") and one_sentence(err)
