"""`plastiscope ask`: train the runs that a question needs, one after the other, and compute what they say."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from cl_core.assets import recordings_folder
from cl_core.cli.options import add_json, add_runs
from cl_core.cli.run import drive_here
from cl_core.config import RunConfig
from cl_core.questions import (
    QUESTIONS,
    Question,
    answered,
    config_of,
    finished_runs,
    known_runs,
    question,
)
from cl_core.store import RunFolder, create_run

EXAMPLE = """examples:
  plastiscope ask                              # the questions there are
  plastiscope ask nusa-orthogonality --seed 1

Finished runs are kept and counted: after Ctrl-C the same command goes on where it stopped, and asked again it only
computes. --json prints an object with question, title, seed, state, answer, missing and runs."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of the question; without it, list them")
    add_runs(parser)
    parser.add_argument("--seed", type=int, default=0, help="of all its runs (default: 0)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add_json(parser)
    parser.epilog = EXAMPLE


def execute(arguments: argparse.Namespace) -> int:
    if arguments.name is None:
        _list(as_json=arguments.json)
        return 0
    asked = question(arguments.name)
    state = _train_missing(asked, arguments)
    if arguments.json:
        _print_object(asked, arguments, state)
    elif state == "finished":
        answer = answered(asked, *_folders(arguments), seed=arguments.seed, device=arguments.device)
        print(f"{asked.title}\n\n{answer.text}")
    return 1 if state == "failed" else 0


def _folders(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """Where runs count: those of the folder, and the recordings that travel with the program."""
    return arguments.runs, recordings_folder()


def _list(*, as_json: bool) -> None:
    if as_json:
        rows = [{"name": q.name, "title": q.title, "why": q.why, "runs": list(q.labels)} for q in QUESTIONS.values()]
        print(json.dumps(rows))
        return
    width = max(map(len, QUESTIONS))
    for name, listed in QUESTIONS.items():
        print(f"{name:<{width}}  {listed.title}")


def _train_missing(asked: Question, arguments: argparse.Namespace) -> str:
    """Train what is not finished, oldest label first. Returns how it ended: "finished", "stopped" or "failed"."""
    chosen = {"seed": arguments.seed, "device": arguments.device}
    known = known_runs(asked, *_folders(arguments), **chosen)
    for place, label in enumerate(asked.labels):
        folder, state = known.get(label, (None, ""))
        if state == "finished":
            continue
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads collapse on shared cores
        folder = folder or _new(arguments.runs, config_of(asked, label, **chosen))
        print(f"run {place + 1} of {len(asked.labels)}, {label} ({folder.name})", file=sys.stderr, flush=True)
        ended = drive_here(folder)
        if ended.state == "failed":
            print(f"plastiscope: run {folder.name} failed: {ended.reason}", file=sys.stderr)
            return "failed"
        if ended.state != "finished":
            print(
                f"stopped; `plastiscope ask {asked.name} --seed {arguments.seed} --runs {arguments.runs}` goes on from "
                "exactly here",
                file=sys.stderr,
            )
            return "stopped"
    return "finished"


def _new(runs: Path, config: RunConfig) -> RunFolder:
    """A folder for a run; a number is added where a run of other settings has taken the name."""
    from cl_core.factory import build

    build(config)  # what cannot be built leaves no folder behind
    name, count = config.name, 1
    while (runs / config.name).exists():
        count += 1
        config = replace(config, name=f"{name}-{count}")
    return create_run(runs, config)


def _print_object(asked: Question, arguments: argparse.Namespace, state: str) -> None:
    chosen = {"seed": arguments.seed, "device": arguments.device}
    answer = answered(asked, *_folders(arguments), **chosen)
    finished = finished_runs(asked, *_folders(arguments), **chosen)
    print(
        json.dumps(
            {
                "question": asked.name,
                "title": asked.title,
                "seed": arguments.seed,
                "state": state,
                "answer": answer.text,
                "missing": list(answer.missing),
                "runs": {label: str(folder.path) for label, folder in finished.items()},
            }
        )
    )
