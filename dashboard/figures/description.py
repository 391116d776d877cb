"""Texts of a figure, stored in `layout.meta` for the page, the export and screen readers."""

from __future__ import annotations

import plotly.graph_objects as go

from dashboard.theme import TEMPLATE


def blank(**layout: object) -> go.Figure:
    """An empty figure with the explicit template; a constant `uirevision` lets zoom and legend survive a refresh."""
    return go.Figure(layout={"template": TEMPLATE, "uirevision": "keep", **layout})


def describe(
    figure: go.Figure, *, title: str, what: str, look_for: str, how: str, alt: str, height: int = 340
) -> go.Figure:
    """`figure` with its texts and height.

    Args:
        title: a few words, shown above the figure.
        what: first half of the caption: content, cells, seeds and conventions.
        look_for: second half: what to look for.
        how: Markdown, *How is this computed?*: formula, units, source.
        alt: alternative text of one or two sentences, with the important numbers.
        height: height in pixels.
    """
    figure.update_layout(
        height=height, meta={"title": title, "caption": f"{what} {look_for}", "how": how, "alt": alt, "height": height}
    )
    return figure


def nothing(
    title: str,
    *,
    how: str,
    first: str = "when the first task has been learned",
    height: int = 340,
    figure: go.Figure | None = None,
) -> go.Figure:
    """A placeholder for a figure without data yet, which says when its first values will arrive.

    Args:
        title, how, height: as `describe`.
        first: when the first values arrive, as a clause.
        figure: the figure with the axes to show; None = a blank one.
    """
    return describe(
        blank() if figure is None else figure,
        title=title,
        what="Nothing has been measured so far.",
        look_for=f"The first values appear {first}.",
        how=how,
        alt="Nothing to draw yet.",
        height=height,
    )
