"""`plastiscope ask`: lists questions, trains what is missing, keeps what is finished, answers from the runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from cl_core.cli import main
from cl_core.questions import QUESTIONS, Question, known_runs
from cl_core.store import list_runs
from tests.recorded_question_runs import weight, write

TINY = {
    "backbone": "random-vit",
    "stream": "synthetic",
    "stream_settings": {"tasks": 2},
    "training": {"epochs": 1, "batch_size": 50},
}


@pytest.fixture
def tiny(monkeypatch):
    """A question of two runs that train in a second."""
    runs = (("one", {**TINY, "method": "sequential"}), ("two", {**TINY, "method": "nsp2"}))
    made = Question("tiny", "Is it small?", "To be quick.", runs)
    monkeypatch.setitem(QUESTIONS, "tiny", made)
    return made


@pytest.fixture
def say(tmp_path, capsys):
    """`say("tiny", "--json")` → (exit status, standard output, standard error), with runs in a folder of the test."""

    def run(*arguments):
        status = main(["ask", *map(str, arguments), "--runs", str(tmp_path / "runs")])
        found = capsys.readouterr()
        return status, found.out, found.err

    return run


def test_the_questions_are_listed_one_line_each(say):
    status, out, _ = say()
    assert status == 0 and [line.split()[0] for line in out.splitlines()] == list(QUESTIONS)
    assert all(asked.title in out for asked in QUESTIONS.values())
    rows = json.loads(say("--json")[1])
    assert [row["name"] for row in rows] == list(QUESTIONS) and all(row["why"] and row["runs"] for row in rows)


def test_an_unknown_question_ends_with_two_and_the_nearest(say, tmp_path):
    status, out, err = say("gnsp-gup")
    assert (
        (status, out) == (2, "") and err.startswith("plastiscope: unknown question") and "Did you mean gnsp-gap?" in err
    )
    assert not (tmp_path / "runs").exists()


def test_missing_runs_are_trained_and_finished_ones_kept(say, tiny, tmp_path):
    status, out, err = say("tiny", "--device", "cpu")
    assert status == 0 and out.startswith("Is it small?\n\nNo verdict yet (1 of 3 seeds). Seed 0.\n")
    assert "run 1 of 2, one (tiny-one-cpu)" in err and "run 2 of 2, two (tiny-two-cpu)" in err and "after T2:" in err
    before = {folder.name: folder.database.stat().st_mtime_ns for folder in list_runs(tmp_path / "runs")}
    status, out, err = say("tiny", "--device", "cpu", "--json")
    assert status == 0 and err == "", "nothing is trained again"
    assert {f.name: f.database.stat().st_mtime_ns for f in list_runs(tmp_path / "runs")} == before
    report = json.loads(out)
    assert list(report)[:7] == ["question", "title", "seed", "state", "answer", "missing", "runs"]
    assert (report["seeds"], report["verdict"], report["criteria"]) == ([0], "undecided", [])
    assert list(report["numbers"]) == ["one", "two"] and "final, %" in report["numbers"]["one"]
    assert (report["question"], report["state"], report["missing"]) == ("tiny", "finished", [])
    assert report["runs"]["one"] == str(tmp_path / "runs" / "tiny-one-cpu")


def test_several_seeds_end_in_a_table_and_go_on_where_they_were(say, tiny, tmp_path):
    assert say("tiny", "--device", "cpu", "--seed", "1")[0] == 0
    status, out, err = say("tiny", "--device", "cpu", "--seeds", "0,1,2")
    assert status == 0 and "run 1 of 6, one (tiny-one-cpu)" in err and "seed-1" not in err, "seed 1 was there"
    assert "Seeds 0, 1, 2; mean ± sd." in out and [line.split()[0] for line in out.splitlines()[-2:]] == ["one", "two"]
    report = json.loads(say("tiny", "--device", "cpu", "--seeds", "0,1,2", "--json")[1])
    assert report["seeds"] == [0, 1, 2] and len(report["numbers"]["one"]["final, %"]["values"]) == 3
    assert all(not each["missing"] for each in report["by_seed"].values())


@pytest.mark.parametrize("seeds", ["", "a", "0,-1", "1.5"])
def test_seeds_that_are_none_are_refused(seeds, capsys):
    with pytest.raises(SystemExit):
        main(["ask", "tiny", "--seeds", seeds])
    assert "whole numbers from 0" in capsys.readouterr().err


def test_all_questions_are_asked_the_quickest_first_and_a_stop_names_the_command(say, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("cl_core.cli.ask.QUESTIONS", {"tiny": tiny})
    status, out, err = say("--all", "--device", "cpu", "--json")
    assert status == 0 and "question 1 of 1: tiny" in err and json.loads(out)["question"] == "tiny"
    assert say("tiny", "--all")[0] == 2
    from cl_core.training import worker

    real = worker.drive
    stopped = lambda folder, on_moment, asked, **more: real(folder, on_moment, lambda: True, **more)
    monkeypatch.setattr(worker, "drive", stopped)
    err = say("--all", "--device", "cpu", "--seeds", "0,3")[2]
    assert "plastiscope ask --all --seeds 0,3" in err and "--device cpu" in err


def test_a_taken_name_gets_a_number(say, tiny, tmp_path):
    (tmp_path / "runs" / "tiny-one-cpu").mkdir(parents=True)
    assert say("tiny", "--device", "cpu")[0] == 0
    assert {folder.name for folder in list_runs(tmp_path / "runs")} == {"tiny-one-cpu-2", "tiny-two-cpu"}


def test_a_stopped_run_ends_the_asking_and_is_gone_on_with(say, tiny, tmp_path, monkeypatch):
    from cl_core.training import worker

    real = worker.drive
    with monkeypatch.context() as patch:
        stopped = lambda folder, on_moment, asked, **more: real(folder, on_moment, lambda: True, **more)
        patch.setattr(worker, "drive", stopped)
        status, out, err = say("tiny", "--device", "cpu", "--json")
    assert status == 0 and "plastiscope ask tiny --seed 0" in err and "run 2 of 2" not in err
    assert json.loads(out)["state"] == "stopped" and json.loads(out)["missing"] == ["one", "two"]
    (stopped,) = known_runs(tiny, tmp_path / "runs", device="cpu").values()
    assert stopped[1] == "stopped"
    assert say("tiny", "--device", "cpu")[0] == 0
    assert len(list_runs(tmp_path / "runs")) == 2, "the stopped run was gone on with"


def test_a_failed_run_ends_the_asking_with_one(say, tiny, monkeypatch):
    from cl_core.methods.sequential import Sequential

    def loss(self, backbone, batch):
        raise RuntimeError("the sky fell")

    monkeypatch.setattr(Sequential, "loss", loss)
    status, out, err = say("tiny", "--device", "cpu")
    assert (status, out) == (1, "") and "run tiny-one-cpu failed: RuntimeError: the sky fell" in err


def test_an_answer_from_finished_runs_needs_no_torch(tmp_path):
    for label in QUESTIONS["nusa-persistence"].labels:
        write(tmp_path, "nusa-persistence", label, weight(), rows=[[90, 60], [80, 88]])
    code = (
        "import sys\nfrom cl_core.cli import main\n"
        "status = main(sys.argv[1:])\nsys.exit(status or 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "ask", "nusa-persistence", "--runs", str(tmp_path)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0 and "- raises Last: 0.0 pp (asked for at least 1 pp)" in done.stdout
