"""Figures: functions from a run's events to Plotly figures.

from dashboard.figures import figure
figure(run, "accuracy-matrix")            a figure of the catalogue, from a script or a notebook
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go


def figure(run: Any, id: str, **controls: Any) -> go.Figure:
    """A figure of a run as shown on the pages; see `dashboard.notebook.figure`."""
    from dashboard.notebook import figure as drawn  # the catalogue imports the modules of this package

    return drawn(run, id, **controls)
