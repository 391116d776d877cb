"""The bar at the top: at most seven entries, every page reachable, and what a run lacks said before the click."""

from __future__ import annotations

from dataclasses import replace

from cl_core.events import SelectionMeasured
from dashboard.menu import ELSEWHERE, PAGES, lacking
from dashboard.run_log import log_of
from dashboard.runs import runs_index
from dashboard.view_state import page_file
from tests import invented_run, recorded_pool_runs, recorded_runs
from tests.dashboard.reading import words
from tests.invented_run import Plan
from tests.recording import recorded


def test_at_most_seven_entries_and_every_page_has_one():
    bar = {entry.group or entry.page for entry in PAGES if entry.group != ELSEWHERE}
    assert len(bar) <= 7
    files = {file.stem for file in page_file("pages/run.py").parent.glob("*.py")} - {"__init__"}
    assert {entry.page for entry in PAGES} == files


def missing(run: str, *, live: bool = False) -> dict[str, str]:
    log = log_of(runs_index(fresh=True).own[run]).snapshot()
    return {entry.page: said for entry in PAGES if (said := lacking(entry, log, live=live))}


def test_what_a_run_does_not_have_is_said(runs_folder):
    recorded_runs.finished(runs_folder)
    assert missing("finished") == {"pools": "not in this run", "gap": "not in this run"}
    assert missing("finished", live=True) == {"pools": "not yet", "gap": "not yet"}
    recorded_pool_runs.record(runs_folder, "pool")
    assert SelectionMeasured in log_of(runs_index(fresh=True).own["pool"]).snapshot().kinds()
    assert "pools" not in missing("pool")
    assert not any(lacking(entry, None, live=False) for entry in PAGES), "no run, nothing to miss"


def test_the_layer_control_offers_what_the_page_can_show(runs_folder, open_page):
    plan = Plan()
    last = plan.depth - 1
    whole = invented_run.moments(plan)
    kept = [tuple(event for event in moment if getattr(event, "layer", last) == last) for moment in whole]
    recorded(runs_folder, replace(plan.config, name="last"), kept)
    for page, offered in (("whatif", ["3"]), ("spectra", ["3"]), ("attention", ["1", "2", "3"])):
        app = open_page(page, run="last")
        assert app.button_group(key="layer").options == offered, page
        assert app.session_state["layer"] in offered
        assert "has no prompts, so it has no spectrum" not in words(app)


def test_export_is_in_the_runs_own_menu(runs_folder, open_page):
    recorded_runs.finished(runs_folder)
    app = open_page("spectra", run="finished")
    app.button(key="run-menu-Export").click().run()
    assert not app.exception and app.button(key="export-measurements")
