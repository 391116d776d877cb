"""A live setting acts at the next step, after a checkpoint, and stays as changed; what cannot change says why."""

from __future__ import annotations

from contextlib import closing

import pytest

from cl_core.commands import ChangeSetting, Pause, Resume, Stop, parse
from cl_core.config import ConfigError
from cl_core.store import RunReader, create_run, effective_config, send, turned
from cl_core.training import worker
from cl_core.training.live_settings import turn
from cl_core.training.worker import drive

QUIET = {"diagnostics": {"spectra": False, "attention": False, "drift": False, "readout": False, "selection": False}}
AFTER = 13  # moments: then two of the second task's six steps are done


@pytest.fixture(scope="module")
def new_run(tiny_config, tmp_path_factory):
    """A folder with a run of two tasks of six steps; the second task is projected."""

    def make(method="nsp2", **others):
        settings = {"prompt_rate": 0.05, "temperature": 1.0, **others.pop("settings", {})}
        config = tiny_config(method, settings=settings, tasks=2, training={"batch_size": 40}, **{**QUIET, **others})
        return create_run(tmp_path_factory.mktemp("runs"), config)

    return make


def stored(folder, *kinds):
    with closing(RunReader(folder)) as reader:
        return list(reader.since(kinds=kinds))


def events(folder, *kinds):
    return [s.event for s in stored(folder, *kinds)]


def measured(folder):
    """All that was measured, wall seconds left out."""
    return [
        (e.kind, e.clock, {k: v for k, v in e.body().items() if k != "seconds"})
        for e in events(folder, "StepEnded", "EpochEnded", "AccuracyMeasured")
    ]


def ordering(folder, orders):
    """Sends the orders for a moment's number after that moment."""
    count = [0]

    def on_moment(moment, trainer):
        count[0] += 1
        for command in orders.get(count[0], ()):
            send(folder, command)

    return on_moment


def turned_run(new_run, *commands):
    folder = new_run()
    assert drive(folder, ordering(folder, {AFTER: commands})).state == "finished"
    return folder


@pytest.fixture(scope="module")
def plain(new_run):
    """Nothing is turned."""
    return turned_run(new_run)


@pytest.fixture(scope="module")
def whole(new_run):
    """η₁ is turned after two steps of the second task; nothing interrupts it."""
    return turned_run(new_run, ChangeSetting("eta_affinity", 0.1))


def test_the_step_after_a_turn_is_the_first_under_the_new_value(new_run, plain):
    folder = turned_run(new_run, ChangeSetting("eta_affinity", 0.0), ChangeSetting("eta_mixture", 0.0))
    first, second = events(folder, "KnobTurned")
    assert (first.name, first.old, first.new) == ("eta_affinity", 0.97, 0.0)
    assert first.clock.task == second.clock.task == 1
    at = first.clock.step
    steps = {e.clock.step: e for e in events(folder, "StepEnded")}
    earlier = [[m for m in measured(run) if m[1].step < at] for run in (plain, folder)]
    assert at == 8 and earlier[0] == earlier[1] and measured(plain) != measured(folder)
    passed = {k: e.applied_norm["tuning.prompts"] / e.proposed_norm["tuning.prompts"] for k, e in steps.items()}
    assert all(passed[k] < 0.9 for k in (6, 7)), "the elbow's projector shrinks"
    assert all(passed[k] == pytest.approx(1) for k in range(at, 12)), "with η = 0 on both sides B̃ is the identity"


def test_a_checkpoint_precedes_the_turn(whole):
    rows = stored(whole)
    (place,) = [k for k, s in enumerate(rows) if s.event.kind == "KnobTurned"]
    saved = rows[place - 1]
    assert saved.event.kind == "CheckpointSaved" and not saved.event.boundary and saved.seq < rows[place].seq
    assert saved.event.clock.step + 1 == rows[place].event.clock.step


def test_between_two_tasks_the_boundary_is_that_checkpoint(new_run):
    folder, seen = new_run(), []

    def on_moment(moment, trainer):
        if trainer.cursor.stage == "begin" and trainer.cursor.task == 1 and not seen:
            seen.append(send(folder, ChangeSetting("eta_affinity", 0.5)))

    drive(folder, on_moment)
    kinds = [(e.kind, getattr(e, "boundary", None)) for e in events(folder, "CheckpointSaved", "KnobTurned")]
    assert kinds == [("CheckpointSaved", True), ("KnobTurned", None), ("CheckpointSaved", True)]
    assert events(folder, "KnobTurned")[0].clock.task == 1, "it is read by the next task"


@pytest.mark.parametrize("stop", [AFTER, AFTER + 2])
def test_a_turned_knob_survives_a_stop_and_the_run_ends_as_if_uninterrupted(new_run, whole, stop):
    orders, cut = {AFTER: [ChangeSetting("eta_affinity", 0.1)]}, new_run()
    orders.setdefault(stop, []).append(Stop())
    assert drive(cut, ordering(cut, orders)).state == "stopped"
    assert effective_config(cut).settings["eta_affinity"] == 0.1 and cut.config().settings["eta_affinity"] != 0.1
    assert drive(cut).state == "finished"
    assert measured(cut) == measured(whole) and len(turned(cut)) == 1


class Killed(BaseException):
    """As abrupt as a kill, within this process."""


def test_a_turn_survives_a_kill_although_the_steps_after_it_are_repeated(new_run, whole):
    cut = new_run()
    order = ordering(cut, {AFTER: [ChangeSetting("eta_affinity", 0.1)]})
    count = []

    def killed(moment, trainer):
        order(moment, trainer)
        count.append(moment)
        if len(count) == AFTER + 2:
            raise Killed

    with pytest.raises(Killed):
        drive(cut, killed)
    assert drive(cut).state == "finished"
    assert measured(cut) == measured(whole)
    assert [(e.name, e.new, e.clock) for e in turned(cut)] == [(e.name, e.new, e.clock) for e in turned(whole)]


def test_a_paused_run_can_be_turned(new_run, whole, monkeypatch):
    folder, waiting = new_run(), [ChangeSetting("eta_affinity", 0.1), Resume()]
    monkeypatch.setattr(worker.time, "sleep", lambda seconds: send(folder, waiting.pop(0)))
    assert drive(folder, ordering(folder, {AFTER: [Pause()]})).state == "finished"
    assert measured(folder) == measured(whole)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("prompt_length", 8, "prompt_length sets shapes; start a new run"),
        ("prompt_rate", 0.1, "prompt_rate is read when a task begins and may change between tasks only: make a fork"),
        ("epochs", 3, "epochs is a setting of the training, which may change between tasks only: make a fork"),
        ("seed", 3, "seed decides the order of classes"),
        ("eta_affinty", 0.5, "unknown live setting 'eta_affinty'; .*Did you mean eta_affinity"),
        ("eta_affinity", 1.5, r"eta_affinity must lie in \[0, 1\], got 1.5"),
        ("eta_affinity", "high", "eta_affinity must be float, got 'high'"),
        ("eta_affinity", 0.97, "eta_affinity is 0.97 already"),
        ("rule", "knee", "rule must be one of elbow, energy"),
    ],
)
def test_what_cannot_be_turned_is_refused_with_the_reason_and_nothing_changes(tiny_trainer, name, value, reason):
    trainer = tiny_trainer("nsp2", tasks=2)
    next(trainer.run())
    before = trainer.method.config
    with pytest.raises(ConfigError, match=reason):
        turn(trainer, name, value)
    assert trainer.method.config == before


def test_a_refusal_is_an_event_and_the_run_goes_on(new_run, plain):
    folder = turned_run(new_run, ChangeSetting("prompt_length", 8))
    (refused,) = events(folder, "CommandRefused")
    assert refused.command == "turn" and refused.reason.startswith("prompt_length sets shapes")
    assert measured(folder) == measured(plain)


def test_after_the_last_measurement_nothing_can_be_turned(tiny_trainer):
    trainer = tiny_trainer("nsp2", tasks=1)
    list(trainer.run())
    with pytest.raises(ConfigError, match="cannot be turned any more"):
        turn(trainer, "eta_affinity", 0.5)


@pytest.mark.parametrize("record", [{"name": 3, "value": 1.0}, {"name": "a", "value": [1]}, {"name": "a"}])
def test_an_order_that_is_none_is_refused_when_it_is_read(record):
    with pytest.raises(ValueError, match="turn"):
        parse({"command": "turn", **record})


def test_an_infinite_value_is_refused_when_it_is_read():
    with pytest.raises(ValueError, match="cannot be turned to inf; give a finite number"):
        ChangeSetting("eta", float("inf"))
