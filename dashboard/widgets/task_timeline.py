"""A row of a run's tasks, each in its colour: learned, in training, to come."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import streamlit as st

_HTML = '<ol class="task-timeline" aria-label="Tasks"></ol>'
_CSS = """
.task-timeline { display: flex; flex-wrap: wrap; gap: 6px 8px; margin: 0; padding: 2px 0; list-style: none; }
.task-timeline li { display: inline-flex; gap: 7px; align-items: center; margin: 0; padding: 3px 11px 3px 9px;
  border: 1px solid var(--st-border-color); border-radius: 999px; white-space: nowrap; font: 14px var(--st-font);
  color: var(--st-text-color); }
.task-timeline li[data-now=true] { border-color: currentColor; }
.task-timeline .note { opacity: .74; }
.task-timeline .mark { font-size: 15px; line-height: 1; }
"""
_JS = """
export default function ({ data, parentElement }) {
  const list = parentElement.querySelector('.task-timeline');
  list.replaceChildren(...data.tasks.map(task => {
    const item = document.createElement('li');
    const part = (kind, text) => {
      const span = document.createElement('span'); span.className = kind; span.textContent = text;
      item.append(span); return span; };
    part('mark', task.mark).style.color = task.colour; part('name', task.name).style.fontWeight = 600;
    part('note', task.note);
    item.title = task.classes; item.dataset.now = task.now; return item; })); }
"""
_mount = st.components.v2.component("task_timeline", html=_HTML, css=_CSS, js=_JS, isolate_styles=False)


@dataclass(frozen=True)
class Chip:
    """One task: a mark (filled, half, open circle), its name, a note, its classes (on hover) and its colour."""

    mark: str
    name: str
    note: str
    classes: str
    colour: str
    now: bool = False


def task_timeline(chips: list[Chip], *, key: str) -> None:
    """Draw `chips` in a row. Texts are set as text nodes, so class names cannot become markup."""
    _mount(data={"tasks": [asdict(chip) for chip in chips]}, key=key)
