"""Buttons in a figure's menu that save it as SVG or PNG, or the drawn numbers as CSV."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_HERE = Path(__file__)
_mount = st.components.v2.component(
    "figure_save",
    html='<div class="figure-save" role="group" aria-label="Save this figure"></div>',
    css=_HERE.with_suffix(".css").read_text("utf-8"),
    js=_HERE.with_suffix(".js").read_text("utf-8"),
    isolate_styles=False,
)


def figure_save(key: str) -> None:
    """Draw them for the figure that `liveplot` draws in the panel `key`; nothing is shown if there is none."""
    _mount(data=key, key=f"save-{key}", height="content")
