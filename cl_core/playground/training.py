"""The loop: task after task, epoch after epoch, N networks at a time.

Networks that differ in seed and strength alone are trained side by side: one product of stacked matrices a layer
instead of N small ones. Each network comes out as if it had been trained alone, to the bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from cl_core import metrics
from cl_core.playground.algebra import eigen_descending
from cl_core.playground.network import Network, cross_entropy_error, softmax
from cl_core.playground.rules import Rule, rule_for
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
    """A bank of networks on the stream of each one's seed.

    Args:
        configs: one a network; they differ in seed and strength alone, and all see equally many images a task.
    """

    def __init__(self, configs: Sequence[PlaygroundConfig]) -> None:
        self.configs, self.config = list(configs), configs[0]
        config = self.config
        self.seeds = list(dict.fromkeys(c.seed for c in configs))
        self.streams: dict[int, list[Task]] = {seed: tasks_of(config, seed) for seed in self.seeds}
        sizes = [PIXELS, *[config.width] * config.depth, CLASSES]
        self.network = Network(sizes, [c.seed for c in configs], config.activation)
        self.rule: Rule = rule_for(configs, self.network)
        self.second_moments = [np.zeros((len(configs), d, d)) for d in sizes[:-1]]  # Σ x xᵀ of all old tasks' inputs
        self.seen = 0  # images those are sums over
        self._of_seed = np.array([self.seeds.index(c.seed) for c in configs])

    def shown(self, task: int) -> list[Task]:
        """The task as each network sees it."""
        return [self.streams[c.seed][task] for c in self.configs]

    def learn(self, task: int) -> None:
        """Train on one task and let the rule keep what it needs of it."""
        self.rule.begin_task(task)
        for images, targets, competing in self.batches(task):
            inputs, logits = self.network.forward(images)
            probabilities = softmax(logits, competing)
            gradients = self.network.gradients(inputs, cross_entropy_error(probabilities, targets))
            proposed = self.rule.propose(gradients)
            applied = self.rule.constrain(proposed)
            for weight, step in zip(self.network.weights, applied):
                weight -= step
            self.rule.settle()
            self.stepped(probabilities, targets, proposed, applied)
        images = self._stacked([self.streams[seed][task].images for seed in self.seeds])
        inputs, _ = self.network.forward(images)
        self.rule.end_task(task, inputs, self.shown(task))
        for moment, rows in zip(self.second_moments, inputs):
            moment += rows.swapaxes(-1, -2) @ rows
        self.seen += images.shape[1]

    def stepped(
        self, probabilities: np.ndarray, targets: np.ndarray, proposed: list[np.ndarray], applied: list[np.ndarray]
    ) -> None:
        """After every step; for a subclass that records."""

    def batches(self, task: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
        """Images [N, B, 64], onehot labels [N, B, 10] and, where tasks have heads of their own, which classes compete
        [N, B, 10] bool."""
        config, rule = self.config, self.rule
        randoms = {seed: np.random.default_rng([seed, 5, task]) for seed in self.seeds}
        learned = rule.trained_on(task)
        pools = {seed: _joined([self.streams[seed][t] for t in learned]) for seed in self.seeds}
        count = len(pools[self.seeds[0]][1])
        for _ in range(config.epochs):
            orders = {seed: randoms[seed].permutation(count) for seed in self.seeds}
            for start in range(0, count, config.batch_size):
                drawn = []
                for seed in self.seeds:
                    rows = orders[seed][start : start + config.batch_size]
                    parts = [tuple(column[rows] for column in pools[seed])]
                    for old, kept in rule.rehearsed(seed, randoms[seed], len(rows)):
                        parts.append(tuple(column[kept] for column in _joined([self.streams[seed][old]])))
                    drawn.append([np.concatenate(c) if len(c) > 1 else c[0] for c in zip(*parts)])
                images, targets, competing = (self._stacked(list(column)) for column in zip(*drawn))
                yield images, targets, competing if config.stream == "split-digits" else None

    def measure(self, task: int) -> list[TaskOutcome]:
        """Accuracies on all tasks so far, free directions and spectra, of every network."""
        rows = self.accuracies(task)
        free = self.rule.free()
        spectra = [eigen_descending(moment / self.seen)[0] for moment in self.second_moments]
        return [
            TaskOutcome(
                task,
                {readout: list(values[n]) for readout, values in rows.items()},
                [float(share) for share in free[n]],
                [layer[n] for layer in spectra],
            )
            for n in range(len(self.configs))
        ]

    def accuracies(self, task: int) -> dict[str, np.ndarray]:
        """Readout → [N, task + 1] percent on the test images of every task so far."""
        split = self.config.stream == "split-digits"
        found: dict[str, list[np.ndarray]] = {name: [] for name in ((TASK_KNOWN, ALL_SEEN) if split else (DOMAIN,))}
        for old in range(task + 1):
            images = self._stacked([self.streams[seed][old].test_images for seed in self.seeds])
            labels = self._stacked([self.streams[seed][old].test_labels for seed in self.seeds])
            _, logits = self.network.forward(images)
            for readout, values in found.items():
                known = self.competing(task, old if readout == TASK_KNOWN else None) if split else None
                allowed = logits if known is None else np.where(known, logits, -np.inf)
                values.append(100 * (allowed.argmax(-1) == labels).mean(-1))
        return {readout: np.stack(values, axis=-1) for readout, values in found.items()}

    def competing(self, task: int, only: int | None = None) -> np.ndarray:
        """[N, 1, 10] bool: the classes of task `only`, or all classes seen up to `task`."""
        mask = np.zeros((len(self.configs), 1, CLASSES), bool)
        for network, config in enumerate(self.configs):
            for t in range(task + 1) if only is None else (only,):
                mask[network, 0, list(self.streams[config.seed][t].classes)] = True
        return mask

    def probabilities(self, images: np.ndarray, competing: np.ndarray | None = None) -> np.ndarray:
        """Softmax over classes [N, B, 10] for images [N, B, 64]."""
        return softmax(self.network.forward(images)[1], competing)

    def _stacked(self, of_seeds: list[np.ndarray]) -> np.ndarray:
        """One array a seed → one a network."""
        return of_seeds[0][None] if len(self.configs) == 1 else np.stack(of_seeds)[self._of_seed]


def _joined(tasks: list[Task]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, onehot labels and which classes compete for each image, of several tasks."""
    columns = [(task.images, onehot(task.labels), task.competing()) for task in tasks]
    return columns[0] if len(columns) == 1 else tuple(np.concatenate(column) for column in zip(*columns))  # type: ignore[return-value]


def one_thread() -> contextlib.AbstractContextManager[object]:
    """Products of matrices this small are slower on several threads, and equal bits need an equal number of them."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, "blas")


def banks(configs: Sequence[PlaygroundConfig]) -> list[list[int]]:
    """Places of `configs` that can be trained side by side: alike but for seed and strength, with equal batches."""
    found: dict[object, list[int]] = {}
    for place, config in enumerate(configs):
        neutral = {"energy": 0.0, "ewc_lambda": 0.0, "nscl_multiple": 1.0} | (
            {} if config.stream == "split-digits" else {"seed": 0}
        )
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
    for place, outcome in train_bank(configs):
        outcomes[place].tasks.append(outcome)
    seconds = time.perf_counter() - started
    for outcome in outcomes:
        outcome.seconds = seconds
    return outcomes
