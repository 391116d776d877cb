"""Choose settings on the validation split: a grid of settings × seeds, never looking at the test images.

python -m bench.choose --method nsp2 --grid prompt_rate=0.02,0.05 prompt_length=4,8 --seeds 0,1 [--runs runs/choose]
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from bench.recorded import finished, mean_sd
from cl_core.presets import resolve
from cl_core.summary import measures


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--method", required=True)
    cli.add_argument("--grid", nargs="*", default=[], metavar="KEY=A,B")
    cli.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every point")
    cli.add_argument("--seeds", default="0,1")
    cli.add_argument("--runs", type=Path, default=Path("runs/choose"))
    arguments = cli.parse_args()
    axes = [
        [f"{key}={value}" for value in values.split(",")]
        for key, _, values in (axis.partition("=") for axis in arguments.grid)
    ]
    print(
        "| settings | final | forgetting | learning | own-head final | LDA stored | s |\n|---|---|---|---|---|---|---|"
    )
    for point in itertools.product(*axes):
        found = []
        for seed in arguments.seeds.split(","):
            settings = [*arguments.set, *point]
            name = "-".join([arguments.method, *(s.replace("=", "-") for s in settings), f"seed{seed}"]).replace(
                "/", "_"
            )
            config = resolve({"method": arguments.method, "seed": int(seed)}).with_overrides(
                ["stream.evaluate_on=validation", *settings]
            )
            found.append(finished(config, name, arguments.runs))
        own = mean_sd([measures(s.readouts["task-incremental"])["final_average_accuracy"] for s in found])
        stored = mean_sd(
            [measures(s.readouts["stored statistics"])["final_average_accuracy"] for s in found]
            if "stored statistics" in found[0].readouts
            else [None]
        )
        headline = [
            mean_sd([getattr(s, measure) for s in found])
            for measure in ("final_average_accuracy", "forgetting", "learning_accuracy")
        ]
        seconds = f"{sum(s.seconds for s in found) / len(found):.0f}"
        print(f"| {' | '.join([' '.join(point) or 'preset', *headline, own, stored, seconds])} |", flush=True)


if __name__ == "__main__":
    main()
