"""Guided lessons: a Markdown file each, here or in a folder that PLASTISCOPE_LESSONS names (docs/lessons.md)."""

from __future__ import annotations

import functools
from pathlib import Path

from dashboard.lessons.lesson import Lesson, LessonError
from dashboard.lessons.loader import lesson_files, read


def lessons() -> dict[str, Lesson]:
    """Those that can be read, by what the URL says, in the order of the shelf."""
    found = [lesson for file in lesson_files() if isinstance(lesson := _known(file), Lesson)]
    return {lesson.name: lesson for lesson in sorted(found, key=lambda lesson: (lesson.place, lesson.name))}


def mistakes() -> list[LessonError]:
    """What is wrong with the files that cannot be read."""
    return [error for file in lesson_files() if isinstance(error := _known(file), LessonError)]


def _known(file: Path) -> Lesson | LessonError:
    """The lesson in a file, read anew when the file has changed."""
    try:
        changed = file.stat()
    except OSError as error:
        return LessonError(file, 1, f"it cannot be read: {error}")
    return _read(file, changed.st_mtime_ns, changed.st_size)


@functools.lru_cache(maxsize=256)
def _read(file: Path, changed: int, size: int) -> Lesson | LessonError:
    try:
        return read(file)
    except LessonError as error:
        return error
