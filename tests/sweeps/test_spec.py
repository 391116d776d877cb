"""What a sweep trains: its grid, its names, its record, and which runs are its own."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

from cl_core.config import ConfigError
from cl_core.events import Clock, KnobTurned
from cl_core.store import RunWriter, StoreError
from cl_core.sweeps import Sweep, ask_to_stop, axis, conducted_by, known_sweeps, load, sweep_status
from cl_core.sweeps.spec import save, stop_file
from tests.recorded_sweep import softness, trade, write, write_run


def test_a_grid_is_every_combination_seed_by_seed():
    sweep = Sweep(
        "all",
        ({"method": "nsp2"}, {"method": "sequential"}),
        ("epochs=2",),
        (axis("prompt_rate=0.01,0.02"), axis("training.batch_size=16,32")),
        (3, 5),
    )
    assert len(sweep.points) == 2 * 2 * 2 * 2
    first, last = sweep.points[0].config, sweep.points[-1].config
    assert (first.method, first.seed, first.settings["prompt_rate"], first.training.batch_size) == ("nsp2", 3, 0.01, 16)
    assert (last.method, last.seed, last.settings["prompt_rate"], last.training.batch_size) == (
        "sequential",
        5,
        0.02,
        32,
    )
    assert [p.config.seed for p in sweep.points] == [3] * 8 + [5] * 8, "a whole grid before it is repeated"
    assert all(p.config.group == "sweep all" and p.config.training.epochs == 2 for p in sweep.points)
    assert len({p.config.name for p in sweep.points}) == 16
    assert first.name == "all-nsp2-micro-prompt_rate-0.01-batch_size-16-seed-3"


def test_settings_joined_by_plus_take_the_same_value():
    points = softness(values="0.25,0.75", seeds=(0,)).points
    assert [(p.config.settings["eta_affinity"], p.config.settings["eta_mixture"]) for p in points] == [
        (0.25, 0.25), (0.75, 0.75),
    ]  # fmt: skip


def test_commas_in_brackets_belong_to_the_value():
    assert axis("training.milestones=[2,4],[3]").values == ("[2,4]", "[3]")
    assert axis("eta-affinity=1").keys == ("eta_affinity",)


def test_one_setting_written_twice_is_one_run():
    assert len(softness(values="1,1.0", seeds=(0,)).points) == 1


@pytest.mark.parametrize("text", ["eta", "eta=", "=1,2", "eta=1,,2", "a+=1"])
def test_an_axis_that_cannot_be_read_is_refused(text):
    with pytest.raises(ConfigError, match="--grid takes"):
        axis(text)


def test_a_name_is_no_path():
    with pytest.raises(ConfigError, match="letters, digits"):
        softness("../elsewhere")
    with pytest.raises(ConfigError, match="two --grid options"):
        Sweep("x", ({"method": "nsp2"},), (), (axis("eta_affinity=1"), axis("eta_affinity=0")), (0,))


def test_a_record_comes_back_as_it_was_and_keeps_its_name_for_itself(tmp_path):
    sweep = softness()
    save(sweep, tmp_path)
    assert load(tmp_path, "softness") == sweep and known_sweeps(tmp_path) == ["softness"]
    assert load(tmp_path, "another") is None
    save(softness(values="0,0.5,0.9,1", seeds=(0, 1, 2)), tmp_path)
    with pytest.raises(ConfigError, match="choose another --name"):
        save(replace(sweep, settings=("epochs=1",)), tmp_path)
    (tmp_path / ".sweeps" / "softness" / "sweep.json").write_text('{"format": 99, "name": "softness"}')
    with pytest.raises(StoreError, match="newer Plastiscope"):
        load(tmp_path, "softness")


def test_standing_finds_the_runs_by_their_settings(tmp_path):
    sweep = softness()
    first, second, third, *_ = sweep.points
    write_run(tmp_path, first, trade(first))
    write_run(tmp_path, replace(second, config=replace(second.config, name="another-name")), [], "failed", "no luck")
    write_run(tmp_path, replace(third, config=replace(third.config, name="third", group="")), trade(third))
    now = sweep_status(sweep, tmp_path)
    assert [found.state for found in now.runs] == ["finished", "failed"] + ["queued"] * 4
    assert now.finished == 1 and now.of("failed")[0].reason == "no luck"
    assert now.runs[1].folder.name == "another-name", "a name does not matter, settings and group do"
    assert now.share == pytest.approx(1 / 6)


def test_forks_and_runs_with_a_turned_knob_are_not_runs_of_the_grid(tmp_path):
    first, second, *_ = softness().points
    write_run(tmp_path, replace(first, config=replace(first.config, parent="another", fork_task=1)), trade(first))
    folder = write_run(tmp_path, second, trade(second))
    assert sweep_status(softness(), tmp_path).finished == 1
    with closing(RunWriter(folder)) as writer:
        writer.append([KnobTurned(Clock(1), "eta_affinity", 0.5, 0.6)])
    assert sweep_status(softness(), tmp_path).finished == 0


def test_time_left_is_shared_by_the_workers_and_unknown_at_first(tmp_path):
    sweep = softness()
    assert sweep_status(sweep, tmp_path).seconds_left(2) is None
    write(tmp_path, sweep)
    now = sweep_status(sweep, tmp_path)
    assert now.seconds_left(2) == 0.0 and now.share == 1.0
    half = replace(
        now, runs=(*(replace(f, seconds=10.0) for f in now.runs[:2]), *sweep_status(sweep, tmp_path / "x").runs[2:])
    )
    assert half.seconds_left(1) == pytest.approx(40.0) and half.seconds_left(2) == pytest.approx(20.0)
    assert half.seconds_left(100) == pytest.approx(10.0), "one run is not divided"


def test_a_stop_is_a_file_and_nobody_conducts_a_sweep_at_rest(tmp_path):
    save(softness(), tmp_path)
    assert conducted_by(tmp_path, "softness") is None
    ask_to_stop(tmp_path, "softness")
    assert stop_file(tmp_path, "softness").exists()
    with pytest.raises(StoreError, match="cannot stop sweep nowhere"):
        ask_to_stop(tmp_path, "nowhere")
