"""The Export page: what it offers, when, and what a recording brought in becomes."""

from __future__ import annotations

import io

import pytest

from cl_core.store import pack, unpack
from dashboard.figures.catalogue import SECTIONS, contents
from dashboard.run_log import RunLog
from tests import recorded_clip_runs, recorded_pool_runs, recorded_runs
from tests.dashboard.reading import words


def downloads(app):
    return list(app.get("download_button"))


def test_a_finished_run_offers_three_files_and_says_what_is_in_them(runs_folder, open_page):
    folder = recorded_runs.finished(runs_folder)
    app = open_page("export", run="finished")
    assert [e.proto.label for e in downloads(app)] == ["Report (HTML)", "Data (ZIP)", "Recording (ZIP)"]
    assert not any(e.proto.disabled for e in downloads(app))
    said = words(app).replace("\\", "")
    for section, parts in contents(RunLog(folder).snapshot(force=True)):
        assert f"**{SECTIONS[section]}**: " + "; ".join(part.title for part in parts) in said
    assert "**Weights**" not in said and "so far" not in said


@pytest.mark.parametrize(
    ("make", "there", "absent"),
    [
        (lambda runs: recorded_clip_runs.written(runs, "it"), "**Weights**", "**Prompt pools**"),
        (lambda runs: recorded_pool_runs.record(runs, "it"), "**Prompt pools**", "**Gap and zero-shot**"),
        (lambda runs: recorded_runs.unmeasured(runs, "it"), "**Training**", "**Attention and prompts**"),
    ],
)
def test_the_list_names_what_was_measured_and_no_more(make, there, absent, runs_folder, open_page):
    make(runs_folder)
    said = words(open_page("export", run="it"))
    assert there in said and absent not in said


def test_a_run_in_training_says_so_far_and_makes_no_recording_yet(runs_folder, open_page):
    folder = recorded_runs.running(runs_folder)
    with recorded_runs.held(folder):
        app = open_page("export", run="running")
        assert "Report (HTML), so far" in words(app) and "still in training" in words(app)
        assert [e.proto.disabled for e in downloads(app)] == [False, False, True]


def test_what_the_buttons_make_is_made_when_asked_for(runs_folder, open_page, monkeypatch):
    import dashboard.report
    from cl_core import export

    def never(*_, **__):
        raise AssertionError("made before it was asked for")

    recorded_runs.finished(runs_folder)
    monkeypatch.setattr(dashboard.report, "report", never)
    monkeypatch.setattr(export, "data_files", never)
    assert len(downloads(open_page("export", run="finished"))) == 3


def test_a_recording_is_brought_in_and_shown(runs_folder, tmp_path, open_page, monkeypatch):
    elsewhere = recorded_runs.finished(tmp_path / "elsewhere", "theirs")
    packed = io.BytesIO()
    pack(elsewhere, packed)
    recorded_runs.unmeasured(runs_folder, "mine")
    app = open_page("export", run="mine")
    app.file_uploader(key="export-file").upload("theirs.zip", packed.getvalue(), "application/zip").run()
    app.button(key="export-take").click().run()
    assert not app.exception
    assert "(theirs) has been imported" in words(app)
    assert (runs_folder / "theirs" / "events.db").is_file() and app.session_state["run"] == "theirs"


def test_a_file_that_is_no_recording_is_refused_in_a_sentence(runs_folder, open_page):
    recorded_runs.finished(runs_folder)
    app = open_page("export", run="finished")
    app.file_uploader(key="export-file").upload("x.zip", b"not a zip", "application/zip").run()
    app.button(key="export-take").click().run()
    assert "not a ZIP of a recording" in words(app).replace("\\", "")
    assert sorted(path.name for path in runs_folder.iterdir()) == ["finished"]


def test_what_the_page_packs_unpacks(runs_folder, tmp_path):
    folder = recorded_runs.finished(runs_folder)
    packed = io.BytesIO()
    pack(folder, packed)
    assert unpack(packed, tmp_path / "there").name == "finished"
