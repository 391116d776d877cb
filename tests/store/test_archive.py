"""A recording as a ZIP: it opens elsewhere as it was, and nothing else is let in."""

from __future__ import annotations

import io
import sqlite3
import zipfile
from contextlib import closing

import pytest

from cl_core.store import RunReader, RunWriter, StoreError, archive, fork_of
from cl_core.store.archive import pack, unpack
from tests import recorded_forks, recorded_runs


def said(folder):
    with closing(RunReader(folder)) as reader:
        return [(s.seq, s.time, s.event.kind, s.event.clock) for s in reader.since()]


def packed(folder):
    out = io.BytesIO()
    pack(folder, out)
    return out


def altered(source, add=(), drop=()):
    """The ZIP with entries added (name or ZipInfo, content) and dropped."""
    out = io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            if entry.filename not in drop:
                new.writestr(entry.filename, old.read(entry))
        for name, content in add:
            new.writestr(name, content)
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return recorded_runs.finished(tmp_path_factory.mktemp("runs"), "theirs")


def test_a_recording_opens_elsewhere_as_it_was(folder, tmp_path):
    there = unpack(packed(folder), tmp_path / "elsewhere")
    assert there.name == "theirs" and said(there) == said(folder) and there.config() == folder.config()
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["theirs"]
    assert not there.log.exists() and not there.lock.exists() and not there.checkpoints.exists()


def test_the_same_recording_again_is_the_run_that_is_there(folder, tmp_path):
    first = unpack(packed(folder), tmp_path)
    assert unpack(packed(folder), tmp_path) == first and len(list(tmp_path.iterdir())) == 1


def test_another_run_of_that_name_is_kept(folder, tmp_path):
    mine = recorded_runs.unmeasured(tmp_path, "theirs")
    before = said(mine)
    with pytest.raises(StoreError, match="another run called theirs"):
        unpack(packed(folder), tmp_path)
    assert said(mine) == before


def test_a_fork_keeps_the_note_of_its_parent(tmp_path):
    fork = recorded_forks.forked(recorded_forks.forkable(tmp_path / "here"), 1, "fork", 50.0)
    assert fork_of(unpack(packed(fork), tmp_path / "there")) == fork_of(fork)


def test_what_was_measured_later_travels_along_until_the_run_is_rewound(tmp_path):
    folder = recorded_runs.finished(tmp_path / "here")
    folder.analysis.mkdir()
    (folder.analysis / "T1-after-T2.json").write_text("{}")
    (folder.analysis / "T1-after-T2.log").write_text("words of a worker")
    pack(folder, tmp_path / "packed.zip")
    made = unpack(tmp_path / "packed.zip", tmp_path / "elsewhere")
    assert [file.name for file in made.analysis.iterdir()] == ["T1-after-T2.json"]
    with closing(RunWriter(folder)) as writer:
        writer.rewind(10)
    assert not folder.analysis.exists(), "what is trained anew may be lost elsewhere"


def test_a_run_that_is_held_is_not_recorded(tmp_path):
    folder = recorded_runs.running(tmp_path)
    with recorded_runs.held(folder), pytest.raises(StoreError, match="being worked on"):
        packed(folder)


def link(name):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o120777 << 16
    return entry


@pytest.mark.parametrize(
    "name",
    [
        "theirs/../../evil.json",
        "../events.db",
        "/etc/events.db",
        "theirs/arrays/../config.json",
        "theirs\\..\\config.json",
        "theirs/run.py",
        "theirs/checkpoints/1/state.json",
        "theirs/arrays/00000001-x.npz",
        "other/config.json",
        ".hidden/config.json",
        "theirs/arrays/00000001-prompts.npy/x",
    ],
)
def test_what_does_not_belong_into_a_recording_is_refused(folder, tmp_path, name):
    with pytest.raises(StoreError, match="not a recording"):
        unpack(altered(packed(folder), add=[(name, b"x")]), tmp_path / "runs")
    assert not list(tmp_path.rglob("*.json")) and not list(tmp_path.rglob("*.py"))


def test_links_and_doubles_are_refused(folder, tmp_path):
    with pytest.raises(StoreError, match="not a recording"):
        unpack(altered(packed(folder), add=[(link("theirs/arrays/00000001-x.npy"), b"/etc/passwd")]), tmp_path)
    with pytest.warns(UserWarning, match="Duplicate"), pytest.raises(StoreError, match="twice"):
        unpack(altered(packed(folder), add=[("theirs/config.json", b"{}")]), tmp_path)
    with pytest.raises(StoreError, match="must hold one run's"):
        unpack(altered(packed(folder), drop=["theirs/events.db"]), tmp_path)


def test_sizes_are_bounded_and_not_believed(folder, tmp_path, monkeypatch):
    honest = packed(folder)
    monkeypatch.setattr(archive, "MOST_BYTES", 1000)
    with pytest.raises(StoreError, match="would unpack to"):
        unpack(honest, tmp_path)
    monkeypatch.undo()
    lying = bytearray(altered(honest, add=[("theirs/fork.json", b"{}" + b" " * 5000)]).getvalue())
    place = lying.rindex(b"theirs/fork.json") - 46  # its entry in the central directory
    assert lying[place : place + 4] == b"PK\x01\x02"
    lying[place + 24 : place + 28] = (10).to_bytes(4, "little")
    with pytest.raises(StoreError, match="not a ZIP of a recording"):
        unpack(io.BytesIO(bytes(lying)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_database_that_holds_more_than_events_is_refused(folder, tmp_path):
    file = tmp_path / "events.db"
    file.write_bytes(zipfile.ZipFile(packed(folder)).read("theirs/events.db"))
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TRIGGER t AFTER INSERT ON events BEGIN DELETE FROM events; END")
        database.commit()
    evil = altered(packed(folder), drop=["theirs/events.db"], add=[("theirs/events.db", file.read_bytes())])
    with pytest.raises(StoreError, match="holds more than a run's events"):
        unpack(evil, tmp_path / "runs")
    broken = altered(packed(folder), drop=["theirs/events.db"], add=[("theirs/events.db", b"no database" * 999)])
    with pytest.raises(StoreError, match="damaged"):
        unpack(broken, tmp_path / "runs")


def test_what_is_no_zip_is_said_so(tmp_path):
    with pytest.raises(StoreError, match="not a ZIP of a recording"):
        unpack(io.BytesIO(b"hello"), tmp_path)
    with pytest.raises(StoreError, match=r"cannot unpack nowhere\.zip"):
        unpack(tmp_path / "nowhere.zip", tmp_path)
