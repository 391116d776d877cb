"""The report's figures as SVG or PNG files, on white, with titles. Needs kaleido and Chrome or Chromium."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dashboard.figures.catalogue import contents, in_report
from dashboard.run_log import Snapshot

if TYPE_CHECKING:
    import plotly.graph_objects as go

WIDTH = 900  # pixels
TITLE = 34  # pixels above the figure
INK = "#1b2a30"
INSTALL = "pip install 'plastiscope[export]'"


class Undrawn(Exception):
    """Figures could not be turned into images; one sentence, without a full stop."""


def unavailable() -> str:
    """Return why no image can be made, one sentence without a full stop; "" if it can be tried."""
    if importlib.util.find_spec("kaleido") is None:
        return f"figures as files need the package kaleido (`{INSTALL}`) and an installed Chrome or Chromium"
    return ""


def named(log: Snapshot) -> dict[str, go.Figure]:
    """Return file name without suffix → figure, numbered as in the report, styled for paper."""
    found: dict[str, go.Figure] = {}
    for _, parts in contents(log):
        for part in parts:
            for figure in in_report(log, part):
                title = re.sub(r"[^\w-]+", "-", str(figure.layout.meta["title"]).lower()).strip("-")
                found[f"{len(found) + 1:02d}-{title}"] = for_paper(figure)
    return found


def for_paper(figure: go.Figure) -> go.Figure:
    """Return `figure` on white with dark text and its title above."""
    words, margin = figure.layout.meta, figure.layout.margin.t
    return figure.update_layout(
        width=WIDTH,
        height=int(words["height"]) + TITLE,
        paper_bgcolor="#ffffff",
        plot_bgcolor="#ffffff",
        font_color=INK,
        margin_t=(28 if margin is None else margin) + TITLE,
        title={
            "text": words["title"],
            "x": 0.01,
            "xanchor": "left",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12},
            "font": {"size": 16},
        },
    )


def write(made: Sequence[go.Figure], files: Sequence[Path]) -> None:
    """Write each figure to its file. Raises Undrawn if no browser can draw them."""
    import plotly.io as pio

    try:
        pio.write_images(list(made), list(files))
    except (RuntimeError, ValueError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
        raise Undrawn(f"figures could not be drawn ({said}); kaleido needs Chrome or Chromium") from error
