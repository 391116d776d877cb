"""A run that somebody else wrote or damaged: named with the reason, bounded in memory, and no other run suffers."""

from __future__ import annotations

import io
import json
import os
import resource
import sqlite3
import subprocess
import sys
import zipfile
import zlib
from contextlib import closing

import numpy as np
import pytest

from cl_core.events import AccuracyMeasured, Clock, PromptsDrifted, RunStarted, StepEnded
from cl_core.store import RunReader, RunWriter, StoreError, fork_of, list_runs, take
from cl_core.store.archive import pack, unpack
from cl_core.store.reader import DamagedEvent
from cl_core.summary import summarise
from cl_core.untrusted import parse_row
from tests import recorded_runs

DEEP = "[" * 100_000


@pytest.fixture
def folder(tmp_path):
    return recorded_runs.finished(tmp_path / "runs", "theirs")


def change(folder, sql, *values):
    with closing(sqlite3.connect(folder.database)) as database:
        database.execute(sql, values)
        database.commit()


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text and len(text) < 600, text
    return text


@pytest.mark.parametrize(
    "text", [DEEP, '{"method": ' + DEEP, json.dumps({"method": "nsp2", "settings": {"a": 1}})[:-1]]
)
def test_settings_nested_or_cut_are_damaged_in_one_sentence(folder, text):
    folder.config_file.write_text(text)
    with pytest.raises(StoreError) as error:
        folder.config()
    assert "damaged" in one_sentence(error)


def test_settings_nested_within_what_the_parser_takes_are_refused_as_well(folder):
    folder.config_file.write_text('{"method": "nsp2", "settings": {"a": ' + "[" * 400 + "]" * 400 + "}}")
    with pytest.raises(StoreError, match="levels deep"):
        folder.config()


def test_a_named_pipe_in_the_place_of_settings_is_not_waited_for(folder):
    folder.config_file.unlink()
    os.mkfifo(folder.config_file)
    with pytest.raises(StoreError, match="not a plain file"):
        folder.config()


def test_links_that_lead_back_to_themselves_do_not_stop_the_list(folder):
    (folder.path.parent / "loop").symlink_to("loop")
    assert [found.name for found in list_runs(folder.path.parent)] == ["theirs"]


@pytest.mark.parametrize("note", [DEEP, '{"parent": 1, "after_task": 1, "seq": 1, "changed": {}}',
                                  '{"parent": "a", "after_task": 1, "seq": "1", "changed": {}}',
                                  '{"parent": "a", "after_task": 1, "seq": 1, "changed": {"a": 1}}'])  # fmt: skip
def test_a_note_of_a_parent_that_cannot_be_meant_is_damaged(folder, note):
    folder.fork_file.write_text(note)
    with pytest.raises(StoreError, match="is damaged"):
        fork_of(folder)


def test_an_order_nested_too_deeply_is_taken_out_with_its_reason(folder):
    folder.inbox.mkdir(exist_ok=True)
    (folder.inbox / "1-a.json").write_text(DEEP)
    assert "deep" in take(folder)[0] and take(folder) == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("AccuracyMeasured", '{"readout": "class-incremental", "row": "abc"}'),
        ("AccuracyMeasured", '{"readout": "class-incremental", "row": [[1], {}, "x"]}'),
        ("AccuracyMeasured", '{"readout": ["x"], "row": [1, 2, 3]}'),
        ("AccuracyMeasured", '{"readout": "class-incremental", "row": [true, 2, 3]}'),
        ("AccuracyMeasured", '{"readout": "class-incremental", "row": [Infinity, 2, 3]}'),
        ("AccuracyMeasured", '{"readout": "class-incremental"}'),
        ("AccuracyMeasured", '{"readout": "class-incremental", "row": ' + DEEP),
        ("RunStarted", '{"tasks": [1, 2]}'),
        ("RunStarted", '{"tasks": [{"name": 1, "classes": []}]}'),
        ("StateChanged", '{"state": "dancing", "reason": ""}'),
        ("StateChanged", '{"state": ["x"], "reason": ""}'),
        ("StepEnded", '{"losses": [1]}'),
    ],
)
def test_an_event_of_other_types_than_declared_is_damaged(folder, kind, body):
    change(folder, "UPDATE events SET body = ? WHERE seq = (SELECT max(seq) FROM events WHERE kind = ?)", body, kind)
    with closing(RunReader(folder)) as reader, pytest.raises(DamagedEvent) as error:
        list(reader.since())
    assert kind in one_sentence(error)


@pytest.mark.parametrize("prompts", [np.zeros(3, np.float16), np.zeros((2, 3), np.float16), np.zeros((), np.float16)])
def test_an_array_with_other_axes_than_declared_is_damaged(folder, prompts):
    drifted = PromptsDrifted(Clock(0, 0, 0), prompts, np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32))
    with closing(RunWriter(folder)) as writer:
        writer.append([drifted])
    with closing(RunReader(folder)) as reader, pytest.raises(DamagedEvent) as error:
        reader.latest("PromptsDrifted")
    assert "prompts is not an array with 3 axes" in one_sentence(error)


@pytest.mark.parametrize("column", ["time", "task", "step"])
def test_a_row_without_its_clock_or_time_is_damaged(folder, column):
    change(folder, f"UPDATE events SET {column} = 'soon' WHERE kind = 'StepEnded'")
    with closing(RunReader(folder)) as reader, pytest.raises(DamagedEvent):
        list(reader.since())
    assert summarise(folder).state == "finished"


def test_damaged_rows_are_passed_over_where_asked(folder):
    change(folder, "UPDATE events SET body = '{' WHERE kind = 'StepEnded'")
    places = []
    with closing(RunReader(folder)) as reader:
        kept = list(reader.since(damaged=lambda seq, error: places.append(seq)))
    assert places and not any(isinstance(stored.event, StepEnded) for stored in kept)
    assert any(isinstance(stored.event, RunStarted) for stored in kept)


def test_a_row_of_accuracies_that_the_plan_has_no_room_for_is_said_of_that_run(folder):
    with closing(RunWriter(folder)) as writer:
        writer.append([AccuracyMeasured(Clock(0, 0, 0), "class-incremental", [1.0] * 50)])
    with pytest.raises(StoreError, match="row of 50 accuracies"):
        summarise(folder)


def test_a_view_in_the_place_of_the_table_is_not_asked(folder):
    folder.database.unlink()
    endless = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS seq, 1.0 AS time, 'x' AS kind"
    )
    with closing(sqlite3.connect(folder.database)) as database:
        database.execute(
            f"CREATE VIEW events AS {endless}, 0 AS task, 0 AS epoch, 0 AS step, '' AS body, NULL AS blob FROM n"
        )
    with closing(RunReader(folder)) as reader, pytest.raises(StoreError, match="does not hold a run's events"):
        list(reader.since())


# ---------------------------------------------------------------- arrays


def bomb(megabytes):
    """A row of arrays that claims little and unpacks to a lot."""
    packed = zlib.compress(bytes(megabytes << 20), 9)
    place = {"$array": ["<f2", [1, 2, 2], 0, len(packed)]}
    return json.dumps({"prompts": place, "means": place, "deviations": place}), packed


def with_row(folder, body, blob):
    change(
        folder,
        "INSERT INTO events SELECT max(seq) + 1, 1.0, 'PromptsDrifted', 0, 0, 0, ?, ? FROM events",
        body,
        blob,
    )


def test_an_array_is_unpacked_to_what_its_shape_takes_and_no_further(folder):
    with_row(folder, *bomb(64))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with closing(RunReader(folder)) as reader, pytest.raises(DamagedEvent, match="unpacks to more"):
        reader.latest("PromptsDrifted")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


@pytest.mark.parametrize(
    "place",
    [
        ["<f2", [1 << 20, 1 << 20], 0, 9],
        ["<f2", [0, -1], 0, 9],
        ["<f2", [2.5], 0, 9],
        ["<f2", "12", 0, 9],
        ["<f2", [1] * 40, 0, 9],
        ["|O", [1], 0, 9],
        ["|V100000", [10], 0, 9],
        ["no type", [1], 0, 9],
        ["<f2", [1], 10**9, 10**9],
        ["<f2", [1], "0", 9],
        [1, 2],
        7,
    ],
)
def test_an_array_that_cannot_be_meant_is_damaged(folder, place):
    with_row(folder, json.dumps({"prompts": {"$array": place}, "means": 1, "deviations": 1}), zlib.compress(b"12"))
    with closing(RunReader(folder)) as reader, pytest.raises(DamagedEvent) as error:
        reader.latest("PromptsDrifted")
    one_sentence(error)


def _empty(file):
    file.write_bytes(b"")


def _archive(file):
    out = io.BytesIO()
    np.savez(out, a=np.zeros(3))
    file.write_bytes(out.getvalue())


def _objects(file):
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def _claim(file):
    file.write_bytes(file.read_bytes().replace(b"'shape': (40000,)", b"'shape': (4" + b"0" * 9 + b",)"))


@pytest.mark.parametrize("damage", [_empty, _archive, _objects, _claim])
def test_a_file_of_arrays_that_is_none_is_damaged(folder, damage):
    large = np.zeros(40_000, dtype=np.float32)
    with closing(RunWriter(folder)) as writer:
        seq = writer.append([PromptsDrifted(Clock(), large, large, large)])
    damage(folder.arrays / f"{seq:08d}-prompts.npy")
    with closing(RunReader(folder)) as reader, pytest.raises(DamagedEvent) as error:
        reader.latest("PromptsDrifted")
    assert "prompts.npy" in one_sentence(error)


def test_a_file_of_arrays_is_looked_for_in_its_folder_alone(folder):
    place = {"$file": "../../secret.npy"}
    np.save(folder.path.parent / "secret.npy", np.zeros(3))
    with_row(folder, json.dumps({"prompts": place, "means": place, "deviations": place}), None)
    with closing(RunReader(folder)) as reader, pytest.raises(DamagedEvent, match="its name is not that of an array"):
        reader.latest("PromptsDrifted")


# ---------------------------------------------------------------- beside others


LIST = "import sys; from cl_core.cli import main; sys.exit(main(['list', '--runs', sys.argv[1], '--json']))"


def test_bad_runs_are_named_and_the_others_listed(folder, tmp_path):
    good = folder.path.parent
    for name, text in (("deep", DEEP), ("empty", ""), ("text", "hello"), ("list", "[]")):
        (good / name).mkdir()
        (good / name / "config.json").write_text(text)
    wrong = recorded_runs.finished(good, "wrong")
    change(wrong, "UPDATE events SET body = '{\"readout\": 3, \"row\": {}}' WHERE kind = 'AccuracyMeasured'")
    done = subprocess.run([sys.executable, "-c", LIST, str(good)], capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert [row["run"] for row in json.loads(done.stdout)] == ["theirs"]
    assert len(done.stderr.splitlines()) == 5 and "wrong" in done.stderr


def test_a_recording_of_such_a_run_is_one_bad_run_and_no_more(folder, tmp_path):
    change(folder, "UPDATE events SET body = '{\"readout\": 3, \"row\": {}}' WHERE kind = 'AccuracyMeasured'")
    out = io.BytesIO()
    pack(folder, out)
    there = unpack(out, tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="theirs is damaged"):
        summarise(there)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_with_damaged_content_is_said_so(folder, tmp_path, method):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for file in (folder.config_file, folder.database):
            archive.write(file, f"theirs/{file.name}")
    broken = bytearray(out.getvalue())
    broken[60:400] = bytes(340)
    with pytest.raises(StoreError):
        unpack(io.BytesIO(broken), tmp_path / "elsewhere")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "text", ['{"a": "\\udc80"}', "[1e999]", "[NaN]", "[" * 30 + "]" * 30, '{"a": 1, "a": [0.1, -0, 2e-7]}']
)
def test_a_row_is_read_as_json_is(text):
    assert repr(parse_row(text)) == repr(json.loads(text))


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 300 + "]" * 300, "", "{", "[1,]", "\ufeff1"])
def test_a_row_that_is_none_is_refused_in_words(text):
    with pytest.raises(ValueError):
        parse_row(text)


def test_a_task_that_no_run_can_have_is_damage(folder):
    change(folder, "UPDATE events SET task = 1099511627776 WHERE kind = 'PromptsDrifted'")
    with closing(RunReader(folder)) as reader, pytest.raises(DamagedEvent, match="beyond the 10,000"):
        list(reader.since(kinds=("PromptsDrifted",)))


@pytest.mark.parametrize("layer", [10**15, -2])
def test_a_layer_that_no_network_has_is_damage(folder, layer):
    change(folder, "UPDATE events SET body = json_set(body, '$.layer', ?) WHERE kind = 'UpdateMeasured'", layer)
    with closing(RunReader(folder)) as reader, pytest.raises(DamagedEvent, match="layer is not a whole number from"):
        list(reader.since(kinds=("UpdateMeasured",)))
