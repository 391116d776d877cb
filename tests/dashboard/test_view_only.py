"""A dashboard for viewing: whatever a page asks for, nothing on this machine changes."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from cl_core.commands import Pause
from cl_core.store import StoreError
from dashboard import changes, launch, serve, view_state
from dashboard.menu import PAGES
from dashboard.playground_jobs import Busy, laboratory
from tests import recorded_runs
from tests.dashboard.reading import words

# What the store and the sweeps offer that writes; of the dashboard only these modules may use it.
WRITING = {"create_run", "fork_run", "send", "unpack", "annotate", "put_aside", "bring_back", "delete_for_good",
           "ask_to_stop", "write_atomically", "RunWriter", "discard", "record"}  # fmt: skip
ALLOWED = {"changes.py", "launch.py"}


def test_no_page_writes_past_the_one_place():
    here = Path(view_state.__file__).parent
    for file in here.rglob("*.py"):
        if file.name in ALLOWED:
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cl_core"):
                assert not WRITING & {alias.name for alias in node.names}, file


@pytest.fixture
def viewing(monkeypatch):
    monkeypatch.setattr(changes, "_viewing", True)
    monkeypatch.setattr(launch, "_process", lambda *_: pytest.fail("a process was started"))


def test_every_change_is_refused(viewing, runs_folder):
    folder = recorded_runs.stopped(runs_folder)
    for ask in (
        lambda: launch.start(runs_folder, folder.config()),
        lambda: launch.fork(folder, 1, {}),
        lambda: launch.work_on(folder),
        lambda: launch.ask(runs_folder, "nsp2-baseline"),
        lambda: launch.sweep(runs_folder, "sweep", []),
        lambda: launch.order(folder, Pause()),
        lambda: changes.put_aside(folder),
        lambda: changes.unpack("run.zip", runs_folder),
        lambda: changes.ask_to_stop(runs_folder, "sweep"),
    ):
        with pytest.raises(StoreError, match="for viewing"):
            ask()
    with pytest.raises(Busy, match="for viewing"):
        laboratory().keep(None, runs_folder)


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("page", [entry.page for entry in PAGES if entry.page != "learn"])
def test_pressing_every_button_changes_nothing(page, viewing, runs_folder, open_page):
    recorded_runs.stopped(runs_folder)
    app = open_page(page, run="stopped")
    before = bytes_below(runs_folder)
    for key in [button.key for button in app.button if button.key]:
        found = [button for button in app.button if button.key == key and not button.disabled]
        if not found:
            continue
        found[0].click().run()
        assert not app.exception, (key, [e.value for e in app.exception])
        assert bytes_below(runs_folder) == before, key
        app.switch_page(str(view_state.page_file(f"pages/{page}.py"))).run()


def test_a_viewer_sees_figures_and_no_way_to_start(viewing, runs_folder, open_page):
    recorded_runs.stopped(runs_folder)
    app = open_page("run", run="stopped")
    keys = {button.key for button in app.button}
    assert not keys & {"resume-here", "bar-go-on", "bar-pause", "bar-stop", "launch-start"}
    assert "Stopped" in words(app)


def test_an_address_that_is_not_this_machines_is_refused_in_one_sentence(runs_folder, capsys):
    assert serve.serve(runs_folder, host="203.0.113.7", browser=False) == 1
    assert "this machine has no address 203.0.113.7" in capsys.readouterr().err


def test_where_others_find_it():
    assert serve.own_addresses("127.0.0.2") == ["127.0.0.2"]
    everywhere = serve.own_addresses("0.0.0.0")
    assert everywhere and "0.0.0.0" not in everywhere


def test_what_others_may_is_said(viewing):
    assert "look at your runs" in serve._risk(code=True) and "whoever has the code" in serve._risk(code=True)
    assert "not encrypted" in serve._risk(code=False)
