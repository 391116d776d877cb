"""The table of all runs: search, choose columns, note, delete with undo, and select some to compare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from cl_core.store import Note, RunFolder, StoreError, aside
from dashboard.changes import annotate, bring_back, delete_for_good, put_aside, viewing
from dashboard.library import COLUMNS, LISTED, USUAL, Line, lines, run_names, search, table
from dashboard.runs import RunIndex, runs_folder, runs_index
from dashboard.theme import megabytes
from dashboard.view_state import code, go_to, literal, sentence, show_run

TALL = 420  # pixels of the table at most


def run_library(index: RunIndex, most: int) -> None:
    """Draw the table; selected runs are compared on the page.

    Args:
        index: all runs.
        most: runs that can be compared at once.
    """
    found = lines(index)
    with st.container(horizontal=True, vertical_alignment="bottom", key="library-controls"):
        words = st.text_input(
            "Search",
            key="library-search",
            bind="query-params",
            placeholder="method, stream, setting, tag, note",
            icon=":material/search:",
            width=360,
        )
        with st.popover("Columns", icon=":material/view_column:", key="library-columns-menu"):
            columns = st.multiselect(
                "Columns", list(COLUMNS), default=list(USUAL), key="library-columns", persist_state="session"
            )
    shown = search(found, words)
    failed = [line for line in shown if line.failed]
    shown = [line for line in shown if not line.failed]
    selected = _table(shown, columns or list(USUAL), "library-runs")
    if failed:
        with st.expander(f"{len(failed)} failed or not started", icon=":material/error:", key="library-failed"):
            selected += _table(failed, ["run", "folder", "date", "state"], "library-failed-runs")
    if not shown and not failed:
        st.markdown(f"No run has all of {code(words)}." if words else f"No runs in {code(runs_folder())} yet.")
    if len(index.own) > LISTED:
        st.caption(f"The newest {LISTED} of {len(index.own)} runs.")
    _actions(selected, most)
    _undo()


def _table(found: list[Line], columns: list[str], key: str) -> list[Line]:
    """Draw the lines as a table; return the selected ones."""
    if not found:
        return []
    event: Any = st.dataframe(
        table(found, columns),
        key=f"{key}-{len(found)}",  # a selection holds row numbers, which mean other runs in another list
        hide_index=True,
        width="stretch",
        height=min(TALL, 38 + 35 * len(found)),
        on_select="rerun",
        selection_mode="multi-row",
        alt=f"{len(found)} runs",
    )
    return [found[row] for row in event["selection"]["rows"] if row < len(found)]


def _actions(selected: list[Line], most: int) -> None:
    """Draw the actions on the selected runs."""
    own = [] if viewing() else [line for line in selected if not line.recording]
    with st.container(horizontal=True, vertical_alignment="center", key="library-actions"):
        if not selected:
            st.caption("Select runs in the first column to compare, open, note or delete them.")
            return
        st.button(
            f"Compare {len(selected)}",
            key="library-compare",
            type="primary",
            icon=":material/compare_arrows:",
            disabled=len(selected) < 2 or len(selected) > most,
            help=f"Draws 2 to {most} runs below",
            on_click=st.session_state.update,
            kwargs={"runs": [line.name for line in selected]},
        )
        if len(selected) == 1:
            opened = st.button(
                "Open", key="library-open", icon=":material/monitoring:", on_click=show_run, args=(selected[0].name,)
            )
            if opened:
                go_to("pages/run.py")
        if len(selected) == 1 and own:
            with st.popover("Title, note and tags", icon=":material/edit:", key="library-edit"):
                _edit(own[0])
        st.button(
            "Delete",
            key="library-delete",
            icon=":material/delete:",
            disabled=not own,
            help="Removes them from the list; can be undone" if own else "Recordings are bundled and cannot be deleted",
            on_click=_changed,
            args=(_delete, [line.name for line in own]),
        )
    if trouble := st.session_state.pop("_library_trouble", None):
        st.error(sentence(trouble))


def _edit(line: Line) -> None:
    with st.form(f"library-note-{line.name}", border=False):
        title = st.text_input("Title", line.note.title, placeholder=line.called, key=f"library-title-{line.name}")
        text = st.text_area("Note", line.note.text, key=f"library-text-{line.name}")
        tags = st.text_input("Tags, separated by commas", ", ".join(line.note.tags), key=f"library-tags-{line.name}")
        st.caption(f"The folder stays {code(line.name)}: links, forks and commands find the run by it.")
        if st.form_submit_button("Save", key=f"library-save-{line.name}"):
            parts = dict.fromkeys(part.strip() for part in tags.split(",") if part.strip())
            folder = runs_index().own[line.name]
            _changed(annotate, folder, Note(title.strip(), text.strip(), tuple(parts)))
            st.rerun()


def _changed(change: Callable[..., None], *args: Any) -> None:
    """Make a change, report a failure, and read the list again."""
    try:
        change(*args)
    except StoreError as error:
        st.session_state["_library_trouble"] = str(error)
    runs_index(fresh=True)


def _delete(names: list[str]) -> None:
    index = runs_index(fresh=True)
    gone, called = [], run_names(index)
    try:
        for name in names:
            if (folder := index.own.get(name)) is not None:
                gone.append((put_aside(folder), name, called[name]))
    finally:
        if gone:
            st.session_state["_library_deleted"] = gone


def _undo() -> None:
    """Draw the undo of the last deletion, and the disk space of deleted runs."""
    gone = [entry for entry in st.session_state.get("_library_deleted", ()) if entry[0].exists()]
    waiting = aside(runs_folder())
    if not waiting or viewing():
        return
    with st.container(horizontal=True, vertical_alignment="center", key="library-undo"):
        if gone:
            st.markdown(f"Deleted: {', '.join(literal(name) for _, _, name in gone)}.", width="content")
            st.button("Undo", key="library-bring-back", icon=":material/undo:", on_click=_changed, args=(_back, gone))
        with st.popover(f"{len(waiting)} deleted", type="tertiary", icon=":material/delete:", key="library-deleted"):
            st.markdown(
                f"{', '.join(literal(path.name) for path in waiting[:20])} wait in {code(waiting[0].parent)} and take "
                f"{megabytes(sum(RunFolder(path).size() for path in waiting))}."
            )
            st.button(
                "Delete for good", key="library-for-good", on_click=_changed, args=(delete_for_good, runs_folder())
            )


def _back(gone: list[tuple[Path, str, str]]) -> None:
    for path, name, _ in gone:
        bring_back(path, name)
