"""Choose settings on the validation split: a grid of settings × seeds, never looking at the test images.

python -m bench.choose --method nsp2 --grid prompt_rate=0.02,0.05 prompt_length=4,8 --seeds 0,1 [--runs runs/choose]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.recorded import mean_sd
from cl_core.readouts import STORED
from cl_core.summary import summarise
from cl_core.sweeps import Sweep, axis, sweep_status
from cl_core.sweeps.local import LocalEngine
from cl_core.sweeps.pareto import measures_of
from cl_core.sweeps.scheduler import conduct
from cl_core.sweeps.worker import Outcome


def told(outcome: Outcome) -> None:
    print(f"{outcome.name}: {outcome.state} {outcome.reason}", file=sys.stderr, flush=True)


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--method", required=True)
    cli.add_argument("--grid", nargs="*", default=[], metavar="KEY=A,B")
    cli.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every point")
    cli.add_argument("--seeds", default="0,1")
    cli.add_argument("--workers", type=int, help="default: one a core")
    cli.add_argument("--name", help="of the sweep, where one grid is not enough (default: choose-METHOD)")
    cli.add_argument("--runs", type=Path, default=Path("runs/choose"))
    arguments = cli.parse_args()
    sweep = Sweep(
        arguments.name or f"choose-{arguments.method}",
        ({"method": arguments.method},),
        ("stream.evaluate_on=validation", *arguments.set),
        tuple(axis(text) for text in arguments.grid),
        tuple(int(seed) for seed in arguments.seeds.split(",")),
    )
    with LocalEngine(arguments.workers) as engine:
        ended = conduct(sweep, arguments.runs, engine, on_outcome=told)
    if ended.state != "finished":
        raise SystemExit(f"{ended.state}; the same command goes on with what is left")
    points: dict[tuple[str, ...], list] = {}
    for found in sweep_status(sweep, arguments.runs).runs:
        points.setdefault(found.point.values, []).append(summarise(found.folder, by_own_head=True))
    print(
        "| settings | final | forgetting | learning | own-head final | LDA stored | s |\n|---|---|---|---|---|---|---|"
    )
    for values, runs in points.items():
        label = " ".join(f"{a.name}={v}" for a, v in zip(sweep.axes, values, strict=True)) or "preset"
        cells = [
            mean_sd([measures_of(run, readout).get(measure) for run in runs])
            for readout, measure in (
                ("", "final_average_accuracy"),
                ("", "forgetting"),
                ("", "learning_accuracy"),
                ("task-incremental", "final_average_accuracy"),
                (STORED, "final_average_accuracy"),
            )
        ]
        print(f"| {label} | {' | '.join(cells)} | {sum(run.seconds for run in runs) / len(runs):.0f} |")


if __name__ == "__main__":
    main()
