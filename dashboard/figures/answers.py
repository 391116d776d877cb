"""Results of a question's runs over seeds, one measure at a time."""

from __future__ import annotations

from html import escape

import numpy as np
import plotly.graph_objects as go

from cl_core.questions.seeds import Pooled, unit_of
from dashboard.figures.description import blank, describe
from dashboard.theme import INK, PALE

ROW, ABOVE = 46, 110  # px: height of a run's row, and of axis and margins
LETTER = 7  # px, about, of the labels' type


def answer_over_seeds(found: Pooled, measure: str) -> go.Figure:
    """One row per run: small marks are its seeds, the large one their mean, its bar ± their standard deviation.

    Args:
        found: results of the runs.
        measure: a name of `found.measures()`; runs without it have no row.
    """
    spreads = {arm: each[measure] for arm, each in found.arms.items() if measure in each}
    figure, unit, rows = blank(showlegend=False), unit_of(measure), list(spreads)
    name = measure.removesuffix(f", {unit}") if unit else measure
    for place, (arm, spread) in enumerate(spreads.items()):
        label = escape(arm)
        figure.add_scatter(
            x=np.array(spread.values, np.float32),
            y=np.full(len(spread.values), place, np.float32),
            mode="markers",
            name=f"{label}, seeds",
            marker={"size": 7, "color": PALE, "symbol": "circle"},
            hovertemplate=f"{label}: %{{x:.4~g}} {unit}<extra></extra>",
        )
        figure.add_scatter(
            x=np.array([spread.mean], np.float32),
            y=np.array([place], np.float32),
            mode="markers",
            name=label,
            marker={"size": 12, "color": INK, "symbol": "diamond"},
            error_x={"type": "data", "array": [spread.sd or 0.0], "color": INK, "thickness": 1.5, "width": 5},
            hovertemplate=f"{label}: {escape(spread.told(unit))}<extra></extra>",
        )
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(rows))),
        ticktext=[escape(arm) for arm in rows],
        range=[len(rows) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(title_text=escape(measure))
    figure.update_layout(margin={"l": 24 + LETTER * max((len(arm) for arm in rows), default=0), "r": 24})
    seeds = ", ".join(map(str, found.seeds)) or "none"
    return describe(
        figure,
        title=f"{name[:1].upper()}{name[1:]}, run by run",
        what=f"One row per run of the question. Small marks are seeds ({seeds}), the large one their mean, the bar ± "
        "their standard deviation. The axis does not start at zero.",
        look_for="Bars that do not overlap. Even if they overlap, a criterion may hold, because it compares seed by "
        "seed.",
        how="Mean and sample standard deviation over the seeds that have the run. Criteria use the difference within "
        "each seed first, because runs of a seed share the order of the classes.",
        alt="; ".join(f"{arm}: {spread.told(unit)}" for arm, spread in spreads.items()) or "Nothing was measured yet.",
        height=ABOVE + ROW * max(len(rows), 1),
    )
