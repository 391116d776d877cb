"""JSON of figures for the browser's Plotly, and the tool configuration of every figure on pages and in the report.

The tools send no data. Plotly's default configuration offers *Share chart…*, which uploads the figure to a cloud.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dashboard.theme import DIVERGING, DIVERGING_DARK, scale

if TYPE_CHECKING:
    import plotly.graph_objects as go


def tools() -> dict[str, Any]:
    """A new copy of Plotly's configuration for each caller, because Plotly's export removes entries from the given one,
    which would restore the cloud upload."""
    return {
        "responsive": True,
        "displaylogo": False,
        "showSendToCloud": False,
        "plotlyServerURL": "",
        # Saving is offered below each figure, with the figure's title; hence no `toImage` here.
        "modeBarButtonsToRemove": ["toImage", "select2d", "lasso2d", "sendChartToCloud"],
    }


CONFIG: dict[str, Any] = tools()  # for `figure.write_html(…, config=CONFIG)`
_LINK = re.compile(r"(?:<|\\u003c)(?=(?:/|\\u002f)?a\b)", re.I)  # as spelled in JSON


def browser_record(figure: go.Figure) -> dict[str, Any]:
    """`data`, `layout` and `config` for `Plotly.react`.

    A map of differences also has a colour scale for the dark theme (`meta.dark` of its trace): its zero is the
    background colour, and only the browser knows the theme.
    """
    record = figure.to_plotly_json()
    signed = [list(stop) for stop in scale(DIVERGING)]
    for trace in record["data"]:
        if [list(stop) for stop in trace.get("colorscale") or ()] == signed:
            trace["meta"] = {"dark": scale(DIVERGING_DARK)}
    return {"data": record["data"], "layout": dict(record["layout"]), "config": tools()}


def browser_json(record: dict[str, Any]) -> str:
    """A record as JSON, with links escaped: Plotly would render them in titles, labels and hover texts."""
    from plotly.io.json import to_json_plotly

    return _LINK.sub("&lt;", to_json_plotly(record))
