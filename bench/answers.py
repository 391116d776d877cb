"""What the questions' finished runs say, as the page of the docs that holds it.

    python -m bench.answers [--runs runs] [--seed 0] > docs/answers.md

Nothing is trained here: `plastiscope ask NAME` does that. A question without a finished run is listed as not answered.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from cl_core.assets import recordings_folder
from cl_core.questions import QUESTIONS, Question, answer_from, finished_runs

HEAD = """\
# Answers

What `plastiscope ask` printed for each of the [questions](questions.md), which says how every verdict is computed. One
seed, the embedded models and streams, on a processor. Made from the finished runs by `python -m bench.answers`.
"""


def told(asked: Question, runs: Path, seed: int) -> Iterator[str]:
    """Title and answer as lines of Markdown."""
    answer = answer_from(asked, finished_runs(asked, runs, recordings_folder(), seed=seed))
    yield f"## {asked.name}\n"
    yield f"*{asked.title}*\n"
    yield f"{answer.text}\n"


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--runs", type=Path, default=Path("runs"))
    cli.add_argument("--seed", type=int, default=0)
    arguments = cli.parse_args()
    print(HEAD)
    for asked in QUESTIONS.values():
        for line in told(asked, arguments.runs, arguments.seed):
            print(line)


if __name__ == "__main__":
    main()
