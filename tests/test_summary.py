"""A run in numbers: matrices by readout, measures where they are defined, nothing where nothing was measured."""

import json
from contextlib import closing
from dataclasses import replace

import pytest

from cl_core.config import RunConfig
from cl_core.events import AccuracyMeasured, Clock, RunStarted, StateChanged, StepEnded
from cl_core.store import RunWriter, StoreError, create_run
from cl_core.summary import matrix_of, measures, own_head, shared_readout, summarise

FIXED = [
    "run", "folder", "state", "method", "backbone", "stream", "seed", "device", "seconds",
    "accuracy_matrix", "zero_shot", "final_average_accuracy", "average_incremental_accuracy", "learning_accuracy",
    "forgetting", "backward_transfer",
    "transfer", "average", "last",
]  # fmt: skip


@pytest.fixture
def write(tmp_path):
    """`write(event, …)`: a run whose worker said exactly this."""

    def make(*events):
        folder = create_run(tmp_path / "runs", RunConfig("nsp2", seed=4, device="auto", name="one"))
        with closing(RunWriter(folder)) as writer:
            writer.append(events)
        return folder

    return make


def started(tasks=3, trained=3):
    plan = [{"name": f"T{j + 1}", "classes": [], "train": 1, "test": 1} for j in range(tasks)]
    return RunStarted(Clock(), plan, "class-incremental", trained, 9, 9, {"name": "x"}, {"device": "cpu"})


def row(task, *values, readout="class-incremental"):
    return AccuracyMeasured(Clock(task), readout, [*values, *[None] * (3 - len(values))])


FINISHED = (
    started(),
    StepEnded(Clock(0, 0, 0), {"total": 1.0}, {}, {}, {}, 50.0, 0.25),
    row(0, 90.0),
    row(0, 95.0, readout="task-incremental"),
    row(1, 70.0, 80.0),
    row(2, 60.0, 50.0, 100.0),
    StateChanged(Clock(2), "finished"),
)


def test_the_measures_of_a_finished_run_are_those_of_its_matrix(write):
    summary = summarise(write(*FINISHED))
    assert summary.accuracy_matrix == [[90, None, None], [70, 80, None], [60, 50, 100]]
    assert summary.final_average_accuracy == pytest.approx(70)
    assert summary.average_incremental_accuracy == pytest.approx((90 + 75 + 70) / 3)
    assert summary.learning_accuracy == pytest.approx(90)
    assert summary.forgetting == pytest.approx((30 + 30) / 2)
    assert summary.backward_transfer == pytest.approx(-30)
    assert summary.last == pytest.approx(70)
    assert (summary.state, summary.seed, summary.device, summary.zero_shot) == ("finished", 4, "cpu", None)
    assert summary.readouts == {"task-incremental": [[95, None, None], [None] * 3, [None] * 3]}


def test_what_run_prints_has_the_fixed_keys_and_is_json(write):
    summary = summarise(write(*FINISHED))
    reported = summary.reported()
    assert list(reported) == FIXED
    assert json.loads(json.dumps(reported)) == reported
    assert set(summary.to_dict()) == {*FIXED, "readouts", "reason"}


def test_a_run_trained_once_on_everything_has_a_last_row_and_no_comparison(write):
    summary = summarise(write(started(trained=1), row(2, 60.0, 50.0, 100.0)))
    assert summary.accuracy_matrix == [[None] * 3, [None] * 3, [60, 50, 100]]
    assert summary.final_average_accuracy == summary.last == pytest.approx(70)
    compared = (summary.forgetting, summary.backward_transfer, summary.learning_accuracy, summary.average)
    assert compared == (None,) * 4 and summary.average_incremental_accuracy is None


def test_a_single_task_has_accuracies_but_no_forgetting(write):
    numbers = measures([[80.0]])
    assert numbers["final_average_accuracy"] == numbers["learning_accuracy"] == 80
    assert numbers["forgetting"] is None and numbers["backward_transfer"] is None


def test_a_row_before_training_is_kept_apart(write):
    zero = AccuracyMeasured(Clock(-1), "zero-shot", [10.0, 20.0, 30.0])
    summary = summarise(write(started(), zero, row(0, 90.0)))
    assert summary.zero_shot == [10, 20, 30]
    assert summary.accuracy_matrix[0] == [90, None, None] and "zero-shot" not in summary.readouts


def test_where_tasks_are_always_named_these_rows_are_the_matrix(write):
    zero = AccuracyMeasured(Clock(-1), "zero-shot", [30.0, 40.0, 55.0])
    named = [[80.0, 41.0, 52.0], [78.0, 90.0, 50.0], [75.0, 88.0, 95.0]]
    rows = [row(i, *values, readout="task-incremental") for i, values in enumerate(named)]
    summary = summarise(write(started(), zero, *rows))
    assert summary.accuracy_matrix == named and summary.readouts == {} and summary.zero_shot == [30, 40, 55]
    assert summary.transfer == pytest.approx((41 + 51) / 2) and summary.last == pytest.approx(86)
    assert own_head(["task-incremental", "class-incremental"]) == "class-incremental"
    assert own_head([]) == own_head(["stored statistics"]) == "class-incremental"


def test_a_run_is_judged_by_the_readout_that_it_names(write):
    rows = [row(0, 60.0), row(1, 20.0, 70.0), row(2, 10.0, 20.0, 80.0)]
    stored = [replace(row(i, *[90.0 - 5 * i] * (i + 1), readout="stored statistics"), headline=True) for i in range(3)]
    summary = summarise(write(started(), *(event for pair in zip(rows, stored, strict=True) for event in pair)))
    assert summary.readout == "stored statistics" and summary.forgetting == pytest.approx((10 + 5) / 2)
    assert summary.readouts == {"class-incremental": summary.matrix("class-incremental")}
    assert summary.matrix() == summary.matrix("stored statistics") == summary.accuracy_matrix
    assert summary.matrix("zero-shot") == []


def test_questions_judge_by_the_methods_own_head(write):
    named = replace(row(0, 90.0, readout="stored statistics"), headline=True)
    summary = summarise(write(started(), row(0, 60.0), named), by_own_head=True)
    assert summary.readout == "class-incremental" and summary.accuracy_matrix[0] == [60, None, None]


def test_runs_with_different_headlines_are_compared_by_their_own_heads(write):
    plain, stored = row(0, 60.0), replace(row(0, 90.0, readout="stored statistics"), headline=True)
    first = summarise(write(started(), plain, replace(stored, headline=False)))
    second = replace(first, readout="stored statistics", readouts={"class-incremental": first.accuracy_matrix})
    assert shared_readout([first, first]) == "" and shared_readout([first, second]) == "class-incremental"


def test_a_run_that_never_said_anything_has_no_numbers(tmp_path):
    summary = summarise(create_run(tmp_path, RunConfig("joint", name="mute", device="cpu")))
    assert (summary.state, summary.accuracy_matrix, summary.device, summary.seconds) == ("waiting", [], "cpu", 0)
    assert all(summary.to_dict()[name] is None for name in FIXED[11:])


def test_an_unfinished_run_is_summed_up_as_far_as_it_went(write):
    summary = summarise(write(started(), row(0, 90.0), row(1, 70.0, 80.0), StateChanged(Clock(1), "failed", "because")))
    assert (summary.state, summary.reason) == ("failed", "because")
    assert summary.final_average_accuracy == pytest.approx(75) and summary.forgetting == pytest.approx(20)


def test_rows_missing_from_a_matrix_are_not_measured():
    assert matrix_of({1: [1.0, 2.0]}, 2) == [[None, None], [1.0, 2.0]]


def test_what_is_no_run_is_refused(tmp_path):
    from cl_core.store import RunFolder

    with pytest.raises(StoreError, match="is not a run"):
        summarise(RunFolder(tmp_path))


def test_seconds_leave_out_pauses_and_the_time_before_a_resume(tmp_path, monkeypatch):
    running, paused = (StateChanged(Clock(0), state) for state in ("running", "paused"))
    said = [(100, running), (103, started()), (110, paused), (160, running), (162, row(1, 70.0, 80.0))]
    folder = create_run(tmp_path, RunConfig("nsp2", name="timed"))
    with closing(RunWriter(folder)) as writer:
        for time, event in said:
            monkeypatch.setattr("cl_core.store.writer.time.time", lambda time=time: float(time))
            writer.append([event])
    assert summarise(folder).seconds == 12
