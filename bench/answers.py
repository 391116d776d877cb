"""Stores results of the questions' finished runs over seeds in the assets, and generates two pages of the docs.

    python -m bench.answers [--runs runs] [--seeds 0,1,2]

Nothing is trained here; use `plastiscope ask --all --seeds 0,1,2`. Without runs the pages are made from stored results.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cl_core.assets import recordings_folder
from cl_core.questions import (
    FAMILIES,
    LEAST,
    QUESTIONS,
    Pooled,
    Question,
    criteria_table,
    finished_by_seed,
    merged,
    numbers_of,
    pooled_from,
    read_answers,
    stored_numbers,
)
from cl_core.questions import table as runs_table
from cl_core.questions.stored import answers_file

DOCS = Path(__file__).resolve().parent.parent / "docs"
HEAD = f"""\
# Answers

Results for the [questions](questions.md). Bundled models and streams, on CPU. Mean ± sample sd.

Each criterion is evaluated seed by seed, usually as a difference between two runs: *yes* if mean − sd reaches
the bound, *no* if mean + sd stays below, else *undecided*; a verdict needs {LEAST} seeds. A question is a *yes*
if all its criteria are, a *no* if none is, *partly* if some are, and *undecided* while one of them is.

Made by `python -m bench.answers` from `assets/answers.json`; `plastiscope ask NAME --seeds 0,1,2` trains the runs.
"""


def answers_page(answers: Mapping[str, Any]) -> Iterator[str]:
    """The page of answers as lines of Markdown: all verdicts first, then each question with its runs."""
    found = {name: pooled_from(asked, stored_numbers(asked, answers)) for name, asked in QUESTIONS.items()}
    several = {name: each for name, each in found.items() if not each.short}
    fewer = {name: each for name, each in found.items() if each.seeds and each.short}
    yield HEAD
    yield f"## Over {LEAST} seeds or more\n"
    rows = [[_link(name), QUESTIONS[name].title, _verdict(each), _seeds(each)] for name, each in several.items()]
    yield from table(["", "Question", "Answer", "Seeds"], rows)
    if fewer:
        yield "## Fewer seeds, or runs missing: no verdict yet\n"
        rows = [[_link(name), QUESTIONS[name].title, _seeds(each), each.short] for name, each in fewer.items()]
        yield from table(["", "Question", "Seeds", "So far"], rows)
    if unasked := [f"`{name}`" for name in QUESTIONS if name not in several and name not in fewer]:
        yield f"Not asked over seeds yet: {', '.join(unasked)}.\n"
    for name, each in {**several, **fewer}.items():
        yield from _section(QUESTIONS[name], each)


def _section(asked: Question, found: Pooled) -> Iterator[str]:
    yield f"## {asked.name}\n"
    yield f"*{asked.title}* **{_verdict(found)}** Seeds {_seeds(found)}.\n"
    yield from table(*criteria_table(found))
    yield from table(*runs_table(found))


def _verdict(found: Pooled) -> str:
    return f"{found.headline()}."


def _seeds(found: Pooled) -> str:
    return ", ".join(map(str, found.seeds))


def _link(name: str) -> str:
    return f"[{name}](#{name})"


def questions_table(family: str) -> Iterator[str]:
    """A family's questions: runs and what a yes takes."""
    rows = [
        [
            f"**{asked.name}** {asked.title}",
            ", ".join(f"`{label}`" for label in asked.labels),
            "; ".join(f"{c.says} ({c.rule})" for c in asked.criteria),
        ]
        for asked in FAMILIES[family]
    ]
    yield from table(["Question", "Runs", "*Yes* if"], rows)


def filled(text: str) -> str:
    """The page of questions with each family's table made anew between its marks."""
    for family in FAMILIES:
        start, end = f"<!-- questions of {family} -->", "<!-- end of questions -->"
        pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"docs/questions.md has no place for the questions of {family}: {start} … {end}")
        lines = "\n".join([start, *questions_table(family), end])
        text = pattern.sub(lambda _, lines=lines: lines, text)
    return text


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table; nothing for no rows."""
    if rows:
        yield f"| {' | '.join(head)} |"
        yield f"|{'---|' * len(head)}"
        yield from (f"| {' | '.join(cell.replace('|', '∣') for cell in row)} |" for row in rows)
        yield ""


def measured(answers: Mapping[str, Any], *folders: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Stored answers with what the finished runs below the folders say written over them."""
    found = finished_by_seed(QUESTIONS.values(), *folders, seeds=seeds)
    for name, asked in QUESTIONS.items():
        answers = merged(answers, asked, {seed: numbers_of(asked, runs) for seed, runs in found[name].items()})
    return {name: answers[name] for name in QUESTIONS if name in answers}


def dumped(answers: Mapping[str, Any]) -> str:
    """As it is stored: four significant digits, a run a line."""
    rounded = json.loads(json.dumps(answers), parse_float=lambda text: float(f"{float(text):.4g}"))
    lines = []
    for name, seeds in rounded.items():
        runs = [
            f'  "{seed}": {{\n'
            + ",\n".join(
                f"   {json.dumps(label, ensure_ascii=False)}: {json.dumps(run, ensure_ascii=False)}"
                for label, run in each.items()
            )
            + "\n  }"
            for seed, each in seeds.items()
        ]
        lines.append(f' "{name}": {{\n' + ",\n".join(runs) + "\n }")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--runs", type=Path, help="folder of finished runs; without it what is stored is written out")
    cli.add_argument("--seeds", default="0,1,2")
    arguments = cli.parse_args()
    answers = read_answers()
    if arguments.runs is not None:
        seeds = [int(part) for part in arguments.seeds.split(",")]
        answers = measured(answers, arguments.runs, recordings_folder(), seeds=seeds)
        answers_file().write_text(dumped(answers), "utf-8")
        answers = read_answers()
    (DOCS / "answers.md").write_text("\n".join(answers_page(answers)), "utf-8")
    questions = DOCS / "questions.md"
    questions.write_text(filled(questions.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
