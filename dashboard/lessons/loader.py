"""Lessons from Markdown files: a head of `key: value` lines, then steps (`docs/lessons.md` is the teacher's page).

Every mistake is a `LessonError` that names file and line.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from cl_core.presets import PRESETS
from dashboard.lessons.expressions import Expression, Text, near
from dashboard.lessons.figures import FIGURES
from dashboard.lessons.glossary import TERMS
from dashboard.lessons.lesson import Choice, Drawing, Lesson, LessonError, Link, Step

FOLDER = Path(__file__).parent  # of the lessons that travel with the program
VARIABLE = "PLASTISCOPE_LESSONS"  # names a folder of one's own
HEAD = ("title", "about", "minutes", "place", "thumbnail", "runs")
SECTIONS = ("Question", "Answer", "Try it")
_KEYWORD = re.compile(r"(figure|claim|words|guess):\s+(\S.*)")
_CHOICE = re.compile(r"- \[(.*?)\]\s+(\S.*)")
_LINK = re.compile(r"- \[([^\]]+)\]\(([^)\s]+)\)")
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
MOST_BYTES = 200_000  # of a file, which is text that people wrote

Line = tuple[int, str]


def lesson_files() -> list[Path]:
    """The bundled lessons, and those of the folder that `PLASTISCOPE_LESSONS` names; a file of the same name wins."""
    own = os.environ.get(VARIABLE)
    folders = [FOLDER, *([Path(own)] if own else [])]
    return list({file.stem: file for folder in folders for file in sorted(folder.glob("*.md"))}.values())


def read(file: Path) -> Lesson:
    """The lesson in a file. Raises LessonError."""
    return _Reader(file).lesson()


@dataclass
class _Part:
    """A step or a part of it: where it begins, and its lines."""

    line: int
    title: str
    lines: list[Line] = field(default_factory=list)


class _Reader:
    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            if file.stat().st_size > MOST_BYTES:
                self.fail(1, f"the file is larger than {MOST_BYTES // 1000} kB")
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self.fail(1, f"it cannot be read: {error}")
        self.lines: list[Line] = list(enumerate(text.splitlines(), start=1))
        self.runs: dict[str, str] = {}

    def fail(self, line: int, what: object) -> NoReturn:
        raise LessonError(self.file, line, what)

    def lesson(self) -> Lesson:
        name = self.file.stem
        if not _NAME.fullmatch(name) or name == "glossary":
            self.fail(1, f"a lesson's file is called by small letters, digits and hyphens, got '{name}'")
        head, body = self.head()
        self.runs = self.named_runs(head)
        steps = tuple(self.step(part) for part in self.parts(body, "# ", "a step begins with '# Title'"))
        if not steps:
            self.fail(self.lines[-1][0] if self.lines else 1, "a lesson needs at least one step, '# Title'")
        text = {key: head[key][1] for key in head}
        return Lesson(
            name,
            text["title"],
            text["about"],
            self.whole(head, "minutes", 10),
            self.whole(head, "place", 100),
            self.shown(head, steps),
            tuple(self.runs.items()),
            steps,
            self.file,
        )

    # ------------------------------------------------------------ the head

    def head(self) -> tuple[dict[str, Line], list[Line]]:
        if not self.lines or self.lines[0][1].strip() != "---":
            self.fail(1, "a lesson begins with a line '---', its head, and '---' again")
        found: dict[str, Line] = {}
        for place, (line, text) in enumerate(self.lines[1:], start=2):
            if text.strip() == "---":
                for key in ("title", "about"):
                    if key not in found:
                        self.fail(line, f"the head does not say '{key}: …'")
                return found, self.lines[place:]
            key, colon, value = (part.strip() for part in text.partition(":"))
            if not text.strip():
                continue
            if not colon or not value:
                self.fail(line, f"a line of the head is 'key: value', got '{text.strip()}'")
            if key not in HEAD:
                self.fail(line, f"there is no '{key}' in a head; it has {', '.join(HEAD)}{near(key, HEAD)}")
            found[key] = (line, value)
        self.fail(1, "the head has no end: a second line '---'")

    def whole(self, head: dict[str, Line], key: str, usual: int) -> int:
        line, value = head.get(key, (1, str(usual)))
        if not value.isdecimal() or len(value) > 4:
            self.fail(line, f"'{key}' is a whole number, got '{value}'")
        return int(value)

    def shown(self, head: dict[str, Line], steps: tuple[Step, ...]) -> int:
        """The step whose first figure is the lesson's thumbnail."""
        number = self.whole(head, "thumbnail", next((n for n, s in enumerate(steps, start=1) if s.drawings), 0))
        if "thumbnail" in head and not (0 < number <= len(steps) and steps[number - 1].drawings):
            self.fail(head["thumbnail"][0], f"'thumbnail' is the number of a step with a figure, got {number}")
        return number

    def named_runs(self, head: dict[str, Line]) -> dict[str, str]:
        line, value = head.get("runs", (1, ""))
        found = {}
        for part in filter(None, (part.strip() for part in value.split(","))):
            alias, equals, run = (piece.strip() for piece in part.partition("="))
            if not equals or not re.fullmatch(r"[a-z][a-z0-9_]*", alias) or not run:
                self.fail(line, f"runs are 'name = run, name = run', got '{part}'")
            found[alias] = run
        return found

    # ------------------------------------------------------------ steps

    def parts(self, lines: list[Line], sign: str, before: str) -> Iterator[_Part]:
        """Lines grouped under headings that begin with `sign`."""
        part = None
        for line, text in lines:
            if text.startswith(sign):
                if part is not None:
                    yield part
                part = _Part(line, text[len(sign) :].strip())
            elif part is not None:
                part.lines.append((line, text))
            elif text.strip():
                self.fail(line, before)
        if part is not None:
            yield part

    def step(self, part: _Part) -> Step:
        where = next((i for i, (_, text) in enumerate(part.lines) if text.startswith("## ")), len(part.lines))
        told = self.keywords(part.lines[:where])
        sections = {
            section.title: section for section in self.parts(part.lines[where:], "## ", "a section begins with '## '")
        }
        for title, section in sections.items():
            if title not in SECTIONS:
                self.fail(section.line, f"a section is called {', '.join(SECTIONS)}, got '{title}'")
        for title in ("Question", "Answer"):
            if title not in sections:
                self.fail(part.line, f"the step '{part.title}' has no section '## {title}'")
        asked = sections["Question"]
        choices = [(line, m) for line, text in asked.lines if (m := _CHOICE.fullmatch(text.strip()))]
        guess = self.keywords(asked.lines)["guess"]
        if len(choices) == 1:
            self.fail(choices[0][0], "a question with choices needs at least two")
        links, preset = self.links(sections.get("Try it", _Part(part.line, "")))
        return Step(
            title=part.title,
            text=self.text(part.lines[:where], part.line),
            question=self.text([one for one in asked.lines if not _CHOICE.fullmatch(one[1].strip())], asked.line),
            answer=self.text(sections["Answer"].lines, sections["Answer"].line),
            drawings=tuple(self.drawing(*one) for one in told["figure"]),
            choices=tuple(self.choice(line, found) for line, found in choices),
            guess=self.expression(*guess[0]) if guess else None,
            claims=tuple(self.expression(*one) for one in told["claim"]),
            links=links,
            preset=preset,
            terms=tuple(self.terms(told["words"])),
        )

    def keywords(self, lines: list[Line]) -> dict[str, list[Line]]:
        """keyword → (line, what stands after it)."""
        found: dict[str, list[Line]] = {key: [] for key in ("figure", "claim", "words", "guess")}
        for line, text in lines:
            if match := _KEYWORD.fullmatch(text.strip()):
                found[match[1]].append((line, match[2]))
        return found

    def text(self, lines: list[Line], at: int) -> Text:
        """Everything that is no keyword, as one text."""
        kept = [(line, "" if _KEYWORD.fullmatch(text.strip()) else text) for line, text in lines]
        while kept and not kept[0][1].strip():
            kept.pop(0)
        if not kept:
            self.fail(at, "there is no text here")
        return self.checked(lambda: Text("\n".join(t for _, t in kept).strip(), kept[0][0], tuple(self.runs)))

    def expression(self, line: int, source: str) -> Expression:
        return self.checked(lambda: Expression(source, line, tuple(self.runs)))

    def checked(self, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except SyntaxError as error:
            raise LessonError(self.file, error.lineno or 1, error.msg) from error

    def choice(self, line: int, match: re.Match[str]) -> Choice:
        condition = match[1].strip()
        right = {"": "false", "x": "true"}.get(condition, condition)
        said = self.checked(lambda: Text(match[2], line, tuple(self.runs)))
        return Choice(said, self.expression(line, right))

    def terms(self, lines: list[Line]) -> Iterator[str]:
        for line, text in lines:
            for key in (part.strip() for part in text.split(",")):
                if key not in TERMS:
                    self.fail(line, f"the glossary has no word '{key}'{near(key, TERMS)}")
                yield key

    # ------------------------------------------------------------ figures and links

    def drawing(self, line: int, source: str) -> Drawing:
        """`name(run, run, control=value)`, read as Python would and never run."""
        try:
            call = ast.parse(source, mode="eval").body
        except (SyntaxError, ValueError):
            call = None
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            self.fail(line, f"a figure is 'name(run, control=value)', got '{source}'")
        name = call.func.id
        if name not in FIGURES:
            self.fail(line, f"there is no figure '{name}'{near(name, FIGURES)}")
        names = tuple(self.alias(line, argument) for argument in call.args)
        controls: dict[str, Any] = {}
        for keyword in call.keywords:
            if keyword.arg == "axes":
                controls["axes"] = self.alias(line, keyword.value)
            elif keyword.arg and isinstance(keyword.value, ast.Constant):
                controls[keyword.arg] = keyword.value.value
            else:
                self.fail(line, f"a control is a number, a text in quotes, True or False, got '{ast.unparse(keyword)}'")
        axes, label = controls.pop("axes", ""), str(controls.pop("label", ""))
        return Drawing(name, names, tuple(controls.items()), axes, label, line)

    def alias(self, line: int, node: ast.expr) -> str:
        name = node.id if isinstance(node, ast.Name) else ast.unparse(node)
        if name not in self.runs:
            self.fail(line, f"'{name}' is no run of this lesson{near(name, self.runs)}; its head names its runs")
        return name

    def links(self, part: _Part) -> tuple[tuple[Link, ...], str]:
        links, preset = [], ""
        for line, text in part.lines:
            if not text.strip():
                continue
            match = _LINK.fullmatch(text.strip())
            if not match:
                self.fail(line, f"a link is '- [what it says](page?run=…)', got '{text.strip()}'")
            kind, colon, value = match[2].partition(":")
            if colon and kind == "train":
                if value not in PRESETS:
                    self.fail(line, f"there is no preset '{value}'{near(value, PRESETS)}")
                preset = value
            else:
                links.append(self.link(line, match[1], match[2]))
        return tuple(links), preset

    def link(self, line: int, says: str, target: str) -> Link:
        page, _, query = target.partition("?")
        pages = sorted(file.stem for file in (FOLDER.parent / "pages").glob("*.py"))
        if page not in pages:
            self.fail(line, f"there is no page '{page}'{near(page, pages)}; pages are {', '.join(pages)}")
        choices: list[tuple[str, str | tuple[str, ...]]] = []
        for key, value in parse_qsl(query):
            if key == "runs":
                choices.append((key, tuple(self.runs.get(name, name) for name in value.split(","))))
            else:
                choices.append((key, self.runs.get(value, value) if key == "run" else value))
        return Link(says, f"pages/{page}.py", tuple(choices))
