"""What every method costs beside a bare loop: one table of ratios, both sides of each measured in this process.

    python -m bench.ratios [--methods a,b] [--device auto] [--backbone NAME …] [--pairs 15] [--set KEY=VALUE …]
    python -m bench.ratios --methods nsp2 --whole

All is measured at the second task, where the past is held for the first time, with the settings of the method's preset
(`joint` has one task, so at that). On the CPU with the embedded models; on CUDA with `timm:vit_base_patch16_224`
and `open_clip:ViT-B-16` at 224 px, untrained, because weights do not change what a step costs. `--backbone` names
others, one a family.

step ÷ bare step
    One moment of the trainer (batch, loss, backward, optimiser, projections, norms, event) ÷ the same batch through the
    bare loop that its kind of tuning comes down to; `bench.bare` finds which one that is, and the last column says it.
    Median (quartiles) of the ratios of single steps, taken in turn; steps that end an epoch are left out.
step ÷ own loss
    The same ÷ the method's own loss, backward and optimiser without engine and projections. Where a method looks at
    more than its batch (rehearsal, reference pairs, queries), the other ratio says what that costs, this one what the
    engine adds to it.
end of task ÷ pass
    Survey, end_task and refresh, then the begin of the next task with its preparation ÷ one evaluation pass over the
    task's training images; in brackets both parts. Some methods prepare only when first asked: where the first step of
    the next task takes more than twice its second, the difference belongs to its begin.
    Diagnostics are off: this is what the method itself needs. On CUDA a survey may run in another precision than an
    evaluation.
diagnostics on ÷ off
    Seconds with the preset's diagnostics ÷ seconds without any, two trainers in turn, moment by moment, from the begin
    of the task to its accuracies. `--whole`: over the whole run, and without the statistics readout besides.
memory ÷ bare
    (held + peak of a step) ÷ the same of the bare loop; after the semicolon (held + peak of the survey) ÷ the same.
    Held: backbone, method, optimiser state. `bench.meters` says how peaks are counted.
"""

from __future__ import annotations

import argparse
import copy
import functools
import itertools
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from bench.bare import BareClip, BareViT, NoBareLoop, OwnLoss, bare_loop
from bench.meters import Spread, add_options, apply_options, held_bytes, peak_bytes, table, timed
from cl_core.config import ConfigError, DiagnosticsConfig, RunConfig
from cl_core.events import StepEnded
from cl_core.presets import resolve
from cl_core.registry import BACKBONES, METHODS, load, lookup
from cl_core.streams.stream import Batch, Task
from cl_core.training.factory import build, choose_device, new_backbone, new_stream
from cl_core.training.trainer import Moment, Trainer

ON_CUDA = {"vit": "timm:vit_base_patch16_224@random", "clip": "open_clip:ViT-B-16@random"}
WARM, WEIGHED = 2, 3  # steps that warm caches and threads; the step whose memory is taken (it is not timed)
REPEATS = 3  # of the end of a task; medians of them
LATE = 2.0  # a task's first step of more than so many times its second has prepared something

# A method is measured in several trainers, and one model and stream serve them all.
shared = functools.cache(new_backbone)
stream_of = functools.lru_cache(4)(new_stream)


def config_of(method: str, device: str, backbones: dict[str, str], settings: Sequence[str] = ()) -> RunConfig:
    """The preset's settings on the backbone of the method's family, and of its companion's."""
    config, needs = resolve({"method": method, "device": device}), METHODS[method].needs
    config = config.with_overrides(settings)
    if needs in backbones:
        config = replace(config, backbone=backbones[needs], preset="")
        companion = load(METHODS, method, "method").companion
        if companion in backbones:
            config = config.with_overrides([f"companion={backbones[companion]}"])
    return config


@dataclass
class Course:
    """A trainer on its way, and how long its moments took."""

    config: RunConfig
    state: dict[str, Any] | None = None  # where it starts from; None: at the beginning
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.trainer = build(self.config, shared, stream_of)
        if self.state is not None:
            self.trainer.restore(copy.deepcopy(self.state))
        self.moments: Iterator[Moment] = self.trainer.run()

    def advance(self) -> tuple[float, Moment | None]:
        spent, moment = timed(lambda: next(self.moments, None), self.trainer.device)
        self.seconds += spent
        return spent, moment

    def kept(self) -> dict[str, Any]:
        """The state as it is now, whatever happens to the trainer."""
        return copy.deepcopy(self.trainer.state())

    @property
    def stage(self) -> str:
        return self.trainer.cursor.stage

    @property
    def task(self) -> Task:
        return self.trainer.curriculum[self.trainer.cursor.task]

    def batches(self) -> Iterator[Batch]:
        """The present task's batches in the order of training, without end."""
        task, training, feed = self.task, self.config.training, self.trainer.feed
        order = functools.partial(feed.batches, task, training.batch_size, seed=self.config.seed)
        return (b for epoch in itertools.count() for b in order(epoch=epoch, repeats=training.repeats))

    def held(self, *more: Any) -> int:
        """Bytes of the model, the method and what else is named."""
        trainer = self.trainer
        apart = [trainer.stream, trainer.curriculum, *trainer.stream, *trainer.curriculum, trainer.feed]
        return held_bytes([trainer.backbone, trainer.method, *more], trainer.device, apart)


def at_second_task(config: RunConfig) -> dict[str, Any] | None:
    """The state before the second task begins, after one short epoch of the first; None if there is but one task."""
    course = Course(config.with_overrides(["training.epochs=1"]))
    if len(course.trainer.curriculum) < 2:
        return None
    while (course.trainer.cursor.task, course.stage) != (1, "begin"):
        course.advance()
    return course.kept()


@dataclass
class Row:
    """What was found of one method; None where there is nothing to measure, or nothing honest to measure it by."""

    method: str
    backbone: str
    bare: str  # what the bare step is, or why there is none
    step: Spread | None = None
    own: Spread | None = None
    survey: float | None = None  # end of task ÷ evaluation pass: its two parts
    begin: float | None = None
    diagnostics: float | None = None
    memory: float | None = None
    memory_end: float | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)  # medians of single steps
    seconds: float = 0.0  # that measuring took

    @property
    def end(self) -> float | None:
        parts = [part for part in (self.survey, self.begin) if part is not None]
        return sum(parts) if parts else None

    def cells(self) -> list[str]:
        end = "–" if self.end is None else f"{self.end:.2f}"
        if self.survey is not None and self.begin is not None:
            end += f" ({self.survey:.2f} + {self.begin:.2f})"
        memory = "–" if self.memory is None else f"{self.memory:.2f}; {self.memory_end:.2f}"
        diagnostics = "–" if self.diagnostics is None else f"{self.diagnostics:.3f}"
        return [
            self.method,
            *(str(s) if s else "–" for s in (self.step, self.own)),
            end,
            diagnostics,
            memory,
            self.bare,
        ]


HEADER = (
    "method",
    "step ÷ bare step",
    "step ÷ own loss",
    "end of task ÷ pass",
    "diagnostics on ÷ off",
    "memory ÷ bare: step; survey",
    "the bare step",
)


class Steps:
    """The floors of a course in its training stage, and the ratios to them."""

    def __init__(self, course: Course, pairs: int) -> None:
        self.course, self.wanted, self.device = course, pairs, course.trainer.device
        self.own, self.bare, self.reason = OwnLoss(course.trainer), None, ""
        first = next(course.batches())
        precision = functools.partial(course.trainer.backbone.computing_in, course.trainer.precision)
        with precision():
            try:
                self.bare: BareViT | BareClip | None = bare_loop(self.own, course.task, first, course.trainer.precision)
            except NoBareLoop as error:
                self.reason = str(error)
        self.floors = {name: floor for name, floor in (("own", self.own), ("bare", self.bare)) if floor is not None}
        self.work = {name: self._stepping(floor, precision) for name, floor in self.floors.items()}
        self.times: dict[str, list[float]] = {name: [] for name in ("step", *self.work)}
        self.peaks: dict[str, int] = {}

    def _stepping(self, floor: Any, precision: Callable[[], Any]) -> Callable[[], None]:
        batches = self.course.batches()

        def step() -> None:
            with precision():
                floor.step(next(batches))

        return step

    @property
    def enough(self) -> bool:
        return len(self.times["step"]) >= self.wanted

    def weigh(self) -> None:
        """Peaks of one step of each floor, what it holds included."""
        for name, work in self.work.items():
            self.floors[name].optimiser.zero_grad()
            held = held_bytes([self.floors[name]], self.device, [self.course.trainer.stream])  # gradients: in the peak
            peak, _ = peak_bytes(work, self.device)
            self.peaks[name] = held + peak

    def take(self, found: dict[str, tuple[float, Any]], place: str) -> None:
        """Count one round, if the step in it was nothing but a full step."""
        moment = found[place][1]
        if moment is not None and len(moment) == 1 and isinstance(moment[0], StepEnded):
            for name, times in self.times.items():
                times.append(found[place if name == "step" else name][0])

    def ratio(self, to: str) -> Spread | None:
        if not self.times.get(to):
            return None
        return Spread.of([a / b for a, b in zip(self.times["step"], self.times[to], strict=True)])


def in_turn(work: dict[str, Callable[[], tuple[float, Any]]], turn: int) -> dict[str, tuple[float, Any]]:
    """Each piece of work once; nobody is always first."""
    names = list(work)
    start = turn % len(names)
    return {name: work[name]() for name in names[start:] + names[:start]}


def measured(config: RunConfig, pairs: int = 15, repeats: int = REPEATS) -> Row:
    """Everything about one method; see the module's own words."""
    started = time.perf_counter()
    start = at_second_task(config)
    without = replace(config, diagnostics=DiagnosticsConfig.off())
    on, off = Course(config, start), Course(without, start)
    row, steps = Row(config.method, config.backbone, "trains nothing"), None
    device, index = on.trainer.device, on.trainer.cursor.task
    while on.stage in ("start", "begin"):
        on.advance()
        off.advance()
    if on.stage == "train":
        steps = Steps(off, pairs)
    turn, before = 0, None
    while on.trainer.cursor.task == index:
        turn += 1
        if off.stage == "survey":
            before = off.kept()
        work: dict[str, Callable[[], tuple[float, Any]]] = {"on": on.advance, "off": off.advance}
        if off.stage != "train" or steps is None:
            in_turn(work, turn)
        elif turn == WEIGHED:
            off.trainer.optimiser.zero_grad()  # what it frees was allocated before, which the record cannot see
            held = off.held(off.trainer.optimiser)
            peak, _ = peak_bytes(lambda: next(off.moments), device)
            steps.peaks["step"] = held + peak
            next(on.moments)
            steps.weigh()
        elif steps.enough:
            in_turn(work, turn)
        else:
            floors = {name: functools.partial(timed, do, device) for name, do in steps.work.items()}
            found = in_turn({**work, **floors}, turn)
            if turn > WARM:
                steps.take(found, "on")
    row.diagnostics = on.seconds / off.seconds
    after = off.kept() if off.stage == "begin" else None
    while steps is not None and not steps.enough and more(config, start, steps):
        pass
    peak_survey = end_of_task(row, without, index, before, after, repeats)
    if steps is not None:
        row.step, row.own = steps.ratio("bare"), steps.ratio("own")
        row.bare = steps.bare.about if steps.bare is not None else f"none: {steps.reason}"
        row.milliseconds = {name: 1e3 * Spread.of(t).middle for name, t in steps.times.items() if t}
        if "bare" in steps.peaks:
            row.memory, row.memory_end = (peak / steps.peaks["bare"] for peak in (steps.peaks["step"], peak_survey))
    row.seconds = time.perf_counter() - started
    return row


def more(config: RunConfig, start: dict[str, Any] | None, steps: Steps) -> bool:
    """The task's steps once more, for as many pairs as are wanted; False if that gave none."""
    course, had = Course(config, start), len(steps.times["step"])
    while course.stage in ("start", "begin"):
        course.advance()
    for turn in itertools.count():
        if course.stage != "train" or steps.enough:
            return len(steps.times["step"]) > had
        floors = {name: functools.partial(timed, do, steps.device) for name, do in steps.work.items()}
        found = in_turn({"on": course.advance, **floors}, turn)
        if turn >= WARM:
            steps.take(found, "on")
    return False


def end_of_task(
    row: Row, config: RunConfig, index: int, before: dict[str, Any] | None, after: dict[str, Any] | None, repeats: int
) -> int:
    """Fill in end of task ÷ evaluation pass; returns the peak of memory of the survey.

    `before`: the state before the survey; `after`: the state before the next task begins, None if none does.
    """
    spent: dict[str, list[float]] = {}
    peak = 0

    def note(what: str, seconds: float) -> None:
        spent.setdefault(what, []).append(seconds)

    for repeat in range(repeats + 1):  # the first one warms up, and its memory is taken
        course = Course(config, before)
        task = course.task
        looked = functools.partial(evaluation_pass, course.trainer, task)
        looked()  # what is kept of images is there after training
        if not repeat:
            peak, _ = peak_bytes(lambda course=course: next(course.moments), course.trainer.device)
            peak += course.held()
            continue
        note("survey", course.advance()[0])
        note("pass", timed(looked, course.trainer.device)[0])
        if after is not None:
            following = Course(config, after)
            note("begin", following.advance()[0])
            for place in ("first", "second") if following.stage == "train" else ():
                note(place, following.advance()[0])
    usual = {what: statistics.median(seconds) for what, seconds in spent.items()}
    row.survey = usual["survey"] / usual["pass"]
    if after is not None:
        first, second = usual.get("first", 0.0), usual.get("second", 0.0)
        late = first - second if first > LATE * second else 0.0
        row.begin = (usual["begin"] + late) / usual["pass"]
    return peak


@torch.no_grad()
def evaluation_pass(trainer: Trainer, task: Task) -> None:
    """The task's training images looked at and classified as test images are."""
    method, backbone = trainer.method, trainer.backbone
    with backbone.computing_in(trainer.precision):
        for batch in trainer.feed.ordered(task, "train", trainer.evaluation.batch):
            method.classify(method.features(backbone, batch.images, ids=batch.ids).pooled, task.classes)


def whole(config: RunConfig) -> dict[str, float]:
    """Seconds of whole runs that differ in their diagnostics alone, in turn, moment by moment."""
    kinds = {
        "nothing but accuracies": DiagnosticsConfig.off(),
        "without the statistics readout": replace(config.diagnostics, readout=False),
        "the preset's": config.diagnostics,
    }
    runs = {name: Course(replace(config, diagnostics=kind)) for name, kind in kinds.items()}
    for turn in itertools.count():
        found = in_turn({name: run.advance for name, run in runs.items()}, turn)
        if all(moment is None for _, moment in found.values()):
            break
    return {name: run.seconds for name, run in runs.items()}


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--methods", help="default: all")
    cli.add_argument("--device", default="auto")
    cli.add_argument("--backbone", action="append", default=[], help="for the methods of its family; may be repeated")
    cli.add_argument("--pairs", type=int, default=15, help="steps that are compared, at least")
    cli.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, for all methods")
    cli.add_argument("--whole", action="store_true", help="whole runs with and without diagnostics, nothing else")
    add_options(cli)
    arguments = cli.parse_args()
    try:
        device = choose_device(arguments.device)
        chosen = {lookup(BACKBONES, name, "backbone")[1].needs: name for name in arguments.backbone}
        names = [lookup(METHODS, name, "method")[0] for name in (arguments.methods or ",".join(METHODS)).split(",")]
    except ConfigError as error:
        sys.exit(str(error))
    backbones = {**(ON_CUDA if device.type == "cuda" else {}), **chosen}
    print(f"{apply_options(arguments)}, {device}\n")
    started, failed = time.perf_counter(), []

    def rows() -> Iterator[Row]:
        for name in names:
            try:
                row = measured(config_of(name, arguments.device, backbones, arguments.set), arguments.pairs)
            except Exception as error:  # the others are measured all the same; the command fails in the end
                traceback.print_exc()
                row = Row(name, "", f"not measured: {type(error).__name__}: {error}")
                failed.append(name)
            steps = ", ".join(f"{what} {spent:.1f} ms" for what, spent in row.milliseconds.items())
            print(f"{name} on {row.backbone}: {steps or 'no steps'}; {row.seconds:.0f} s", file=sys.stderr, flush=True)
            yield row

    if arguments.whole:
        for name in names:
            spent = whole(config_of(name, arguments.device, backbones, arguments.set))
            least = next(iter(spent.values()))
            for kind, seconds in spent.items():
                print(f"{name}, diagnostics {kind}: {seconds:.1f} s, ÷ none {seconds / least:.3f}", flush=True)
    else:
        for line in table(HEADER, (row.cells() for row in rows())):
            print(line, flush=True)
    print(f"\n{time.perf_counter() - started:.0f} s, load {os.getloadavg()[0]:.1f}")
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
