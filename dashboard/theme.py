"""Colours, number formats and the figure template, so that a task looks the same everywhere.

Three rules. Hues are used only for tasks. Everything else is grey (`INK`, `PALE`) and distinguished by dash, marker
and a label. Magnitudes use a sequential scale (light = low) or, if the sign matters, a diverging one centred at zero.
All single colours have a contrast of at least 3:1 on both backgrounds. Needs neither plotly nor streamlit, so that the
first page opens without them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeGuard

GROUNDS = ("#FFFFFF", "#12191D")  # page backgrounds, light and dark, as in .streamlit/config.toml

# Ordered: the first k differ as much as possible, also for people with one of the three colour vision deficiencies.
TASK_COLOURS = (
    "#1f79dd",
    "#e87302",
    "#32705f",
    "#c62ca8",
    "#d91100",
    "#0da84e",
    "#9487c8",
    "#c97f96",
    "#3d92f9",
    "#5b8664",
)
_RAMP = ("#6b55c8", "#2f7bd0", "#0e8c93", "#3f8f4a", "#9a8412", "#cf6a2a")  # tasks beyond ten, in order of arrival

INK = "#7b838e"  # lines and marks that are not a task
PALE = "rgba(128,134,144,0.38)"  # the same, in the background
GRID = "rgba(128,128,128,0.22)"
CLEAR = "rgba(0,0,0,0)"

SEQUENTIAL = ("#e3ecf7", "#bcd2ec", "#8fb5df", "#5c94d0", "#2f72bb", "#17549a", "#0d3a74", "#08264f")
DIVERGING = ("#8a3b04", "#c2651a", "#e6a063", "#f0d3b5", "#ececee", "#bcd2ec", "#7ba6da", "#2f72bb", "#0d3a74")
# On the dark background: the same two hues, zero slightly above the background, bright ends.
DIVERGING_DARK = ("#f8bb88", "#d9883f", "#a4601f", "#5f4430", "#2b2f33", "#31506f", "#3a76b5", "#73abe6", "#b4d5fa")

FONT = '"Source Sans", "Source Sans 3", "Source Sans Pro", system-ui, sans-serif'


def scale(colours: tuple[str, ...]) -> list[list[Any]]:
    """Return evenly spaced colour stops for a heat map."""
    return [[i / (len(colours) - 1), colour] for i, colour in enumerate(colours)]


# ---------------------------------------------------------------- tasks and layers


def task_name(task: int) -> str:
    """T1 for task 0."""
    return f"T{task + 1}"


def task_title(task: int, tasks: Sequence[dict[str, Any]] = ()) -> str:
    """Return the stream's name of a task (RunStarted.tasks[i]["name"]), at most 18 characters; T1 if it has none."""
    said = str(tasks[task].get("name") or "").strip() if 0 <= task < len(tasks) else ""
    return (said if len(said) <= 18 else said[:17] + "…") or task_name(task)


def task_label(task: int, tasks: Sequence[dict[str, Any]] = ()) -> str:
    """Return T1, or T1 Digits if the stream names the task."""
    title = task_title(task, tasks)
    return title if title == task_name(task) else f"{task_name(task)} {title}"


def layer_name(layer: int) -> str:
    """Layer 1 for layer 0."""
    return f"layer {layer + 1}"


def task_colour(task: int, tasks: int) -> str:
    """Return the colour of a task: from a fixed set for up to ten tasks, from an ordered ramp for more."""
    if tasks <= len(TASK_COLOURS):
        return TASK_COLOURS[task % len(TASK_COLOURS)]
    place = min(max(task, 0), tasks - 1) / (tasks - 1) * (len(_RAMP) - 1)
    low = min(int(place), len(_RAMP) - 2)
    return _between(_RAMP[low], _RAMP[low + 1], place - low)


def ground_of(share: float) -> tuple[str, str]:
    """Return (background, ink) of a cell: the sequential colour of `share` (0 to 1), and a legible text colour."""
    place = min(max(share, 0.0), 1.0) * (len(SEQUENTIAL) - 1)
    low = min(int(place), len(SEQUENTIAL) - 2)
    ground = _between(SEQUENTIAL[low], SEQUENTIAL[low + 1], place - low)
    return ground, max(("#ffffff", "#00050d"), key=lambda ink: contrast(ground, ink))


def faded(colour: str, opacity: float) -> str:
    """Return `colour` (#rrggbb) with `opacity`."""
    red, green, blue = _channels(colour)
    return f"rgba({red},{green},{blue},{opacity:g})"


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21, as defined by WCAG."""
    bright, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _between(start: str, end: str, share: float) -> str:
    mixed = zip(_channels(start), _channels(end), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in mixed)


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in _channels(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# ---------------------------------------------------------------- number formats

MISSING = "–"  # not measured


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def percent(value: float | None, digits: int = 1) -> str:
    """81.3 % for 81.25: accuracies and shares that are in percent already."""
    return f"{value:.{digits}f} %" if _known(value) else MISSING


def points(value: float | None) -> str:
    """−3.2 pp: a difference of two percentages, always signed."""
    return (f"{value:+.1f} pp".replace("-", "−") if round(value, 1) else "0.0 pp") if _known(value) else MISSING


def change(value: float | None) -> str:
    """-3.2 pp, as a metric's change: its arrow follows a plain hyphen, not the minus sign."""
    return points(value).replace("−", "-")


def signed(value: float | None, digits: int = 1) -> str:
    """+3.2, −3.2, 0.0: a difference in a cell, without a unit; empty if unknown."""
    if not _known(value):
        return ""
    return f"{value:+.{digits}f}".replace("-", "−") if round(value, digits) else f"{0:.{digits}f}"


def spread(values: list[float]) -> str:
    """Mean ± sample standard deviation with the number of seeds, in percent; one seed: the value alone."""
    known = [v for v in values if _known(v)]
    if len(known) < 2:
        return percent(known[0] if known else None)
    mean = sum(known) / len(known)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in known) / (len(known) - 1))
    return f"{mean:.1f} ± {deviation:.1f} % ({len(known)} seeds)"


def directions(count: int, width: int) -> str:
    """212 of 768, 28 %."""
    return f"{count} of {width}, {100 * count / width:.0f} %" if width else MISSING


def seconds(value: float | None) -> str:
    """0.4 s, 12 s, 1:15 min, 2:03 h."""
    if not _known(value):
        return MISSING
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def megabytes(size: float | None) -> str:
    """5.4 MB (millions of bytes); below a tenth of one, kB."""
    if not _known(size):
        return MISSING
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def number(value: float | None) -> str:
    """Three significant digits, for quantities without a unit of their own."""
    return f"{value:.3g}".replace("-", "−") if _known(value) else MISSING


# ---------------------------------------------------------------- the template of every figure

_AXIS: dict[str, Any] = {
    "gridcolor": GRID,
    "zeroline": False,
    "zerolinecolor": "rgba(128,128,128,0.5)",  # for figures that draw one
    "linecolor": "rgba(128,128,128,0.5)",
    "ticks": "outside",
    "ticklen": 4,
    "tickcolor": "rgba(128,128,128,0.5)",
    "automargin": True,
    "title": {"standoff": 10, "font": {"size": 13}},
}

TEMPLATE: dict[str, Any] = {
    "layout": {
        "font": {"family": FONT, "size": 13, "color": INK},  # the page replaces this by its text colour
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "colorway": list(TASK_COLOURS),
        "colorscale": {"sequential": scale(SEQUENTIAL), "diverging": scale(DIVERGING)},
        "margin": {"l": 56, "r": 24, "t": 28, "b": 48},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "legend": {"orientation": "h", "y": -0.2, "x": 0},
        "hoverlabel": {"font": {"family": FONT, "size": 13}, "align": "left"},
        "hovermode": "closest",
        "coloraxis": {"colorbar": {"outlinewidth": 0, "thickness": 12}},
    }
}
"""A plain dict, explicit in every figure: Streamlit replaces Plotly's own defaults outside its chart element."""
