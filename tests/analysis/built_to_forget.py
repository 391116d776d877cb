"""A method that learns its first task well and then forgets it for one known reason, without a training step.

Heads are linear discriminants of the finished task's features. From the second task on

    "heads"      features stay as they are; the new task's classes win every image
    "features"   no block's attention passes anything on any longer; new classes never win
    "layer"      the same, in block LAYER alone
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from cl_core.backbones.io_types import BlockIntervention, ModelEdit
from cl_core.config import RunConfig, setting
from cl_core.events import Clock, Event
from cl_core.methods.method import Collector, Loss, Method, ParameterGroup
from cl_core.observers.lda_readout import REFIT_SHRINKAGE, ClassStatistics
from cl_core.registry import METHODS, Entry
from cl_core.store import RunFolder, create_run
from cl_core.streams.stream import Batch
from cl_core.training.worker import drive

LAYER = 1
REASONS = ("heads", "features", "layer")
WINS = 1e6


@dataclass(frozen=True)
class BuiltConfig:
    reason: str = setting("heads", choices=("heads", "features", "layer"), help="what is lost")


@final
class BuiltToForget(Method):
    Config = BuiltConfig
    weight: Tensor
    bias: Tensor
    silent: Tensor

    def __init__(self, config: BuiltConfig, backbone: Any, seed: int) -> None:
        super().__init__(config, seed)
        self.width, self.classes = backbone.pooled_width, range(0)
        self.register_buffer("weight", torch.zeros(10, self.width))
        self.register_buffer("bias", torch.zeros(10))
        self.register_buffer("silent", torch.zeros(backbone.depth))

    def begin_task(self, index: int, classes: range) -> None:
        self.classes, self.task = classes, index
        if index and self.config.reason != "heads":
            self.silent[slice(None) if self.config.reason == "features" else LAYER] = 1
        self.statistics = ClassStatistics(len(classes), self.width)

    def epochs(self, planned: int) -> int:
        return 0

    def groups(self) -> list[ParameterGroup]:
        return []

    def edit(self, backbone: Any, images: Tensor, ids: Tensor | None = None) -> ModelEdit:
        silent = torch.nonzero(self.silent).flatten().tolist()
        return ModelEdit({x: BlockIntervention(branches={"v": -backbone.map_weight(f"image.{x}.v")}) for x in silent})

    def classify(self, pooled: Tensor, classes: range) -> Tensor:
        return (pooled @ self.weight.mT + self.bias)[:, classes.start : classes.stop]

    def loss(self, backbone: Any, batch: Batch) -> Loss:
        raise NotImplementedError("nothing is trained")

    def collectors(self, backbone: Any) -> Sequence[Collector]:
        return [Collector((), lambda seen, batch: self.statistics.add(seen.pooled, batch.labels - self.classes.start))]

    def end_task(self, clock: Clock) -> list[Event]:
        rows = slice(self.classes.start, self.classes.stop)
        if not self.task:
            scores = self.statistics.classifier(REFIT_SHRINKAGE)
            zero = scores(torch.zeros(1, self.width))[0]
            self.weight[rows] = (scores(torch.eye(self.width)) - zero).mT.float()
            self.bias[rows] = zero.float()
        else:
            self.bias[rows] = WINS if self.config.reason == "heads" else -WINS
        return []


@contextmanager
def three_runs(runs: Path, tiny_config: Callable[..., RunConfig]) -> Iterator[dict[str, RunFolder]]:
    """Reason → a run of two tasks below `runs` that has forgotten its first for it; the method is known meanwhile."""
    METHODS["built_to_forget"] = Entry("tests.analysis.built_to_forget:BuiltToForget", "forgets", "vit")
    found = {}
    for reason in REASONS:
        config = tiny_config("built_to_forget", tasks=2, settings={"reason": reason})
        found[reason] = create_run(runs, replace(config, name=reason))
        assert drive(found[reason]).state == "finished"
    yield found
    del METHODS["built_to_forget"]
