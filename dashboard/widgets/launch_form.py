"""The form that starts a run: a preset, the few settings people change, and all others on request."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import streamlit as st

from cl_core.config import ConfigError, DiagnosticsConfig, RunConfig, TrainingConfig, describe
from cl_core.presets import PRESETS, resolve
from cl_core.registry import BACKBONES, METHODS, STREAMS
from dashboard.frame import literal
from dashboard.theme import seconds
from dashboard.widgets.starting import can_train, say_trouble, start_run

OWN = "own choice"  # instead of a preset: method, backbone, stream by name


def launch_form() -> None:
    """Draw the form; *Start* makes a run folder and a worker, and the page follows it."""
    if not can_train():
        return
    with st.container(border=True, key="launch-form"):
        st.markdown("**Start a run**")
        record = _choices()
        settings, training, diagnostics = (
            _all_settings(record)
            if st.toggle(
                "All settings", key="launch-all", help="Every hyperparameter of the method, and what is measured"
            )
            else ({}, {}, {})
        )
        record = {
            **record,
            "settings": settings,
            "training": {**record["training"], **training},
            "diagnostics": diagnostics,
        }
        took = PRESETS[record["preset"]].seconds if record.get("preset") else None
        if took:
            usual = RunConfig.from_dict(PRESETS[record["preset"]].config)
            share = (
                record["training"]["epochs"]
                / usual.training.epochs
                * record["stream_settings"]["tasks"]
                / usual.stream_settings.tasks
            )
            st.caption(
                f"About {seconds(took * share)} on two idle cores, beside which a run needs 1 to 2 GB of memory."
            )
        st.button(
            "Start", key="launch-start", type="primary", icon=":material/play_arrow:", on_click=_start, args=(record,)
        )
        say_trouble("launch")


def _choices() -> dict[str, Any]:
    """Preset or method, backbone, stream; seed, epochs, tasks, device, name."""
    chosen = st.selectbox(
        "Preset",
        [*PRESETS, OWN],
        key="launch-preset",
        persist_state="session",
        format_func=lambda name: PRESETS[name].title if name in PRESETS else "Own choice of method, backbone, stream",
    )
    record: dict[str, Any]
    if chosen in PRESETS:
        preset = PRESETS[chosen]
        st.caption(preset.about + (f" Needs {preset.needs}." if preset.needs else ""))
        record = {"preset": chosen}
    else:
        columns = st.columns(3)
        record = {}
        for column, (what, table) in zip(
            columns, (("method", METHODS), ("backbone", BACKBONES), ("stream", STREAMS)), strict=True
        ):
            with column:
                record[what] = st.selectbox(
                    what.capitalize(), list(table), key=f"launch-{what}", persist_state="session"
                )
                st.caption(table[record[what]].about)
    usual = _resolved(record)
    places = st.columns([1, 1, 1, 1, 2])
    whole: dict[str, int] = {}
    for place, (label, low, high, start, key, note) in zip(
        places,
        (
            ("Seed", 0, 2**31 - 1, usual.seed, "seed", "Class order, initial prompts and batches"),
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


def _resolved(record: dict[str, Any]) -> RunConfig:
    try:
        return resolve(record)
    except ConfigError:  # a method without a starting point for this backbone
        return RunConfig(method=record.get("method", "nsp2"))


def _all_settings(record: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(method settings, training, diagnostics) that differ from the starting point."""
    usual = _resolved(record)
    found = _methods(os.environ.get("PLASTISCOPE_RUNS", ""))
    knobs = next((m["knobs"] for m in found if m["name"] == usual.method), None)
    settings: dict[str, Any] = {}
    if knobs is None:
        st.warning("The list of method settings could not be read: `python -m cl_core methods --json` did not answer.")
    else:
        st.markdown(f"Settings of {literal(usual.method)}")
        settings = _knobs(knobs, usual.settings, f"knob-{usual.method}-{usual.preset}-{usual.backbone}")
    st.markdown("Training")
    training = _knobs(
        [row for row in describe(TrainingConfig) if row["name"] != "epochs"], vars(usual.training), "training"
    )
    st.markdown("Measured besides accuracy")
    diagnostics = _knobs(describe(DiagnosticsConfig), vars(usual.diagnostics), "diagnostics")
    return settings, training, diagnostics


@st.cache_data(show_spinner="Reading the settings of all methods…", max_entries=4)
def _methods(_unused: str) -> list[dict[str, Any]]:
    """Every method with its knobs, asked of a process of its own: this one never imports torch."""
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "cl_core", "methods", "--json"],
            capture_output=True,
            timeout=60,
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            stdin=subprocess.DEVNULL,
        )
        return list(json.loads(answer.stdout))
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def _knobs(rows: list[dict[str, Any]], usual: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Widgets for described settings, four in a row; returns those that were changed."""
    changed = {}
    columns = st.columns(4)
    for place, row in enumerate(rows):
        start = usual.get(row["name"], row["default"])
        with columns[place % 4]:
            value = _knob(row, start, f"{prefix}-{row['name']}")
        if value != start:
            changed[row["name"]] = value
    return changed


def _knob(row: dict[str, Any], start: Any, key: str) -> Any:
    label, note = row["name"].replace("_", " "), row.get("help") or None
    if row.get("choices"):
        choices = list(row["choices"])
        return st.selectbox(label, choices, index=choices.index(start) if start in choices else 0, key=key, help=note)
    if isinstance(start, bool):
        return st.toggle(label, start, key=key, help=note)
    if isinstance(start, (int, float)):
        kind = type(start)  # Streamlit wants bounds and value alike
        low, high = (None if row.get(end) is None else kind(row[end]) for end in ("low", "high"))
        shape = {"step": 1} if kind is int else {"format": "%.4g"}
        return st.number_input(label, low, high, start, key=key, help=note, **shape)
    text = "" if start is None else ", ".join(map(str, start)) if isinstance(start, (list, tuple)) else str(start)
    typed = st.text_input(label, text, key=key, help=note)
    if typed == text:
        return start
    if isinstance(start, (list, tuple)):
        parts = [part.strip() for part in typed.split(",") if part.strip()]
        return [int(part) if part.lstrip("-").isdigit() else part for part in parts]
    return typed


def _start(record: dict[str, Any]) -> None:
    if start_run(record, "launch"):
        st.session_state["new-run"] = False
