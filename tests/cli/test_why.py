"""`plastiscope why`: the ledger in ten lines, a JSON line with fixed keys, and one sentence where it cannot be."""

from __future__ import annotations

import json

import pytest

from tests import recorded_runs

KEYS = ["task", "after", "readout", "then", "now", "drop", "parts", "cause", "layers", "steps"]


@pytest.fixture
def forgot(runs):
    return recorded_runs.finished(runs, "forgot", recorded_runs.Plan(method="sequential"))


def test_without_a_cell_it_takes_the_task_that_fell_most(forgot, say):
    status, out, err = say("why", "forgot")
    assert status == 0 and not err
    assert "T1 fell" in out and "features still separable" in out and "mainly classes compete" in out
    assert "of 20 test images" in out and "most margin lost by images" in out
    assert "which layer: not measured" in out and "costliest steps for old tasks" in out
    assert len(out.splitlines()) <= 10


def test_the_last_line_is_json_whose_parts_add_up(forgot, say):
    status, out, _ = say("why", "forgot", "--task", 1, "--after", 3, "--json")
    record = json.loads(out.splitlines()[-1])
    assert status == 0 and list(record) == KEYS
    assert (record["task"], record["after"], record["readout"]) == (1, 3, "class-incremental")
    assert list(record["parts"]) == ["classes compete", "head out of date", "features lost"]
    assert (
        sum(record["parts"].values()) == pytest.approx(record["drop"]) == pytest.approx(record["then"] - record["now"])
    )
    assert record["cause"] == "classes compete" and record["layers"] is None
    assert all(part["loss"] > 0 and part["from"] < part["to"] for part in record["steps"])


def test_what_was_not_measured_is_null(forgot, say):
    record = json.loads(say("why", "forgot", "--task", 1, "--after", 2, "--json")[1])
    assert record["parts"]["features lost"] is None and record["parts"]["head out of date"] is None
    assert record["parts"]["classes compete"] is not None
    out = say("why", "forgot", "--task", 1, "--after", 2)[1]
    assert "no head was refitted here" in out and "readout_control=every" in out


def test_an_image_says_why_it_was_lost(forgot, say):
    out = say("why", "forgot", "--task", 1, "--after", 3, "--image", 15)[1]
    assert "image 15 of T1: Lost, taken for" in out and "Classes compete" in out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--task", 3, "--after", 2), "T3 is learned later than T2"),
        (("--task", 9), "--task must lie in 1 to 3"),
        (("--after", 7), "--after may be one of T1, T2, T3"),
        (("--task", 1, "--image", 21), "--image must lie in 1 to 20"),
        (("--task", 3, "--after", 3, "--layers"), "--layers compares T3 with a later task"),
        (("--after", 2, "--line", "--line-from", 2), "--line-from must be a task before T2"),
        (("--line-from", 1), "--line-from says where the line of --line begins"),
    ],
)
def test_a_cell_that_is_not_there_is_one_sentence(forgot, say, options, sentence):
    status, out, err = say("why", "forgot", *options)
    assert status == 2 and not out and sentence in err and len(err.splitlines()) == 1


def test_a_run_without_accuracies_and_one_without_images_say_so(runs, say):
    recorded_runs.waiting(runs, "early")
    assert "has no accuracies yet" in say("why", "early")[2]
    recorded_runs.unmeasured(runs, "bare")
    assert say("why", "bare")[0] == 0
    assert "diagnostics.images" in say("why", "bare", "--image", 1)[2]


def test_layers_need_checkpoints(forgot, say):
    pytest.importorskip("torch", reason="torch is not installed")
    status, _, err = say("why", "forgot", "--task", 1, "--after", 3, "--layers")
    assert status == 1 and "no checkpoint after T1; there are: none" in err
