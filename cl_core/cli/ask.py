"""`plastiscope ask`: train the runs that a question needs, one after another, and compute the answer."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cl_core.assets import recordings_folder
from cl_core.cli.options import add_json, add_runs
from cl_core.cli.run import drive_here
from cl_core.config import ConfigError, RunConfig
from cl_core.questions import (
    QUESTIONS,
    Question,
    answered,
    config_of,
    finished_by_seed,
    known_runs,
    numbers_of,
    pooled_from,
    question,
)
from cl_core.store import RunFolder, create_run

EXAMPLE = """examples:
  plastiscope ask                                  # the questions there are
  plastiscope ask nusa-orthogonality --seed 1
  plastiscope ask nsp2-baseline --seeds 0,1,2      # mean ± sd, and a verdict beyond the spread
  plastiscope ask --all --seeds 0,1,2              # every question, the quickest first

Finished runs are kept and counted: after Ctrl-C the same command goes on where it stopped, and asked again it only
computes. --json prints an object with question, title, seed, state, answer, missing, runs, seeds, verdict, criteria,
numbers and by_seed; with --all one object a question, each on a line of its own."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of the question; without it, list them")
    parser.add_argument("--all", action="store_true", help="every question, those with the shortest runs first")
    add_runs(parser)
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=int, default=0, help="of all its runs (default: 0)")
    seeds.add_argument("--seeds", metavar="0,1,2", type=_seeds, help="several; a verdict takes three")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add_json(parser)
    parser.epilog = EXAMPLE


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0 or max(seeds) >= 2**32:
        raise argparse.ArgumentTypeError(f"whole numbers from 0 to {2**32 - 1} with commas between them, got {text!r}")
    return seeds


def execute(arguments: argparse.Namespace) -> int:
    seeds = arguments.seeds or (arguments.seed,)
    if arguments.all:
        if arguments.name is not None:
            raise ConfigError(f"ask --all asks every question; leave {arguments.name!r} or --all out")
        asked = sorted(QUESTIONS.values(), key=lambda q: (q.seconds is None, q.seconds))
    elif arguments.name is None:
        _list(as_json=arguments.json)
        return 0
    else:
        asked = [question(arguments.name)]
    status = 0
    for place, each in enumerate(asked):
        if arguments.all:
            print(f"question {place + 1} of {len(asked)}: {each.name}", file=sys.stderr, flush=True)
        state = _train_missing(each, seeds, arguments)
        if arguments.json:
            print(json.dumps(_object(each, seeds, arguments, state)), flush=True)
        elif state == "finished":
            found = answered(each, *_folders(arguments), seeds=seeds, device=arguments.device)
            print(f"{each.title}\n\n{found.text()}" + ("\n" if arguments.all else ""), flush=True)
        status = max(status, 1 if state == "failed" else 0)
        if state == "stopped":
            return status
    return status


def _folders(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """Folders of runs that count: the given folder and the bundled recordings."""
    return arguments.runs, recordings_folder()


def _list(*, as_json: bool) -> None:
    if as_json:
        rows = [{"name": q.name, "title": q.title, "why": q.why, "runs": list(q.labels)} for q in QUESTIONS.values()]
        print(json.dumps(rows))
        return
    width = max(map(len, QUESTIONS))
    for name, listed in QUESTIONS.items():
        print(f"{name:<{width}}  {listed.title}")


def _train_missing(asked: Question, seeds: Sequence[int], arguments: argparse.Namespace) -> str:
    """Train unfinished runs, seed by seed, in the order of labels. Returns "finished", "stopped" or "failed"."""
    total = len(asked.labels) * len(seeds)
    known = {seed: known_runs(asked, *_folders(arguments), seed=seed, device=arguments.device) for seed in seeds}
    for place, (seed, label) in enumerate((seed, label) for seed in seeds for label in asked.labels):
        folder, state = known[seed].get(label, (None, ""))
        if state == "finished":
            continue
        os.environ.setdefault(
            "OMP_WAIT_POLICY", "PASSIVE"
        )  # before torch: spinning threads are very slow on shared cores
        folder = folder or _new(arguments.runs, config_of(asked, label, seed=seed, device=arguments.device))
        print(f"run {place + 1} of {total}, {label} ({folder.name})", file=sys.stderr, flush=True)
        ended = drive_here(folder)
        if ended.state == "failed":
            print(f"plastiscope: run {folder.name} failed: {ended.reason}", file=sys.stderr)
            return "failed"
        if ended.state != "finished":
            print(f"stopped; `{_again(asked, arguments)}` goes on from exactly here", file=sys.stderr)
            return "stopped"
    return "finished"


def _again(asked: Question, arguments: argparse.Namespace) -> str:
    """The command to repeat."""
    seeds = f"--seeds {','.join(map(str, arguments.seeds))}" if arguments.seeds else f"--seed {arguments.seed}"
    device = "" if arguments.device == "auto" else f" --device {arguments.device}"
    return f"plastiscope ask {'--all' if arguments.all else asked.name} {seeds} --runs {arguments.runs}{device}"


def _new(runs: Path, config: RunConfig) -> RunFolder:
    """A folder for a run; a number is added if a run with other settings has the name."""
    from cl_core.training.factory import build

    build(config)  # leave no folder behind if building fails
    name, count = config.name, 1
    while (runs / config.name).exists():
        count += 1
        config = replace(config, name=f"{name}-{count}")
    return create_run(runs, config)


def _object(asked: Question, seeds: Sequence[int], arguments: argparse.Namespace, state: str) -> dict[str, Any]:
    """The output of --json. `runs` and `missing` are of the first seed; `by_seed` has the others."""
    measured = finished_by_seed([asked], *_folders(arguments), seeds=seeds, device=arguments.device)[asked.name]
    found = pooled_from(asked, {seed: numbers_of(asked, runs) for seed, runs in measured.items()})
    by_seed = {
        str(seed): {
            "missing": [label for label in asked.labels if label not in runs],
            "runs": {label: str(folder.path) for label, folder in runs.items()},
        }
        for seed, runs in measured.items()
    }
    return {
        "question": asked.name,
        "title": asked.title,
        "seed": seeds[0],
        "state": state,
        "answer": found.text(),
        **by_seed[str(seeds[0])],
        **found.record(),
        "seeds": list(seeds),
        "by_seed": by_seed,
    }
