"""A Plotly figure that keeps its state: zoom, legend, hover and clicks survive new data.

Streamlit's own Plotly element is replaced with every new figure, so each refresh loses the reader's view. This keyed
component passes new data to `Plotly.react` on the existing node. It takes the figure as bytes, so that a figure is
converted to JSON once for all viewers, and draws nothing while its tab is hidden.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard.figures.plot_json import browser_json, browser_record

_HTML = '<div class="liveplot-frame"><div class="liveplot"></div></div>'

_HERE = Path(__file__)
_mount = st.components.v2.component(
    "liveplot",
    html=_HTML,
    css=_HERE.with_suffix(".css").read_text("utf-8"),
    js=_HERE.with_suffix(".js").read_text("utf-8") + _HERE.parents[1].joinpath("figures/toolbar.js").read_text("utf-8"),
    isolate_styles=False,
)


def to_bytes(figure: Any, *, file: str, height: int | None = None) -> bytes:
    """Return `figure` (a Plotly figure) as the component reads it; of its texts, only title and alternative text."""
    record = browser_record(figure)
    layout = record["layout"]
    words = layout.get("meta") or {}
    layout["meta"] = {"title": words.get("title", ""), "alt": words.get("alt", ""), "file": file}
    if height:
        layout["height"] = height
    layout.setdefault("uirevision", "keep")
    return browser_json(record).encode()


def liveplot(
    figure: bytes, *, key: str, height: int, on_pick: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any] | None:
    """Draw `figure` (from `to_bytes`) under `key`; return the last clicked point: trace, i, x, y, z, custom.

    Args:
        figure: the figure's bytes.
        key: unique on the page; an unchanged key keeps the reader's zoom.
        height: pixels of the figure.
        on_pick: called with the clicked point before the page is drawn again.
    """

    def picked() -> None:
        point = (st.session_state.get(key) or {}).get("point")
        if on_pick is not None and point:
            on_pick(dict(point))

    result = _mount(data=figure, key=key, height=height, on_point_change=picked)
    return result.get("point") if result else None


def figure_of(element_bytes: bytes) -> dict[str, Any]:
    """Decode the figure that a mounted component received; for tests."""
    return json.loads(element_bytes)
