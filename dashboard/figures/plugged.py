"""Drawing that may fail: of plug-ins' figures, and of events that no run of ours would hold.

`dashboard.figures.catalogue` makes the entries; this module calls the functions.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from cl_core.config import ConfigError
from cl_core.plugins import Drawing
from cl_core.registry import Entry
from dashboard.figures.description import blank, describe
from dashboard.theme import TEMPLATE

if TYPE_CHECKING:
    from dashboard.run_log import Snapshot

FAILED = "failed"  # in the texts of a failed figure: the reason, one sentence
PLACES = {"task", "layer", "head", "image", "probe", "before", "after"}  # controls counted from 1 on the page


def has_what_it_draws(said: Drawing, run: Snapshot) -> bool:
    """Whether the figure has data and every control a value; true on errors, so that they are shown."""
    found, trouble = attempt(said, lambda: said.when(run) and all(map(len, choices(said, run).values())))
    return bool(found or trouble)


def choices(said: Drawing, run: Snapshot) -> dict[str, list[Any]]:
    """The values of each control in this run."""
    return {name: list(values(run)) for name, values in said.controls.items()}


def shown(control: str, value: Any) -> str:
    """A value as shown to the user."""
    return str(value + 1 if control in PLACES and type(value) is int else value)


def draw(said: Drawing, entry: Entry, run: Snapshot, **controls: Any) -> go.Figure:
    """The plug-in's figure with missing texts added; if it fails, a blank figure with the reason. Missing controls take
    their first value."""
    figure, trouble = attempt(said, lambda: _asked(said, run, controls))
    if trouble:
        return undrawn(said.title, f"The plug-in {entry.origin} could not draw this: {trouble}.", trouble)
    words = figure.layout.meta if isinstance(figure.layout.meta, dict) else {}
    if not {"title", "caption", "how", "alt"} <= set(words):
        describe(
            figure.update_layout(template=TEMPLATE, uirevision="keep"),
            title=said.title,
            what=entry.about + ("" if entry.about.endswith((".", "?", "!")) else "."),
            look_for="",
            how=f"Drawn from {', '.join((*said.needs, *said.also))}.",
            alt=f"{said.title}: {len(figure.data)} traces.",
            height=int(figure.layout.height or 340),
        )
    words = {"height": 340, **figure.layout.meta}
    return figure.update_layout(meta={**words, "how": f"{words['how']} Plug-in: {entry.origin}."})


def undrawn(title: str, sentence: str, trouble: str) -> go.Figure:
    """A blank figure whose caption is `sentence`, the reason why it could not be drawn."""
    failed = describe(blank(), title=title, what=sentence, look_for="", how=sentence, alt=sentence)
    return failed.update_layout(xaxis_visible=False, yaxis_visible=False, meta={**failed.layout.meta, FAILED: trouble})


def _asked(said: Drawing, run: Snapshot, controls: dict[str, Any]) -> go.Figure:
    known = choices(said, run)
    for name, value in controls.items():
        if value not in known[name]:
            there = ", ".join(shown(name, other) for other in known[name][:12]) or "none"
            raise ConfigError(f"there is no {name} {shown(name, value)} here, only {there}")
    figure = said.draw(run, **{name: values[0] for name, values in known.items() if values} | controls)
    if not isinstance(figure, go.Figure):
        raise ConfigError(f"it gave no Plotly figure but {type(figure).__name__}")
    return figure


def attempt(said: Drawing, ask: Callable[[], Any]) -> tuple[Any, str]:
    """The result of a plug-in's code, or None and the error with its line, without a full stop."""
    try:
        return ask(), ""
    except ConfigError as error:
        return None, str(error)
    except Exception as error:  # arbitrary code
        file = said.draw.__code__.co_filename
        places = traceback.extract_tb(error.__traceback__)
        place = next((place for place in reversed(places) if place.filename == file), places[-1])
        return None, f"{type(error).__name__}: {error} (line {place.lineno} of {Path(place.filename).name})"
