"""The programs of docs/examples run, and what they write is a run."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from cl_core.store import RunFolder
from cl_core.summary import summarise
from tests.recorded_runs import finished

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ran(monkeypatch, capsys):
    """`ran("own_loop.py", "mine")`: what the program prints. It runs in this process, which has torch already."""

    def run(example, *arguments):
        monkeypatch.setattr(sys, "argv", [example, *map(str, arguments)])
        runpy.run_path(str(ROOT / "docs" / "examples" / example), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_the_loop_of_the_docs_is_recorded(ran, tmp_path):
    assert "digits 5 to 9" in ran("own_loop.py", tmp_path / "mine")
    summary = summarise(RunFolder(tmp_path / "mine"))
    assert summary.state == "finished" and summary.learning_accuracy > 70
    assert None not in summary.accuracy_matrix[0]  # the same classes: both tasks can be asked at once


def test_the_notebook_of_the_docs_reads_a_run(ran, tmp_path):
    folder = finished(tmp_path)
    said = ran("notebook.py", folder.path, tmp_path / "report.html")
    assert "\\begin{tabular}" in said and "eigenvalues" in said
    assert (tmp_path / "report.html").stat().st_size > 100_000
