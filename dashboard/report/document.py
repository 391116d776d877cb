"""Report of a run as one HTML file: figures, numbers, settings and warnings.

The file makes no requests: it contains plotly.js, and its security policy forbids all requests. Texts from a run
(names, classes, settings, reasons) are escaped by the template. Absolute paths in settings and messages are reduced to
their last component.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cl_core import __version__
from cl_core.config import ConfigError
from cl_core.readouts import ZERO_SHOT
from cl_core.store import StoreError
from dashboard.figures.catalogue import SECTIONS, contents, in_report
from dashboard.figures.plot_json import browser_json, browser_record
from dashboard.report import facts
from dashboard.report.text import html_of, inline
from dashboard.run_log import Snapshot
from dashboard.summary_metrics import so_far

if TYPE_CHECKING:
    import plotly.graph_objects as go

GENERATOR = "Plastiscope report"  # identifies our files
POLICY = Markup(
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
_HERE = Path(__file__).parent


def report(log: Snapshot, *, described: Sequence[Mapping[str, Any]] | None = None) -> str:
    """Return the report of a run as HTML.

    Args:
        log: the run; numbers of a run in training are marked "so far".
        described: the method's settings from `config.describe`; None = read them, which takes seconds.
    """
    known = _described(log) if described is None else described
    readout_heads, readouts = facts.readout_table(log)
    heads, matrix = facts.matrix_rows(log)
    return _template().render(
        policy=POLICY,
        generator=GENERATOR,
        version=__version__,
        made=facts.moment(time.time()),
        title=facts.private(log, log.title),
        so_far=facts.unfinished(log),
        about=facts.about(log),
        warnings=facts.warnings(log),
        numbers=facts.numbers(log),
        judged_by=facts.judged_by(log),
        heads=heads,
        matrix=_cells(matrix),
        readout_heads=readout_heads,
        readouts=readouts,
        classes=facts.classes(log),
        chapters=_chapters(log),
        settings=facts.settings(log, known),
        complete=bool(known),
        left_out=facts.not_recorded(log),
        style=_own("report/report.css"),
        script=_own("report/report.js") + _own("figures/toolbar.js"),
        library=_library(),
    )


def ours(file: Path) -> bool:
    """Return whether a file is a report, which may be overwritten by a newer one."""
    with file.open("rb") as opened:
        return f'content="{GENERATOR} '.encode() in opened.read(2000)


@cache
def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"markdown": html_of, "inline": inline, "so_far": so_far}
    return environment.get_template("report.html.j2")


def _own(file: str) -> Markup:
    return Markup((_HERE.parent / file).read_text("utf-8"))


@cache
def _library() -> Markup:
    """Return plotly.js, escaped for a script element."""
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs().replace("</script", "<\\/script"))


def _chapters(log: Snapshot) -> list[dict[str, Any]]:
    """Return sections with their figures, without empty figures and repeated notes."""
    chapters, number, run = [], 0, log.path.resolve().name
    for key, entries in contents(log):
        parts, said = [], ""
        for entry in entries:
            figures = [figure_words(figure, number + i, run) for i, figure in enumerate(in_report(log, entry), start=1)]
            if figures:
                parts.append({"note": entry.note if entry.note != said else "", "figures": figures})
                number, said = number + len(figures), entry.note or said
        if parts:
            chapters.append({"id": key, "title": SECTIONS[key], "parts": parts})
    return chapters


def figure_words(figure: go.Figure, number: int, run: str) -> dict[str, Any]:
    """Return the template's data of one figure; the page's script draws it from the JSON."""
    words = figure.layout.meta
    file = re.sub(r"[^\w.-]+", "-", f"{run}-{number:02d}-{words['title']}".lower()).strip("-")
    texts = {key: str(words[key]) for key in ("title", "alt", "caption", "how")}
    return texts | {
        "anchor": f"figure-{number}",
        "file": file,
        "height": int(words["height"]),
        "json": figure_json(figure),
    }


def figure_json(figure: go.Figure) -> Markup:
    """Return the figure as JSON, escaped for a script element."""
    record = browser_record(figure)
    record["layout"].pop("meta", None)
    text = browser_json(record).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return Markup(text)


def _cells(rows: Sequence[tuple[str, Sequence[float]]]) -> list[tuple[str, list[tuple[str, bool]]]]:
    """Return rows (name, [(percent, whether its task was not learned yet)])."""
    before = sum(name == ZERO_SHOT for name, _ in rows)  # the row before training
    return [
        (name, [("" if np.isnan(v) else f"{v:.1f}", j > i - before) for j, v in enumerate(values)])
        for i, (name, values) in enumerate(rows)
    ]


def _described(log: Snapshot) -> Sequence[Mapping[str, Any]]:
    """Return the method's settings, read by a separate process; empty if training is not installed."""
    from dashboard.method_settings import settings_of

    try:
        return settings_of(log.config.method) if log.config else []
    except (StoreError, ConfigError):
        return []
