"""A figure as the browser's Plotly takes it, and the tools that every figure has: pages and report use this one place.

The tools send nothing anywhere. Plotly's own default offers *Share chart…*, which uploads the figure to a cloud.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dashboard.theme import DIVERGING, DIVERGING_DARK, scale

if TYPE_CHECKING:
    import plotly.graph_objects as go


def tools() -> dict[str, Any]:
    """Plotly's configuration, made anew for everybody it is handed to: Plotly's own export removes entries from the one
    it is given, and a figure drawn with it afterwards would know the cloud's address again."""
    return {
        "responsive": True,
        "displaylogo": False,
        "showSendToCloud": False,
        "plotlyServerURL": "",
        # Saving is offered below each figure, with the figure's title; hence no `toImage` here.
        "modeBarButtonsToRemove": ["toImage", "select2d", "lasso2d", "sendChartToCloud"],
    }


CONFIG: dict[str, Any] = tools()  # for `figure.write_html(…, config=CONFIG)`
_LINK = re.compile(r"(?:<|\\u003c)(?=(?:/|\\u002f)?a\b)", re.I)  # as JSON may spell it


def browser_record(figure: go.Figure) -> dict[str, Any]:
    """`data`, `layout` and `config` for `Plotly.react`.

    A map of differences carries the scale for the dark page with it (`meta.dark` of its trace): its zero is the colour
    of the page's ground, and the browser, which alone knows the ground, chooses.
    """
    record = figure.to_plotly_json()
    signed = [list(stop) for stop in scale(DIVERGING)]
    for trace in record["data"]:
        if [list(stop) for stop in trace.get("colorscale") or ()] == signed:
            trace["meta"] = {"dark": scale(DIVERGING_DARK)}
    return {"data": record["data"], "layout": dict(record["layout"]), "config": tools()}


def browser_json(record: dict[str, Any]) -> str:
    """A record as JSON. Links are text in it: Plotly would make them of names in titles, labels and hover texts."""
    from plotly.io.json import to_json_plotly

    return _LINK.sub("&lt;", to_json_plotly(record))
