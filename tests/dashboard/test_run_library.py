"""The table of all runs: what it calls them, what a search finds, and what can be done with those selected."""

from __future__ import annotations

from cl_core.assets import recordings_folder
from cl_core.playground.recording import keep
from cl_core.playground.settings import PlaygroundConfig
from dashboard.library import COLUMNS, lines, run_names, search, table
from dashboard.runs import RunIndex, runs_index
from tests import recorded_runs
from tests.dashboard.reading import figures, foot, opened, words
from tests.recorded_runs import Plan


def two_seeds(runs_folder):
    for seed in (0, 1):
        recorded_runs.finished(runs_folder, f"seed{seed}", Plan(seed=seed))


def library():
    return {line.name: line for line in lines(runs_index(fresh=True))}


def test_runs_are_called_by_what_differs(runs_folder):
    two_seeds(runs_folder)
    found = library()
    assert {name: dict(line.differs) for name, line in found.items()} == {
        "seed0": {"seed": "0"},
        "seed1": {"seed": "1"},
    }
    assert found["seed1"].called == "NSP² on handwritten digits: seed 1"
    recorded_runs.unmeasured(runs_folder)
    assert any(line.name == "unmeasured" for line in library().values())


def test_two_runs_that_are_the_same_keep_their_folders_in_their_names(runs_folder):
    for name in ("one", "again"):
        recorded_runs.finished(runs_folder, name)
    recorded_runs.finished(runs_folder, "plain", Plan(method="sequential"))
    assert dict(run_names(runs_index(fresh=True))) == {
        "one": "NSP² on handwritten digits (one)",
        "again": "NSP² on handwritten digits (again)",
        "plain": "Plain prompt tuning on handwritten digits",
    }


def test_an_own_run_is_told_from_the_recording_of_its_kind_by_its_settings(runs_folder):
    keep(PlaygroundConfig(tasks=2, epochs=1, energy=0.9), runs_folder, "mine")
    names = run_names(RunIndex(runs_folder, recordings_folder()))
    assert names["gpm-permuted-digits"] == "GPM on permuted digits"
    assert names["mine"].startswith("GPM on permuted digits: ") and "energy 0.9" in names["mine"]


def test_a_run_has_one_name_on_every_page(runs_folder, open_page):
    """In the picker, the lists, the legends, the controls and the sentences; the address has the folder."""
    two_seeds(runs_folder)
    names = [line.called for line in library().values()]
    app = open_page("start", run="seed0")
    (listed,) = [frame.value for frame in app.dataframe if "what it shows" in frame.value or "run" in frame.value]
    assert list(listed["run"]) == names and set(listed["folder"]) == {"seed0", "seed1"}
    assert foot(app).selectbox(key="run-named").options == names
    foot(app).selectbox(key="run-named").select(names[0]).run()
    assert foot(app).selectbox(key="run").value == app.session_state["run"] == next(iter(library()))
    app = open_page("compare", run="seed0")
    assert sorted(app.multiselect(key="runs-named").options) == sorted(names)
    curves = figures(app)["Average accuracy over tasks"]["data"]
    assert sorted(trace["name"] for trace in curves) == sorted(names)
    assert set(app.dataframe[-1].value) == {"setting", *names}
    app = opened(open_page("whatif", run="seed0"), "whatif-more")
    assert app.selectbox(key="beside-named").options == ["none", library()["seed1"].called]
    assert f"This exports {library()['seed0'].called}" in words(open_page("export", run="seed0"))


def test_a_search_finds_by_every_word(runs_folder):
    two_seeds(runs_folder)
    found = list(library().values())
    assert [line.name for line in search(found, "seed=1")] == ["seed1"]
    assert len(search(found, found[0].about.stream)) == 2 and not search(found, "seed=1 nothing-like-it")


def test_every_column_says_something_of_every_run(runs_folder):
    two_seeds(runs_folder)
    recorded_runs.waiting(runs_folder)
    found = list(library().values())
    assert all(len(values) == len(found) for values in table(found, list(COLUMNS)).values())


def test_failed_runs_stand_apart(runs_folder, open_page):
    recorded_runs.finished(runs_folder)
    recorded_runs.failed(runs_folder)
    app = open_page("compare", run="finished")
    assert not app.exception and "failed or not started" in str([e.label for e in app.expander])
    folders = [list(frame.value["run"]) for frame in app.dataframe if "run" in frame.value]
    assert all(len(rows) == 1 for rows in folders[:2])


def select(app, key: str, *rows: int):
    app.session_state[key] = {"selection": {"rows": list(rows), "columns": [], "cells": []}}
    app.run()
    assert not app.exception, [e.value for e in app.exception]
    return app


def test_a_run_is_deleted_and_brought_back(runs_folder, open_page):
    two_seeds(runs_folder)
    app = select(open_page("compare", run="seed0"), "library-runs-2", 0)
    app.button(key="library-delete").click().run()
    assert not app.exception and len(library()) == 1
    app.button(key="library-bring-back").click().run()
    assert not app.exception and set(library()) == {"seed0", "seed1"}


def test_a_title_and_tags_are_kept_and_found(runs_folder, open_page):
    two_seeds(runs_folder)
    app = select(open_page("compare", run="seed0"), "library-runs-2", 0)
    name = next(iter(library()))
    app.text_input(key=f"library-title-{name}").set_value("The good one")
    app.text_input(key=f"library-tags-{name}").set_value("paper, draft, paper")
    next(b for b in app.button if b.label == "Save").click().run()
    assert not app.exception
    line = library()[name]
    assert line.called == "The good one" and line.note.tags == ("paper", "draft")
    assert [found.name for found in search(library().values(), "draft good")] == [name]


def test_selected_runs_are_compared(runs_folder, open_page):
    two_seeds(runs_folder)
    app = select(open_page("compare", run="seed0"), "library-runs-2", 0, 1)
    app.button(key="library-compare").click().run()
    assert not app.exception and set(app.multiselect(key="runs").value) == {"seed0", "seed1"}
    assert app.session_state["run"] == "seed0", "the run that is shown stays"
