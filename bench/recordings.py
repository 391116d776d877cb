"""Remake what the dashboard opens onto: assets/recordings, as `cl_core.recordings` describes each, and
assets/playground, frontiers of gradient projection memory.

python -m bench.recordings [--runs runs/recordings] [--only NAME … | --only playground]

Runs that are finished in the folder are read, not repeated.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

from bench.recorded import finished
from cl_core.assets import assets_folder, recordings_folder
from cl_core.playground import PlaygroundConfig, at_strength, slider_of, train
from cl_core.playground.frontier import recorded
from cl_core.playground.recording import keep
from cl_core.recordings import RECORDINGS
from cl_core.store import RunFolder, record

SEEDS = (0, 1, 2)
SIMILAR = (0.0, 0.5, 0.8)  # similarity of the recorded streams' tasks


def frontiers() -> None:
    """Every position of the slider, three seeds, for streams of different similarity."""
    folder = assets_folder() / "playground"
    folder.mkdir(exist_ok=True)
    for similarity in SIMILAR:
        base = PlaygroundConfig(similarity=similarity)
        slider = slider_of(base)
        assert slider is not None
        row = [replace(at_strength(base, value), seed=seed) for value in slider.positions for seed in SEEDS]
        target = folder / f"gpm-permuted-digits-{similarity:g}.json"
        target.write_text(json.dumps(recorded(base, train(row)), separators=(",", ":")) + "\n", "utf-8")
        print(f"{target}: {target.stat().st_size / 1e3:.0f} kB")


def remake(name: str, runs: Path) -> None:
    """Train the recording (or take the finished run below `runs`) and pack it into the assets."""
    described, target = RECORDINGS[name], recordings_folder() / name
    if described.playground is None:
        finished(described.config(), name, runs)
        folder = RunFolder(runs / name)
    else:
        shutil.rmtree(runs / name, ignore_errors=True)  # seconds to make, and without a configuration to compare
        folder = keep(described.playground, runs, name)
    shutil.rmtree(target, ignore_errors=True)
    made = record(folder, target)
    print(f"{target}: {made.size() / 1e6:.2f} MB", flush=True)


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--runs", type=Path, default=Path("runs/recordings"))
    cli.add_argument(
        "--only",
        nargs="+",
        choices=("playground", *RECORDINGS),
        help="these recordings; playground: both of its recordings and the frontiers",
    )
    arguments = cli.parse_args()
    chosen = set(arguments.only or ("playground", *RECORDINGS))
    if "playground" in chosen:
        frontiers()
        chosen |= {name for name, described in RECORDINGS.items() if described.playground is not None}
    for name in RECORDINGS:
        if name in chosen:
            remake(name, arguments.runs)


if __name__ == "__main__":
    main()
