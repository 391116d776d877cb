"""The Prompt pools page in every state of a run."""

from __future__ import annotations

from tests import recorded_pool_runs, recorded_runs
from tests.dashboard.reading import figures, numbers, opened, when_it_says, words
from tests.recorded_pool_runs import PoolPlan


def test_a_finished_run_shows_what_was_taken_what_was_found_and_the_pool(runs_folder, open_page):
    recorded_pool_runs.record(runs_folder, "pool")
    app = open_page("pools", run="pool")
    assert list(figures(app)) == ["Prompts selected per class, after T3"], "one leads"
    assert list(figures(opened(app, "pools-more"))) == [
        "Prompts selected per class, after T3",
        "Own entries found",
        "Use of the pool, after T3",
    ]
    said = numbers(app)
    assert said["Own entries found"] == "90.0 %" and said["Least found"] == "T1, 80.0 %"
    assert said["Entries in use"].endswith("of 3") and said["Prompts selected per image"] == "1"
    assert all(m.help for m in app.metric if m.label in said)


def test_the_chosen_task_is_what_is_shown(runs_folder, open_page):
    recorded_pool_runs.record(runs_folder, "pool")
    app = open_page("pools", run="pool", task="T2")
    assert "Prompts selected per class, after T2" in figures(app)
    assert numbers(app)["Own entries found"] == "95.0 %"


def test_only_layers_with_a_choice_are_offered(runs_folder, open_page):
    recorded_pool_runs.record(runs_folder, "pool", PoolPlan(of="class", layers=(0, 2)))
    assert "Prompts selected per class, after T3, layer 3" in figures(open_page("pools", run="pool", layer="3"))
    app = open_page("pools", run="pool", layer="2")
    assert app.button_group(key="layer").options == ["1", "3"]
    assert "Prompts selected per class, after T3, layer 1" in figures(app)


def test_entries_of_nobody_are_never_called_right_or_wrong(runs_folder, open_page):
    recorded_pool_runs.record(runs_folder, "pool", PoolPlan(of=""))
    app = opened(open_page("pools", run="pool"), "pools-more")
    assert set(figures(app)) == {"Prompts selected per class, after T3", "Use of the pool, after T3"}
    assert "belong to nobody" in words(app) and "Own entries found" not in {m.label for m in app.metric}


def test_a_living_run_gains_what_is_measured(runs_folder, open_page):
    folder = recorded_pool_runs.record(runs_folder, "pool", until=3)
    with recorded_runs.held(folder):
        app = open_page("pools", run="pool")
        assert "Prompts selected per class, after T1" in figures(app)
        when_it_says(app, folder, *list(recorded_pool_runs.moments(PoolPlan()))[3:5])
        assert "Prompts selected per class, after T2" in figures(app)


def test_a_task_that_was_not_reached_gives_way_to_the_newest(runs_folder, open_page):
    recorded_pool_runs.record(runs_folder, "pool", until=4)
    said = words(open_page("pools", run="pool", task="T2"))
    assert "Nothing was measured after T2; shown instead: after T1" in said


def test_why_there_is_nothing_is_said_in_a_sentence(runs_folder, open_page):
    recorded_runs.finished(runs_folder)
    assert "no pool of prompts" in words(open_page("pools", run="finished"))
    recorded_pool_runs.record(runs_folder, "unmeasured", PoolPlan(measured=False))
    assert "diagnostics.selection=true" in words(open_page("pools", run="unmeasured"))
    recorded_pool_runs.record(runs_folder, "ended", until=2)
    assert "ended before its first task was learned" in words(open_page("pools", run="ended"))


def test_a_run_in_its_first_task_says_what_will_appear(runs_folder, open_page):
    folder = recorded_pool_runs.record(runs_folder, "pool", until=2)
    with recorded_runs.held(folder):
        app = open_page("pools", run="pool")
        assert "appear here when the first task has been learned" in words(app)
        assert app.button(key="pools-empty-button").label == "Follow the run"
