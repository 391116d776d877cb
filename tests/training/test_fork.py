"""A fork trains what remains under its own settings, and what kills it takes nothing of its past."""

from __future__ import annotations

from contextlib import closing

import pytest

from cl_core.commands import ChangeSetting
from cl_core.config import describe
from cl_core.methods.nsp2 import NSP2
from cl_core.store import RunReader, boundaries, create_run, effective_config, fork_run, send
from cl_core.training.worker import drive

QUIET = {"diagnostics": {"spectra": False, "attention": False, "drift": False, "readout": False, "selection": False}}
SETTINGS = describe(NSP2.Config)


def events(folder, *kinds):
    with closing(RunReader(folder)) as reader:
        return [stored.event for stored in reader.since(kinds=kinds)]


@pytest.fixture(scope="module")
def parent(tiny_config, tmp_path_factory):
    """Two tasks of two epochs of three steps; norm_weight is turned in the first."""
    folder = create_run(
        tmp_path_factory.mktemp("runs"), tiny_config("nsp2", tasks=2, training={"batch_size": 40}, **QUIET)
    )
    seen = []

    def order(moment, trainer):
        seen.append(moment)
        if len(seen) == 4:
            send(folder, ChangeSetting("norm_weight", 3.0))

    assert drive(folder, order).state == "finished"
    return folder


def test_a_fork_trains_the_remaining_steps_of_its_own_settings_and_says_how_many_there_are(parent):
    fork = fork_run(parent, 1, [("epochs", 3), ("eta_affinity", 0.2)], SETTINGS)
    assert drive(fork).state == "finished"
    (parted,) = events(fork, "RunForked")
    assert (parted.parent, parted.after_task, parted.total_steps) == (parent.name, 1, 6 + 9)
    assert parted.changed == {"epochs": [2, 3], "eta_affinity": [0.97, 0.2]}
    steps = [event.clock for event in events(fork, "StepEnded")]
    assert [clock.step for clock in steps] == list(range(15)) and [clock.task for clock in steps] == [0] * 6 + [1] * 9
    assert effective_config(fork).settings["norm_weight"] == 3.0, "it had been turned in the parent by then"
    assert [event.readout for event in events(fork, "AccuracyMeasured")].count("class-incremental") == 2


class Killed(BaseException):
    """As abrupt as a kill, within this process."""


def test_a_fork_killed_before_its_first_checkpoint_begins_again_at_the_mark(parent):
    fork, count = fork_run(parent, 1, [("norm_weight", 0.5)], SETTINGS), []

    def kill(moment, trainer):
        count.append(moment)
        if len(count) == 3:
            raise Killed

    with pytest.raises(Killed):
        drive(fork, kill)
    assert drive(fork).state == "finished"
    assert len(events(fork, "RunForked")) == len(events(fork, "KnobTurned")) == 1
    assert effective_config(fork).settings["norm_weight"] == 0.5, "what was turned in the parent does not count here"
    assert list(boundaries(fork)) == [1, 2]
    assert [event.clock.step for event in events(fork, "StepEnded")] == list(range(12))


def test_a_setting_that_changes_sizes_fails_the_fork_in_one_sentence(parent):
    """As if the setting had not been marked."""
    unmarked = [{**row, "fixed": ""} for row in SETTINGS]
    ended = drive(fork_run(parent, 1, [("prompt_length", 6)], unmarked))
    assert ended.state == "failed" and ended.reason.startswith("the checkpoint does not fit these settings of nsp2")
    assert "size mismatch" in ended.reason and "\n" not in ended.reason
