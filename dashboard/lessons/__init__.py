"""Guided lessons. Adding one: a file with a LESSON beside these, and its name in the tuple below."""

from __future__ import annotations

from dashboard.lessons import clip, forgetting, price, readouts, room, tables, threshold, weights
from dashboard.lessons.lesson import Lesson

_MODULES = (price, forgetting, readouts, room, threshold, clip, weights, tables)
LESSONS: dict[str, Lesson] = {module.LESSON.name: module.LESSON for module in _MODULES}
"""By what the URL says, in the order of the shelf."""
