"""Options and texts that several commands share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cl_core.hf_cache import DOWNLOAD
from cl_core.summary import Summary


def add_runs(parser: argparse.ArgumentParser) -> None:
    """--runs DIR, else PLASTISCOPE_RUNS, else ./runs."""
    default = Path(os.environ.get("PLASTISCOPE_RUNS") or "runs")
    parser.add_argument(
        "--runs", type=named_path, default=default, metavar="DIR", help=f"folder of runs (default: {default})"
    )


def named_path(text: str) -> Path:
    """A path as an option's value; an empty one would mean this folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a path is needed, got an empty one")
    return Path(text)


def add_download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--download",
        action="store_true",
        help=f"download named weights or data that are missing (or {DOWNLOAD}=1); otherwise no network is used",
    )


def let_download(arguments: argparse.Namespace) -> None:
    """Apply --download to this process."""
    if arguments.download:
        os.environ[DOWNLOAD] = "1"


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def accuracy_table(summary: Summary) -> str:
    """The matrix of the run's default readout as text, with a line that explains it."""
    tasks = len(summary.accuracy_matrix)
    lines = ["after \\ on " + "".join(f"{f'T{j + 1}':>7}" for j in range(tasks))]
    for i, row in enumerate(summary.accuracy_matrix):
        lines.append(f"{f'T{i + 1}':<10} " + "".join(f"{'' if v is None else f'{v:.1f}':>7}" for v in row))
    if summary.zero_shot is not None:
        before = "".join(f"{'' if v is None else f'{v:.1f}':>7}" for v in summary.zero_shot)
        lines.insert(1, f"{'before':<10} {before}")
    return "\n".join([*lines, f"({summary.readout} accuracy in percent; rows after training on, columns evaluated on)"])


def headline(summary: Summary) -> str:
    """The measures in words, percent."""
    named = {
        "final average accuracy": summary.final_average_accuracy,
        "average incremental accuracy": summary.average_incremental_accuracy,
        "learning accuracy": summary.learning_accuracy,
        "forgetting": summary.forgetting,
        "backward transfer": summary.backward_transfer,
    }
    if summary.transfer is not None or summary.average is not None:  # tasks are evaluated before they are learned
        named |= {"Transfer": summary.transfer, "Average": summary.average, "Last": summary.last}
    return "\n".join(f"{name:<29} {'–' if value is None else f'{value:6.1f}'}" for name, value in named.items())
