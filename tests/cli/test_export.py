"""`plastiscope report`, `plastiscope export` and `plastiscope open FILE.zip`."""

from __future__ import annotations

import json
import sys
from contextlib import closing

import pytest

pytest.importorskip("plotly", reason="plotly is not installed")

from cl_core.store import RunFolder, RunReader
from dashboard.report import document
from tests import recorded_runs


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Without the plotting library, and without asking a process of its own for a method's settings."""
    monkeypatch.setattr(document, "_library", lambda: "")
    monkeypatch.setattr("dashboard.method_settings.settings_of", lambda method: [])
    monkeypatch.setitem(sys.modules, "kaleido", None)


def test_a_report_is_one_file(runs, say, tmp_path):
    recorded_runs.unmeasured(runs)
    out = tmp_path / "here.html"
    status, told, _ = say("report", "unmeasured", "--out", out)
    assert status == 0 and told == f"unmeasured: wrote {out}\n"
    assert out.read_text("utf-8").startswith("<!doctype html>")
    assert say("report", "unmeasured", "--out", out, "--json")[0] == 0, "a report of ours is replaced"
    out.write_text("my own notes")
    status, _, said = say("report", "unmeasured", "--out", out)
    assert status == 2 and "is no report of Plastiscope" in said and out.read_text() == "my own notes"


def test_an_export_is_a_folder_that_explains_itself(runs, say, tmp_path):
    recorded_runs.unmeasured(runs)
    out = tmp_path / "out"
    status, told, _ = say("export", "unmeasured", "--out", out, "--json")
    record = json.loads(told)
    assert status == 0 and record["run"] == "unmeasured" and record["missing"] is None
    assert {path.name for path in out.iterdir()} == {*record["files"], "export.json"}
    assert {"accuracy.csv", "steps.csv", "summary.json", "settings.json", "README.txt", "report.html"} <= set(
        record["files"]
    )
    (out / "notes.txt").write_text("mine")
    assert say("export", "unmeasured", "--out", out)[0] == 0 and (out / "notes.txt").read_text() == "mine"


def test_an_export_decodes_the_steps_of_a_run_once(runs, say, tmp_path, monkeypatch):
    """For tables and report together: a long run has a hundred thousand."""
    folder = recorded_runs.unmeasured(runs)
    with closing(RunReader(folder)) as reader:
        stored = len(list(reader.since(kinds=("StepEnded",))))
    decoded, decode = [], RunReader._event
    monkeypatch.setattr(RunReader, "_event", lambda self, *row: decoded.append(row[1]) or decode(self, *row))
    assert say("export", "unmeasured", "--out", tmp_path / "out")[0] == 0
    assert stored and decoded.count("StepEnded") == stored


def test_foreign_files_are_refused_before_anything_is_written(runs, say, tmp_path):
    recorded_runs.unmeasured(runs)
    (tmp_path / "accuracy.csv").write_text("mine")
    status, _, said = say("export", "unmeasured", "--out", tmp_path)
    assert status == 2 and "accuracy.csv, which this run's export did not write" in said
    assert (tmp_path / "accuracy.csv").read_text() == "mine" and not (tmp_path / "steps.csv").exists()


def test_without_kaleido_figures_are_missed_in_one_sentence_and_the_rest_is_written(runs, say, tmp_path):
    recorded_runs.unmeasured(runs)
    status, _, said = say("export", "unmeasured", "--out", tmp_path / "out", "--figures", "svg")
    assert status == 1 and len(said.strip().splitlines()) == 1
    assert "kaleido" in said and "pip install" in said and "the report and the tables were written" in said
    assert (tmp_path / "out" / "report.html").is_file() and not (tmp_path / "out" / "figures").exists()


def test_where_images_can_be_made_each_figure_has_its_file(runs, say, tmp_path, monkeypatch):
    from dashboard.report import images

    recorded_runs.unmeasured(runs)
    monkeypatch.setattr(images, "unavailable", lambda: "")
    monkeypatch.setattr(
        images,
        "write",
        lambda made, files: [f.write_text(m.layout.title.text) for m, f in zip(made, files, strict=True)],
    )
    out = tmp_path / "out"
    assert say("export", "unmeasured", "--out", out, "--figures", "svg")[0] == 0
    assert (out / "figures" / "01-accuracy-matrix.svg").read_text() == "Accuracy matrix"
    assert "figures/01-accuracy-matrix.svg" in json.loads((out / "export.json").read_text())["files"]
    assert say("export", "unmeasured", "--out", out, "--figures", "svg")[0] == 0, "its own files are written again"


def test_a_recording_goes_to_another_machine(runs, say, tmp_path, monkeypatch):
    folder = recorded_runs.finished(runs)
    file, there = tmp_path / "run.zip", tmp_path / "there"
    status, told, _ = say("export", "finished", "--recording", "--out", file)
    assert status == 0 and "plastiscope open" in told
    assert say("export", "finished", "--recording", "--out", file)[0] == 2, "nothing is overwritten"
    served = []
    monkeypatch.setattr("dashboard.serve.serve", lambda runs, **rest: served.append((runs, rest["start"])) or 0)
    assert say("open", file, "--runs", there)[0] == 0
    assert served == [(there, "finished")]
    with closing(RunReader(RunFolder(there / "finished"))) as copy, closing(RunReader(folder)) as original:
        assert [s.seq for s in copy.since()] == [s.seq for s in original.since()]


def test_a_folder_that_is_not_there_yet_is_opened(say, tmp_path, monkeypatch):
    served = []
    monkeypatch.setattr("dashboard.serve.serve", lambda runs, **rest: served.append(runs) or 0)
    status, _, told = say("open", tmp_path / "new")
    assert status == 0 and served == [tmp_path / "new"] and not served[0].exists()
    assert "There is no folder" in told and "the first run creates it" in told
    status, _, told = say("open", tmp_path / "no" / "such" / "place")
    assert status and len(served) == 1 and "name a folder of runs, or a recording" in told
    assert say("open", tmp_path / "lost.zip")[0] and len(served) == 1


def test_a_file_that_is_no_recording_is_refused(runs, say, tmp_path):
    (tmp_path / "x.zip").write_bytes(b"hello")
    status, _, said = say("open", tmp_path / "x.zip")
    assert status == 1 and "x.zip is not a ZIP of a recording" in said


@pytest.mark.parametrize(
    ("run", "sentence", "expected"),
    [("newer", "newer Plastiscope", 1), ("damaged-config", "config.json is damaged", 1), ("nowhere", "no run", 1)],
)
@pytest.mark.parametrize("command", ["report", "export"])
def test_what_cannot_be_read_is_said_and_nothing_is_written(command, run, sentence, expected, runs, say, tmp_path):
    if run in recorded_runs.STATES:
        recorded_runs.STATES[run](runs)
    status, _, said = say(command, run, "--out", tmp_path / "out")
    assert status == expected and sentence in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["report", "export"])
def test_help_has_an_example(command, say):
    status, told, _ = say(command, "--help")
    assert status == 0 and f"example: plastiscope {command}" in told


@pytest.mark.parametrize("command", ["show", "report", "whatif"])
def test_a_recording_is_found_by_its_name_where_a_command_only_reads(command, say, tmp_path):
    out = ("--out", tmp_path / "r.html") if command == "report" else ()
    status, told, _ = say(command, "nsp2-split-digits", *out)
    assert status == 0 and "nsp2-split-digits" in told
    status, _, said = say(command, "nsp2-split", *out)
    assert status != 0 and "no run 'nsp2-split'" in said, "no abbreviations: recordings are no runs of one's own"


def test_a_run_of_ones_own_comes_before_a_recording_of_that_name(runs, say):
    folder = recorded_runs.finished(runs, "nsp2-split-digits")
    assert json.loads(say("show", "nsp2-split-digits", "--json")[1])["folder"] == str(folder.path)
    assert say("resume", "sequential-split-digits")[0] != 0, "and nothing that trains takes a recording"
