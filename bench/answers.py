"""What the questions' finished runs say, as the page of the docs that holds it.

    python -m bench.answers [--runs runs] [--seed 0] > docs/answers.md

Nothing is trained here: `plastiscope ask NAME` does that. A question without a finished run is listed as not answered.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cl_core.assets import recordings_folder
from cl_core.questions import QUESTIONS, answer_from, finished_runs

HEAD = """\
# Answers

What `plastiscope ask` says to each of the [questions](questions.md), which also tells how every verdict is computed.
The embedded models and streams, on CPU. One seed each, so there is no spread: what lies a few points apart may change
places with another seed. Made from the finished runs by `python -m bench.answers`.
"""
ONE_SEED = " One seed: what lies a few points apart may change places with another."
_NUMBER = r"[+−]?\d[\d.]*(?:e[+−]?\d+)?(?: %| pp)?"
_VALUE = re.compile(rf"(?P<name>\D.*?) (?P<value>{_NUMBER}(?: → {_NUMBER})?)|(?P<first>{_NUMBER}) (?P<what>\D+)")


def page(answers: Mapping[str, str]) -> Iterator[str]:
    """Question → answer as lines of Markdown: all verdicts first, then each question with its runs."""
    yield HEAD
    rows = [
        [f"[{name}](#{name})", QUESTIONS[name].title, _verdict(text), _seeds(text), str(len(QUESTIONS[name].labels))]
        for name, text in answers.items()
    ]
    yield from table(["", "Question", "Answer", "Seed", "Runs"], rows)
    for name, text in answers.items():
        said, told, source = parted(text, QUESTIONS[name].labels)
        yield f"## {name}\n"
        yield f"*{QUESTIONS[name].title}* {said}\n"
        yield from table(*columns(told))
        yield f"{source}\n"


def parted(text: str, labels: Sequence[str]) -> tuple[str, dict[str, str], str]:
    """Of an answer: what it says, what each run came to, and where the numbers are from."""
    body, mark, source = text.removesuffix(ONE_SEED).rpartition(" From ")
    source = f"From {source}" if mark else ""
    body = body if mark else text
    labels = [label for label in labels if re.search(rf"(?:^|\s){re.escape(label)}: ", body)]
    each = "; ".join(f"{re.escape(label)}: (.*?)" for label in labels)
    found = re.fullmatch(rf"(.*?\.(?:.*\.)?) (?:[A-Z]\w+, )?{each}\.", body, re.DOTALL) if labels else None
    if found is None:
        return body, {}, source
    told = dict(zip(labels, found.groups()[1:], strict=True))
    told[labels[-1]], _, more = told[labels[-1]].partition(". ")
    return f"{found[1]} {more}.".removesuffix(" ."), told, source


def columns(told: Mapping[str, str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a column for each value where all runs tell the same ones."""
    split = {label: [_VALUE.fullmatch(part) for part in text.split(", ")] for label, text in told.items()}
    names = [[match["name"] or match["what"] for match in parts if match] for parts in split.values()]
    if names and all(all(parts) for parts in split.values()) and all(found == names[0] for found in names):
        rows = [[label, *(m["value"] or m["first"] for m in parts if m)] for label, parts in split.items()]
        return ["Run", *names[0]], rows
    return ["Run", "Result"], [[label, text] for label, text in told.items()]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table; nothing for no rows."""
    if rows:
        yield f"| {' | '.join(head)} |"
        yield f"|{'---|' * len(head)}"
        yield from (f"| {' | '.join(cell.replace('|', '∣') for cell in row)} |" for row in rows)
        yield ""


def _verdict(text: str) -> str:
    """The first sentence; of a bare "Yes." the next one as well."""
    first, *more = re.split(r"(?<=[.])\s", text, maxsplit=2)
    return f"{first} {more[0]}" if len(first) < 12 and more else first


def _seeds(text: str) -> str:
    found = re.findall(r"; seeds? ([\d, ]+);", text)
    return found[-1] if found else ""


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--runs", type=Path, default=Path("runs"))
    cli.add_argument("--seed", type=int, default=0)
    arguments = cli.parse_args()
    folders = arguments.runs, recordings_folder()
    answers = {
        asked.name: answer_from(asked, finished_runs(asked, *folders, seed=arguments.seed)).text
        for asked in QUESTIONS.values()
    }
    print("\n".join(page(answers)))


if __name__ == "__main__":
    main()
