"""Notes beside a run, and runs that are put aside and brought back."""

from __future__ import annotations

import pytest

from cl_core.store import (
    Note,
    RunFolder,
    StoreError,
    annotate,
    aside,
    bring_back,
    delete_for_good,
    list_runs,
    note_of,
    put_aside,
)
from tests import recorded_runs


def test_a_note_is_read_as_it_was_written(tmp_path):
    recorded_runs.finished(tmp_path, "run")
    folder = RunFolder(tmp_path / "run")
    assert note_of(folder) == Note()
    annotate(folder, Note("η = 0.5", "two\nlines", ("good", "paper")))
    assert note_of(folder) == Note("η = 0.5", "two\nlines", ("good", "paper"))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"title": 3, "tags": "no list"}'])
def test_a_note_that_is_none_is_empty_or_text(text, tmp_path):
    recorded_runs.finished(tmp_path, "run")
    (tmp_path / "run" / "note.json").write_text(text)
    note = note_of(RunFolder(tmp_path / "run"))
    assert note.text == "" and note.tags == () and note.title in ("", "3")


def test_a_note_has_bounds(tmp_path):
    recorded_runs.finished(tmp_path, "run")
    with pytest.raises(StoreError, match="title may have at most 120 characters, got 121"):
        annotate(RunFolder(tmp_path / "run"), Note("x" * 121))


def test_a_deleted_run_comes_back_whole(tmp_path):
    recorded_runs.finished(tmp_path, "run")
    before = {file.relative_to(tmp_path): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    place = put_aside(RunFolder(tmp_path / "run"))
    assert list_runs(tmp_path) == [] and aside(tmp_path) == [place]
    bring_back(place, "run")
    assert {file.relative_to(tmp_path): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_two_runs_of_one_name_are_both_kept_aside(tmp_path):
    places = set()
    for _ in range(2):
        recorded_runs.finished(tmp_path, "run")
        places.add(put_aside(RunFolder(tmp_path / "run")))
    assert len(places) == 2 and len(aside(tmp_path)) == 2
    recorded_runs.finished(tmp_path, "run")
    with pytest.raises(StoreError, match="taken by another run"):
        bring_back(places.pop(), "run")
    delete_for_good(tmp_path)
    assert aside(tmp_path) == [] and [folder.name for folder in list_runs(tmp_path)] == ["run"]
    delete_for_good(tmp_path)  # nothing is there: nothing to do


def test_a_run_that_is_worked_on_stays(tmp_path):
    recorded_runs.finished(tmp_path, "run")
    with recorded_runs.held(RunFolder(tmp_path / "run")), pytest.raises(StoreError, match="stop it first"):
        put_aside(RunFolder(tmp_path / "run"))
    assert len(list_runs(tmp_path)) == 1
