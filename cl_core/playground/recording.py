"""A Playground network as an ordinary run: trained again with identical bits, and all events recorded.

The run's method is `playground-` and the rule, its backbone `mlp`, its stream the playground's. It is finished when it
appears and has no checkpoints, so it cannot be resumed or forked. All pages that have its events show it.
"""

from __future__ import annotations

import contextlib
import platform
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cl_core import __version__
from cl_core.config import DiagnosticsConfig, RunConfig, StreamConfig, TrainingConfig
from cl_core.events import (
    AccuracyMeasured,
    Clock,
    EpochEnded,
    Event,
    ImagesClassified,
    ImagesStored,
    OldTasksMeasured,
    PredictionsMade,
    ProbesChosen,
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
from cl_core.playground.algebra import discriminant, effective_rank, eigen_descending
from cl_core.playground.network import cross_entropy, softmax
from cl_core.playground.settings import PROJECTIONS, PlaygroundConfig
from cl_core.playground.streams import CLASSES, NAMES, SIDE, onehot
from cl_core.playground.training import ALL_SEEN, DOMAIN, TASK_KNOWN, Laboratory, TaskOutcome, one_thread
from cl_core.readouts import REFITTED
from cl_core.store import RunFolder, RunWriter, create_run, hold

BACKBONE, SPACE, PRESET = "mlp", "inputs", "playground"
PREFIX = "playground-"  # of the method: `ewc` and `replay` are names of methods that train transformers
PROBES = 6  # images of each task whose attention and margins are followed
LOOKS, LOOKED_AT = 16, 64  # looks at old tasks within a new one, and at how many of their images each
KEPT = ("rule", "stream", "tasks", "seed", "epochs", "batch_size")  # said elsewhere in a RunConfig


def run_config(config: PlaygroundConfig, name: str = "") -> RunConfig:
    """The settings of a kept run. Those of the rule and the network are the method's."""
    return RunConfig(
        method=PREFIX + config.rule,
        backbone=BACKBONE,
        stream=config.stream,
        seed=config.seed,
        device="cpu",
        name=name,
        preset=PRESET,
        settings={key: value for key, value in config.settings().items() if key not in KEPT},
        stream_settings=StreamConfig(tasks=config.tasks),
        training=TrainingConfig(epochs=config.epochs, batch_size=config.batch_size),
        diagnostics=DiagnosticsConfig(),
    )


def playground_config(run: RunConfig) -> PlaygroundConfig:
    """The playground's settings of a kept run. Raises ConfigError if it is none."""
    return PlaygroundConfig.of(
        {
            **run.settings,
            "rule": run.method.removeprefix(PREFIX),
            "stream": run.stream,
            "tasks": run.stream_settings.tasks,
            "seed": run.seed,
            "epochs": run.training.epochs,
            "batch_size": run.training.batch_size,
        }
    )


def keep(config: PlaygroundConfig, runs: Path, name: str = "") -> RunFolder:
    """Train `config` and write it as a finished run below `runs`. Raises StoreError in one sentence."""
    folder = create_run(runs, run_config(config, name))
    try:
        with one_thread(), hold(folder), contextlib.closing(RunWriter(folder)) as writer:
            for moment in Recorded(config).moments():
                writer.append(moment)
    except BaseException:  # half a run would look like one that was trained
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    return folder


def spectrum_events(config: PlaygroundConfig, outcome: TaskOutcome, clock: Clock) -> Iterator[SpectrumMeasured]:
    """Spectra of every layer's old inputs after a task, with the directions that the rule leaves free there."""
    projects = config.rule in PROJECTIONS
    for layer, (values, free) in enumerate(zip(outcome.spectra, outcome.free)):
        nullity = round(free * len(values))
        protected = projects and not (config.stream == "split-digits" and layer == config.layers - 1)
        multiple = config.rule == "adam-nscl" and config.nscl_cut == "multiple"
        yield SpectrumMeasured(
            clock,
            layer,
            SPACE,
            values.astype(np.float32),
            nullity,
            f"multiple {config.nscl_multiple:g}" if multiple else f"energy {config.energies[layer]:g}",
            protected,
            float(values[: len(values) - nullity].sum() / max(values.sum(), 1e-30)),
            effective_rank(values),
            1.0,
            0.0 if protected else 1.0,
        )


class Recorded(Laboratory):
    """One network, with the events of its training."""

    def __init__(self, config: PlaygroundConfig) -> None:
        super().__init__([config])
        self.steps: list[Event] = []
        self.step, self.begun, self.clock = 0, 0, Clock()
        self.parts: tuple[list[float], list[float]] = ([], [])  # loss and accuracy of this epoch's steps
        self.asked: list[np.ndarray] = []  # Σ of the steps proposed in this task, a layer each
        self.moved = time.perf_counter()

    def moments(self) -> Iterator[list[Event]]:
        """Everything the run says, moment by moment."""
        config, stream = self.config, self.stream
        yield [StateChanged(Clock(), "running"), self.started(), *self.images()]
        for task, shown in enumerate(stream):
            started = time.perf_counter()
            before = [weight[0].copy() for weight in self.network.weights]
            spectra = [eigen_descending(moment[0] / self.seen) for moment in self.second_moments] if task else []
            self.steps, self.begun, self.clock = [], self.step, Clock(task, 0, self.step)
            self.asked = [np.zeros_like(weight, dtype=np.float64) for weight in before]
            count = self.steps_of(task)
            begun = TaskStarted(self.clock, shown.names, count)
            self.learn(task)
            yield [begun]
            epoch: list[Event] = []
            for event in self.steps:
                epoch.append(event)
                if isinstance(event, EpochEnded):
                    yield epoch
                    epoch = []
            clock = Clock(task, config.epochs - 1, self.step - 1)
            after = [weight[0] for weight in self.network.weights]
            outcome = self.measure(task)[0]
            padding = [None] * (config.tasks - task - 1)
            yield [
                TaskEnded(clock, time.perf_counter() - started, self.kept_bytes()),
                *self.probes(clock, task),
                *(
                    AccuracyMeasured(clock, readout, [*row, *padding])
                    for readout, row in sorted(named(outcome.rows).items())
                ),
                *self.predictions(clock, task),
                *self.answers(clock, task),
                *spectrum_events(config, outcome, clock),
                *self.updates(clock, before, after, spectra),
            ]
        yield [StateChanged(clock, "finished")]

    def started(self) -> RunStarted:
        config, stream = self.config, self.stream
        parameters = sum(weight[0].size for weight in self.network.weights)
        return RunStarted(
            Clock(),
            [
                {"name": f"T{i + 1}", "classes": task.names, "train": len(task.labels), "test": len(task.test_labels)}
                for i, task in enumerate(stream)
            ],
            "class-incremental" if config.stream == "split-digits" else "domain-incremental",
            config.tasks,
            sum(map(self.steps_of, range(config.tasks))),
            parameters,
            {"name": BACKBONE, "depth": config.layers, "width": config.width, "parameters": parameters},
            {
                "device": "cpu",
                "device_name": platform.processor() or platform.machine(),
                "precision": "float32",
                "threads": 1,
                "numpy": np.__version__,
                "python": platform.python_version(),
                "plastiscope": __version__,
            },
        )

    def steps_of(self, task: int) -> int:
        images = sum(len(self.stream[t].labels) for t in self.rule.trained_on(task))
        return -(-images // self.config.batch_size) * self.config.epochs

    def stepped(
        self, probabilities: np.ndarray, targets: np.ndarray, proposed: list[np.ndarray], applied: list[np.ndarray]
    ) -> None:
        loss = float(cross_entropy(probabilities, targets)[0])
        right = 100 * float((probabilities.argmax(-1) == targets.argmax(-1)).mean())
        now = time.perf_counter()
        rate = self.config.adam_rate if self.config.rule == "adam-nscl" else self.config.learning_rate
        for total, step in zip(self.asked, proposed):
            total += step[0]
        self.steps.append(
            StepEnded(
                Clock(self.clock.task, self.clock.epoch, self.step),
                {"cross_entropy": _short(loss), "total": _short(loss)},
                {"weights": rate},
                _norms(proposed),
                _norms(applied),
                _short(right),
                _short(now - self.moved),
            )
        )
        every = max(1, self.steps_of(self.clock.task) // LOOKS)
        if self.clock.task and not (self.step - self.begun) % every:
            self.steps.append(self.old_tasks(self.steps[-1].clock, every))
        self.moved, self.step = time.perf_counter(), self.step + 1
        losses, rights = self.parts
        losses.append(loss)
        rights.append(right)
        per_epoch = self.steps_of(self.clock.task) // self.config.epochs
        if len(losses) == per_epoch:
            clock = Clock(self.clock.task, self.clock.epoch, self.step - 1)
            mean = float(np.mean(losses))
            self.steps.append(EpochEnded(clock, {"cross_entropy": mean, "total": mean}, float(np.mean(rights))))
            self.parts, self.clock = ([], []), Clock(clock.task, clock.epoch + 1, self.step)

    def old_tasks(self, clock: Clock, every: int) -> OldTasksMeasured:
        """Test images of all earlier tasks, evenly spaced, right after a step."""
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for old in range(clock.task):
            count = LOOKED_AT * (old + 1) // clock.task - LOOKED_AT * old // clock.task
            shown = self.stream[old]
            rows = np.arange(count) * len(shown.test_labels) // max(count, 1)
            parts.append((shown.test_images[rows], shown.test_labels[rows]))
        images, labels = (np.concatenate(column) for column in zip(*parts))
        competing = self.competing(range(clock.task + 1)) if self.own_heads else None
        probabilities = softmax(self.network.forward(images[None])[1], competing)
        right = 100 * float((probabilities[0].argmax(-1) == labels).mean())
        loss = float(cross_entropy(probabilities, onehot(labels)[None])[0])
        return OldTasksMeasured(clock, len(labels), right, _short(loss), every)

    def kept_bytes(self) -> int:
        """What the rule keeps between tasks: bases, importances, covariances, Fisher information; not projectors, which
        follow from them."""
        kept = [value for name, value in vars(self.rule).items() if name not in ("projectors", "first", "second")]
        return sum(_bytes(value) for value in kept if not isinstance(value, PlaygroundConfig))

    def probes(self, clock: Clock, task: int) -> Iterator[Event]:
        shown = self.stream[task]
        grey = (shown.test_images[:PROBES].reshape(-1, SIDE, SIDE) * 255).astype(np.uint8)
        labels = shown.test_labels[:PROBES]
        yield ProbesChosen(
            clock, np.repeat(grey[..., None], 3, axis=-1), labels.astype(np.int16), [NAMES[c] for c in labels]
        )

    def predictions(self, clock: Clock, task: int) -> Iterator[Event]:
        known = self.competing(range(task + 1)) if self.own_heads else np.ones(len(NAMES), bool)
        for old in range(task + 1):
            shown = self.stream[old]
            _, logits = self.network.forward(shown.test_images[None, :PROBES])
            scores = np.where(known, logits[0], -np.inf)
            labels = shown.test_labels[:PROBES]
            margin = _margins(scores, labels).astype(np.float32)
            yield PredictionsMade(clock, old, scores.argmax(-1).astype(np.int16), margin)

    def ids(self, task: int) -> np.ndarray:
        """[10] class id in order of arrival of every digit in a task; where all tasks have the same digits, each task's
        are classes of their own, as its pictures are."""
        if not self.own_heads:
            return np.arange(CLASSES) + CLASSES * task
        arrived = [c for shown in self.stream for c in shown.classes]
        return np.array([arrived.index(c) if c in arrived else -1 for c in range(CLASSES)])

    def images(self) -> Iterator[Event]:
        """All test images, as they are stored before training."""
        for task, shown in enumerate(self.stream):
            grey = (shown.test_images.reshape(-1, SIDE, SIDE) * 255).round().astype(np.uint8)
            labels = self.ids(task)[shown.test_labels].astype(np.int16)
            places = np.arange(len(labels), dtype=np.int32)
            yield ImagesStored(Clock(task), np.repeat(grey[..., None], 3, axis=-1), places, labels, len(labels))

    def answers(self, clock: Clock, task: int) -> Iterator[Event]:
        """What every readout, and one fitted anew to today's features of a task's training images, says of all test
        images; and the accuracy of the latter."""
        refitted: list[float | None] = []
        for old in range(task + 1):
            shown, ids = self.stream[old], self.ids(old)
            own = self.competing((old,)) if self.own_heads else np.ones(CLASSES, bool)
            seen = self.competing(range(task + 1)) if self.own_heads else own
            inputs, logits = self.network.forward(shown.test_images[None])
            weights, offsets = discriminant(self.network.forward(shown.images[None])[0][-1][0], shown.labels)
            fresh = np.full((len(shown.test_labels), CLASSES), -np.inf)
            fresh[:, : len(offsets)] = inputs[-1][0] @ weights - offsets
            scores = {
                ALL_SEEN: np.where(seen, logits[0], -np.inf),
                TASK_KNOWN: np.where(own, logits[0], -np.inf),
                REFITTED: fresh,
            }
            refitted.append(100 * float((fresh.argmax(-1) == shown.test_labels).mean()))
            yield ImagesClassified(
                clock,
                old,
                list(scores),
                np.stack([ids[score.argmax(-1)] for score in scores.values()]).astype(np.int16),
                np.stack([_margins(score, shown.test_labels) for score in scores.values()]).astype(np.float16),
            )
        yield RefitMeasured(clock, [*refitted, *[None] * (self.config.tasks - task - 1)])

    def updates(
        self,
        clock: Clock,
        before: list[np.ndarray],
        after: list[np.ndarray],
        spectra: list[tuple[np.ndarray, np.ndarray]],
    ) -> Iterator[Event]:
        """How far every layer moved, and how much of it the inputs of the tasks before can see."""
        asked: list[np.ndarray] = []
        for layer, (old, new) in enumerate(zip(before, after)):
            change = (new - old).astype(np.float64)
            size = float(np.linalg.norm(change))
            residual = isotropic = leak = None
            if spectra:
                values, vectors = spectra[layer]
                along = ((vectors.T @ change) ** 2).sum(-1)
                largest = max(float(values[0]), 1e-30)
                residual = float(np.sqrt((values * along).sum() / (max(size, 1e-30) ** 2 * largest)))
                isotropic = float(np.sqrt(values.sum() / (len(values) * largest)))
                leak = self.leak(layer, change)
                asked.append(((vectors.T @ self.asked[layer]) ** 2).sum(-1))
            yield UpdateMeasured(
                clock,
                layer,
                size / max(float(np.linalg.norm(old)), 1e-30),
                {SPACE: residual},
                {SPACE: isotropic},
                {} if leak is None else {SPACE: leak},
            )
        if asked and len({len(energies) for energies in asked}) == 1:
            yield UpdateByDirection(clock, SPACE, list(range(len(asked))), np.stack(asked).astype(np.float32), "steps")

    def leak(self, layer: int, change: np.ndarray) -> float | None:
        """Share ‖B Bᵀ ΔW‖ / ‖ΔW‖ of the task's change inside the space that was protected before it."""
        if self.before is None:
            return None
        removed = change - self.before[layer] @ change
        return float(np.linalg.norm(removed)) / max(float(np.linalg.norm(change)), 1e-30)

    before: list[np.ndarray] | None = None  # projectors that the task was held to

    def learn(self, task: int) -> None:
        projectors = getattr(self.rule, "projectors", None)
        self.before = None if projectors is None else [layer[0].astype(np.float64) for layer in projectors]
        self.moved = time.perf_counter()
        super().learn(task)


def named(rows: dict[str, list[float]]) -> dict[str, list[float]]:
    """Accuracies under the names of readouts that runs have. Where all tasks share their classes, nothing changes when
    the task is named."""
    return {ALL_SEEN: rows[DOMAIN], TASK_KNOWN: rows[DOMAIN]} if DOMAIN in rows else rows


def _margins(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[n] score of the true class minus the best other, within what float16 holds."""
    rows, others = np.arange(len(labels)), scores.copy()
    others[rows, labels] = -np.inf
    return np.clip(scores[rows, labels] - others.max(-1), -60_000, 60_000)


def _norms(steps: list[np.ndarray]) -> dict[str, float]:
    return {f"layer {layer + 1}": _short(float(np.linalg.norm(step))) for layer, step in enumerate(steps)}


def _short(value: float) -> float:
    """Five significant digits: two thousand steps are stored, and no figure shows more."""
    return float(f"{float(value):.5g}")


def _bytes(value: object) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, (list, tuple)):
        return sum(map(_bytes, value))
    return sum(map(_bytes, value.values())) if isinstance(value, dict) else 0
