"""The training loop over tasks and epochs, for N networks at a time.

Networks that differ in strength alone are trained side by side, on the same batches: one product of stacked matrices a
layer instead of N small ones. Each network comes out as if it had been trained alone, to the bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cl_core import metrics
from cl_core.playground.algebra import eigen_descending, gram
from cl_core.playground.network import Network, cross_entropy_error, softmax
from cl_core.playground.rules import Rule, of, rule_for
from cl_core.playground.settings import PROJECTIONS, PlaygroundConfig
from cl_core.playground.streams import CLASSES, PIXELS, Task, onehot, tasks_of

DOMAIN, TASK_KNOWN, ALL_SEEN = "domain-incremental", "task-incremental", "class-incremental"


@dataclass(frozen=True)
class TaskOutcome:
    """One network after one task."""

    task: int
    rows: dict[str, list[float]]  # readout → accuracy on tasks 0 … task, percent; the first is the headline
    free: list[float]  # [L] share of every layer's input directions left free
    spectra: list[np.ndarray]  # [L] of [d_l], eigenvalues of the mean of x xᵀ over all old tasks' inputs, descending


@dataclass
class Outcome:
    """One network after all tasks so far."""

    config: PlaygroundConfig
    tasks: list[TaskOutcome] = field(default_factory=list)
    seconds: float = 0.0  # wall time of the bank it was trained in

    @property
    def readouts(self) -> list[str]:
        return list(self.tasks[0].rows) if self.tasks else []

    def matrix(self, readout: str | None = None) -> np.ndarray:
        """R [T, T] in percent, NaN where not measured: rows after training on, columns evaluated on."""
        found = np.full((self.config.tasks, self.config.tasks), np.nan)
        for outcome in self.tasks:
            row = outcome.rows[readout or self.readouts[0]]
            found[outcome.task, : len(row)] = row
        return found

    def numbers(self) -> dict[str, float | None]:
        """Final average accuracy, learning accuracy and forgetting after the tasks so far (see `cl_core.metrics`)."""
        done = len(self.tasks)
        matrix = self.matrix()[:done, :done]
        names = ("final_average_accuracy", "learning_accuracy", "forgetting")
        values = {name: float(getattr(metrics, name)(matrix)) if done else np.nan for name in names}
        return {name: value if np.isfinite(value) else None for name, value in values.items()}

    def reported(self) -> dict[str, object]:
        """Plain values for programs: `plastiscope playground --json`."""
        matrix = [[None if np.isnan(v) else round(float(v), 4) for v in row] for row in self.matrix()]
        return {
            "energy": self.config.settings()["energy"] if self.config.rule in PROJECTIONS else None,
            "seed": self.config.seed,
            "accuracy_matrix": matrix,
            **{name: None if value is None else round(value, 4) for name, value in self.numbers().items()},
            "free": [[round(share, 6) for share in outcome.free] for outcome in self.tasks],
        }


class Laboratory:
    """A bank of networks on one stream.

    Args:
        configs: one a network; they differ in strength alone.
    """

    def __init__(self, configs: Sequence[PlaygroundConfig]) -> None:
        self.configs, self.config = list(configs), configs[0]
        config = self.config
        self.stream: list[Task] = tasks_of(config, config.seed)
        sizes = [PIXELS, *[config.width] * config.depth, CLASSES]
        self.network = Network(sizes, [c.seed for c in configs], config.activation)
        self.rule: Rule = rule_for(configs, self.network)
        self.second_moments = [np.zeros((1, d, d)) for d in sizes[:-1]]  # Σ x xᵀ of all old tasks' inputs, [N or 1, …]
        self.seen = 0  # images those are sums over

    @property
    def own_heads(self) -> bool:
        """Whether every task has classes, and a head, of its own."""
        return self.config.stream == "split-digits"

    def learn(self, task: int) -> None:
        """Train on one task and let the rule keep what it needs of it."""
        self.rule.begin_task(task)
        for images, targets, competing in self.batches(task):
            inputs, logits = self.network.forward(images[None])
            probabilities = softmax(logits, competing)
            gradients = self.network.gradients(inputs, cross_entropy_error(probabilities, targets))
            proposed = self.rule.propose(gradients)
            applied = self.rule.constrain(proposed)
            for weight, step in zip(self.network.weights, applied):
                weight -= step
            self.rule.settle()
            self.stepped(probabilities, targets, proposed, applied)
        shown = self.stream[task]
        inputs, _ = self.network.forward(shown.images[None])
        grams = [gram(rows) for rows in inputs]
        self.rule.end_task(task, inputs, grams, shown)
        self.second_moments = [old + new for old, new in zip(self.second_moments, grams)]
        self.seen += len(shown.labels)

    def stepped(
        self, probabilities: np.ndarray, targets: np.ndarray, proposed: list[np.ndarray], applied: list[np.ndarray]
    ) -> None:
        """After every step; for a subclass that records."""

    def batches(self, task: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
        """Images [B, 64], onehot labels [B, 10] and, where tasks have heads of their own, which classes compete
        [B, 10] bool; the same for all networks."""
        config, rule = self.config, self.rule
        random = np.random.default_rng([config.seed, 5, task])
        pool = _joined([self.stream[t] for t in rule.trained_on(task)])
        count = len(pool[1])
        for _ in range(config.epochs):
            order = random.permutation(count)
            images, targets, competing = (column[order] for column in pool)
            for start in range(0, count, config.batch_size):
                rows = slice(start, start + config.batch_size)
                batch = [images[rows], targets[rows], competing[rows]]
                for old, kept in rule.rehearsed(random, len(batch[1])):
                    batch = [np.concatenate([a, b[kept]]) for a, b in zip(batch, _joined([self.stream[old]]))]
                yield batch[0], batch[1], batch[2] if self.own_heads else None

    def measure(self, task: int) -> list[TaskOutcome]:
        """Accuracies on all tasks so far, free directions and spectra, of every network."""
        rows, free = self.accuracies(task), self.rule.free()
        spectra = [eigen_descending(moment / self.seen)[0] for moment in self.second_moments]
        return [
            TaskOutcome(
                task,
                {readout: list(values[n]) for readout, values in rows.items()},
                [float(share) for share in free[n]],
                [of(layer, n) for layer in spectra],
            )
            for n in range(len(self.configs))
        ]

    def accuracies(self, task: int) -> dict[str, np.ndarray]:
        """Readout → [N, task + 1] percent on the test images of every task so far."""
        found: dict[str, list[np.ndarray]] = {
            name: [] for name in ((TASK_KNOWN, ALL_SEEN) if self.own_heads else (DOMAIN,))
        }
        for old in range(task + 1):
            shown = self.stream[old]
            _, logits = self.network.forward(shown.test_images[None])
            for readout, values in found.items():
                known = self.competing(range(task + 1) if readout == ALL_SEEN else (old,)) if self.own_heads else None
                allowed = logits if known is None else np.where(known, logits, -np.inf)
                values.append(100 * (allowed.argmax(-1) == shown.test_labels).mean(-1))
        return {readout: np.stack(values, axis=-1) for readout, values in found.items()}

    def competing(self, tasks: Iterable[int]) -> np.ndarray:
        """[10] bool: the classes of these tasks."""
        mask = np.zeros(CLASSES, bool)
        for task in tasks:
            mask[list(self.stream[task].classes)] = True
        return mask


def _joined(tasks: list[Task]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, onehot labels and which classes compete for each image, of several tasks."""
    columns = [(task.images, onehot(task.labels), task.competing()) for task in tasks]
    return columns[0] if len(columns) == 1 else tuple(np.concatenate(column) for column in zip(*columns))  # type: ignore[return-value]


def one_thread() -> contextlib.AbstractContextManager[object]:
    """Products of matrices this small are slower on several threads, and equal bits need an equal number of them."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, "blas")


def banks(configs: Sequence[PlaygroundConfig]) -> list[list[int]]:
    """Places of `configs` that can be trained side by side: alike but for strength."""
    found: dict[object, list[int]] = {}
    for place, config in enumerate(configs):
        neutral: dict[str, Any] = {"energy": 0.0, "ewc_lambda": 0.0, "nscl_multiple": 1.0}
        found.setdefault(dataclasses.replace(config, **neutral), []).append(place)
    return list(found.values())


def train_bank(configs: Sequence[PlaygroundConfig]) -> Iterator[tuple[int, TaskOutcome]]:
    """Train one network a config; yields (place of the config, its outcome) after every task.

    Raises ConfigError where a config cannot be used.
    """
    for places in banks(configs):
        laboratory = Laboratory([configs[place] for place in places])
        for task in range(laboratory.config.tasks):
            with one_thread():
                laboratory.learn(task)
                outcomes = laboratory.measure(task)
            yield from zip(places, outcomes)


def train(configs: Sequence[PlaygroundConfig]) -> list[Outcome]:
    """Train one network a config to the end of its stream."""
    started = time.perf_counter()
    outcomes = [Outcome(config) for config in configs]
    for place, learned in train_bank(configs):
        outcomes[place].tasks.append(learned)
    seconds = time.perf_counter() - started
    for outcome in outcomes:
        outcome.seconds = seconds
    return outcomes
