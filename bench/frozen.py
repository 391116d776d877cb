"""What frozen features are worth on a stream at their best: the reference that adapting has to beat.

    python -m bench.frozen [--stream camouflage] [--backbone micro-vit] [--tasks 5] [--seeds 0,1,2]

All classes at once, and the classes of each of `tasks` tasks among themselves (the task known), mean over tasks and the
class orders of the seeds. Pooled features of the untouched backbone, two readouts: LDA with shrinkage s (as in
`lda_readout`, but with s searched) and logistic regression on standardised features, L2 penalty 1/C.
s and C are chosen on the validation split; the test images are read once, with all training images.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from cl_core.config import StreamConfig
from cl_core.observers.lda_readout import ClassStatistics
from cl_core.registry import BACKBONES, STREAMS, load

SHRINKAGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3)
PENALTIES = (1e-3, 1e-2, 0.1, 1.0, 10.0)  # C
Side = tuple[Tensor, Tensor]  # features [n, d], labels [n]


def lda_accuracy(train: Side, test: Side, shrinkage: float) -> float:
    """Percent of test images right."""
    (features, labels), (unknown, truth) = train, test
    statistics = ClassStatistics(int(labels.max()) + 1, features.shape[1])
    statistics.add(features, labels)
    within = statistics.scatter / statistics.counts.sum()
    covariance = (1 - shrinkage) * within
    covariance.diagonal().add_(shrinkage * within.trace() / len(within))
    weights = torch.linalg.solve(covariance, statistics.means.mT)  # [d, C]
    scores = unknown.double() @ weights - 0.5 * (statistics.means.mT * weights).sum(0)
    return 100 * float((scores.argmax(1) == truth).double().mean())


def logistic_accuracy(train: Side, test: Side, penalty: float) -> float:
    """Percent of test images right."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=2000))
    model.fit(train[0].numpy(), train[1].numpy())
    return 100 * float(model.score(test[0].numpy(), test[1].numpy()))


READOUTS = {"LDA": (lda_accuracy, SHRINKAGES, "s"), "logistic regression": (logistic_accuracy, PENALTIES, "C")}


@torch.inference_mode()
def sides(stream: str, backbone: str, evaluate_on: str, seed: int = 0) -> tuple[Side, Side]:
    """Features and labels, in order of arrival, of all training images and of those evaluated on."""
    model = load(BACKBONES, backbone, "backbone")()
    settings = StreamConfig(tasks=1, evaluate_on=evaluate_on)
    task = load(STREAMS, stream, "stream")(settings, model.preparation, seed)[0]
    found = []
    for split in ("train", "test"):
        parts = [(model(batch.images).pooled, batch.labels) for batch in task.ordered(split, 250)]
        features, labels = zip(*parts, strict=True)
        found.append((torch.cat(features), torch.cat(labels)))
    return found[0], found[1]


def by_task(train: Side, test: Side, tasks: int) -> list[tuple[Side, Side]]:
    """Both sides cut into tasks of equally many classes in order of arrival, labels from 0."""
    per_task = (int(train[1].max()) + 1) // tasks

    def cut(side: Side, task: int) -> Side:
        rows = side[1] // per_task == task
        return side[0][rows], side[1][rows] - task * per_task

    return [(cut(train, task), cut(test, task)) for task in range(tasks)]


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--stream", default="camouflage")
    cli.add_argument("--backbone", default="micro-vit")
    cli.add_argument("--tasks", type=int, default=5)
    cli.add_argument("--seeds", default="0,1,2")
    arguments = cli.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    held_out, whole = (
        [sides(arguments.stream, arguments.backbone, on, seed) for seed in seeds] for on in ("validation", "test")
    )
    known = ([pair for one in found for pair in by_task(*one, arguments.tasks)] for found in (held_out, whole))
    print("| frozen features | readout | chosen | validation | test |\n|---|---|---|---|---|")
    for title, (choosing, telling) in (
        ("all classes", (held_out[:1], whole[:1])),
        (f"{arguments.tasks} tasks, task known", tuple(known)),
    ):
        for name, (accuracy, grid, symbol) in READOUTS.items():

            def mean(pairs: list[tuple[Side, Side]], value: float, accuracy: Any = accuracy) -> float:
                return sum(accuracy(*pair, value) for pair in pairs) / len(pairs)

            found = {value: mean(choosing, value) for value in grid}
            best = max(found, key=lambda value: found[value])
            test = mean(telling, best)
            print(f"| {title} | {name} | {symbol} = {best:g} | {found[best]:.1f} | {test:.1f} |", flush=True)


if __name__ == "__main__":
    main()
