"""The form that starts a run: a preset, the most common settings, and all others on request."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cl_core.config import ConfigError, DiagnosticsConfig, RunConfig, StreamConfig, TrainingConfig, describe
from cl_core.hf_cache import models_at_hand
from cl_core.presets import PRESETS, resolve
from cl_core.registry import BACKBONES, METHODS, SCHEMES, STREAMS, Entry, lookup
from cl_core.store import StoreError
from dashboard.method_settings import settings_of
from dashboard.theme import seconds
from dashboard.view_state import literal, sentence, show_next
from dashboard.widgets.preview import preview
from dashboard.widgets.setting_inputs import setting_inputs
from dashboard.widgets.starting import can_train, say_trouble, start_run

OWN = "own choice"  # instead of a preset: method, backbone, stream by name


def launch_form() -> None:
    """Draw the form; *Start* creates a run folder and a worker, and the page follows the run."""
    if not can_train():
        return
    with st.container(border=True, key="launch-form"):
        st.markdown("**Start a run**")
        record = _choices()
        settings, training, diagnostics, stream = (
            _all_settings(record)
            if st.toggle("All settings", key="launch-all", help="Every hyperparameter of the method, and diagnostics")
            else ({}, {}, {}, {})
        )
        record = {
            **record,
            "settings": settings,
            "training": {**record["training"], **training},
            "diagnostics": diagnostics,
            "stream_settings": {**record["stream_settings"], **stream},
        }
        fine = False
        try:
            fine = preview(resolve(record))
        except ConfigError as error:
            st.warning(sentence(error))
        took = PRESETS[record["preset"]].seconds if record.get("preset") else None
        if took:
            usual = RunConfig.from_dict(PRESETS[record["preset"]].config)
            share = (
                record["training"]["epochs"]
                / usual.training.epochs
                * record["stream_settings"]["tasks"]
                / usual.stream_settings.tasks
            )
            st.caption(f"About {seconds(took * share)} on two idle cores; a run needs 1 to 2 GB of memory.")
        if st.button("Start", key="launch-start", type="primary", icon=":material/play_arrow:", disabled=not fine):
            made = start_run(record, "launch")
            if made:
                show_next(made.name, closed="new-run")
        say_trouble("launch")


def _called(choice: str) -> str:
    """Return a preset's title and its name in docs and commands, so that typing either finds it."""
    return f"{PRESETS[choice].title} ({choice})" if choice in PRESETS else "Own choice of method, backbone, stream"


def _choices() -> dict[str, Any]:
    """Draw the common settings: preset or method, backbone, stream; seed, epochs, tasks, device, name."""
    chosen = st.selectbox(
        "Preset",
        [*PRESETS, OWN],
        key="launch-preset",
        persist_state="session",
        format_func=_called,
    )
    record: dict[str, Any]
    if chosen in PRESETS:
        preset = PRESETS[chosen]
        needs = f" Needs {preset.needs}." if preset.needs else ""
        expect = f" To expect: {preset.expect}." if preset.expect else ""
        unknown = " Its run time has not been measured." if preset.needs and preset.seconds is None else ""
        st.caption(preset.about + needs + expect + unknown)
        record = {"preset": chosen}
    else:
        columns = st.columns(3)
        record = {}
        for column, (what, table) in zip(
            columns, (("method", METHODS), ("backbone", BACKBONES), ("stream", STREAMS)), strict=True
        ):
            with column:
                schemes = SCHEMES.get(what, {}).values()
                record[what] = st.selectbox(
                    what.capitalize(),
                    [*table, *(model.name for model in models_at_hand() if what == "backbone")],
                    key=f"launch-{what}",
                    persist_state="session",
                    accept_new_options=bool(schemes),
                    help="; ".join(f"or type {scheme.form}: {scheme.about}" for scheme in schemes) or None,
                )
                st.caption(_about(table, record[what], what))
    usual = _resolved(record)
    places = st.columns([1, 1, 1, 1, 2])
    whole: dict[str, int] = {}
    for place, (label, low, high, start, key, note) in zip(
        places,
        (
            ("Seed", 0, 2**31 - 1, usual.seed or 0, "seed", "Class order, initial prompts and batches"),
            ("Epochs", 1, 1000, usual.training.epochs, f"epochs-{chosen}", "Passes over each task's training images"),
            (
                "Tasks",
                1,
                1000,
                usual.stream_settings.tasks,
                f"tasks-{chosen}",
                "How many tasks of the stream are learned",
            ),
        ),
        strict=False,
    ):
        whole[label] = int(place.number_input(label, low, high, start, key=f"launch-{key}", help=note))
    device = places[3].selectbox(
        "Device", ("auto", "cpu", "cuda"), key="launch-device", help="auto: a GPU if there is one"
    )
    name = places[4].text_input(
        "Name", key="launch-name", placeholder="time and method", help="Name of the run's folder"
    )
    return {
        **record,
        "seed": whole["Seed"],
        "device": device,
        "name": name.strip(),
        "training": {"epochs": whole["Epochs"]},
        "stream_settings": {"tasks": whole["Tasks"]},
    }


def _about(table: dict[str, Entry], name: str, what: str) -> str:
    """Return one line on what was chosen or typed."""
    try:
        return literal(lookup(table, name, what)[1].about)
    except ConfigError as error:
        return sentence(error)


def _resolved(record: dict[str, Any]) -> RunConfig:
    try:
        return resolve(record)
    except ConfigError:  # the method has no default settings for this backbone
        return RunConfig(method=record.get("method", "nsp2"))


def _all_settings(record: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the settings of (method, training, diagnostics, stream) that differ from the defaults."""
    usual = _resolved(record)
    settings: dict[str, Any] = {}
    try:
        with st.spinner("Reading the settings of all methods…"):
            described = settings_of(usual.method)
    except StoreError as error:
        st.warning(sentence(error))
    else:
        st.markdown(f"Settings of {literal(usual.method)}")
        settings = setting_inputs(described, usual.settings, f"knob-{usual.method}-{usual.preset}-{usual.backbone}")
    st.markdown("Training")
    training = setting_inputs(
        [row for row in describe(TrainingConfig) if row["name"] != "epochs"], vars(usual.training), "training"
    )
    st.markdown("Measured besides accuracy")
    diagnostics = setting_inputs(describe(DiagnosticsConfig), vars(usual.diagnostics), "diagnostics")
    st.markdown("Stream; lists are separated by commas")
    stream = setting_inputs(
        [row for row in describe(StreamConfig) if row["name"] != "tasks"], vars(usual.stream_settings), "stream"
    )
    return settings, training, diagnostics, stream
