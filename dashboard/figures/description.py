"""What a figure says about itself: the page, the export and a screen reader all read it from `layout.meta`."""

from __future__ import annotations

import plotly.graph_objects as go

from dashboard.theme import TEMPLATE


def blank(**layout: object) -> go.Figure:
    """An empty figure with the explicit template; a constant `uirevision` lets zoom and legend survive a refresh."""
    return go.Figure(layout={"template": TEMPLATE, "uirevision": "keep", **layout})


def describe(
    figure: go.Figure, *, title: str, what: str, look_for: str, how: str, alt: str, height: int = 340
) -> go.Figure:
    """`figure` with its words and its height.

    Args:
        title: a few words, shown above; not drawn inside the figure.
        what: first half of the caption, what it is, with cells, seeds and conventions.
        look_for: second half, what to look for.
        how: Markdown, *How is this computed?*: formula, units, source.
        alt: one or two sentences for who cannot see it, with the numbers that matter.
        height: pixels it wants.
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
    """A figure of something that was not measured so far: when its first values come.

    Args:
        title, how, height: as `describe`.
        first: when the first values come, as a clause.
        figure: whose axes are shown; None = a blank one.
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
