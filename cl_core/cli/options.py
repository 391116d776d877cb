"""Options and texts that several commands share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cl_core.at_hand import DOWNLOAD
from cl_core.summary import Summary


def add_runs(parser: argparse.ArgumentParser) -> None:
    """--runs DIR, else PLASTISCOPE_RUNS, else ./runs."""
    default = Path(os.environ.get("PLASTISCOPE_RUNS") or "runs")
    parser.add_argument(
        "--runs", type=Path, default=default, metavar="DIR", help=f"folder of runs (default: {default})"
    )


def add_download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--download",
        action="store_true",
        help=f"fetch weights or data that are named and missing (or {DOWNLOAD}=1); otherwise no network is used",
    )


def let_download(arguments: argparse.Namespace) -> None:
    """Pass --download on to whatever this process builds."""
    if arguments.download:
        os.environ[DOWNLOAD] = "1"


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def accuracy_table(summary: Summary) -> str:
    """The class-incremental matrix as text, with a line that says how to read it."""
    tasks = len(summary.accuracy_matrix)
    lines = ["after \\ on " + "".join(f"{f'T{j + 1}':>7}" for j in range(tasks))]
    for i, row in enumerate(summary.accuracy_matrix):
        lines.append(f"{f'T{i + 1}':<10} " + "".join(f"{'' if v is None else f'{v:.1f}':>7}" for v in row))
    return "\n".join([*lines, "(class-incremental accuracy in percent; rows after training on, columns evaluated on)"])


def headline(summary: Summary) -> str:
    """The measures in words, percent."""
    named = {
        "final average accuracy": summary.final_average_accuracy,
        "average incremental accuracy": summary.average_incremental_accuracy,
        "learning accuracy": summary.learning_accuracy,
        "forgetting": summary.forgetting,
        "backward transfer": summary.backward_transfer,
    }
    return "\n".join(f"{name:<29} {'–' if value is None else f'{value:6.1f}'}" for name, value in named.items())
