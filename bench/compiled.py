"""Does `torch.compile` help? Training steps with the backbone as it is and compiled, taken in turn in one process.

    python -m bench.compiled [--method nsp2] [--backbone NAME] [--device auto] [--what forward] [--steps 30] [--set …]

A step is the method's own loss, backward and optimiser on a copy of it (`bench.bare.OwnLoss`), in the run's precision,
with the settings of the method's preset, and beside it the bare step of its kind of tuning. Engine and projections are
left out on both sides: compiling would not touch them. Compiled is the backbone alone, as a run would have it: its
doors (`--what forward`: images and texts from end to end; `--what blocks`: each block by itself), with whatever
prompts, prefixes, branches and precision enter there; loss, heads and optimiser stay as they are.

eager ÷ compiled   median (quartiles) of the ratios of single steps, taken in turn on the same batch; above 1: compiled
                   is faster. Steps that compiled something, and shorter batches, are left out.
compiling          seconds that steps took longer because something was compiled, in the first and in the second task:
                   other shapes and other inputs are compiled anew. The bare step is taken in the second task alone.
                   Nothing that earlier runs left in a cache is used.
pays after         compiling ÷ (eager − compiled) of one step; below the table the steps of the preset's whole run
apart              the largest difference of what was trained after a task's steps ÷ the largest change there. Both
                   sides start from the same seed at every step; where a method has dropout they draw differently all
                   the same, and are apart for that reason as well.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import logging
import math
import os
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch._inductor.utils
from torch import Tensor, nn

from bench.bare import BareClip, BareViT, NoBareLoop, OwnLoss, bare_loop
from bench.meters import Spread, add_options, apply_options, table, timed
from bench.ratios import ON_CUDA, Course, config_of
from cl_core.config import ConfigError, DiagnosticsConfig, RunConfig
from cl_core.registry import BACKBONES, METHODS, lookup
from cl_core.streams.stream import Batch
from cl_core.training.factory import choose_device

DOORS = {"forward": ("forward", "encode_text"), "blocks": ("block",)}
RECOMPILES = 64  # a block's number is part of what it is compiled for, and there are more of them than torch allows for
TASKS = 2


def compiled(model: nn.Module, names: tuple[str, ...], backend: str) -> nn.Module:
    """The same model with these methods compiled; the weights are shared, the original is left as it is."""
    other = copy.copy(model)
    for name in names:
        if hasattr(model, name):
            other.__dict__[name] = torch.compile(getattr(other, name), backend=backend)
    return other


def graphs() -> int:
    """Graphs that were compiled so far in this process."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@dataclass
class Side:
    """A floor (own or bare) with its backbone as it is or compiled."""

    floor: Any
    backbone: nn.Module
    precision: torch.dtype

    def step(self, batch: Batch) -> None:
        with self.backbone.computing_in(self.precision):
            self.floor.step(batch)

    def trained(self) -> Tensor:
        return torch.cat([p.detach().flatten() for group in self.floor.optimiser.param_groups for p in group["params"]])


@dataclass
class Found:
    """Eager beside compiled, of one kind of step."""

    kind: str
    ratios: list[float] = field(default_factory=list)
    eager: list[float] = field(default_factory=list)
    compiling: list[float] = field(default_factory=list)  # seconds, by task
    graphs: int = 0
    apart: float = 0.0

    @property
    def saved(self) -> float:
        """Seconds a step, by the median ratio."""
        return statistics.median(self.eager) * (1 - 1 / statistics.median(self.ratios))

    @property
    def pays_after(self) -> float:
        """Steps; infinite where nothing is saved."""
        return sum(self.compiling) / self.saved if self.saved > 0 else math.inf

    def cells(self) -> list[str]:
        pays = f"{self.pays_after:,.0f} steps" if math.isfinite(self.pays_after) else "never"
        return [
            self.kind,
            str(Spread.of(self.ratios)),
            f"{1e3 * statistics.median(self.eager):.1f} ms",
            " + ".join(f"{seconds:.0f}" for seconds in self.compiling) + f" s, {self.graphs} graphs",
            pays,
            f"{self.apart:.1e}",
        ]


HEADER = ("step", "eager ÷ compiled", "eager step", "compiling: first + second task", "pays after", "apart")


def own_side(course: Course, backbone: nn.Module) -> Side:
    floor = OwnLoss(course.trainer)
    floor.backbone = backbone
    return Side(floor, backbone, course.trainer.precision)


def bare_sides(course: Course, what: str, backend: str) -> tuple[Side, Side] | None:
    """The bare loop twice, from the same weights; None where there is none."""
    trainer, batch = course.trainer, next(course.batches())
    try:
        with trainer.backbone.computing_in(trainer.precision):
            floor = bare_loop(OwnLoss(trainer), course.task, batch, trainer.precision)
    except NoBareLoop:
        return None
    other = copy.deepcopy(floor)
    if isinstance(other, BareClip):  # open_clip's own towers
        names = ("encode_image", "encode_text")
        other.clip = compiled(other.clip, names, backend)
        return Side(floor, trainer.backbone, trainer.precision), Side(other, trainer.backbone, trainer.precision)
    if isinstance(other, BareViT) and other.entering:
        other.backbone = compiled(floor.backbone, DOORS[what], backend)
    else:  # timm's own forward pass
        other.backbone.vit = compiled(other.backbone.vit, ("forward_features",), backend)
    return Side(floor, floor.backbone, trainer.precision), Side(other, other.backbone, trainer.precision)


def compare(found: Found, sides: tuple[Side, Side], batches: Iterator[Batch], steps: int, device: torch.device) -> None:
    """Steps of both sides on the same batches, each first in turn; what one task's compiling took is added."""
    start, size, compiling = sides[0].trained(), 0, 0.0
    usual: list[float] = []
    for turn in range(steps):
        batch, spent, before = next(batches), [0.0, 0.0], graphs()
        size = max(size, len(batch.labels))
        for place in (0, 1) if turn % 2 else (1, 0):
            spent[place], _ = timed(functools.partial(_seeded_step, sides[place], batch, turn), device)
        new = graphs() - before
        found.graphs += new
        if new:
            compiling += spent[1] - (statistics.median(usual) if usual else spent[0])
        elif len(batch.labels) == size:
            usual.append(spent[0])
            found.eager.append(spent[0])
            found.ratios.append(spent[0] / spent[1])
    found.compiling.append(compiling)
    moved = (sides[0].trained() - start).abs().max().clamp_min(1e-12)
    found.apart = max(found.apart, float((sides[1].trained() - sides[0].trained()).abs().max() / moved))


def _seeded_step(side: Side, batch: Batch, turn: int) -> None:
    torch.manual_seed(turn)  # what both draw themselves, such as dropout, starts from the same place
    side.step(batch)


@contextlib.contextmanager
def anew() -> Iterator[None]:
    """Nothing is compiled yet, in this process or in a folder that an earlier one left."""
    torch._dynamo.reset()
    with torch._inductor.utils.fresh_cache():
        yield


def measured(config: RunConfig, what: str = "forward", steps: int = 30, backend: str = "inductor") -> list[Found]:
    """The own step and, where there is one, the bare step. Raises what torch.compile raises where it does not work."""
    course = Course(replace(config, diagnostics=DiagnosticsConfig.off()).with_overrides(["training.epochs=1"]))
    device, own, bare = course.trainer.device, Found("own loss"), Found("bare")
    with torch._dynamo.config.patch(recompile_limit=RECOMPILES):
        with anew():
            model = compiled(course.trainer.backbone, DOORS[what], backend)
            for index in range(min(TASKS, len(course.trainer.curriculum))):
                while (course.trainer.cursor.task, course.stage) != (index, "train"):
                    if course.advance()[1] is None:
                        raise ConfigError(f"{config.method} trains nothing: there is no step to compare")
                sides = own_side(course, course.trainer.backbone), own_side(course, model)
                compare(own, sides, course.batches(), steps, device)
        with anew():
            floors = bare_sides(course, what, backend)
            if floors is not None:
                compare(bare, floors, course.batches(), steps, device)
    return [found for found in (own, bare) if found.ratios]


def steps_of_a_run(config: RunConfig) -> int:
    """Training steps of the whole run as the preset plans it."""
    curriculum, training = Course(config).trainer.curriculum, config.training
    batches = (math.ceil(len(task.train) * training.repeats / training.batch_size) for task in curriculum)
    return training.epochs * sum(batches)


def why_not(error: Exception) -> str:
    """What keeps torch.compile from working, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"torch.compile does not work here: {type(error).__name__}: {(lines or ['no reason given'])[0][:300]}"


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--method", default="nsp2")
    cli.add_argument("--backbone", help="default: the embedded model, on CUDA the full-size one untrained")
    cli.add_argument("--device", default="auto")
    cli.add_argument("--what", choices=tuple(DOORS), default="forward")
    cli.add_argument("--steps", type=int, default=30, help="steps of each task")
    cli.add_argument("--backend", default="inductor", help="torch.compile's; `eager` traces and compiles nothing")
    cli.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the run")
    add_options(cli)
    arguments = cli.parse_args()
    try:
        device, (method, _) = choose_device(arguments.device), lookup(METHODS, arguments.method, "method")
        named = {lookup(BACKBONES, name, "backbone")[1].needs: name for name in filter(None, [arguments.backbone])}
        backbones = {**(ON_CUDA if device.type == "cuda" else {}), **named}
        config = config_of(method, arguments.device, backbones, arguments.set)
    except ConfigError as error:
        sys.exit(str(error))
    print(f"{apply_options(arguments)}, {device}; {method} on {config.backbone}, compiled: {arguments.what}\n")
    torch._logging.set_logs(all=logging.ERROR)  # every break of a graph would be told at length
    try:
        found = measured(config, arguments.what, arguments.steps, arguments.backend)
    except ConfigError as error:
        sys.exit(str(error))
    except Exception as error:  # a compiler that is missing or fails, an operation that cannot be compiled
        sys.exit(why_not(error))
    print("\n".join(table(HEADER, (row.cells() for row in found))))
    print(f"\na run of this preset makes {steps_of_a_run(config):,} steps; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
