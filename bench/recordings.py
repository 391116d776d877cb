"""Remake what the dashboard opens onto: assets/recordings, from the presets tagged "demo" and the playground, and
assets/playground, frontiers of gradient projection memory.

python -m bench.recordings [--runs runs/recordings] [--only playground]

Two recordings on *camouflage*, in two tasks of five shapes, show adapting that pays and is lost: frozen features beside
SplitLoRA, which changes keys and values.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

from bench.recorded import finished
from cl_core.assets import assets_folder
from cl_core.playground import PlaygroundConfig, at_strength, slider_of, train
from cl_core.playground.frontier import recorded
from cl_core.playground.recording import keep
from cl_core.presets import PRESETS, resolve
from cl_core.store import RunFolder, record

SEEDS = (0, 1, 2)
SIMILAR = (0.0, 0.5, 0.8)  # similarity of the recorded streams' tasks
# Runs of one seed: the best threshold of the frontier, and nothing protected.
KEPT = {"gpm-permuted-digits": PlaygroundConfig(energy=0.92), "none-permuted-digits": PlaygroundConfig(rule="none")}
MORE = {
    f"{method}-camouflage": {"preset": f"{method}-camouflage", "stream_settings": {"tasks": 2}}
    for method in ("split-lora", "frozen")
}
CONTROL = {"diagnostics": {"readout_control": "every"}}  # recomputed statistics and refitted heads after every task


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


def playground_runs(runs: Path) -> None:
    for name, config in KEPT.items():
        for folder in (runs / name, assets_folder() / "recordings" / name):
            shutil.rmtree(folder, ignore_errors=True)
        made = record(keep(config, runs, name), assets_folder() / "recordings" / name)
        print(f"{made.path}: {made.size() / 1e6:.2f} MB")


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--runs", type=Path, default=Path("runs/recordings"))
    cli.add_argument("--only", choices=("playground",), help="leave the other recordings as they are")
    arguments = cli.parse_args()
    frontiers()
    playground_runs(arguments.runs)
    if arguments.only:
        return
    demos = {
        f"{preset.config['method']}-{preset.config['stream']}".replace("_", "-"): {"preset": preset.name}
        for preset in PRESETS.values()
        if "demo" in preset.tags
    }
    for name, record_of in (demos | MORE).items():
        finished(resolve({**record_of, **CONTROL}), name, arguments.runs)
        target = assets_folder() / "recordings" / name
        shutil.rmtree(target, ignore_errors=True)
        made = record(RunFolder(arguments.runs / name), target)
        print(f"{target}: {made.size() / 1e6:.2f} MB", flush=True)


if __name__ == "__main__":
    main()
