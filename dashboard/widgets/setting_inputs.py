"""Widgets for settings, with bounds, choices and help from the setting's description."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import streamlit as st

SPAN = 10.0  # bounds further apart than this get a number field, not a slider


def setting_inputs(
    rows: Iterable[Mapping[str, Any]], usual: Mapping[str, Any], prefix: str, *, sliders: bool = False
) -> dict[str, Any]:
    """Draw widgets for settings, four in a row; return the changed values. `sliders`: use sliders for shares and other
    numbers with close bounds."""
    changed = {}
    columns = st.columns(4)
    for place, row in enumerate(rows):
        start = usual.get(row["name"], row["default"])
        with columns[place % 4]:
            value = setting_input(row, start, f"{prefix}-{row['name']}", slider=sliders)
        if value != start:
            changed[row["name"]] = value
    return changed


def setting_input(row: Mapping[str, Any], start: Any, key: str, *, slider: bool = False) -> Any:
    """Draw one widget; return its value."""
    label, note = row["name"].replace("_", " "), row.get("help") or None
    if row.get("choices"):
        choices = list(row["choices"])
        return st.selectbox(label, choices, index=choices.index(start) if start in choices else 0, key=key, help=note)
    if isinstance(start, bool):
        return st.toggle(label, start, key=key, help=note)
    if isinstance(start, (int, float)):
        kind = type(start)  # Streamlit needs bounds and value of the same type
        low, high = (None if row.get(end) is None else kind(row[end]) for end in ("low", "high"))
        if slider and kind is float and low is not None and high is not None and high - low <= SPAN:
            return st.slider(label, low, high, start, step=(high - low) / 100, key=key, help=note)
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
