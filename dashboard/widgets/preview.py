"""Preview of a run before it starts: size and memory of its backbone, and sample images of each task."""

from __future__ import annotations

import base64
from typing import Any

import streamlit as st

from cl_core.config import RunConfig, StreamConfig, TrainingConfig
from cl_core.estimate import in_words
from cl_core.store import StoreError
from dashboard.folder_state import stream_state
from dashboard.inspect_inputs import AUGMENTATION, SlowAnswer, about_backbone, or_refusal, samples_of, settled
from dashboard.theme import megabytes, task_label
from dashboard.view_state import literal, sentence

FRESH = 60.0  # seconds after which a folder is inspected again
NAMED = 12  # classes named per task


def preview(config: RunConfig) -> bool:
    """Draw a switch and the preview; return False if the preview shows that the run cannot start.

    Nothing is read or built before the switch is on. Each inspection is a separate process, repeated only if a setting
    that it depends on or the folder has changed."""
    if not st.toggle(
        "Preview model and data",
        key="launch-look",
        help="Size and memory of the backbone, and a few images of each task; nothing is downloaded",
    ):
        return True
    told, failed, texts, fine = None, "", None, True
    try:
        with st.spinner(f"Looking at {config.stream}…"):
            shown = TrainingConfig(**{key: getattr(config.training, key) for key in AUGMENTATION})
            state = stream_state(config.stream)
            told = settled(_samples(config.stream, config.stream_settings, shown, config.seed or 0, state))
        texts = max((len(task["classes"]) for task in told["tasks"]), default=None)
    except StoreError as error:
        failed = sentence(str(error))
        fine = isinstance(error, SlowAnswer)
    try:
        with st.spinner(f"Looking at {config.backbone}…"):
            sized = TrainingConfig(batch_size=config.training.batch_size)
            asked = RunConfig(config.method, config.backbone, settings=config.settings, training=sized)
            backbone_lines(settled(_backbone(asked, texts)))
    except StoreError as error:
        st.warning(sentence(str(error)), icon=":material/inventory_2:")
        fine &= isinstance(error, SlowAnswer)
    if told is None:
        st.warning(failed, icon=":material/broken_image:")
        return fine
    task_rows(told)
    data_notes(told.get("notes", []))
    skipped_files(len(told["skipped"]), told["skipped"])
    return fine


def backbone_lines(told: dict[str, Any]) -> None:
    """Draw sizes, the memory estimate, and what is missing."""
    st.caption(
        f"{literal(told['name'])}: {told['parameters'] / 1e6:.1f} million parameters, {told['depth']} blocks of width "
        f"{told['width']}, {told['tokens']} tokens, images of {told['image_size']} pixels a side."
        + (f" Weights available: {megabytes(told['bytes'])}." if told.get("bytes") else "")
    )
    st.caption(sentence(in_words(told["parts"], told["method_counted"], megabytes)))
    if told["missing"]:
        st.warning(sentence(told["missing"]), icon=":material/inventory_2:")
    data_notes(told.get("notes", []))


def task_rows(told: dict[str, Any]) -> None:
    """Draw a row of images per task, each with its class, and below them augmented versions if training augments."""
    tasks = told["tasks"]
    if counts := [pair for task in tasks for pair in task.get("found", ())]:
        halves = ", for training + for testing" if any(test for _, test in counts) else ""
        st.caption(f"After each class: its number of images{halves}.")
    for index, task in enumerate(tasks):
        if "pictures" not in task:
            st.caption(f"{len(tasks) - index} more tasks are not shown.")
            break
        names = ", ".join(_with_counts(task)[:NAMED]) + (", …" if len(task["classes"]) > NAMED else "")
        st.caption(f"{literal(task_label(index, tasks))}: {literal(names)}")
        with st.container(horizontal=True, key=f"preview-{index}"):
            for picture in task["pictures"]:
                png, name = base64.b64decode(picture["png"]), picture["class"]
                st.image(png, caption=literal(name), width=80, alt=f"Image of class {name}")
        if any("changed" in picture for picture in task["pictures"]):
            st.caption("The same images with random augmentation, as in training.")
            with st.container(horizontal=True, key=f"preview-changed-{index}"):
                for picture in task["pictures"]:
                    png, name = base64.b64decode(picture["changed"]), picture["class"]
                    st.image(png, width=80, alt=f"Image of class {name}, augmented")


def _with_counts(task: dict[str, Any]) -> list[str]:
    """Return classes with their numbers of images: "cat 120", or "cat 120 + 30" for training and testing."""
    counts = task.get("found") or [(0, 0)] * len(task["classes"])
    shown = [f" {train}{f' + {test}' if test else ''}" if train else "" for train, test in counts]
    return [f"{name}{count}" for name, count in zip(task["classes"], shown, strict=True)]


def data_notes(notes: list[str]) -> None:
    """Draw notes on how a folder was read, one sentence each."""
    if not notes:
        return
    shown = [sentence(note) for note in notes[:NAMED]]
    if len(notes) > NAMED:
        shown.append(f"And {len(notes) - NAMED} more.")
    st.info(shown[0] if len(shown) == 1 else "\n".join(f"- {line}" for line in shown), icon=":material/info:")


def skipped_files(count: int, files: list[str]) -> None:
    """List the files that could not be used."""
    if not count:
        return
    with st.expander(
        f"{count} unusable file skipped" if count == 1 else f"{count} unusable files skipped",
        icon=":material/hide_image:",
    ):
        st.code("\n".join(files[:100]) + (f"\n… and {count - 100} more" if count > 100 else ""), language=None)


@st.cache_data(show_spinner=False, ttl=FRESH, max_entries=20)
def _backbone(config: RunConfig, texts: int | None) -> dict[str, Any]:
    return or_refusal(lambda: about_backbone(config, texts))


@st.cache_data(show_spinner=False, ttl=FRESH, max_entries=20)
def _samples(
    name: str, settings: StreamConfig, training: TrainingConfig, seed: int, state: tuple[tuple[int, int], ...]
) -> dict[str, Any]:
    return or_refusal(lambda: samples_of(name, settings, training, seed))
