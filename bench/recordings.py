"""Remake the recordings that the dashboard opens onto: assets/recordings, from the presets tagged "demo".

python -m bench.recordings [--runs runs/recordings]
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from bench.recorded import finished
from cl_core.assets import assets_folder
from cl_core.presets import PRESETS, resolve
from cl_core.store import RunFolder, record


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--runs", type=Path, default=Path("runs/recordings"))
    arguments = cli.parse_args()
    for preset in PRESETS.values():
        if "demo" in preset.tags:
            name = f"{preset.config['method']}-{preset.config['stream']}".replace("_", "-")
            finished(
                resolve({"preset": preset.name, "diagnostics": {"readout_control": "every"}}), name, arguments.runs
            )
            target = assets_folder() / "recordings" / name
            shutil.rmtree(target, ignore_errors=True)
            made = record(RunFolder(arguments.runs / name), target)
            print(f"{target}: {made.size() / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
