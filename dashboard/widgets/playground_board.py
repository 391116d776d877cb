"""The Playground's board: a slider and everything that depends on it, drawn in the browser.

While the pointer moves, positions that were trained or recorded are shown as they are; others are interpolated and
labelled so. The server receives the position on release and trains it. The same script draws the exported page, without
a server.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import streamlit as st

from cl_core.assets import assets_folder
from cl_core.playground.frontier import neutral, point, stored, text_of
from cl_core.playground.settings import PROJECTIONS, PlaygroundConfig, slider_of, strength_of
from cl_core.playground.streams import NAMES, tasks_of
from cl_core.playground.training import Outcome
from dashboard.theme import ground_of, task_colour, task_name

_HERE = Path(__file__)
_HTML = '<div class="playground"></div>'
_mount = st.components.v2.component(
    "playground_board",
    html=_HTML,
    css=_HERE.with_suffix(".css").read_text("utf-8"),
    js=_HERE.with_suffix(".js").read_text("utf-8"),
    isolate_styles=False,
)
SHORT = {"energy": "ε", "ewc_lambda": "λ", "images": "memory", "nscl_multiple": "a"}  # inside a sentence
SHADES = 101  # colours of the matrix, one per percent


def layer_names(config: PlaygroundConfig) -> list[str]:
    """Return the layers' names: hidden 1, hidden 2, …, output."""
    return [*(f"hidden {layer + 1}" for layer in range(config.depth)), "output"]


def board_record(
    config: PlaygroundConfig,
    *,
    live: Outcome | None = None,
    trained: Sequence[Outcome] = (),
    stored: Sequence[Mapping[str, Any]] = (),
    trail: Sequence[str] = (),
    asked: str = "",
    waiting: str = "",
    predict: bool = False,
    trains: bool = True,
    beside: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the data of the board.

    Args:
        config: the chosen settings; their strength is the slider's position.
        live: their network, as far as it is trained.
        trained: networks of the same settings at other strengths, trained before.
        stored: points of a frontier over several seeds (`cl_core.playground.frontier`).
        trail: strengths visited, oldest first.
        asked: identifies the requested network, which a prediction belongs to.
        waiting: a sentence to show while there is no result.
        predict: whether the outcome is hidden until the reader has placed a mark.
        trains: whether releasing the slider trains a network.
        beside: a point whose matrix is shown beside that of the slider: {"title", "point"}.
    """
    slider, fixed = slider_of(config), strength_of(config) is None
    texts = [text_of(config)] if fixed else positions(config)
    here = text_of(config)
    return {
        "label": "This rule has no strength to set" if slider is None else slider.label,
        "movable": slider is not None,
        "projects": config.rule in PROJECTIONS,
        "short": SHORT.get(slider.setting, "") if slider else "",
        "texts": texts,
        "at": texts.index(here),
        "layers": layer_names(config),
        "tasks": [
            {"name": task_name(t), "colour": task_colour(t, config.tasks), **shown}
            for t, shown in enumerate(_thumbnails(config.stream, config.tasks, config.similarity, config.seed))
        ],
        "other": dict(beside) if beside is not None else None,
        "live": point([live], here) if live is not None and live.tasks else None,
        "points": {} if fixed else {p["text"]: p for p in (_point(outcome) for outcome in trained) if p},
        "stored": {} if fixed else {p["text"]: p for p in stored if p["text"] in texts},
        "trail": [text for text in trail if text in texts],
        "scale": [ground_of(i / (SHADES - 1)) for i in range(SHADES)],
        "asked": asked,
        "waiting": waiting,
        "predict": predict,
        "trains": trains,
    }


@functools.lru_cache(maxsize=64)
def _thumbnails(stream: str, tasks: int, similarity: float, seed: int) -> list[dict[str, Any]]:
    """Return each task's first test image in grey values 0 to 255 and its class; empty if the digits are missing."""
    try:
        shown = tasks_of(PlaygroundConfig(stream=stream, tasks=tasks, similarity=similarity), seed)
    except (ImportError, OSError):  # an installation without training
        return [{} for _ in range(tasks)]
    return [
        {"image": (255 * task.test_images[0]).astype(int).tolist(), "about": NAMES[task.test_labels[0]]}
        for task in shown
    ]


def positions(config: PlaygroundConfig) -> list[str]:
    """Return the slider's positions as texts, including the chosen value; empty if the rule has no strength."""
    slider, value = slider_of(config), strength_of(config)
    if slider is None:
        return []
    return [slider.text(v) for v in sorted({*slider.positions, *(() if value is None else (value,))})]


def _point(outcome: Outcome) -> dict[str, Any] | None:
    return point([outcome], text_of(outcome.config)) if outcome.tasks else None


@functools.lru_cache(maxsize=1)
def _recorded() -> list[dict[str, Any]]:
    """Return the bundled frontiers."""
    files = sorted((assets_folder() / "playground").glob("*.json"))
    return [record for file in files if (record := stored(file)) is not None]


def recorded_points(config: PlaygroundConfig) -> list[dict[str, Any]]:
    """Return the recorded frontier of these settings; empty if there is none."""
    settings = neutral(config)
    return next((record["points"] for record in _recorded() if record["settings"] == settings), [])


def playground_board(record: dict[str, Any], *, key: str, on_choose: Callable[[str], None]) -> None:
    """Draw the board; `on_choose` is called with the chosen position's text before the page is drawn again."""

    def chosen() -> None:
        said = (st.session_state.get(key) or {}).get("chosen")
        if said and said.get("step") in record["texts"]:
            on_choose(str(said["step"]))

    _mount(data=json.dumps(record, separators=(",", ":")).encode(), key=key, on_chosen_change=chosen)


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --st-font: system-ui, sans-serif;
  --st-background-color: light-dark(#ffffff, #12191d);
  --st-text-color: light-dark(#1b2a30, #e6eef0);
  --st-primary-color: light-dark(#0b6e75, #3fa9b2); }}
body {{ background: var(--st-background-color); color: var(--st-text-color); font: 16px/1.5 var(--st-font);
  max-width: 1180px; margin: 0 auto; padding: 18px; }}
h1 {{ font-size: 24px; margin: 0 0 4px; }} p {{ margin: 6px 0; }} .note {{ font-size: 14px; opacity: .85; }}
{css}
</style></head><body>
<h1>{title}</h1>
<p>{about}</p>
{board}
<p class="note">{note}</p>
<script type="application/json" id="record">{record}</script>
<script>
{js}
mount({{ data: document.getElementById('record').textContent, parentElement: document.body }});
</script>
</body></html>
"""


def board_page(record: dict[str, Any], *, title: str, about: str, note: str) -> str:
    """Return an HTML file with the board, whose slider works without a server or a network connection."""
    script = _HERE.with_suffix(".js").read_text("utf-8").replace("export default function", "function")
    return PAGE.format(
        title=escape(title),
        about=escape(about),
        note=escape(note),
        css=_HERE.with_suffix(".css").read_text("utf-8"),
        board=_HTML,
        record=json.dumps({**record, "trains": False}).replace("<", "\\u003c"),
        js=script,
    )
