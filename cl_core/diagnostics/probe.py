"""A few fixed images per task, looked at again and again: has attention on them moved, and by whose doing?

When a task has just been learned its probe images' block inputs, attention maps, block outputs and features are kept as
references. Later the same images are measured twice:

    end to end   through the whole network with the prompts as they are now (upstream drift included)
    local        each block alone, fed the inputs it had then: only what was learned in that block makes a difference

    total variation = ½ mean_{image, head, query} Σ_keys |S_now − S_then|      0 same, 1 disjoint
    output drift    = ‖F_now − F_then‖_F / ‖F_then‖_F  per block,  feature drift = mean(1 − cos)

Shapes: n probe images, L blocks, H heads, N image tokens, M prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_core.backbones.features import ModelEdit
from cl_core.events import AttentionCompared, Clock, Event, PredictionsMade

_KINDS = ("input", "attention", "output")


class Probe(nn.Module):
    """References of every task learned so far; its state is saved with the run, so a resumed run compares with the same
    past."""

    def __init__(
        self, backbone: Any, images: dict[int, Tensor], labels: dict[int, Tensor], ids: dict[int, Tensor]
    ) -> None:
        """`images[j]` [n, 3, S, S] prepared, `labels[j]` and `ids[j]` [n]: task j's probe set."""
        super().__init__()
        self.images, self.labels, self.ids = images, labels, ids
        self.taps = tuple((kind, layer) for layer in range(backbone.depth) for kind in _KINDS)

    def measured(self) -> list[int]:
        """Tasks with a reference."""
        return sorted({int(name.split("_")[1]) for name, _ in self.named_buffers(recurse=False)})

    @torch.no_grad()
    def compare(
        self, method: Any, backbone: Any, tasks: Sequence[int], clock: Clock, rivals: Callable[[int], range]
    ) -> list[Event]:
        """Look at the probe images of `tasks` now, in one batch; a task's first look becomes its reference.
        `rivals(task)`: the classes that compete for its images."""
        if not tasks:
            return []
        sizes = [len(self.images[task]) for task in tasks]
        images, ids = (torch.cat([of[task] for task in tasks]) for of in (self.images, self.ids))
        edit = method.edit(backbone, images, ids)
        looked = backbone.features(images, edit, self.taps)
        layers = range(backbone.depth)
        stacked = {kind: _stacked([looked.taps[kind, layer] for layer in layers]) for kind in _KINDS}  # [L, n, …]
        parts = {kind: value.split(sizes, dim=1) for kind, value in stacked.items()}
        pooled = looked.pooled.split(sizes)
        for place, task in enumerate(tasks):
            if task not in self.measured():
                for kind in _KINDS:
                    self.register_buffer(f"task_{task}_{kind}", parts[kind][place].clone())
                self.register_buffer(f"task_{task}_pooled", pooled[place].clone())
        local = self._local_attention(backbone, edit, tasks).split(sizes, dim=1)
        said: list[Event] = []
        for place, task in enumerate(tasks):
            now = {kind: parts[kind][place] for kind in _KINDS}
            said.append(self._compared(now, local[place], pooled[place], task, clock))
            said.append(self._predictions(method, pooled[place], task, clock, rivals(task)))
        return said

    def _local_attention(self, backbone: Any, edit: ModelEdit, tasks: Sequence[int]) -> Tensor:
        """Attention of each block alone, fed what it was fed then: [L, n, H, N, N + M]."""
        maps = []
        for layer in range(backbone.depth):
            inputs = torch.cat([getattr(self, f"task_{task}_input")[layer] for task in tasks])
            maps.append(backbone.edited_block(layer, inputs, edit, frozenset({"attention"}))[1]["attention"])
        return _stacked(maps)

    def _compared(
        self, now: dict[str, Tensor], local: Tensor, pooled: Tensor, task: int, clock: Clock
    ) -> AttentionCompared:
        then = {kind: getattr(self, f"task_{task}_{kind}") for kind in (*_KINDS, "pooled")}
        drift = (now["output"] - then["output"]).flatten(1).norm(dim=1) / then["output"].flatten(1).norm(dim=1)
        tokens = now["attention"].shape[-2]
        return AttentionCompared(
            clock,
            task,
            _variation(local, then["attention"]).float(),
            _variation(now["attention"], then["attention"]).float(),
            drift.float(),
            now["attention"][..., tokens:].sum(dim=-1).flatten(1).mean(dim=1).float(),
            1 - torch.cosine_similarity(pooled, then["pooled"]).mean(),
            now["attention"][:, :, :, 0].transpose(0, 1).half(),
        )

    def _predictions(self, method: Any, pooled: Tensor, task: int, clock: Clock, rivals: range) -> PredictionsMade:
        scores, labels = method.classify(pooled, rivals), self.labels[task] - rivals.start
        true = scores.gather(1, labels[:, None])[:, 0]
        others = scores.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
        predicted = scores.argmax(dim=1) + rivals.start
        return PredictionsMade(clock, task, predicted.short(), (true - others).float())


def _stacked(parts: list[Tensor]) -> Tensor:
    """[n, …, K_l] of every layer → [L, n, …, max K_l]: where layers have different numbers of prompts, the missing ones
    get no attention."""
    widest = max(part.shape[-1] for part in parts)
    return torch.stack([F.pad(part, (0, widest - part.shape[-1])) for part in parts])


def _variation(now: Tensor, then: Tensor) -> Tensor:
    """[L, n, H, N, K] twice → [L]."""
    return 0.5 * (now - then).abs().sum(dim=-1).flatten(1).mean(dim=1)
