"""What a run takes on the disk: bytes that each finished task adds, at three sizes of model.

    python -m bench.disk [--method nsp2] [--tasks 5] [--models random-vit micro-vit timm:vit_base_patch16_224@random]

Real runs of one epoch with everything measured, on coloured bars; weights do not matter to sizes. Counted is what the
run's folder holds, a file under two names once. The last column extends the mean of all tasks but the first (which
brings the moments into being) to twenty tasks; whether growth is linear shows in the tasks before it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from bench.meters import table
from cl_core.presets import resolve
from cl_core.store import create_run
from cl_core.training.worker import drive

MODELS = ("random-vit", "micro-vit", "timm:vit_base_patch16_224@random")
EXTENDED = 20  # tasks


def held(folder: Path) -> int:
    """Bytes below `folder`, hard links counted once."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            about = path.stat()
            found[about.st_dev, about.st_ino] = about.st_size
    return sum(found.values())


def boundaries(method: str, model: str, tasks: int, runs: Path) -> list[int]:
    """Bytes of the run's folder after each finished task."""
    config = resolve(
        {
            "method": method,
            "backbone": model,
            "stream": "synthetic",
            "device": "cpu",
            "stream_settings": {"tasks": tasks},
            "training": {"epochs": 1, "batch_size": 10},
        }
    )
    folder, sizes = create_run(runs, config), []

    def look(moment: Any, trainer: Any) -> None:
        if trainer.cursor.stage == "train" and trainer.cursor.item == 0 and trainer.cursor.task:
            sizes.append(held(folder.path))  # the checkpoint of the task before is written

    ended = drive(folder, look)
    assert ended.state == "finished", ended.reason
    return [*sizes, held(folder.path)]


def row(method: str, model: str, tasks: int, runs: Path) -> list[str]:
    sizes = boundaries(method, model, tasks, runs)
    added = [after - before for before, after in zip([0, *sizes], sizes)]
    later = added[1:] or added
    extended = added[0] + (EXTENDED - 1) * sum(later) / len(later)
    return [model, *(f"{size / 1e6:,.2f}" for size in added), f"{extended / 1e9:,.3f}"]


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--method", default="nsp2")
    cli.add_argument("--tasks", type=int, default=5, choices=(2, 5, 10), help="the ten classes divide into these")
    cli.add_argument("--models", nargs="+", default=MODELS)
    arguments = cli.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    header = [arguments.method, *(f"T{task + 1}, MB" for task in range(arguments.tasks)), f"{EXTENDED} tasks, GB"]
    with tempfile.TemporaryDirectory() as runs:
        rows = (row(arguments.method, model, arguments.tasks, Path(runs)) for model in arguments.models)
        for line in table(header, rows):
            print(line, flush=True)


if __name__ == "__main__":
    main()
