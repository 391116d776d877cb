"""The user's own images: a folder or a ZIP, inspected before training.

The start button belongs to the inspection of the folder in its current state with the chosen settings. It is disabled
if the folder cannot be used.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import streamlit as st

from cl_core.config import RunConfig, StreamConfig, TrainingConfig
from cl_core.hf_cache import models_at_hand
from cl_core.registry import BACKBONES, METHODS
from cl_core.store import StoreError
from dashboard.folder_state import folder_state
from dashboard.inspect_inputs import or_refusal, samples_of, settled
from dashboard.runs import runs_folder
from dashboard.uploads import unpack_images
from dashboard.view_state import code, go_to, literal, sentence
from dashboard.widgets.preview import data_notes, skipped_files, task_rows
from dashboard.widgets.starting import can_train, say_trouble, start_and_show

LARGEST = 2000  # MB of a ZIP
OFFERED = 40  # folders at a time
MOST_TASKS = 1000
CLASS, POOLED, TASK = KINDS = ("a class", "a class, with all that lies below it", "a task of its own")
FRESH = 60.0  # seconds after which a folder is inspected again, even if it has not changed


def own_pictures() -> None:
    """Draw the choice of a folder, its inspection, and the button that trains on it."""
    st.markdown("### Your own pictures")
    if not can_train():
        return
    st.caption(
        "One folder per class, with or without train and test; a `metadata.csv` with `file_name` and `label`; "
        "Parquet or webdataset shards. The contents and skipped files are shown before training."
    )
    _zip()
    path = _folder()
    if path is None:
        return
    kind = st.radio("Each folder there is", KINDS, key="own-kind", horizontal=True, help="Meaning of the folder's name")
    columns = st.columns(4)
    vit = [name for name, entry in METHODS.items() if entry.needs in ("", "vit")]
    method = columns[0].selectbox("Method", vit, index=vit.index("nsp2"), key="own-method")
    backbones = [name for name, entry in BACKBONES.items() if entry.needs == "vit"]
    backbones += [model.name for model in models_at_hand() if model.name.startswith("timm:")]
    backbone = columns[1].selectbox("Backbone", backbones, key="own-backbone")
    tasks = columns[2].number_input(
        "Tasks", 1, 1000, 2, key="own-tasks", disabled=kind == TASK, help="Classes are divided equally among them"
    )
    epochs = int(columns[3].number_input("Epochs", 1, 1000, 2, key="own-epochs", help="Passes over each task's images"))
    settings: dict[str, Any]
    stream, settings = f"folder:{path}", {"tasks": int(tasks), "remainder": "last task"}
    if kind == POOLED:
        settings["subfolders"] = "pool"
    if kind == TASK:
        stream, settings = "folder:" + ",".join(str(path / name) for name in completions(path, most=MOST_TASKS)), {}
    told = None
    try:
        with st.spinner(f"Looking at {path}…"):
            told = settled(_look(stream, StreamConfig(**settings), folder_state(path)))
    except StoreError as error:
        st.error(sentence(str(error)), icon=":material/broken_image:")
    if told is not None:
        task_rows(told)
        data_notes(told.get("notes", []))
        skipped_files(len(told["skipped"]), told["skipped"])
    record = {
        "method": method,
        "backbone": backbone,
        "stream": stream,
        "stream_settings": settings,
        "training": {"epochs": epochs},
    }
    pressed = st.button(
        "Train on these pictures",
        key="own-start",
        type="primary",
        icon=":material/play_arrow:",
        disabled=told is None,
        help=None if told else "Not before the folder can be read",
        on_click=start_and_show,
        args=(record, "own"),
    )
    st.caption("All other settings, and CLIP models, are in the form on the Run page: choose *Own choice* there.")
    if not say_trouble("own") and pressed:
        go_to("pages/run.py")


def _zip() -> None:
    """Unpack an uploaded ZIP and use it as the folder."""
    given = st.file_uploader(
        "Drop a ZIP of images here, or name a folder below", type="zip", key="own-zip", max_upload_size=LARGEST
    )
    if given is None or st.session_state.get("_own-zip") == given.file_id:
        return
    st.session_state["_own-zip"] = given.file_id
    try:
        with st.spinner("Unpacking…"):
            st.session_state["own-path"] = str(unpack_images(given, given.name, runs_folder().resolve()))
    except StoreError as error:
        st.error(sentence(str(error)), icon=":material/folder_zip:")


def _folder() -> Path | None:
    """Draw the path field and suggested folders; return the folder, or None."""
    typed = st.text_input(
        "Folder on this computer",
        key="own-path",
        placeholder=str(Path.home()),
        help="One folder per class; docs/data.md lists other layouts",
    ).strip()
    path = Path(os.path.abspath(os.path.expanduser(typed or "~")))
    offered = completions(path)
    if offered:
        st.pills(
            "Folders there" if path.is_dir() else "Did you mean",
            offered,
            format_func=literal,  # folder names, which buttons would render as Markdown
            key="own-inner",
            on_change=_enter,
            args=(str(path if path.is_dir() else path.parent),),
        )
    if not typed:
        return None
    if not path.is_dir():
        st.info(f"There is no folder {code(str(path))}.", icon=":material/folder_off:")
        return None
    return path


def _enter(parent: str) -> None:
    """Enter the folder whose pill was pressed."""
    if chosen := st.session_state.get("own-inner"):
        st.session_state["own-path"] = os.path.join(parent, chosen)
        st.session_state["own-inner"] = None


def completions(path: Path, most: int = OFFERED) -> list[str]:
    """Return the folders in `path`, or, if it is not a folder, its siblings that start with its last part."""
    parent, begin = (path, "") if path.is_dir() else (path.parent, path.name.lower())
    found: list[str] = []
    try:
        with os.scandir(parent) as entries:
            for entry in entries:
                if not entry.name.startswith((".", "__")) and entry.name.lower().startswith(begin) and entry.is_dir():
                    found.append(entry.name)
                if len(found) > 50 * most:
                    break
    except OSError:
        return []
    return sorted(found)[:most]


@st.cache_data(show_spinner=False, ttl=FRESH, max_entries=20)
def _look(stream: str, settings: StreamConfig, state: tuple[int, int]) -> dict[str, Any]:
    return or_refusal(lambda: samples_of(stream, settings, TrainingConfig(), RunConfig("nsp2").seed or 0))
