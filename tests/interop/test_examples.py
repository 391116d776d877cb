"""The programs of docs/examples run, and what they write is a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from cl_core.store import RunFolder
from cl_core.summary import summarise
from tests.recorded_runs import finished

ROOT = Path(__file__).resolve().parents[2]


def ran(example: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "docs" / "examples" / example), *arguments]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_the_loop_of_the_docs_is_recorded(tmp_path):
    assert "digits 5 to 9" in ran("own_loop.py", str(tmp_path / "mine"))
    summary = summarise(RunFolder(tmp_path / "mine"))
    assert summary.state == "finished" and summary.learning_accuracy > 70
    assert None not in summary.accuracy_matrix[0]  # the same classes: both tasks can be asked at once


def test_the_notebook_of_the_docs_reads_a_run(tmp_path):
    folder = finished(tmp_path)
    said = ran("notebook.py", str(folder.path), str(tmp_path / "report.html"))
    assert "\\begin{tabular}" in said and "eigenvalues" in said
    assert (tmp_path / "report.html").stat().st_size > 100_000
