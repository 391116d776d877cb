"""The tail of a run: everything once, in order, afresh when rows were taken back, readable parts of what is damaged."""

from __future__ import annotations

import contextlib
import sqlite3

from cl_core.assets import recordings_folder
from cl_core.events import AccuracyMeasured, Clock, SpectrumMeasured, StateChanged, StepEnded, TaskEnded
from cl_core.store import RunFolder, RunReader, RunWriter, hold
from dashboard import run_log
from dashboard.run_log import RunLog, log_of
from tests import recorded_runs
from tests.recorded_runs import Plan, moments
from tests.recording import append


def read(folder):
    log = RunLog(folder)
    log.advance(force=True)
    return log


def key(log):
    return log.snapshot().key(StepEnded)


def test_a_finished_run_is_read_whole_and_in_order(runs_folder):
    plan = Plan()
    log = read(recorded_runs.finished(runs_folder))
    assert len(log.of(StepEnded)) == plan.tasks * plan.epochs * plan.steps
    places = [stored.seq for stored in log.of(StepEnded)]
    assert places == sorted(places)
    assert log.tasks() == log.tasks_ended() == plan.tasks
    assert log.status().state == "finished" and log.trouble == ""


def test_new_rows_are_added_and_old_ones_not_read_again(runs_folder):
    folder = recorded_runs.running(runs_folder)
    log = read(folder)
    before, known = log.of(StepEnded), key(log)
    assert not log.advance(force=True) and key(log) == known
    writer = RunWriter(folder)
    writer.append([StepEnded(Clock(1, 0, 99), {"total": 1.0}, {}, {}, {}, 50.0, 0.1)])
    writer.close()
    assert log.advance(force=True) and key(log) != known
    assert log.of(StepEnded)[:-1] == before and log.of(StepEnded)[-1].event.clock.step == 99


def test_it_starts_afresh_when_rows_were_taken_back(runs_folder):
    folder = recorded_runs.running(runs_folder)
    log = read(folder)
    kept = log.of(StepEnded)[2].seq
    writer = RunWriter(folder)
    writer.rewind(kept)
    writer.close()
    log.advance(force=True)
    assert [stored.seq for stored in log.of(StepEnded)][-1] == kept and log.seq == kept


def test_a_run_that_appears_later_is_found(runs_folder):
    folder = recorded_runs.waiting(runs_folder)
    log = read(folder)
    assert log.of(StepEnded) == [] and log.status().state == "waiting"
    writer = RunWriter(folder)
    for moment in moments(Plan()):
        writer.append(moment)
    writer.close()
    log.forget_status()
    log.advance(force=True)
    assert log.tasks_ended() == Plan().tasks


def test_a_final_state_is_never_told_before_the_last_rows(runs_folder, monkeypatch):
    """The worker commits between a page's look at the rows and its look at the state."""
    folder = recorded_runs.waiting(runs_folder)
    *first, last = moments(Plan())
    with contextlib.closing(RunWriter(folder)) as writer, hold(folder):
        writer.append([StateChanged(Clock(), "running")])
        for moment in first:
            writer.append(moment)
        log, since = RunLog(folder), RunReader.since

        def then_the_end(reader, *arguments, **others):
            yield from since(reader, *arguments, **others)
            monkeypatch.undo()
            writer.append(last)
            writer.append([StateChanged(Clock(), "finished")])

        monkeypatch.setattr(RunReader, "since", then_the_end)
        monkeypatch.setattr(RunLog, "PATIENCE", 0.0)
        log.advance()
        seen = log.seq
        assert log.status().live  # the page goes on refreshing, and reads once more
        log.advance(force=True)
        assert log.status().state == "finished" and log.seq > seen


def test_one_log_serves_all_viewers(runs_folder):
    folder = recorded_runs.finished(runs_folder)
    assert log_of(folder) is log_of(type(folder)(folder.path / ".." / folder.name))


def test_a_log_until_a_moment_knows_nothing_later(runs_folder):
    log = read(recorded_runs.finished(runs_folder))
    limit = log.of(TaskEnded)[0].seq
    earlier = log.snapshot().until(limit)
    assert earlier.tasks_ended() == 1 and log.tasks_ended() == 3
    assert all(stored.seq <= limit for stored in earlier.of(StepEnded))
    assert earlier.key(StepEnded) != key(log)


def test_a_damaged_row_is_left_out_and_said_once_and_for_all(runs_folder):
    folder = recorded_runs.finished(runs_folder)
    with sqlite3.connect(folder.database) as connection:
        connection.execute(
            "UPDATE events SET body = '{\"layer\": 1, ' WHERE seq = (SELECT min(seq) FROM events WHERE "
            "kind = 'SpectrumMeasured')"
        )
    whole, log = 2 * 3 * 2, read(folder)
    assert len(log.of(SpectrumMeasured)) == whole - 1
    assert log.tasks_ended() == 3 and "1 of this run's events cannot be read" in log.trouble
    log.advance(force=True)
    assert "1 of this run's events" in log.trouble


def test_a_file_that_is_no_database_is_said_in_one_sentence(runs_folder):
    log = read(recorded_runs.damaged_events(runs_folder))
    assert "damaged" in log.trouble and "\n" not in log.trouble
    assert log.status().state == "unreadable" and log.config is not None


def test_events_are_read_beside_a_damaged_config(runs_folder):
    log = read(recorded_runs.damaged_config(runs_folder))
    assert log.config is None and "config.json" in log.trouble
    assert len(log.events(AccuracyMeasured)) > 0


def test_a_newer_run_is_not_misread(runs_folder):
    log = read(recorded_runs.newer(runs_folder))
    assert "newer Plastiscope (format 9" in log.trouble and log.of(StepEnded) == []


def test_a_snapshot_stays_as_it_was_while_the_run_goes_on(runs_folder):
    folder = recorded_runs.running(runs_folder)
    log = RunLog(folder)
    before = log.snapshot(force=True)
    steps, known = before.events(StepEnded), before.key(StepEnded, TaskEnded)
    append(folder, [StepEnded(Clock(1, 0, 99), {"total": 1.0}, {}, {}, {}, 50.0, 0.5)])
    after = log.snapshot(force=True)
    assert before.events(StepEnded) == steps and before.key(StepEnded, TaskEnded) == known
    assert len(after.events(StepEnded)) == len(steps) + 1 and after.key(StepEnded) != before.key(StepEnded)
    assert after.key(TaskEnded) == before.key(TaskEnded), "a figure of tasks is not drawn anew for a step"
    writer = RunWriter(folder)
    writer.rewind(before.of(StepEnded)[1].seq)
    writer.close()
    rewound = log.snapshot(force=True)
    assert rewound.count(StepEnded) == 2 and before.events(StepEnded) == steps
    assert rewound.key(TaskEnded) != before.key(TaskEnded), "rows taken back make it another reading"


def test_a_column_is_asked_once_per_event_for_all_snapshots(runs_folder):
    folder, asked = recorded_runs.running(runs_folder), []
    log = RunLog(folder)

    def step(event):
        asked.append(event)
        return event.clock.step

    first = log.snapshot(force=True)
    steps = [event.clock.step for event in first.events(StepEnded)]
    assert first.column(StepEnded, step).tolist() == steps
    append(folder, [StepEnded(Clock(1, 0, 99), {"total": 1.0}, {}, {}, {}, 50.0, 0.5)])
    assert log.snapshot(force=True).column(StepEnded, step).tolist() == [*steps, 99]
    assert first.column(StepEnded, step).tolist() == steps and len(asked) == len(steps) + 1


def test_only_the_runs_looked_at_last_stay_in_memory(runs_folder, monkeypatch):
    monkeypatch.setattr(run_log, "MOST_LOGS", 2)
    monkeypatch.setattr(run_log, "_LOGS", type(run_log._LOGS)())  # other tests leave recordings' logs
    one, two, three = (recorded_runs.waiting(runs_folder, name) for name in ("one", "two", "three"))
    first, kept = log_of(one), log_of(two)
    log_of(three)
    assert log_of(two) is kept and log_of(one) is not first and len(run_log._LOGS) == 2


def test_a_run_kept_in_the_playground_is_called_by_its_rule_and_its_digits():
    titles = {
        name: read(RunFolder(recordings_folder() / name)).snapshot().title
        for name in ("gpm-permuted-digits", "none-permuted-digits", "nsp2-split-digits")
    }
    assert list(titles.values()) == [
        "GPM on permuted digits",
        "Unprotected network on permuted digits",
        "NSP² on digits",
    ]
