"""`plastiscope run`: train in this process, with a progress bar and remaining time."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

from cl_core.cli.options import (
    accuracy_table,
    add_download,
    add_json,
    add_runs,
    headline,
    let_download,
    named_path,
)
from cl_core.config import RunConfig
from cl_core.events import AccuracyMeasured, Event
from cl_core.presets import resolve
from cl_core.store import RunFolder, StoreError, create_run, entitle
from cl_core.summary import headline_readout, summarise

if TYPE_CHECKING:
    from cl_core.training.device import GpuLock
    from cl_core.training.trainer import Trainer
    from cl_core.training.worker import Ended


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config",
        nargs="?",
        type=named_path,
        metavar="CONFIG.toml",
        help="settings in a file; options below override it",
    )
    parser.add_argument("--method", help="see `plastiscope methods`")
    parser.add_argument("--backbone", help="default: micro-vit")
    parser.add_argument("--stream", help="default: split-digits")
    parser.add_argument("--preset", help="start from named settings, see `plastiscope presets`")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the method, or training.KEY, stream.KEY, diagnostics.KEY; may be repeated",
    )
    parser.add_argument("--seed", type=int)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bf16"),
        help="of the backbone's products; auto: bfloat16 on a GPU that has it, else float32",
    )
    parser.add_argument("--name", help="name of the run's folder")
    add_download(parser)
    add_runs(parser)
    add_json(parser)
    parser.epilog = (
        "examples:\n  plastiscope run --method nsp2 --stream split-digits --seed 0\n"
        "  plastiscope run --method nsp2 --set rule=energy --set energy_affinity=0.99 --set epochs=3 --json\n"
        "  plastiscope run --method nsp2 --stream folder:/data/birds --backbone timm:vit_base_patch16_224 --download"
    )


def configuration(arguments: argparse.Namespace) -> RunConfig:
    """File, then options, over the preset's values. Raises ConfigError."""
    record = {}
    if arguments.config is not None:
        record = RunConfig.record_from_toml(arguments.config)
    for key in ("method", "backbone", "stream", "preset", "seed", "device", "precision", "name"):
        if getattr(arguments, key) is not None:
            record[key] = getattr(arguments, key)
    return resolve(record).with_overrides(arguments.set)


def execute(arguments: argparse.Namespace) -> int:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads are very slow on shared cores
    let_download(arguments)
    config = configuration(arguments)
    first = not arguments.runs.exists()
    folder = create_run(arguments.runs, config)  # first, so that a run killed from here on can be resumed
    entitle(folder, arguments.name or "")
    with contextlib.ExitStack() as opened:
        with _kept_if_it_can_be_built(folder, first):
            from cl_core.training.device import GpuLock, choose_device
            from cl_core.training.factory import build, check  # torch from here on

            check(config)  # on a busy GPU, checks that do not need its memory
            turn = opened.enter_context(GpuLock(choose_device(config.device)))
            built = build(config) if turn.take("a run that begins") else None
        return train(folder, as_json=arguments.json, built=built, turn=turn)


@contextlib.contextmanager
def _kept_if_it_can_be_built(folder: RunFolder, first: bool) -> Iterator[None]:
    """If building fails, remove the run's folder, and the runs folder if it is new; an interrupted run can be
    resumed."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"\n{_resume(folder)} trains it", file=sys.stderr)
        raise
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        if first:
            with contextlib.suppress(OSError):  # another run has been created meanwhile
                folder.path.parent.rmdir()
        raise


def _resume(folder: RunFolder) -> str:
    return f"`plastiscope resume {folder.name} --runs {folder.path.parent}`"


def drive_here(
    folder: RunFolder, built: Trainer | None = None, turn: GpuLock | None = None, after_task: int | None = None
) -> Ended:
    """Train a run in this process; `built`: its trainer and `turn` its device lock, if they exist already. Ctrl-C saves
    and stops; a second one exits immediately."""
    from cl_core.training.worker import drive

    asked: list[bool] = []

    def ask(_signal: int, _frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(True)
        print("\nsaving and stopping …", file=sys.stderr)

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        waits = lambda reason: print(f"{folder.name} {reason}", file=sys.stderr, flush=True)
        return drive(
            folder,
            Progress(sys.stderr),
            lambda: bool(asked),
            on_wait=waits,
            built=built,
            turn=turn,
            after_task=after_task,
        )
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def train(
    folder: RunFolder,
    *,
    as_json: bool,
    built: Trainer | None = None,
    turn: GpuLock | None = None,
    after_task: int | None = None,
) -> int:
    """Run the training and print how it ended. `after_task`: as in `drive`."""
    ended = drive_here(folder, built, turn, after_task)
    if not folder.config_file.is_file():  # deleted meanwhile: nothing to summarise
        raise StoreError(f"run {folder.name} failed: {ended.reason}")
    summary = replace(summarise(folder), state=ended.state, reason=ended.reason)
    if as_json:
        print(json.dumps(summary.reported()))
    elif ended.state == "finished":
        print(
            f"{accuracy_table(summary)}\n\n{headline(summary)}\n\n"
            f"{folder.path}: open it with `plastiscope open {folder.path.parent}`"
        )
    if ended.state == "stopped":
        print(f"stopped; {_resume(folder)} goes on from exactly here", file=sys.stderr)
    if ended.state == "failed":
        print(f"plastiscope: run {folder.name} failed: {ended.reason}", file=sys.stderr)
        return 1
    return 0


class Progress:
    """A bar with remaining time on a terminal; one line per task elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.terminal = stream, stream.isatty()
        self.started = time.monotonic()
        self.first_step: int | None = None

    def __call__(self, moment: Sequence[Event], trainer: Trainer) -> None:
        total, done = trainer.total_steps, trainer.cursor.step
        if self.first_step is None:
            self.first_step = done
        rows = [event for event in moment if isinstance(event, AccuracyMeasured)]
        judged = headline_readout(rows)
        for event in rows:
            if event.readout == judged:
                row = " ".join("–" if v is None else f"{v:.0f}" for v in event.row)
                self._line(f"after T{event.clock.task + 1}: {row}")
        if self.terminal:
            fresh, spent = done - self.first_step, time.monotonic() - self.started
            left = f"{spent / fresh * (total - done):.0f} s left" if fresh >= 3 else "estimating"
            share = done / total if total else 1.0  # a reference may have nothing to train
            filled = int(24 * share)
            print(
                f"\r{'█' * filled}{'░' * (24 - filled)} {int(100 * share):3d} %  step {done}/{total}  {left}   ",
                end="",
                file=self.stream,
                flush=True,
            )
            if done == total and trainer.cursor.stage == "end":
                print(file=self.stream)

    def _line(self, text: str) -> None:
        print(("\r" + " " * 78 + "\r" if self.terminal else "") + text, file=self.stream, flush=True)
