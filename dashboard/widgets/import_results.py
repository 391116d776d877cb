"""Import of results of another program as a run. They are previewed first; the button writes what is shown."""

from __future__ import annotations

import math
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from cl_core.store import StoreError
from dashboard.figures.matrix_table import matrix_table
from dashboard.folder_state import folder_state
from dashboard.inspect_inputs import import_results, or_refusal, settled
from dashboard.runs import runs_folder, runs_index
from dashboard.theme import percent, points
from dashboard.view_state import code, go_to, literal, sentence, show_run

LARGEST = 200  # MB of a file
AS_TOLD = "as the file says"
SCENARIOS = (AS_TOLD, "class-incremental", "domain-incremental", "task-incremental")
SCALES = {AS_TOLD: "", "percent": "percent", "shares, 0 to 1": "share"}
ZEROS = {AS_TOLD: "", "measured": "measured", "not measured": "not-measured"}
FIELDS = {  # option of the command → label of its field
    "--scenario": "Scenario", "--scale": "Accuracies", "--zeros": "Zeros", "--tasks": "Names of the tasks",
    "--accuracy": "Metric of a task", "--loss": "Metric of the loss", "--ends": "Steps at which tasks ended",
    "--transposed": "Rows", "--format": "Format", "--keep-future": "Keep accuracies on later tasks",
}  # fmt: skip


def import_section() -> None:
    """Draw the import: choose a file or folder, preview its results, keep them as a run."""
    st.markdown("### Results of another program")
    st.caption(
        "Logs of Avalanche, Mammoth, PILOT, PyCIL and FACIL, TensorBoard, W&B (offline), Lightning and Hugging Face "
        "Trainer, or a table of accuracies. Nothing is written before you have seen what was read."
    )
    path = _source()
    if path is None:
        return
    if path.suffix.lower() == ".zip" or (path / "events.db").is_file():
        st.info(f"{code(path.name)} looks like a recording of Plastiscope: import it on the page Export.")
        return
    options = _options()
    try:
        with st.spinner(f"Reading {path.name}…"):
            told = settled(_read(str(path), tuple(options), _state(path)))
    except StoreError as error:
        st.error(sentence(in_page_words(str(error))), icon=":material/quiz:")
        return
    _preview(told)
    names = {key: st.session_state.get(f"import-{key}", "").strip() for key in ("name", "method", "stream")}
    told_names = [f"--{key}={value}" for key, value in names.items() if value]
    pressed = st.button(
        "Import this run",
        key="import-take",
        type="primary",
        icon=":material/download:",
        on_click=_take,
        args=(path, [*options, *told_names, f"--runs={runs_folder().resolve()}"]),
    )
    trouble = st.session_state.pop("_import-trouble", None)
    if trouble:
        st.error(sentence(in_page_words(trouble)))
    elif pressed:
        go_to("pages/forgetting.py")


@st.cache_data(show_spinner=False, max_entries=20)
def _read(path: str, options: tuple[str, ...], state: tuple[int, int]) -> dict[str, Any]:
    return or_refusal(lambda: import_results(Path(path), [*options, "--dry-run"]))


def _state(path: Path) -> tuple[int, int]:
    """Return size and modification time of a file, or those of a folder's content."""
    if path.is_dir():
        return folder_state(path)
    told = path.stat()
    return told.st_size, told.st_mtime_ns


def _take(path: Path, options: list[str]) -> None:
    """Write the previewed results as a run and show it on every page."""
    try:
        told = import_results(path, options)
    except StoreError as error:
        st.session_state["_import-trouble"] = str(error)
        return
    runs_index(fresh=True)
    show_run(str(told["run"]))


def _source() -> Path | None:
    """Return a path on this computer or that of an uploaded file, which is kept for this session only."""
    left, right = st.columns(2)
    typed = left.text_input("File or folder on this computer", key="import-path").strip()
    given = right.file_uploader("Or drop one file here", key="import-file", max_upload_size=LARGEST)
    if given is not None:
        kept = st.session_state.get("_import-file")
        if kept is None or kept[0] != given.file_id:
            place = tempfile.TemporaryDirectory(prefix="plastiscope-")
            file = Path(place.name) / (re.sub(r"[^\w.-]+", "-", given.name).lstrip(".") or "results")
            file.write_bytes(given.getvalue())
            kept = st.session_state["_import-file"] = (given.file_id, place, file)
        return Path(kept[2])
    if not typed:
        return None
    path = Path(os.path.abspath(os.path.expanduser(typed)))
    if not path.exists():
        st.info(f"There is nothing at {code(str(path))}.", icon=":material/folder_off:")
        return None
    return path


def _options() -> list[str]:
    """Draw fields for what files do not say; return them as options of the command."""
    first = st.columns(4)
    scenario = first[0].selectbox(
        "Scenario", SCENARIOS, key="import-scenario", help="Whether the task was known at test time"
    )
    scale = first[1].selectbox("Accuracies", list(SCALES), key="import-scale", help="In percent or as shares")
    transposed = first[2].selectbox(
        "Rows", ("after training on", "evaluated on"), key="import-rows", help="What a row of the matrix is"
    )
    zeros = first[3].selectbox("Zeros", list(ZEROS), key="import-zeros", help="What cells that are exactly 0 mean")
    chosen = [
        f"--scenario={scenario}" if scenario != AS_TOLD else "",
        f"--scale={SCALES[scale]}" if SCALES[scale] else "",
        "--transposed" if transposed == "evaluated on" else "",
        f"--zeros={ZEROS[zeros]}" if ZEROS[zeros] else "",
    ]
    with st.expander("Names and metrics", icon=":material/edit:", key="import-more"):
        second = st.columns(4)
        for place, (option, label, key, hint) in zip(
            second,
            (
                ("tasks", "Names of the tasks", "tasks", "cats, dogs, birds"),
                ("accuracy", "Metric of a task", "accuracy", "val_acc/task{task}"),
                ("ends", "Steps at which tasks ended", "ends", "100, 200"),
                ("loss", "Metric of the loss", "loss", "train_loss"),
            ),
            strict=True,
        ):
            value = place.text_input(label, key=f"import-{key}", placeholder=hint).strip()
            chosen.append(f"--{option}={value}" if value else "")
        third = st.columns(4)
        third[0].text_input("Name of the run", key="import-name", placeholder="time and method")
        third[1].text_input("Method", key="import-method", placeholder="as the file says")
        third[2].text_input("Data", key="import-stream", placeholder="as the file says")
        if third[3].checkbox("Keep accuracies on later tasks", key="import-future"):
            chosen.append("--keep-future")
    return [option for option in chosen if option]


def _preview(told: dict[str, Any]) -> None:
    """Draw the matrix, its measures, and how it was read."""
    tasks = [{"name": name, "classes": []} for name in told["tasks"]]
    st.markdown(f"**{literal(told['program'])}**: {literal(told['source'])}, {literal(told['scenario'])}")
    untrained = None if told["untrained"] is None else _numbers([told["untrained"]])[0]
    with st.container(border=True, key="panel-import-matrix"):
        st.html(matrix_table(_numbers(told["accuracy_matrix"]), tasks=tasks, untrained=untrained))
    shown = {
        "Final average accuracy": percent(told["final_average_accuracy"]),
        "Learning accuracy": percent(told["learning_accuracy"]),
        "Forgetting": points(told["forgetting"]).lstrip("+"),
    }
    for place, (label, value) in zip(st.columns(len(shown)), shown.items(), strict=True):
        place.metric(label, value)
    for note in told["notes"]:
        st.caption(sentence(in_page_words(note)))
    if told["losses"]:
        st.caption(f"{told['losses']} values of a training loss.")
    if told["not_read"]:
        with st.expander(f"{len(told['not_read'])} things could not be read", icon=":material/visibility_off:"):
            st.code("\n".join(told["not_read"][:100]), language=None)


def _numbers(rows: list[list[float | None]]) -> np.ndarray:
    return np.array([[math.nan if value is None else value for value in row] for row in rows], dtype=float)


def in_page_words(text: str) -> str:
    """Replace the command's options in a sentence with the labels of the fields here."""
    return re.sub(r"--[a-z]+(?:-[a-z]+)*", lambda found: FIELDS.get(found.group(), found.group()), text)
