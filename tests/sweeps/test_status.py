"""How a sweep's runs stand: looked at whenever one ends, so what does not change is read once."""

from __future__ import annotations

import json
import os

from cl_core.store import RunFolder
from cl_core.sweeps import sweep_status
from tests.recorded_sweep import softness, write


def test_settings_are_read_once_however_often_one_looks(tmp_path, monkeypatch):
    sweep = write(tmp_path, softness())
    reads, config = [], RunFolder.config
    monkeypatch.setattr(RunFolder, "config", lambda folder: reads.append(folder.name) or config(folder))
    first = sweep_status(sweep, tmp_path)
    read_once = len(reads)
    assert first.finished == len(first.runs) > 1 and read_once == len(first.runs)
    assert [f.folder for f in sweep_status(sweep, tmp_path).runs] == [f.folder for f in first.runs]
    assert len(reads) == read_once


def test_settings_that_changed_are_read_again(tmp_path):
    sweep = write(tmp_path, softness())
    folder = sweep_status(sweep, tmp_path).runs[0].folder
    record = json.loads(folder.config_file.read_text())
    folder.config_file.write_text(json.dumps({**record, "group": "another"}))
    os.utime(folder.config_file, ns=(1, 1))
    assert sweep_status(sweep, tmp_path).runs[0].folder is None


def test_a_run_that_cannot_be_read_is_passed_over(tmp_path):
    sweep = write(tmp_path, softness())
    before = sweep_status(sweep, tmp_path).finished
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text("[" * 100_000)
    assert sweep_status(sweep, tmp_path).finished == before
