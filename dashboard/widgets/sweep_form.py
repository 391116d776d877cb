"""The form that starts a sweep, and its progress; the counterpart of `plastiscope sweep`."""

from __future__ import annotations

import re
import shlex
from typing import Any

import streamlit as st

from cl_core.config import ConfigError, TrainingConfig, describe
from cl_core.presets import PRESETS, resolve
from cl_core.registry import METHODS
from cl_core.store import StoreError
from cl_core.sweeps import Sweep, SweepStatus, axis
from cl_core.sweeps.local import cores
from dashboard import launch
from dashboard.changes import ask_to_stop
from dashboard.method_settings import settings_of
from dashboard.runs import runs_folder
from dashboard.theme import seconds
from dashboard.view_state import code, literal, sentence
from dashboard.widgets.starting import can_train

ALONE = "none"  # no second setting varies
NAMED = 3  # failed runs named per reason
WHOLE = ("backbone", "stream", "device")  # parts of a run that are not settings of its method or training


def sweep_form() -> None:
    """Draw the form; *Start the sweep* starts a worker, and the page follows it."""
    if not can_train():
        return
    columns = st.columns([2, 2, 2])
    method = columns[0].selectbox("Method", list(METHODS), index=_place(list(METHODS), "nsp2"), key="sweep-method")
    rows = _numbers(method)
    names = [row["name"] for row in rows]
    setting = columns[1].selectbox(
        "Setting", names, key=f"sweep-knob-{method}", help="The setting to vary", index=_first_live(rows)
    )
    if setting is None:
        st.info("The settings of this method could not be read.", icon=":material/error:")
        return
    also = columns[2].selectbox(
        "Linked setting",
        [ALONE, *(name for name in names if name != setting)],
        key=f"sweep-also-{method}-{setting}",
        help="A second setting that takes the same values",
    )
    row = next(row for row in rows if row["name"] == setting)
    st.caption(literal(row.get("help") or ""))
    columns = st.columns([3, 2, 2, 3])
    values = columns[0].text_input(
        "Values", _usual_values(row), key=f"sweep-values-{method}-{setting}", help="Separated by commas"
    )
    seeds = columns[1].text_input("Seeds", "0, 1, 2", key="sweep-seeds", help="Each value is trained with each seed")
    workers = int(
        columns[2].number_input(
            "Workers", 1, max(1, cores()), max(1, cores() - 1), key="sweep-workers", help="Runs trained at once"
        )
    )
    others = columns[3].text_input(
        "Other settings",
        key="sweep-others",
        placeholder="epochs=3 batch_size=64",
        help="key=value, separated by spaces; for every run. backbone=, stream= and device= as well",
    )
    key = f"{setting}+{also}" if also != ALONE else setting
    usual = re.sub(r"[^A-Za-z0-9._]+", "-", f"{method}-{key}")
    name = st.text_input("Name", key="sweep-name", placeholder=usual, help="Its runs begin with it").strip() or usual
    try:
        grid = axis(f"{key}={','.join(part.strip() for part in values.split(',') if part.strip())}")
        settings, whole = _others(others)
        sweep = Sweep(name, ({"method": method, **whole},), settings, (grid,), _seeds(seeds))
        count = len(sweep.points)
    except ConfigError as error:
        st.error(sentence(error), icon=":material/error:")
        return
    options = ["--method", method, "--grid", f"{grid.name}={','.join(grid.values)}"]
    options += ["--seeds", ",".join(map(str, sweep.seeds)), "--workers", str(workers)]
    options += [part for setting in settings for part in ("--set", setting)]
    options += [part for key, value in whole.items() for part in (f"--{key}", value)]
    pressed = st.button(
        f"Start the sweep of {count} run{'s' if count > 1 else ''}",
        key="sweep-start",
        type="primary",
        icon=":material/play_arrow:",
    )
    if pressed:  # no callback, which would miss the value of the field typed last
        _start(name, options)
        st.rerun()
    usual_run = PRESETS.get(resolve({"method": method}).preset)
    each = usual_run.seconds if usual_run and not whole else None
    about = seconds(each * count / workers) if each else None
    st.caption(
        (f"About {about} at the preset's length on idle cores. " if about else "")
        + f"In a terminal: {code(f'plastiscope sweep {shlex.join(options)} --name {name}')}"
    )
    if st.session_state.get("_sweep_trouble"):
        st.error(sentence(st.session_state["_sweep_trouble"]))


def sweep_progress(sweep: Sweep, now: SweepStatus, workers: int) -> bool:
    """Draw a sweep's progress and the button that stops or continues it; return whether a worker is on it."""
    runs, count = runs_folder(), len(now.runs)
    busy, failed = launch.sweeping(runs, sweep.name), now.of("failed")
    if busy:
        left = now.seconds_left(workers)
        st.progress(
            min(1.0, now.share),
            text=f"{now.finished} of {count} runs finished"
            + (f", {len(failed)} failed" if failed else "")
            + (f", about {seconds(left)} left" if left else ", time left: estimating"),
        )
        st.button(
            "Stop the sweep",
            key="sweep-stop",
            icon=":material/stop:",
            on_click=_stop,
            args=(sweep.name,),
            help="Saves runs in training; they can continue later from exactly there",
        )
    elif now.finished < count:
        st.markdown(f"{now.finished} of {count} runs are finished; the rest are not running.")
        if can_train():
            st.button(
                f"Train the remaining {count - now.finished}",
                key="sweep-resume",
                icon=":material/play_arrow:",
                on_click=_start,
                args=(sweep.name, ["--workers", str(max(1, cores() - 1))]),
            )
    else:
        st.markdown(f"{count} of {count} runs finished.")
    if failed:
        named: dict[str, list[str]] = {}
        for found in failed:
            named.setdefault(found.reason, []).append(found.folder.name if found.folder else found.point.config.name)
        for reason, names in named.items():
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            st.error(
                f"{len(names)} failed: {literal(reason)} ({', '.join(map(code, names[:NAMED]))}{more})",
                icon=":material/error:",
            )
    return busy


def last_words(name: str) -> None:
    """Show the last output of a sweep's worker, if this tab started it and it ended without a result."""
    words = launch.last_lines(launch.output_of(runs_folder(), name))
    if st.session_state.get("_sweep_started") == name and words and not launch.sweeping(runs_folder(), name):
        with st.expander("Output of the worker", icon=":material/terminal:"):
            st.code("\n".join(words), language=None, wrap_lines=True)


def _start(name: str, options: list[str]) -> None:
    state = st.session_state
    state.pop("_sweep_trouble", None)
    try:
        launch.sweep(runs_folder(), name, options)
        state["_sweep_started"] = state["_sweep_wanted"] = name
    except StoreError as error:
        state["_sweep_trouble"] = str(error)


def _stop(name: str) -> None:
    try:
        ask_to_stop(runs_folder(), name)
    except StoreError as error:
        st.session_state["_sweep_trouble"] = str(error)


def _numbers(method: str) -> list[dict[str, Any]]:
    """Return the method's and the training settings, numeric ones first; empty if they could not be read."""
    try:
        rows = settings_of(method)
    except (StoreError, ConfigError):
        return []
    training = [{**row, "name": f"training.{row['name']}"} for row in describe(TrainingConfig)]
    return sorted([*rows, *training], key=lambda row: row["type"] not in ("float", "int"))


def _first_live(rows: list[dict[str, Any]]) -> int:
    return next((i for i, row in enumerate(rows) if row.get("live") and row["type"] == "float"), 0)


def _usual_values(row: dict[str, Any]) -> str:
    """Return initial values: the choices, or the default and bounds around it."""
    if row.get("choices"):
        return ", ".join(map(str, row["choices"]))
    if row["type"] == "bool":
        return "false, true"
    if row["type"] == "float" and row.get("low") == 0.0 and row.get("high") == 1.0:
        return "0, 0.5, 0.9, 1"
    start = row["default"]
    if isinstance(start, (int, float)):
        return ", ".join(f"{type(start)(v):g}" for v in dict.fromkeys((start / 2, start, start * 2)))
    return str(start)


def _seeds(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdigit() for part in parts):
        raise ConfigError(f"seeds are whole numbers from 0, separated by commas, got {text!r}")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _others(text: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return settings as --set takes them, and those with their own option: backbone, stream, device."""
    parts = [(part, *part.partition("=")[::2]) for part in text.split()]
    whole = {key: value for _, key, value in parts if key in WHOLE and value}
    return tuple(part for part, key, value in parts if key not in WHOLE or not value), whole


def _place(options: list[str], wanted: str) -> int:
    return options.index(wanted) if wanted in options else 0
