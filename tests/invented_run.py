"""An invented run of a prompt method: its plan, and its moments in the order in which an engine yields them.

Numbers are made up, shapes are real. `tests.recorded_runs` records it in every state a page can meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cl_core.config import DiagnosticsConfig, RunConfig, StreamConfig, TrainingConfig
from cl_core.events import (
    AccuracyMeasured,
    AttentionCompared,
    CheckpointSaved,
    Clock,
    EpochEnded,
    Event,
    ImagesClassified,
    ImagesStored,
    OldTasksMeasured,
    PredictionsMade,
    ProbesChosen,
    PromptsDrifted,
    RefitMeasured,
    RunStarted,
    SpectrumMeasured,
    StateChanged,
    StepEnded,
    TaskEnded,
    TaskStarted,
    UpdateByDirection,
    UpdateMeasured,
)
from tests.recording import ENVIRONMENT

DIGITS = ("three", "seven", "zero", "one", "eight", "five", "two", "nine", "six", "four")
READOUTS = ("class-incremental", "task-incremental", "stored statistics", "recomputed statistics")
NAMED = ("task-incremental", "refitted head")


@dataclass(frozen=True)
class Plan:
    """Sizes of an invented run. Small enough for tests; `LIFELIKE` has the sizes of the micro backbone."""

    method: str = "nsp2"
    seed: int = 0
    tasks: int = 3
    epochs: int = 2
    steps: int = 3  # per epoch
    depth: int = 3
    heads: int = 2
    grid: int = 4
    width: int = 16
    prompts: int = 4
    probes: int = 2  # images a task
    classes: int = 2  # a task
    images: int = 20  # stored test images a task
    measured: bool = True  # spectra, attention, drift and readouts as well

    @property
    def tokens(self) -> int:
        return self.grid**2 + 1

    @property
    def config(self) -> RunConfig:
        return RunConfig(
            method=self.method,
            preset=f"{self.method}-micro",
            seed=self.seed,
            stream_settings=StreamConfig(tasks=self.tasks),
            training=TrainingConfig(epochs=self.epochs, batch_size=64),
            diagnostics=DiagnosticsConfig() if self.measured else DiagnosticsConfig.off(),
            settings={"prompt_length": self.prompts},
        )


LIFELIKE = Plan(tasks=5, epochs=5, steps=5, depth=6, heads=3, grid=4, width=192, prompts=8, probes=8)


def moments(plan: Plan) -> Iterator[tuple[Event, ...]]:
    """The run's moments in the order in which an engine yields them, from RunStarted to StateChanged("finished")."""
    rng = np.random.default_rng(plan.seed)
    prompts = rng.uniform(-1, 1, (plan.depth, plan.prompts, plan.width)).astype(np.float32)
    learned: dict[int, np.ndarray] = {}  # class attention of each task when it had just been learned
    strength = 0.35 if plan.method == "nsp2" else 1.0  # how far updates reach past tasks
    step = -1

    yield (
        (_started(plan), *_images(plan), StateChanged(Clock(), "running"), _tokens(Clock(), prompts, plan))
        if plan.measured
        else (_started(plan), StateChanged(Clock(), "running"))
    )
    for task in range(plan.tasks):
        before = prompts.copy()
        opening: list[Event] = [TaskStarted(Clock(task, -1, step), _classes(task, plan), plan.epochs * plan.steps)]
        if plan.measured:
            opening.append(_probes(Clock(task, -1, step), plan, rng))
        yield tuple(opening)
        for epoch in range(plan.epochs):
            totals = []
            for item in range(plan.steps):
                step += 1
                done = (epoch * plan.steps + item) / (plan.epochs * plan.steps)
                entropy = float(0.9 * np.exp(-4 * done) + 0.05 + 0.03 * rng.standard_normal() ** 2)
                losses = {"cross_entropy": entropy}
                if plan.method == "nsp2" and task:
                    losses["norm_drift"] = float(0.02 + 0.05 * rng.random())
                losses["total"] = sum(losses.values())
                totals.append(losses)
                proposed = float(0.5 + 0.3 * np.exp(-3 * done) + 0.02 * rng.standard_normal())
                gain = 1.0 if task == 0 or plan.method != "nsp2" else 0.12
                stepped: list[Event] = [
                    StepEnded(
                        Clock(task, epoch, step),
                        losses,
                        {"prompts": 0.05, "head": 0.01},
                        {"prompts": proposed},
                        {"prompts": proposed * gain},
                        float(min(100, 55 + 45 * done + 3 * rng.standard_normal())),
                        0.05,
                    ),
                ]
                if task and plan.measured and not item % 2:
                    stepped.append(OldTasksMeasured(Clock(task, epoch, step), 8, 90.0 - 10 * done, 0.3 + done, 2))
                yield tuple(stepped)
                prompts += (0.02 * strength * rng.standard_normal(prompts.shape)).astype(np.float32)
            clock = Clock(task, epoch, step)
            mean = {name: float(np.mean([t[name] for t in totals])) for name in totals[0]}
            moment: list[Event] = [EpochEnded(clock, mean, float(60 + 38 * (epoch + 1) / plan.epochs))]
            if plan.measured:
                moment.append(_tokens(clock, prompts, plan))
                moment += [_attention(clock, plan, probe, learned[probe], strength, rng) for probe in range(task)]
            yield tuple(moment)

        clock = Clock(task, plan.epochs - 1, step)
        measured: list[Event] = [
            TaskEnded(clock, plan.epochs * plan.steps * 0.06, 4 * plan.depth * plan.width**2 * (task + 1))
        ]
        if plan.measured:
            learned[task] = _class_attention(plan, rng)
            measured += [_attention(clock, plan, probe, learned[probe], strength, rng) for probe in range(task + 1)]
            measured += [_update(clock, plan, layer, prompts - before, before, strength) for layer in range(plan.depth)]
            if task:
                measured += [_by_direction(clock, plan, space) for space in ("affinity", "mixture")]
            if task < plan.tasks - 1:
                measured += [
                    _spectrum(clock, plan, layer, space)
                    for layer in range(plan.depth)
                    for space in ("affinity", "mixture")
                ]
        yield tuple(measured)
        yield tuple(_accuracies(clock, plan, task, rng))
        yield (CheckpointSaved(clock, f"{task + 1:06d}", boundary=True),)
    yield (StateChanged(Clock(plan.tasks - 1, plan.epochs - 1, step), "finished"),)


# ---------------------------------------------------------------- the invented events


def _classes(task: int, plan: Plan) -> list[str]:
    numbers = range(plan.classes * task, plan.classes * (task + 1))
    return [DIGITS[k % len(DIGITS)] + (f" {k // len(DIGITS) + 1}" if plan.classes > 2 else "") for k in numbers]


def _labels(task: int, plan: Plan, count: int) -> np.ndarray:
    """[count] classes of a task's images, in turn."""
    return (plan.classes * task + np.arange(count) % plan.classes).astype(np.int16)


def _mistaken(labels: np.ndarray, plan: Plan, task: int, evaluated: int) -> np.ndarray:
    """For what images are taken: the next class of their own task or, after a later one, a class of that."""
    own = labels - plan.classes * evaluated
    return plan.classes * task + ((own + 1) % plan.classes if task == evaluated else own)


def _started(plan: Plan) -> RunStarted:
    sizes = {"train": 260, "test": max(100, plan.images)}
    tasks = [{"name": f"T{t + 1}", "classes": _classes(t, plan), **sizes} for t in range(plan.tasks)]
    backbone = {
        "name": "micro-vit",
        "depth": plan.depth,
        "width": plan.width,
        "heads": plan.heads,
        "tokens": plan.tokens,
        "patch_grid": [plan.grid, plan.grid],
        "parameters": 2_700_000,
    }
    return RunStarted(
        Clock(),
        tasks,
        "class-incremental",
        plan.tasks,
        plan.tasks * plan.epochs * plan.steps,
        plan.depth * plan.prompts * plan.width + plan.classes * plan.width,
        backbone,
        ENVIRONMENT,
    )


def _probes(clock: Clock, plan: Plan, rng: np.random.Generator) -> ProbesChosen:
    side = 8 * plan.grid
    y, x = np.mgrid[0:side, 0:side] / side
    images = []
    for _ in range(plan.probes):
        a, b = rng.uniform(0.25, 0.75, 2)
        ring = np.exp(-((np.hypot(x - a, y - b) - 0.22) ** 2) / 0.006)
        images.append((255 * np.repeat(ring[..., None], 3, axis=2)).astype(np.uint8))
    labels, names = _labels(clock.task, plan, plan.probes), _classes(clock.task, plan)
    return ProbesChosen(clock, np.stack(images), labels, [names[i % plan.classes] for i in range(plan.probes)])


def _images(plan: Plan) -> list[Event]:
    """Bars of a slope of their own for every class."""
    y, x = np.mgrid[0:8, 0:8]
    found: list[Event] = []
    for task in range(plan.tasks):
        labels = _labels(task, plan, plan.images)
        bars = np.stack([(x * (k + 1) + y * (i + 1)) % 5 * 60 for i, k in enumerate(labels)]).astype(np.uint8)
        shown = np.repeat(bars[..., None], 3, axis=3)
        rows = np.arange(plan.images, dtype=np.int32) * 5
        found.append(ImagesStored(Clock(task), shown, rows, labels, 5 * plan.images))
    return found


def _answers(clock: Clock, plan: Plan, task: int, evaluated: int, percent: dict[str, float]) -> ImagesClassified:
    """The first images are right, so many as a readout's accuracy says; the rest are taken for the newest task's."""
    true, count = _labels(evaluated, plan, plan.images), plan.images
    margins = {name: value * count / 100 - 0.5 - np.arange(count) for name, value in percent.items()}
    wrong = {name: _mistaken(true, plan, evaluated if name in NAMED else task, evaluated) for name in percent}
    said = [np.where(margins[name] > 0, true, wrong[name]) for name in percent]
    kept = np.stack([margins[name] for name in percent])
    return ImagesClassified(clock, evaluated, list(percent), np.stack(said).astype(np.int16), kept.astype(np.float16))


def _tokens(clock: Clock, prompts: np.ndarray, plan: Plan) -> PromptsDrifted:
    return PromptsDrifted(
        clock, prompts.astype(np.float16), prompts.mean(-1).astype(np.float32), prompts.std(-1).astype(np.float32)
    )


def _class_attention(plan: Plan, rng: np.random.Generator) -> np.ndarray:
    logits = 1.5 * rng.standard_normal((plan.probes, plan.depth, plan.heads, plan.tokens + plan.prompts))
    weights = np.exp(logits)
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float16)


def _attention(
    clock: Clock, plan: Plan, probe: int, then: np.ndarray, strength: float, rng: np.random.Generator
) -> AttentionCompared:
    age = clock.task - probe
    mix = 0.0 if age == 0 else min(0.9, 0.2 * strength * age)
    now = ((1 - mix) * then.astype(np.float32) + mix * _class_attention(plan, rng)).astype(np.float16)
    rise = np.linspace(0.4, 1.0, plan.depth, dtype=np.float32)
    return AttentionCompared(
        clock,
        probe,
        (0.5 * mix * rise).astype(np.float32),
        (0.8 * mix * rise).astype(np.float32),
        (1.1 * mix * rise).astype(np.float32),
        now[..., plan.tokens :].astype(np.float32).sum(-1).mean((0, 2)),
        float(0.6 * mix),
        now,
    )


def _spectrum(clock: Clock, plan: Plan, layer: int, space: str) -> SpectrumMeasured:
    n = plan.width if space == "affinity" else plan.prompts
    rank = np.arange(n, dtype=np.float32)
    eigenvalues = (10 * np.exp(-rank / (n / 14 * (1 + 0.25 * clock.task) + 0.3 * layer)) + 1e-5).astype(np.float32)
    nullity = max(2, int(n * (0.92 - 0.09 * clock.task - 0.01 * layer))) if n > 8 else max(2, n - 1 - clock.task)
    share = eigenvalues / eigenvalues.sum()
    return SpectrumMeasured(
        clock,
        layer,
        space,
        eigenvalues,
        nullity,
        "elbow",
        plan.method == "nsp2",
        float(share[: n - nullity].sum()),
        float(np.exp(-(share * np.log(share)).sum())),
        float(0.97 / np.sqrt(nullity) + 0.03),
        0.03,
    )


def _update(
    clock: Clock, plan: Plan, layer: int, change: np.ndarray, before: np.ndarray, strength: float
) -> UpdateMeasured:
    movement = float(np.linalg.norm(change[layer]) / np.linalg.norm(before[layer]))
    if clock.task == 0:
        return UpdateMeasured(
            clock, layer, movement, {"affinity": None, "mixture": None}, {"affinity": None, "mixture": None}
        )
    return UpdateMeasured(
        clock,
        layer,
        movement,
        {"affinity": 0.1 * strength, "mixture": 0.4 * strength},
        {"affinity": 0.13, "mixture": 0.5},
    )


def _by_direction(clock: Clock, plan: Plan, space: str) -> UpdateByDirection:
    n = plan.width if space == "affinity" else plan.prompts
    energies = np.exp(-2 * np.arange(n) / n) * (1 + np.arange(plan.depth))[:, None]
    return UpdateByDirection(clock, space, list(range(plan.depth)), energies.astype(np.float32), "steps")


def _accuracies(clock: Clock, plan: Plan, task: int, rng: np.random.Generator) -> list[Event]:
    loss_per_task = 5.0 if plan.method == "nsp2" else 22.0
    events: list[Event] = []
    rows: dict[str, list[float | None]] = {}
    for readout in READOUTS if plan.measured else READOUTS[:1]:
        ease = {
            "class-incremental": 1.0,
            "task-incremental": 0.3,
            "stored statistics": 0.7,
            "recomputed statistics": 0.4,
        }[readout]
        row: list[float | None] = [
            float(np.clip(97 - 2 * j - ease * loss_per_task * (task - j) + rng.normal(), 0, 100))
            for j in range(task + 1)
        ]
        rows[readout] = row + [None] * (plan.tasks - task - 1)
        events.append(AccuracyMeasured(clock, readout, rows[readout]))
    if plan.measured:
        again = range(task + 1) if task == plan.tasks - 1 else [task]
        rows["refitted head"] = [99.0 - 0.5 * (task - j) if j in again else None for j in range(plan.tasks)]
        events.append(RefitMeasured(clock, rows["refitted head"]))
        for evaluated in range(task + 1):
            percent = {name: value for name, row in rows.items() if (value := row[evaluated]) is not None}
            events.append(_answers(clock, plan, task, evaluated, percent))
        for evaluated in range(task + 1):
            true = _labels(evaluated, plan, plan.probes)
            margin = (3 - 1.2 * (task - evaluated) * loss_per_task / 10 - np.arange(plan.probes) / 3).astype(np.float32)
            taken = plan.classes * task + true % plan.classes
            said = np.where(margin > 0, true, taken).astype(np.int16)
            events.append(PredictionsMade(clock, evaluated, said, margin))
    return events
