"""A run as one HTML file: figures, numbers, settings, and what to be careful of.

The file asks no other host for anything: plotly.js is in it, and its own security policy forbids every request. What
comes from a run (names, classes, settings, reasons) is escaped. Folders are named, never where they lie: absolute
paths in settings and messages are cut to their last name.
"""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cl_core import __version__
from cl_core.config import ConfigError
from cl_core.store import StoreError
from dashboard.figures.catalogue import SECTIONS, contents, in_report
from dashboard.figures.plot_json import browser_json, browser_record
from dashboard.report import facts
from dashboard.report.text import html_of, inline
from dashboard.run_log import Snapshot

if TYPE_CHECKING:
    import plotly.graph_objects as go

GENERATOR = "Plastiscope report"  # by which a file is known as ours
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
_HERE = Path(__file__).parent


def report(log: Snapshot, *, described: Sequence[Mapping[str, Any]] | None = None) -> str:
    """The run as one HTML page.

    Args:
        log: the run; one still in training is marked "so far".
        settings: the method's settings as `config.describe` gives them; None: they are asked for, which takes seconds.
    """
    known = _described(log) if described is None else described
    title = facts.private(log, log.title)
    chapters, drawn, listed = [], 0, []
    for key, parts in contents(log):
        inside, names, said = [], [], ""
        for part in parts:
            made = list(in_report(log, part))
            if made and part.note not in ("", said):
                said = part.note
                inside.append(f'<p class="quiet">{escape(part.note)}</p>')
            for figure in made:
                drawn += 1
                inside.append(figure_html(figure, drawn, log.path.resolve().name))
                names.append((f"figure-{drawn}", figure.layout.meta["title"]))
        if names:
            chapters.append(f'<section id="{key}"><h2>{escape(SECTIONS[key])}</h2>{"".join(inside)}</section>')
            listed.append((key, SECTIONS[key], names))
    body = "\n".join(
        (
            _head(log, title),
            _navigation(listed),
            '<main id="content">',
            _summary(log),
            *chapters,
            _settings(log, known),
            "</main>",
            _foot(),
        )
    )
    return _document(title, body)


def figure_html(figure: go.Figure, number: int, run: str) -> str:
    """One figure with its words; drawn by the page's script from the JSON beside it."""
    words = figure.layout.meta
    title, alt = str(words["title"]), escape(str(words["alt"]))
    file = re.sub(r"[^\w.-]+", "-", f"{run}-{number:02d}-{title}".lower()).strip("-")
    return f"""
<figure id="figure-{number}">
<h3>{inline(title)}</h3>
<div class="plot" data-title="{escape(title)}" data-file="{escape(file)}">
<div class="place" role="figure" aria-label="{alt}" style="min-height:{int(words["height"])}px"></div>
<script type="application/json">{figure_json(figure)}</script>
<noscript><p>{alt} (The figure itself needs scripts.)</p></noscript>
</div>
<div class="save"></div>
<figcaption>{inline(str(words["caption"]))}</figcaption>
<details><summary>How is this computed?</summary><div>{html_of(str(words["how"]))}</div></details>
</figure>"""


def figure_json(figure: go.Figure) -> str:
    """The figure as JSON that may stand inside a script element."""
    record = browser_record(figure)
    record["layout"].pop("meta", None)
    return browser_json(record).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


# ---------------------------------------------------------------- parts of the page


def _document(title: str, body: str) -> str:
    style, script = ((_HERE / name).read_text("utf-8") for name in ("report.css", "report.js"))
    script += (_HERE.parent / "figures" / "toolbar.js").read_text("utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{GENERATOR} {__version__}">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
{body}
<script>{_library()}</script>
<script>{script}</script>
</body>
</html>
"""


@cache
def _library() -> str:
    """plotly.js as a script element may hold it."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs().replace("</script", "<\\/script")


def _head(log: Snapshot, title: str) -> str:
    told = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in facts.about(log)
    )
    so_far = " <small>so far</small>" if facts.unfinished(log) else ""
    made = facts.moment(time.time())
    return f"""<a class="skip" href="#content">To the content</a>
<header>
<h1>{escape(title)}{so_far}</h1>
<p class="quiet">A report of Plastiscope {__version__}, made {made}.</p>
<table class="facts"><tbody>{told}</tbody></table>
</header>"""


def _navigation(listed: list[tuple[str, str, list[tuple[str, str]]]]) -> str:
    items = ['<li><a href="#numbers">In numbers</a></li>']
    for key, title, names in listed:
        inner = "".join(f'<li><a href="#{anchor}">{inline(name)}</a></li>' for anchor, name in names)
        items.append(f'<li><a href="#{key}">{escape(title)}</a><ul>{inner}</ul></li>')
    items.append('<li><a href="#settings">Settings</a></li>')
    return f'<nav aria-label="Contents"><h2>Contents</h2><ol>{"".join(items)}</ol></nav>'


def _summary(log: Snapshot) -> str:
    parts = ['<section id="numbers"><h2>In numbers</h2>']
    cautions = facts.warnings(log)
    if cautions:
        listed = "".join(f"<li>{escape(sentence)}</li>" for sentence in cautions)
        parts.append(f'<div class="warnings" role="note"><strong>To keep in mind</strong><ul>{listed}</ul></div>')
    found = facts.numbers(log)
    if found:
        so_far = " so far" if facts.unfinished(log) else ""
        shown = "".join(f"<div><dt>{escape(m.name)}{so_far}</dt><dd>{escape(m.value)}</dd></div>" for m in found)
        meant = "".join(f"<dt>{escape(m.name)}</dt><dd>{_defined(m.formula)}</dd>" for m in found)
        parts.append(f'<dl class="numbers">{shown}</dl>')
        parts.append(f"<p>Read off the accuracies of {escape(facts.judged_by(log))}.</p>")
        parts.append("<details data-print><summary>How are these numbers defined?</summary>")
        parts.append(f"<div><dl class='defined'>{meant}</dl></div></details>")
    else:
        parts.append("<p>No accuracy has been measured: the first row of the matrix comes with the first task.</p>")
    parts += [_matrix(log), _readouts(log), _tasks(log)]
    return "\n".join([*(part for part in parts if part), "</section>"])


def _defined(text: str) -> str:
    """A definition as the code states it: its paragraphs, formulas (indented there) as they stand."""
    blocks = re.split(r"\n\s*\n", text)
    return "".join(
        f"<pre>{escape(inspect.cleandoc(block))}</pre>" if block.startswith("    ") else html_of(block)
        for block in blocks
    )


def _matrix(log: Snapshot) -> str:
    heads, rows = facts.matrix_rows(log)
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    lines = []
    for i, (name, values) in enumerate(rows):
        first = len(rows) - len([r for r in rows if r[0] != "zero-shot"])
        cells = "".join(
            f"<td{_light(j > i - first or name == 'zero-shot')}>{'' if np.isnan(v) else f'{v:.1f}'}</td>"
            for j, v in enumerate(values)
        )
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return f"""<h3>Accuracy matrix in percent</h3>
<p class="quiet">Rows: after training on; columns: evaluated on. Empty: not measured. Light: before it was learned.</p>
<div class="wide" tabindex="0" role="region" aria-label="Accuracy matrix"><table class="cells">
<thead><tr><td></td>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>"""


def _light(early: bool) -> str:
    return ' class="before"' if early else ""


def _readouts(log: Snapshot) -> str:
    head, rows = facts.readout_table(log)
    return f"<h3>Readouts of the same features</h3>{_table(head, rows, 'Numbers of each readout')}" if rows else ""


def _tasks(log: Snapshot) -> str:
    rows = [list(row) for row in facts.classes(log)]
    return (
        f"<details data-print><summary>Tasks and their classes</summary>"
        f"<div>{_table(['Task', 'Classes', 'Pictures, train / test'], rows, 'Tasks')}</div></details>"
        if rows
        else ""
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], label: str) -> str:
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(label)}"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _settings(log: Snapshot, described: Sequence[Mapping[str, Any]]) -> str:
    parts = [
        '<section id="settings"><h2>Settings</h2>',
        "<p>Marked with a dot and in bold: what differs from the preset or, where that says nothing, from the default; "
        "the usual value stands beside it."
        + ("" if described else " Settings of the method that were not named have its defaults and are not listed.")
        + "</p>",
    ]
    for title, rows in facts.settings(log, described):
        lines = "".join(
            f'<tr{" class=differs" if row.differs else ""}><th scope="row">{escape(row.name)}</th>'
            f"<td>{escape(row.value or 'not set')}</td>"
            f"<td>{escape(f'{row.source}: {row.usual}') if row.differs else ''}</td><td>{inline(row.about)}</td></tr>"
            for row in rows
        )
        parts.append(
            f'<h3>{escape(title)}</h3><table class="settings"><thead><tr><th scope="col">Setting</th>'
            f'<th scope="col">Here</th><th scope="col">Usual</th><th scope="col">What it is</th></tr></thead>'
            f"<tbody>{lines}</tbody></table>"
        )
    left_out = facts.not_recorded(log)
    if left_out:
        parts.append(f"<p>Switched off in this run, so nothing of it is shown: {escape(', '.join(left_out))}.</p>")
    return "\n".join([*parts, "</section>"])


def _foot() -> str:
    return (
        "<footer><p>This file holds everything it shows and asks the network for nothing. Figures can be zoomed; hover "
        "gives values; SVG and PNG save one figure. Conventions: tasks, layers and epochs count from 1; accuracies are "
        "in percent and run from 0 to 100; one colour is one task; a value that was not measured is empty, never "
        "zero. <code>plastiscope export RUN</code> writes the numbers as CSV.</p></footer>"
    )


def _described(log: Snapshot) -> Sequence[Mapping[str, Any]]:
    """The method's settings, asked of a process of its own; none where training is not installed."""
    from dashboard.method_settings import settings_of

    try:
        return settings_of(log.config.method) if log.config else []
    except (StoreError, ConfigError):
        return []


def ours(file: Path) -> bool:
    """Whether a file is a report that may be replaced by a newer one."""
    with file.open("rb") as opened:
        return f'content="{GENERATOR} '.encode() in opened.read(2000)
