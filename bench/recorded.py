"""Run a configuration unless its folder is finished already, and read its summary: what the tables here are made
from."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

from cl_core.config import RunConfig
from cl_core.store import RunFolder, create_run
from cl_core.summary import Summary, summarise
from cl_core.training.worker import drive


def finished(config: RunConfig, name: str, runs: Path) -> Summary:
    """The summary of run `name` below `runs`, by its method's own head; trained now (or resumed) if not finished."""
    config, folder = replace(config, name=name), RunFolder(runs / name)
    if not folder.config_file.exists():
        folder = create_run(runs, config)
    elif folder.config().fingerprint() != config.fingerprint():  # it holds every setting, ours those that were named
        sys.exit(f"{folder.path} holds a run with other settings; remove it or choose another --runs folder")
    if summarise(folder).state != "finished":
        started = time.perf_counter()
        ended = drive(folder)
        print(f"{name}: {ended.state} in {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        if ended.state != "finished":
            sys.exit(f"{name}: {ended.reason}")
    return summarise(folder, by_own_head=True)


def mean_sd(values: list[float | None]) -> str:
    """mean ± sample standard deviation over seeds, one decimal; '–' where a measure is undefined."""
    numbers = [v for v in values if v is not None]
    if not numbers or len(numbers) < len(values):
        return "–"
    mean = sum(numbers) / len(numbers)
    if len(numbers) == 1:
        return f"{mean:.1f}"
    return f"{mean:.1f} ± {(sum((v - mean) ** 2 for v in numbers) / (len(numbers) - 1)) ** 0.5:.1f}"
