"""Measure what travels with recordings but takes checkpoints: the layer a task was lost in, a line between weights.

python -m bench.measured_later [--runs runs/recordings]

After `bench.recordings`, whose runs hold the checkpoints. Writes assets/recordings/NAME/analysis.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from cl_core.analysis.interpolation import interpolate
from cl_core.analysis.measured_later import UNTOUCHED, read, read_line
from cl_core.analysis.patching import locate
from cl_core.assets import recordings_folder
from cl_core.store import RunFolder

# Cells (task, after) and lines (start, end), from 0: the cell that fell most by the headline, and by the own heads.
CELLS = {
    "sequential-split-digits": [(0, 4), (2, 4)],
    "nsp2-split-digits": [(1, 4), (2, 4)],
    "finetune-micro-mtil": [(4, 5), (1, 4)],
}
LINES = {"finetune-micro-mtil": [(UNTOUCHED, 5)]}


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--runs", type=Path, default=Path("runs/recordings"))
    runs = cli.parse_args().runs
    for name, cells in CELLS.items():
        folder, recording = RunFolder(runs / name), RunFolder(recordings_folder() / name)
        if not folder.checkpoints.is_dir():
            print(f"{name}: left as it is, {folder.path} holds no run")
            continue
        for task, after in cells:
            if read(folder, task, after) is None:
                locate(folder, task, after)
        for start, end in LINES.get(name, ()):
            if read_line(folder, start, end) is None:
                interpolate(folder, start, end)
        recording.analysis.mkdir(exist_ok=True)
        for file in sorted(folder.analysis.glob("*.json")):
            print(f"{name}: {shutil.copyfile(file, recording.analysis / file.name).name}")


if __name__ == "__main__":
    main()
