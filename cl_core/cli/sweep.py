"""`plastiscope sweep`: train a grid of runs with several workers; prints one table and one frontier."""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from cl_core.cli.options import add_json, add_runs
from cl_core.config import ConfigError
from cl_core.presets import preset
from cl_core.registry import METHODS, lookup
from cl_core.store import StoreError
from cl_core.summary import shared_readout, summarise
from cl_core.sweeps import (
    ParetoPoint,
    Sweep,
    SweepStatus,
    ask_to_stop,
    axis,
    best_within,
    conducted_by,
    frontier,
    known_sweeps,
    load,
    spots,
    sweep_status,
)
from cl_core.sweeps.executor import Engine
from cl_core.sweeps.pareto import spread
from cl_core.sweeps.scheduler import Conducted, conduct
from cl_core.sweeps.worker import Outcome

EXAMPLE = """examples:
  plastiscope sweep --method nsp2 --grid eta_affinity+eta_mixture=0,0.5,0.9,1.0 --seeds 0,1,2 --workers 2
  plastiscope sweep --method nsp2,sequential --grid prompt_rate=0.01,0.02 training.epochs=3,5 --name rates
  plastiscope sweep                            # the sweeps there are
  plastiscope sweep --name rates --stop        # from another terminal: save what is in training and end

Finished runs are kept: after Ctrl-C, a crash or with more values the same command goes on where it stopped. Failed
runs are listed at the end and tried again next time. --json prints an object with sweep, state, runs, failed, spots,
frontier and best."""

REDRAW = 2.0  # seconds between progress lines on a terminal


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", help="one, or several as a,b; see `plastiscope methods`")
    parser.add_argument("--preset", help="named settings to start from instead, one or several as a,b")
    parser.add_argument(
        "--grid",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=A,B",
        help="values of a setting; several are combined; first+second=A,B changes two together",
    )
    parser.add_argument("--seeds", default=None, metavar="0,1,2", help="default: 0")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every run; repeatable")
    parser.add_argument("--backbone", help="default: the method's starting point")
    parser.add_argument("--stream", help="default: the method's starting point")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--name", help="name of the sweep, the prefix of its runs")
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument(
        "--workers", type=int, help="runs in parallel (default: one per core; ray: as many as the cluster allows)"
    )
    parser.add_argument("--threads", type=int, help="threads per run (default: cores divided by workers; ray: 1)")
    parser.add_argument("--address", help="ray: a running cluster, e.g. auto or ray://head:10001; else one node here")
    parser.add_argument("--gpus-per-run", type=float, default=0.0, metavar="N", help="ray: GPUs a run, 0.5 = shared")
    parser.add_argument("--stop", action="store_true", help="stop the sweep called --name, wherever it runs")
    parser.add_argument("--budget", type=float, metavar="PP", help="most forgetting allowed, percentage points")
    parser.add_argument("--readout", default="", help="readout of the table, e.g. 'stored statistics'")
    add_runs(parser)
    add_json(parser)
    parser.epilog = EXAMPLE


def execute(arguments: argparse.Namespace) -> int:
    if arguments.stop:
        return _stop(arguments)
    if not (arguments.method or arguments.preset or arguments.name):
        return _list(arguments)
    sweep = requested(arguments)
    with _engine(arguments) as engine:
        ended = _conduct(sweep, arguments, engine)
    _report(sweep, arguments, ended)
    return 1 if ended.failed else 0


def requested(arguments: argparse.Namespace) -> Sweep:
    """The sweep described by the options; a name alone means the existing sweep. Raises ConfigError."""
    if arguments.method and arguments.preset:
        raise ConfigError("--method and --preset both name a starting point; give one of them")
    if not (arguments.method or arguments.preset):
        known = load(arguments.runs, arguments.name)
        if known is None:
            raise ConfigError(f"there is no sweep {arguments.name} in {arguments.runs}; --method starts one")
        if arguments.grid or arguments.seeds or arguments.set:
            raise ConfigError(f"to change sweep {arguments.name}, repeat its --method and settings with the new ones")
        return known
    everywhere = {
        key: value for key in ("backbone", "stream", "device") if (value := getattr(arguments, key)) is not None
    }
    bases: list[dict[str, Any]]
    if arguments.preset:
        bases = [{"preset": preset(name).name, **everywhere} for name in _words(arguments.preset)]
    else:
        bases = [{"method": lookup(METHODS, m, "method")[0], **everywhere} for m in _words(arguments.method)]
    axes = tuple(axis(text) for text in arguments.grid)
    named = [next(iter(base.values())) for base in bases]
    usual = re.sub(r"[^A-Za-z0-9._]+", "-", "-".join([*named, *(a.name for a in axes)]))
    seeds = tuple(_seed(text) for text in _words(arguments.seeds or "0"))
    return Sweep(arguments.name or usual, tuple(bases), tuple(arguments.set), axes, tuple(dict.fromkeys(seeds)))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _seed(text: str) -> int:
    if not text.isdigit():
        raise ConfigError(f"--seeds takes whole numbers from 0, as 0,1,2, got {text!r}")
    return int(text)


def _engine(arguments: argparse.Namespace) -> Engine:
    if arguments.engine == "ray":
        from cl_core.sweeps.on_ray import RayEngine

        engine = RayEngine(arguments.address, arguments.workers, arguments.threads, arguments.gpus_per_run)
        if arguments.address is None:
            print("Ray is started here; its ports are open to the network until it ends", file=sys.stderr)
        return engine
    if arguments.address or arguments.gpus_per_run:
        raise ConfigError("--address and --gpus-per-run belong to --engine ray")
    from cl_core.sweeps.local import LocalEngine

    return LocalEngine(arguments.workers, arguments.threads)


def _conduct(sweep: Sweep, arguments: argparse.Namespace, engine: Engine) -> Conducted:
    """Run the sweep with a progress line. Ctrl-C saves runs in training; a second one exits immediately."""
    asked: list[bool] = []

    def ask(_signal: int, _frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(True)
        print("\nsaving runs in training, then stopping …", file=sys.stderr)
        if conducted_by(arguments.runs, sweep.name) is not None:
            ask_to_stop(arguments.runs, sweep.name)
        else:  # nothing is in training yet
            raise KeyboardInterrupt

    progress = Progress(sweep, arguments.runs, engine.workers, sys.stderr)
    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return conduct(sweep, arguments.runs, engine, on_outcome=progress.ended, on_beat=progress.beat)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Progress:
    """One line per finished run; on a terminal a bar with remaining time below them."""

    def __init__(self, sweep: Sweep, runs: Path, workers: int, stream: TextIO) -> None:
        self.sweep, self.runs, self.workers = sweep, runs, workers
        self.stream, self.terminal, self.drawn = stream, stream.isatty(), 0.0

    def ended(self, outcome: Outcome) -> None:
        if outcome.state == "queued":
            return
        now = sweep_status(self.sweep, self.runs)
        self._clear()
        why = f": {outcome.reason}" if outcome.state == "failed" else ""
        print(f"{told(now, self.workers)}; {outcome.name} {outcome.state}{why}", file=self.stream, flush=True)
        self.drawn = 0.0

    def beat(self) -> None:
        if not self.terminal or time.monotonic() - self.drawn < REDRAW:
            return
        self.drawn = time.monotonic()
        now = sweep_status(self.sweep, self.runs)
        filled = int(24 * now.share)
        text = f"{'█' * filled}{'░' * (24 - filled)} {100 * now.share:3.0f} %  {told(now, self.workers)}"
        print(f"\r{text:<78}", end="", file=self.stream, flush=True)

    def _clear(self) -> None:
        if self.terminal:
            print("\r" + " " * 78 + "\r", end="", file=self.stream)


def told(now: SweepStatus, workers: int) -> str:
    """ "7 of 20 finished, 1 failed, 2:10 min left"."""
    left = now.seconds_left(workers)
    parts = [f"{now.finished} of {len(now.runs)} finished"]
    if failed := len(now.of("failed")):
        parts.append(f"{failed} failed")
    if left:
        parts.append(f"{int(left) // 60}:{int(left) % 60:02d} min left")
    elif now.finished < len(now.runs):
        parts.append("time left: estimating")
    return ", ".join(parts)


# ---------------------------------------------------------------- results


def _report(sweep: Sweep, arguments: argparse.Namespace, ended: Conducted) -> None:
    now = sweep_status(sweep, arguments.runs)
    done = [(f.folder.config(), summarise(f.folder)) for f in now.of("finished") if f.folder]
    readout = arguments.readout or shared_readout(summary for _, summary in done)
    found = spots(done, readout)
    best = best_within(found, arguments.budget) if arguments.budget is not None else None
    if arguments.json:
        record = {
            "sweep": sweep.name,
            "state": ended.state,
            "runs": {f.folder.name: f.state for f in now.runs if f.folder},
            "failed": {outcome.name: outcome.reason for outcome in ended.failed},
            "spots": [_spot_record(spot) for spot in found],
            "frontier": [spot.label for spot in frontier(found)],
            "best": best.label if best else None,
        }
        print(json.dumps(record))
    elif found:
        print(table(found))
        print(f"\n* not dominated. Mean ± sample sd over seeds; {readout or 'the readout runs are judged by'}.")
        if arguments.budget is not None:
            print(_best_told(best, arguments.budget))
    elif done:
        print(
            "no learning accuracy and forgetting to compare"
            + (f" under the readout {arguments.readout!r}" if arguments.readout else "")
            + ": a run needs at least two tasks learned in sequence"
        )
    if ended.failed:
        print(f"\n{len(ended.failed)} of {len(now.runs)} runs failed:", file=sys.stderr)
        for outcome in ended.failed:
            print(f"  {outcome.name}: {outcome.reason}", file=sys.stderr)
    if ended.state == "stopped":
        print(
            f"stopped; `plastiscope sweep --name {sweep.name} --runs {arguments.runs}` goes on with the "
            f"{len(now.runs) - now.finished} runs that are left",
            file=sys.stderr,
        )


def table(found: list[ParetoPoint]) -> str:
    """Points as text, line by line; * marks the frontier."""
    best, width = frontier(found), max(len(spot.label) for spot in found)
    lines = [f"  {'setting':<{width}}  {'seeds':>5}  {'learning, %':>13}  {'forgetting, pp':>14}  {'final, %':>13}"]
    for spot in found:
        mark = "*" if spot in best else " "
        final = str(spread(spot.final))
        lines.append(
            f"{mark} {spot.label:<{width}}  {len(spot.seeds):>5}  {spot.plasticity!s:>13}  {spot.instability!s:>14}  "
            f"{final:>13}"
        )
    return "\n".join(lines)


def _best_told(best: ParetoPoint | None, budget: float) -> str:
    if best is None:
        return f"No setting forgets at most {budget:g} pp."
    return (
        f"Of the settings that forget at most {budget:g} pp, {best.label} learns most: {best.plasticity} %, forgetting "
        f"{best.instability} pp."
    )


def _spot_record(spot: ParetoPoint) -> dict[str, Any]:
    return {
        "label": spot.label,
        "runs": list(spot.runs),
        "seeds": list(spot.seeds),
        "learning_accuracy": list(spot.learning),
        "forgetting": list(spot.forgetting),
        "final_average_accuracy": list(spot.final),
    }


# ---------------------------------------------------------------- other sweeps


def _list(arguments: argparse.Namespace) -> int:
    rows = []
    for name in known_sweeps(arguments.runs):
        try:
            sweep = load(arguments.runs, name)
            now = sweep_status(sweep, arguments.runs) if sweep else None
        except (StoreError, ConfigError) as error:
            print(f"plastiscope: {error}", file=sys.stderr)
            continue
        if sweep and now:
            running = conducted_by(arguments.runs, name) is not None
            rows.append(
                {"sweep": name, "runs": len(now.runs), "finished": now.finished, "failed": len(now.of("failed")),
                 "conducted": running}
            )  # fmt: skip
    if arguments.json:
        print(json.dumps(rows))
    elif not rows:
        print(f"no sweeps in {arguments.runs} yet; `plastiscope sweep --method nsp2 --grid eta_affinity=0.5,1.0`")
    for row in [] if arguments.json else rows:
        failed = f", {row['failed']} failed" if row["failed"] else ""
        state = "in training" if row["conducted"] else "done" if row["finished"] == row["runs"] else "not in training"
        print(f"{row['sweep']:<34} {row['finished']} of {row['runs']} runs finished{failed}; {state}")
    return 0


def _stop(arguments: argparse.Namespace) -> int:
    if not arguments.name:
        raise ConfigError("--stop needs the --name of a sweep; `plastiscope sweep` lists them")
    if load(arguments.runs, arguments.name) is None:
        raise ConfigError(f"there is no sweep {arguments.name} in {arguments.runs}; `plastiscope sweep` lists them")
    if conducted_by(arguments.runs, arguments.name) is None:
        raise StoreError(f"sweep {arguments.name} is not running; nothing to stop")
    ask_to_stop(arguments.runs, arguments.name)
    print(f"{arguments.name}: saving runs in training, then stopping")
    return 0
