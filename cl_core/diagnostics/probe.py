"""A few fixed images per task, looked at again and again: has attention on them moved, and by whose doing?

When a task has just been learned its probe images' block inputs, attention maps, block outputs and features are kept as
references. Later the same images are measured twice:

    end to end   through the whole network with the prompts as they are now (upstream drift included)
    local        each block alone, fed the inputs it had then: only that block's prompts can make a difference

    total variation = ½ mean_{image, head, query} Σ_keys |S_now − S_then|      0 same, 1 disjoint
    output drift    = ‖F_now − F_then‖_F / ‖F_then‖_F  per block,  feature drift = mean(1 − cos)

Shapes: n probe images, L blocks, H heads, N image tokens, M prompts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cl_core.backbones.features import Features
from cl_core.events import AttentionCompared, Clock, Event, PredictionsMade

_KINDS = ("input", "attention", "output")


class Probe(nn.Module):
    """References of every task learned so far; its state is saved with the run, so a resumed run compares with the same
    past."""

    def __init__(self, backbone: Any, images: dict[int, Tensor], labels: dict[int, Tensor]) -> None:
        """`images[j]` [n, 3, S, S] prepared, `labels[j]` [n]: task j's probe set."""
        super().__init__()
        self.images, self.labels = images, labels
        self.taps = tuple((kind, layer) for layer in range(backbone.depth) for kind in _KINDS)

    def measured(self) -> list[int]:
        """Tasks with a reference."""
        return sorted({int(name.split("_")[1]) for name, _ in self.named_buffers(recurse=False)})

    @torch.no_grad()
    def look(self, method: Any, backbone: Any, task: int) -> Features:
        return method.features(backbone, self.images[task], taps=self.taps)

    def remember(self, task: int, features: Features) -> None:
        """Keep what was seen as the reference of `task`."""
        for kind in _KINDS:
            stacked = torch.stack([features.taps[kind, layer] for layer in range(len(self.taps) // len(_KINDS))])
            self.register_buffer(f"task_{task}_{kind}", stacked)
        self.register_buffer(f"task_{task}_pooled", features.pooled)

    @torch.no_grad()
    def compare(self, method: Any, backbone: Any, task: int, clock: Clock) -> list[Event]:
        """Look at `task`'s probe images now; the first look becomes the reference."""
        features = self.look(method, backbone, task)
        if task not in self.measured():
            self.remember(task, features)
        then = {kind: getattr(self, f"task_{task}_{kind}") for kind in (*_KINDS, "pooled")}
        layers = range(backbone.depth)
        now = {kind: torch.stack([features.taps[kind, layer] for layer in layers]) for kind in ("attention", "output")}
        prompts = method.probe_prompts()
        local = torch.stack(
            [
                backbone.block(layer, then["input"][layer], None if prompts is None else prompts[layer], {"attention"})[
                    1
                ]["attention"]
                for layer in layers
            ]
        )
        drift = (now["output"] - then["output"]).flatten(1).norm(dim=1) / then["output"].flatten(1).norm(dim=1)
        tokens = now["attention"].shape[-2]
        feature_drift = 1 - torch.cosine_similarity(features.pooled, then["pooled"]).mean()
        compared = AttentionCompared(
            clock,
            task,
            _numbers(_variation(local, then["attention"])),
            _numbers(_variation(now["attention"], then["attention"])),
            _numbers(drift),
            _numbers(now["attention"][..., tokens:].sum(dim=-1).flatten(1).mean(dim=1)),
            float(feature_drift),
            _numbers(now["attention"][:, :, :, 0].transpose(0, 1), np.float16),
        )
        return [compared, self._predictions(method, features, task, clock)]

    def _predictions(self, method: Any, features: Features, task: int, clock: Clock) -> PredictionsMade:
        logits, labels = method.classify(features.pooled), self.labels[task]
        true = logits.gather(1, labels[:, None])[:, 0]
        others = logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
        return PredictionsMade(clock, task, _numbers(logits.argmax(dim=1), np.int16), _numbers(true - others))


def _variation(now: Tensor, then: Tensor) -> Tensor:
    """[L, n, H, N, K] twice → [L]."""
    return 0.5 * (now - then).abs().sum(dim=-1).flatten(1).mean(dim=1)


def _numbers(values: Tensor, dtype: Any = np.float32) -> np.ndarray:
    return values.detach().cpu().numpy().astype(dtype)
