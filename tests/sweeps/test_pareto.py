"""Spots of the plane: means over seeds, the order along the sweep, who is dominated, the best within a budget."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cl_core.config import RunConfig
from cl_core.summary import summarise
from cl_core.sweeps import ParetoPoint, Sweep, axis, best_within, frontier, spots, sweep_status
from cl_core.sweeps.pareto import differing, settings_of, spread
from tests.recorded_sweep import softness, write


def spot(label, learning, forgetting, final=(50.0,)):
    return ParetoPoint(label, "", label, (label,), (0,), tuple(learning), tuple(forgetting), tuple(final))


def read(runs, sweep):
    return [(f.folder.config(), summarise(f.folder)) for f in sweep_status(sweep, runs).runs]


def test_a_dominated_spot_is_not_on_the_frontier():
    keen, calm, poor = spot("keen", [90], [30]), spot("calm", [70], [5]), spot("poor", [70], [30])
    assert frontier([keen, poor, calm]) == [keen, calm]
    assert keen.dominates(poor) and not poor.dominates(keen) and not keen.dominates(calm)
    assert frontier([keen, spot("twin", [90], [30])])[0] == keen, "equal spots do not dominate each other"


def test_the_best_within_a_budget_learns_most_of_those_that_forget_little_enough():
    keen, calm, calmer = spot("keen", [90], [30]), spot("calm", [70], [10]), spot("calmer", [60], [2])
    assert best_within([keen, calm, calmer], 40) == keen
    assert best_within([keen, calm, calmer], 10) == calm, "a budget that is just met is kept"
    assert best_within([keen, calm, calmer], 9.9) == calmer
    assert best_within([keen, calm, calmer], 1) is None
    assert best_within([spot("a", [70], [1], [40]), spot("b", [70], [2], [60])], 5).label == "b"


def test_spread_is_the_sample_deviation_and_none_for_one_seed():
    assert spread([1.0, 3.0]).mean == 2 and spread([1.0, 3.0]).sd == pytest.approx(2**0.5)
    assert str(spread([-0.04])) == "0.0" and str(spread([-2.0])) == "−2.0"
    assert str(spread([70.0])) == "70.0" and spread([70.0]).sd is None


def test_runs_that_differ_in_their_seed_alone_are_one_spot_in_order_of_the_setting(tmp_path):
    sweep = write(tmp_path, softness(values="0.5,1,0"))
    found = spots(read(tmp_path, sweep))
    assert [s.value for s in found] == ["0", "0.5", "1"] and [s.seeds for s in found] == [(0, 1)] * 3
    assert found[0].label == "eta_affinity+eta_mixture 0" and found[0].line == ""
    assert found[1].learning == (80.0, 81.0) and found[1].forgetting == (17.5, 17.5)
    assert found[1].plasticity.mean == 80.5 and found[1].plasticity.sd == pytest.approx(0.5**0.5)
    assert frontier(found) == found, "more is learned only by forgetting more"
    assert len(found[0].runs) == 2 and "softness-eta_affinity-0-seed-0" in found[0].runs


def test_methods_are_lines_of_their_own(tmp_path):
    sweep = Sweep("both", ({"method": "nsp2"}, {"method": "sequential"}), (), (axis("prompt_rate=0.1,0.01"),), (0,))
    write(tmp_path, sweep, lambda point: [[90, 0], [80, 70]])
    found = spots(read(tmp_path, sweep))
    assert [s.value for s in found] == ["0.01", "0.1"] * 2
    assert [s.line for s in found] == ["nsp2"] * 2 + ["sequential"] * 2, "what comes with a method is not repeated"
    assert found[0].label == "nsp2, prompt_rate 0.01"


def test_a_run_beside_a_sweep_that_lacks_its_setting_is_a_line_without_a_value(tmp_path):
    sweep = write(tmp_path, softness(seeds=(0,)))
    beside = Sweep("beside", ({"method": "sequential"},), ("stream.tasks=2",), (), (0,))
    write(tmp_path, beside, lambda point: [[90, 0], [80, 70]])
    *swept, other = spots([*read(tmp_path, sweep), *read(tmp_path, beside)])
    assert (other.label, other.line, other.value) == ("sequential", "sequential", "")
    assert [s.value for s in swept] == ["0", "0.5", "1"] and {s.line for s in swept} == {"nsp2"}


def test_a_readout_that_was_not_measured_leaves_nothing(tmp_path):
    sweep = write(tmp_path, softness(seeds=(0,)))
    assert len(spots(read(tmp_path, sweep), "task-incremental")) == 3
    assert spots(read(tmp_path, sweep), "stored statistics") == []


def test_what_differs_is_told_and_the_rest_is_not():
    one = RunConfig("nsp2", settings={"eta_affinity": 0.5, "rule": "elbow"})
    other = RunConfig("nsp2", seed=3, name="x", settings={"eta_affinity": 1.0, "rule": "elbow", "sides": "both"})
    assert differing([settings_of(one), settings_of(other)]) == ["eta_affinity"], "both is what sides are by default"
    third = replace(other, settings={**other.settings, "sides": "affinity"})
    assert differing([settings_of(one), settings_of(third)]) == ["eta_affinity", "sides"]
