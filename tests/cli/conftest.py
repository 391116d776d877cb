"""Commands run in this process, on a runs folder of their own."""

from __future__ import annotations

import pytest

from cl_core.cli import main


@pytest.fixture
def runs(tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    monkeypatch.setenv("PLASTISCOPE_RUNS", str(folder))
    return folder


@pytest.fixture
def say(runs, capsys):
    """`say("list", "--json")` → (exit status, standard output, standard error)."""

    def run(*arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as ended:  # argparse's own way out
            status = ended.code
        told = capsys.readouterr()
        return status, told.out, told.err

    return run
