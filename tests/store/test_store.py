"""What was measured stays readable: round trips, damage, newer writers, and a reader beside a living writer."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import typing
from contextlib import closing

import numpy as np
import pytest

from cl_core.commands import Pause, Resume, Step, Stop
from cl_core.config import FORMAT, RunConfig
from cl_core.events import KINDS, Clock, CommandRefused, EpochEnded, Event, PromptsDrifted, StateChanged
from cl_core.store import (
    RunFolder,
    RunReader,
    RunWriter,
    StoreError,
    create_run,
    discard,
    find_run,
    hold,
    list_runs,
    lock_owner,
    send,
    take,
    write_atomically,
)
from cl_core.store.writer import INLINE

CONFIG = RunConfig("nsp2", name="one")
ASK = "import sys, pathlib, cl_core.store as s; print(s.lock_owner(s.RunFolder(pathlib.Path(sys.argv[1]))))"


@pytest.fixture
def folder(tmp_path):
    return create_run(tmp_path / "runs", CONFIG)


@pytest.fixture
def writer(folder):
    with closing(RunWriter(folder)) as writer:
        yield writer


@pytest.fixture
def reader(folder):
    with closing(RunReader(folder)) as reader:
        yield reader


def state(text, step=0):
    return StateChanged(Clock(0, 0, step), text)


def example(kind: type[Event], cells: int) -> Event:
    """An event of any kind with plausible values for the types it declares; arrays of `cells` numbers."""
    hints = typing.get_type_hints(kind, include_extras=True)
    values = {"int": 3, "float": 0.25, "str": "it's “so”\n", "bool": True}

    def value(name, hint):
        if name == "tasks":  # of a run's plan
            return [{"name": "T1", "classes": ["a"], "train": 3, "test": 3}]
        origin = typing.get_origin(hint)
        if origin is typing.Annotated:
            integers = name in ("labels", "predicted")
            array = np.arange(cells).reshape(*[1] * (hint.__metadata__[0] - 1), -1)
            return array.astype(np.int16) if integers else (array / 7).astype(np.float16 if cells % 4 else np.float32)
        if origin is list:
            (inside,) = typing.get_args(hint)
            return [] if inside is str and name == "names" else [value("", inside), value("", inside)]
        if origin is dict:
            inside = typing.get_args(hint)[1]
            return {"a": value("", inside), "b": None if "None" in str(inside) else value("", inside)}
        if hint is typing.Any:
            return {"nested": [1, 2.5, "x", None]}
        if "None" in str(hint):
            return None
        return values[hint.__name__]

    fields = {f.name: value(f.name, hints[f.name]) for f in dataclasses.fields(kind) if f.name != "clock"}
    if kind is StateChanged:
        fields["state"] = "running"
    return kind(Clock(1, 2, 3), **fields)


def same(first: Event, second: Event) -> bool:
    if (first.kind, first.clock) != (second.kind, second.clock):
        return False
    for key, value in first.body().items():
        other = second.body()[key]
        if isinstance(value, np.ndarray):
            if value.dtype != other.dtype or value.shape != other.shape or not np.array_equal(value, other):
                return False
        elif value != other:
            return False
    return True


# ---------------------------------------------------------------- round trips


ARRAYS = {"Vector", "Matrix", "Array3D", "Array4D"}
WITH_ARRAYS = [name for name, kind in KINDS.items() if ARRAYS & {f.type for f in dataclasses.fields(kind)}]


@pytest.mark.parametrize(("kind", "cells"), [*((k, 6) for k in KINDS), *((k, INLINE) for k in WITH_ARRAYS)])
def test_every_kind_of_event_comes_back_as_it_was_written(folder, writer, reader, kind, cells):
    event = example(KINDS[kind], cells)
    arrays = [v for v in event.body().values() if isinstance(v, np.ndarray)]
    assert writer.append([event]) == 1
    (stored,) = reader.since()
    assert stored.seq == 1 and stored.time > 1.7e9
    assert same(stored.event, event)
    files = sorted(f.name for f in folder.arrays.glob("*")) if folder.arrays.is_dir() else []
    assert len(files) == (len(arrays) if cells == INLINE else 0) and all(f.startswith("00000001-") for f in files)


def test_not_a_number_is_stored_as_not_measured_and_stays_nan_in_arrays(writer, reader):
    writer.append([EpochEnded(Clock(), {"a": float("nan"), "b": float("inf"), "c": 1.5}, float("nan"))])
    prompts = np.array([[[np.nan, 1.0]]], dtype=np.float16)
    writer.append([PromptsDrifted(Clock(), prompts, prompts[..., 0], prompts[..., 0])])
    first, second = (stored.event for stored in reader.since())
    assert first.losses == {"a": None, "b": None, "c": 1.5} and first.batch_accuracy is None
    np.testing.assert_array_equal(second.prompts, prompts)


def test_arrays_read_back_cannot_be_changed_by_accident(writer, reader):
    zeros = np.zeros((1, 1, 4), dtype=np.float16)
    writer.append([PromptsDrifted(Clock(), zeros, zeros[0], zeros[0])])
    with pytest.raises(ValueError):
        reader.latest("PromptsDrifted").event.prompts[0] = 1


def test_events_come_in_the_order_of_writing_and_can_be_taken_from_anywhere(writer, reader):
    assert writer.append([state("running", 1), CommandRefused(Clock(0, 0, 1), "step", "no")]) == 2
    assert writer.append([]) == 2
    assert writer.append([state("paused", 2)]) == 3
    assert [(s.seq, s.event.kind) for s in reader.since()] == [
        (1, "StateChanged"),
        (2, "CommandRefused"),
        (3, "StateChanged"),
    ]
    assert [s.seq for s in reader.since(2)] == [3]
    assert [s.seq for s in reader.since(kinds=("StateChanged",))] == [1, 3]
    assert reader.latest("StateChanged").event.state == "paused"
    assert reader.latest("RunFailed") is None
    steps, values = reader.series("StateChanged", "state")
    assert steps.tolist() == [1, 2] and values == ["running", "paused"]


def test_a_moment_is_stored_whole_or_not_at_all(writer, reader):
    writer.append([state("running")])
    with pytest.raises(TypeError):
        writer.append([state("paused"), CommandRefused(Clock(), "step", object())])
    assert [s.event.state for s in reader.since()] == ["running"]
    assert writer.append([state("stopped")]) == 2


def test_events_of_a_newer_writer_are_passed_over_and_its_new_fields_ignored(folder, writer, reader):
    writer.append([state("running")])
    with closing(sqlite3.connect(folder.database)) as database:
        database.execute("INSERT INTO events VALUES (2, 1.0, 'MoonPhaseMeasured', 0, 0, 0, '{\"phase\": 3}', NULL)")
        body = json.dumps({"state": "paused", "reason": "", "mood": "calm"})
        database.execute("INSERT INTO events VALUES (3, 1.0, 'StateChanged', 0, 0, 0, ?, NULL)", (body,))
        database.commit()
    assert [(s.seq, s.event.state) for s in reader.since()] == [(1, "running"), (3, "paused")]
    assert reader.latest("MoonPhaseMeasured") is None


def test_a_second_writer_goes_on_counting_where_the_first_ended(folder):
    with closing(RunWriter(folder)) as first:
        first.append([state("running")])
    with closing(RunWriter(folder)) as second:
        assert second.append([state("paused")]) == 2


def test_rewinding_forgets_rows_and_their_array_files_and_tells_readers(folder, writer, reader):
    big = np.zeros((1, 1, INLINE), dtype=np.float16)

    def drifted(step):
        return PromptsDrifted(Clock(0, 0, step), big + step, big[0], big[0])

    writer.append([drifted(1)])
    writer.append([drifted(2)])
    before = reader.generation()
    writer.rewind(1)
    assert reader.generation() > before
    assert [s.event.clock.step for s in reader.since()] == [1]
    assert {f.name.split("-")[0] for f in folder.arrays.iterdir()} == {"00000001"}
    assert writer.append([drifted(5)]) == 2
    assert [float(s.event.prompts.max()) for s in reader.since()] == [1.0, 5.0]


# ---------------------------------------------------------------- a reader beside a writer


def test_a_reader_beside_a_busy_writer_sees_whole_moments_in_order(folder):
    moments, seen, trouble = 150, [], []

    def read():
        try:
            with closing(RunReader(folder)) as reader:
                last = 0
                while last < 3 * moments:
                    fresh = list(reader.since(last))
                    seen.append([s.seq for s in fresh])
                    last = fresh[-1].seq if fresh else last
        except Exception as error:
            trouble.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    with closing(RunWriter(folder)) as writer:
        for thread in threads:
            thread.start()
        small = np.zeros((1, 1, 8), dtype=np.float16)
        for step in range(moments):
            writer.append(
                [state("running", step), state("running", step), PromptsDrifted(Clock(), small, small[0], small[0])]
            )
        for thread in threads:
            thread.join(30)
    assert not trouble and not any(thread.is_alive() for thread in threads)
    assert sum(len(part) for part in seen) == 3 * 3 * moments
    assert all(len(part) % 3 == 0 for part in seen), "a moment was seen half written"
    assert all(part == sorted(part) for part in seen)


def test_a_snapshot_is_of_one_moment_whatever_is_written_meanwhile(folder, writer, reader):
    with hold(folder):
        writer.append([state("running")])
        with reader.snapshot() as status:
            writer.append([state("paused", 1)])
            writer.append([state("finished", 2)])
            assert status.state == "running" and [stored.seq for stored in reader.since()] == [1]
        with reader.snapshot() as status:
            assert status.state == "finished" and [stored.seq for stored in reader.since()] == [1, 2, 3]


def test_a_snapshot_of_a_run_without_events_is_empty(folder, reader):
    with reader.snapshot() as status:
        assert status.state == "waiting" and list(reader.since()) == []


def test_a_reader_opened_before_the_first_event_sees_it_when_it_comes(folder, reader):
    assert list(reader.since()) == [] and reader.generation() == 0 and reader.latest("StateChanged") is None
    assert reader.status().state == "waiting" and reader.status().resumable
    with hold(folder), closing(RunWriter(folder)) as writer:
        writer.append([state("running")])
        assert [s.event.state for s in reader.since()] == ["running"]


@pytest.mark.parametrize("ended", ["finished", "stopped", "failed"])
def test_an_ended_run_is_what_its_last_state_says(writer, reader, ended):
    writer.append([state("running"), StateChanged(Clock(), ended, "why")])
    status = reader.status()
    assert (status.state, status.reason, status.pid, status.live) == (ended, "why", None, False)
    assert status.resumable == (ended != "finished")


def test_a_run_that_says_running_but_is_held_by_nobody_is_gone(writer, reader):
    writer.append([state("running")])
    status = reader.status()
    assert status.state == "gone" and status.resumable and not status.live and "kept" in status.reason
    assert status.moved > 1.7e9


# ---------------------------------------------------------------- who holds a run


def test_the_holder_is_known_to_other_processes_and_to_itself(folder):
    assert lock_owner(folder) is None
    with hold(folder):
        for _ in range(2):  # asking must not drop the lock
            assert lock_owner(folder) == os.getpid()
            asked = subprocess.run([sys.executable, "-c", ASK, str(folder.path)], capture_output=True, text=True)
            assert asked.stdout.strip() == str(os.getpid())
    assert lock_owner(folder) is None


def test_looking_at_ones_own_running_run_leaves_it_running_for_others(folder):
    with hold(folder), closing(RunWriter(folder)) as writer, closing(RunReader(folder)) as reader:
        writer.append([state("running")])
        assert reader.status().state == "running"
        asked = subprocess.run([sys.executable, "-c", ASK, str(folder.path)], capture_output=True, text=True)
        assert asked.stdout.strip() == str(os.getpid())


def test_a_run_cannot_be_held_twice_by_one_process_either(folder):
    with hold(folder):
        with pytest.raises(StoreError, match="already being worked on"), hold(folder):
            pass
        assert lock_owner(folder) == os.getpid()
    with hold(folder):
        pass


# ---------------------------------------------------------------- damage


def one_sentence(error) -> str:
    assert isinstance(error.value, StoreError)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("garbage", [b"not a database at all, but long enough to be read as one" * 40, b"x" * 5000])
def test_a_damaged_database_is_explained_in_one_sentence(folder, garbage):
    folder.database.write_bytes(garbage)
    with closing(RunReader(folder)) as reader, pytest.raises(StoreError) as error:
        reader.status()
    assert "damaged" in one_sentence(error) and "events.db" in str(error.value)
    with pytest.raises(StoreError) as error:
        RunWriter(folder)
    assert "cannot write events" in one_sentence(error)


@pytest.mark.parametrize(
    "body", ["{half", '{"state": {"$array": ["<f4", [3], 0, 9]}, "reason": ""}', '{"mood": 1}', "[]"]
)
def test_a_damaged_row_is_explained_in_one_sentence(folder, writer, reader, body):
    with closing(sqlite3.connect(folder.database)) as database:
        database.execute("INSERT INTO events VALUES (1, 1.0, 'StateChanged', 0, 0, 0, ?, x'00')", (body,))
        database.commit()
    with pytest.raises(StoreError) as error:
        list(reader.since())
    assert "is damaged" in one_sentence(error)


def test_a_missing_array_file_is_named(folder, writer, reader):
    big = np.zeros((1, 1, INLINE), dtype=np.float16)
    writer.append([PromptsDrifted(Clock(), big, big[0], big[0])])
    (folder.arrays / "00000001-prompts.npy").unlink()
    with pytest.raises(StoreError) as error:
        list(reader.since())
    assert "00000001-prompts.npy" in one_sentence(error)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"method": "nsp', "is damaged"),
        ("[]", "does not hold an object"),
        ('{"method": "nsp2", "colour": 1}', "unknown setting of a run 'colour'"),
        (json.dumps({"method": "nsp2", "format": FORMAT + 1}), "written by a newer Plastiscope"),
        (json.dumps({"method": "nsp2", "format": "one"}), "written by a newer Plastiscope"),
    ],
)
def test_damaged_or_newer_settings_are_explained_in_one_sentence(folder, text, sentence):
    folder.config_file.write_text(text)
    with pytest.raises(StoreError) as error:
        folder.config()
    assert sentence in one_sentence(error)


def test_a_folder_without_settings_is_not_a_run(tmp_path):
    with pytest.raises(StoreError) as error:
        RunFolder(tmp_path).config()
    assert "is not a run" in one_sentence(error)


def test_a_runs_folder_that_cannot_be_written_is_named_with_the_way_out(tmp_path):
    blocked = tmp_path / "runs"
    blocked.write_text("a file where a folder should be")
    with pytest.raises(StoreError) as error:
        create_run(blocked, CONFIG)
    assert str(blocked) in one_sentence(error)
    with pytest.raises(StoreError) as error:
        list_runs(blocked)
    assert "cannot list runs" in one_sentence(error)


def test_a_failed_write_of_arrays_is_a_store_error_and_leaves_no_row(folder, writer, reader):
    folder.arrays.write_text("a file where a folder should be")
    big = np.zeros((1, 1, INLINE), dtype=np.float16)
    with pytest.raises(StoreError) as error:
        writer.append([state("running"), PromptsDrifted(Clock(), big, big[0], big[0])])
    assert "what was stored before is safe" in one_sentence(error)
    assert list(reader.since()) == []
    assert writer.append([state("running")]) == 1


def test_a_recording_opens_from_a_read_only_place_and_leaves_nothing_beside_it(folder, tmp_path):
    with hold(folder), closing(RunWriter(folder)) as writer:
        writer.append([state("running"), state("finished")])
    public = tmp_path / "recording"
    public.mkdir()
    for name in ("config.json", "events.db"):
        shutil.copy(folder.path / name, public / name)
    before = sorted(f.name for f in public.iterdir())
    os.chmod(public, 0o555)
    try:
        with closing(RunReader(RunFolder(public))) as reader:
            assert reader.status().state == "finished"
            assert len(list(reader.since())) == 2
        assert sorted(f.name for f in public.iterdir()) == before
    finally:
        os.chmod(public, 0o755)


def test_somebody_elses_run_with_its_lock_file_opens_where_nothing_can_be_written(folder, monkeypatch):
    """SQLite would make its own files beside the database, and fail where it may not."""
    with hold(folder), closing(RunWriter(folder)) as writer:
        writer.append([state("running"), state("finished")])
    assert folder.lock.exists()
    before = sorted(f.name for f in folder.path.iterdir())
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with closing(RunReader(folder)) as reader:
        assert reader.status().state == "finished"
        assert sorted(f.name for f in folder.path.iterdir()) == before


# ---------------------------------------------------------------- folders and names


def test_a_run_keeps_its_settings(folder):
    assert folder.config() == CONFIG.completed() and folder.name == "one"
    assert folder.size() == folder.config_file.stat().st_size


@pytest.mark.parametrize("name", ["../out", "a/b", "a\\b", "..", ".", ".hidden", "a\0b"])
def test_a_name_that_is_not_a_plain_folder_name_is_refused(tmp_path, name):
    with pytest.raises(StoreError, match="cannot begin with a dot or contain '/'"):
        create_run(tmp_path / "runs", RunConfig("nsp2", name=name))
    assert not (tmp_path / "runs").exists()


def test_a_taken_name_is_refused_and_the_run_there_untouched(folder):
    before = folder.config_file.read_bytes()
    with pytest.raises(StoreError, match="is taken; choose another --name"):
        create_run(folder.path.parent, CONFIG)
    assert folder.config_file.read_bytes() == before


def test_unnamed_runs_never_share_a_folder(tmp_path):
    names = {create_run(tmp_path, RunConfig("nsp2")).name for _ in range(5)}
    assert len(names) == 5 and all("nsp2" in name for name in names)


def test_runs_are_listed_newest_first_and_other_things_are_passed_over(tmp_path):
    assert list_runs(tmp_path / "absent") == []
    for place, name in enumerate(("b", "c", "a")):
        made = create_run(tmp_path, RunConfig("nsp2", name=name))
        os.utime(made.config_file, (1000 + place, 1000 + place))
    (tmp_path / "notes").mkdir()
    (tmp_path / "file.txt").write_text("")
    assert [f.name for f in list_runs(tmp_path)] == ["a", "c", "b"]


def test_a_run_is_found_by_name_beginning_end_or_path(tmp_path):
    for name in ("20260101-nsp2-1a2b", "20260102-nsp2-3c4d", "20260102-joint-5e6f"):
        create_run(tmp_path, RunConfig("nsp2", name=name))
    for text in ("20260101-nsp2-1a2b", "20260101", "1a2b", str(tmp_path / "20260101-nsp2-1a2b")):
        assert find_run(tmp_path, text).name == "20260101-nsp2-1a2b"
    with pytest.raises(StoreError, match=r"'20260102' fits 2 runs: .*; write more of the name"):
        find_run(tmp_path, "20260102")
    with pytest.raises(StoreError, match=r"no run 'zzz' in .*; newest: "):
        find_run(tmp_path, "zzz")
    with pytest.raises(StoreError, match="no run ''"):
        find_run(tmp_path, "")
    with pytest.raises(StoreError, match="there are no runs yet"):
        find_run(tmp_path / "absent", "zzz")


def test_a_whole_name_wins_over_longer_ones_that_begin_with_it(tmp_path):
    for name in ("one", "one-more"):
        create_run(tmp_path, RunConfig("nsp2", name=name))
    assert find_run(tmp_path, "one").name == "one"


def test_an_atomic_write_leaves_the_new_file_and_nothing_else(tmp_path):
    target = tmp_path / "file"
    write_atomically(target, b"old")
    write_atomically(target, b"new")
    assert target.read_bytes() == b"new" and [f.name for f in tmp_path.iterdir()] == ["file"]


# ---------------------------------------------------------------- the inbox


def test_commands_arrive_once_and_in_the_order_they_were_sent(folder):
    sent = [Pause(), Step(3), Resume(), Step(), Stop()]
    for command in sent:
        send(folder, command)
    assert take(folder) == sent
    assert take(folder) == [] and list(folder.inbox.iterdir()) == []


def test_a_run_without_an_inbox_has_no_commands(folder):
    folder.inbox.rmdir()
    assert take(folder) == []
    send(folder, Pause())
    assert take(folder) == [Pause()]


def test_a_command_still_being_written_is_not_taken(folder):
    (folder.inbox / "00000000000000000001-abc.part").write_text('{"comm')
    assert take(folder) == []


@pytest.mark.parametrize(
    "text",
    ['{"half', "3", "[]", "null", '{"command": "dance"}', '{"command": []}', '{"command": "step", "moments": 0}',
     '{"command": "pause", "firmly": true}', '{"command": "step", "moments": "many"}', "{}"],
)  # fmt: skip
def test_what_is_not_a_command_is_taken_out_with_its_reason_and_the_next_one_obeyed(folder, text):
    (folder.inbox / "00000000000000000001-abc.json").write_text(text)
    send(folder, Stop())
    reason, command = take(folder)
    assert isinstance(reason, str) and reason and command == Stop()
    assert list(folder.inbox.iterdir()) == []


def test_orders_sent_before_a_moment_are_discarded_and_later_ones_kept(tmp_path):
    folder = create_run(tmp_path, RunConfig("joint", name="orders"))
    send(folder, Pause())
    between = time.time()
    send(folder, Stop())
    discard(folder, between)
    assert take(folder) == [Stop()]
