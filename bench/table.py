"""The README's table: methods and controls on split-digits, five seeds, mean ± sd.

    python -m bench.table [--seeds 0,1,2,3,4] [--runs runs/table] [--set epochs=5]

Runs that are finished in the folder are read, not repeated, so an interrupted table goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.recorded import finished, mean_sd
from cl_core.presets import resolve
from cl_core.summary import Summary, measures

ROWS = (
    ("joint (upper reference)", "joint", ()),
    ("frozen features, heads only", "sequential", ("prompt_length=0",)),
    ("sequential", "sequential", ()),
    ("NSP², shrink-only control", "nsp2", ("projection=shrink-only",)),
    ("NSP²", "nsp2", ()),
)
COLUMNS = (
    "final, CIL",
    "forgetting, CIL",
    "learning, CIL",
    "final, task known",
    "forgetting, task known",
    "LDA, stored statistics",
    "LDA, recomputed",
    "seconds",
)
STORED, RECOMPUTED, OWN = "stored statistics", "recomputed statistics", "task-incremental"


def cells(found: list[Summary]) -> list[str]:
    """One table row's numbers over seeds."""

    def of(readout: str, measure: str) -> str:
        return mean_sd([measures(s.readouts[readout])[measure] if readout in s.readouts else None for s in found])

    return [
        mean_sd([s.final_average_accuracy for s in found]),
        mean_sd([s.forgetting for s in found]),
        mean_sd([s.learning_accuracy for s in found]),
        of(OWN, "final_average_accuracy"),
        of(OWN, "forgetting"),
        of(STORED, "final_average_accuracy"),
        of(RECOMPUTED, "final_average_accuracy"),
        f"{sum(s.seconds for s in found) / len(found):.0f}",
    ]


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--seeds", default="0,1,2,3,4")
    cli.add_argument("--runs", type=Path, default=Path("runs/table"))
    cli.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every row")
    arguments = cli.parse_args()
    seeds = [int(s) for s in arguments.seeds.split(",")]
    print(f"| split-digits, micro-vit | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}")
    for title, method, settings in ROWS:
        found = []
        for seed in seeds:
            name = "-".join([method, *(s.replace("=", "-") for s in settings), f"seed{seed}"])
            config = resolve({"method": method, "seed": seed}).with_overrides([*settings, *arguments.set])
            found.append(finished(config, name, arguments.runs))
        print(f"| {title} | {' | '.join(cells(found))} |", flush=True)
    print(f"\nPercent, mean ± sample sd over seeds {arguments.seeds}; class-incremental (CIL) unless said otherwise.")


if __name__ == "__main__":
    main()
