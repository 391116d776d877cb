"""Curves for other tools: what they read there is what the run holds."""

from __future__ import annotations

import csv
import io

import pytest

from cl_core.cli import main
from cl_core.interop import Asked, read
from cl_core.interop.trackers import TRACKERS, scalars
from cl_core.summary import summarise
from tests.recorded_runs import finished


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("runs"))


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
    result = read(tmp_path, asked)
    for found, wanted in zip(result.matrices["class-incremental"], summarise(folder).accuracy_matrix, strict=True):
        assert found == [None if value is None else pytest.approx(value, abs=1e-4) for value in wanted]


def test_trackios_table_has_a_line_a_step(folder):
    ((_, content),) = TRACKERS["trackio"](folder)
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert [int(row["step"]) for row in rows] == list(range(1, 19))
    assert rows[5]["accuracy/class-incremental/task1"] and not rows[4]["accuracy/class-incremental/task1"]


def test_the_command_writes_the_file_and_nothing_over_what_is_not_its_own(folder, tmp_path, capsys):
    target = tmp_path / "out"
    command = ["export", str(folder.path), "--tracker", "trackio", "--out", str(target)]
    assert main(command) == 0 and (target / "trackio.csv").is_file()
    assert main(command) == 0
    (target / "export.json").unlink()
    assert main(command) == 2
    assert "did not write" in capsys.readouterr().err
