"""A draggable threshold: bars per layer follow the pointer in the browser; the server receives the value on release.

Streamlit's own slider reports only on release. Here the page contains the values of all positions and layers (about a
hundred positions), so dragging needs no request. The page also draws a plain slider with the same positions, which
is bound to the URL and visible only where the component does not run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

_HERE = Path(__file__)
_mount = st.components.v2.component(
    "thresholdbars",
    html='<div class="threshold"></div>',
    css=_HERE.with_suffix(".css").read_text("utf-8"),
    js=_HERE.with_suffix(".js").read_text("utf-8"),
    isolate_styles=False,
)
HEAD, SLIDER, ROW = 66, 40, 24  # pixels


def thresholdbars(record: dict[str, Any], *, key: str, on_choose: Callable[[str], None]) -> None:
    """Draw the bars.

    Args:
        record: steps (texts), at (index), says, layers (names), width, recorded [L], nullity, passed, interference
            [P][L], means (of the three, in percent, [P]).
        key: unique on the page.
        on_choose: called with the chosen step's text before the page is drawn again.
    """

    def chosen() -> None:
        said = (st.session_state.get(key) or {}).get("chosen")
        if said and said.get("step") in record["steps"]:
            on_choose(str(said["step"]))

    _mount(
        data=json.dumps(record, separators=(",", ":")).encode(),
        key=key,
        height=HEAD + SLIDER * (len(record["steps"]) > 1) + ROW * (len(record["layers"]) + 1),
        on_chosen_change=chosen,
    )
