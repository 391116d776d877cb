"""Curves for other tools: what they read there is what the run holds."""

from __future__ import annotations

import csv
import io

import pytest

from cl_core.cli import main
from cl_core.export.tables import events_of, tables
from cl_core.interop import Asked, read
from cl_core.interop.trackers import TRACKERS, scalars
from cl_core.summary import summarise
from tests import recorded_clip_runs
from tests.recorded_runs import finished


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return recorded_clip_runs.finished(tmp_path_factory.mktemp("clip"))


def test_curves_are_the_runs_numbers(folder):
    found = scalars(folder)
    summary = summarise(folder)
    last = {value.name: value for value in found}
    assert last["forgetting"].value == pytest.approx(summary.forgetting)
    assert last["accuracy/class-incremental/task1"].value == summary.accuracy_matrix[-1][0]
    assert [v.step for v in found if v.name == "loss/total"] == list(range(1, 19))


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb"])
def test_what_is_exported_is_imported_as_the_same_matrix(folder, tmp_path, tracker):
    for name, content in TRACKERS[tracker](folder):
        (tmp_path / name).write_bytes(content)
    asked = Asked("class-incremental", ends=(6, 12, 18), accuracy="accuracy/class-incremental/task{task}")
    for result in (read(tmp_path, asked), read(tmp_path, Asked())):
        assert same(result.matrices["class-incremental"], summarise(folder).accuracy_matrix)
        assert len(result.losses) == 18


def same(rows, wanted):
    return rows == [[v if v is None else pytest.approx(v, abs=1e-4) for v in row] for row in wanted]


@pytest.mark.parametrize("form", ["tensorboard", "wandb", "accuracy.csv"])
def test_an_export_with_a_row_before_training_is_read_back_without_being_asked(clip, tmp_path, form):
    if form in TRACKERS:
        for name, content in TRACKERS[form](clip):
            (tmp_path / name).write_bytes(content)
    else:
        text = next(table for table in tables(events_of(clip)) if table.file == form).text()
        (tmp_path / form).write_text(text)
    result = read(tmp_path, Asked())
    summary = summarise(clip)
    assert result.scenario == "task-incremental" and same([result.untrained], [summary.zero_shot])
    assert same(result.matrices["task-incremental"], summary.accuracy_matrix)


def test_trackios_table_has_a_line_a_step(folder):
    ((_, content),) = TRACKERS["trackio"](folder)
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert [int(row["step"]) for row in rows] == list(range(1, 19))
    assert rows[5]["accuracy/class-incremental/task1"] and not rows[4]["accuracy/class-incremental/task1"]


def test_mlflows_files_hold_the_curves_in_its_layout(folder, tmp_path):
    files = dict(TRACKERS["mlflow"](folder))
    (run,) = {name.split("/")[1] for name in files if name.count("/") > 1}
    (experiment,) = {name.split("/")[0] for name in files}
    meta = dict(line.split(": ", 1) for line in files[f"{experiment}/{run}/meta.yaml"].decode().splitlines())
    assert meta["run_id"] == f'"{run}"' and meta["experiment_id"] == f'"{experiment}"' and meta["status"] == "3"
    assert len(run) == 32 and experiment.isdecimal()
    points = [line.split() for line in files[f"{experiment}/{run}/metrics/loss/total"].decode().splitlines()]
    assert [int(step) for _, _, step in points] == list(range(1, 19))
    assert all(int(time) > 10**12 for time, _, _ in points), "milliseconds"
    wanted = [v.value for v in scalars(folder) if v.name == "loss/total"]
    assert [float(value) for _, value, _ in points] == wanted
    assert files[f"{experiment}/{run}/params/method"].decode() == folder.config().method
    assert dict(TRACKERS["mlflow"](folder)) == files, "the same run again"


def test_mlflow_itself_reads_them(folder, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for name, content in TRACKERS["mlflow"](folder):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    client = mlflow.MlflowClient(tracking_uri=tmp_path.as_uri())
    (experiment,) = client.search_experiments()
    (run,) = client.search_runs([experiment.experiment_id])
    wanted = [(v.step, v.value) for v in scalars(folder) if v.name == "loss/total"]
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss/total")] == wanted
    assert run.data.params["method"] == folder.config().method


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a/../b", "ä b!", ".", ""])
def test_names_never_lead_out_of_mlflows_folder(name):
    from cl_core.interop.trackers import _plain

    found = _plain(name)
    assert found and not found.startswith("/") and ".." not in found.split("/")


def test_the_command_writes_the_file_and_nothing_over_what_is_not_its_own(folder, tmp_path, capsys):
    target = tmp_path / "out"
    command = ["export", str(folder.path), "--tracker", "trackio", "--out", str(target)]
    assert main(command) == 0 and (target / "trackio.csv").is_file()
    assert main(command) == 0
    (target / "export.json").unlink()
    assert main(command) == 2
    assert "did not write" in capsys.readouterr().err
