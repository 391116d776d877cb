"""Probe images: a few fixed images per task, measured repeatedly for changes of attention and features.

When a task has just been learned, its probe images' block inputs, attention maps, block outputs and features are stored
as references. Later the same images are measured twice:

    end to end   through the whole network with the current prompts (upstream drift included) local        each block
    alone with its inputs from then: shows only changes within that block

    total variation = ½ mean_{image, head, query} Σ_keys |S_now − S_then|      0 same, 1 disjoint
    output drift    = ‖F_now − F_then‖_F / ‖F_then‖_F  per block,  feature drift = mean(1 − cos)

Shapes: n probe images, L blocks, H heads, N image tokens, M prompts.

The size of references is bounded. Above `LEAN` bytes (ViT-B/16: 224 MB) they are rounded to 16 bits and attention is
stored for `QUERIES` evenly spaced queries, the class token first; later measurements are rounded and selected in the
same way, so that no change gives exactly zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.backbones.backbone import Backbone
from cl_core.backbones.io_types import AS_IT_IS, ModelEdit
from cl_core.events import AttentionCompared, Clock, Event, PredictionsMade
from cl_core.methods.parts.event_values import array, number
from cl_core.observers.image_answers import margins
from cl_core.observers.observer import Observer, View

_KINDS = ("input", "attention", "output")
LEAN = 48 * 2**20  # maximum bytes of a task's references in full precision
QUERIES = 48
AT_ONCE = 2**30  # bytes of activations per batch, independent of the number of tasks


class Probe(Observer):
    """References of every learned task, on the CPU and saved once, so that a resumed run has the same references."""

    name = "probe"

    def __init__(
        self, backbone: Backbone, images: dict[int, Tensor], labels: dict[int, Tensor], ids: dict[int, Tensor]
    ) -> None:
        """`images[j]` [n, 3, S, S] prepared, `labels[j]` and `ids[j]` [n]: task j's probe set."""
        self.images, self.labels, self.ids = images, labels, ids
        self.taps_of_blocks = tuple((kind, layer) for layer in range(backbone.depth) for kind in _KINDS)
        self._then: dict[int, dict[str, Tensor]] = {}  # task → kind → activations when it had just been learned
        sizes = backbone.describe()
        channels = 2 * sizes["width"] + sizes["heads"] * sizes["tokens"]
        self._bytes = 4 * sizes["depth"] * sizes["tokens"] * channels  # approximate bytes of one image's activations

    def measured(self) -> list[int]:
        """Tasks with a reference."""
        return sorted(self._then)

    def reference(self, task: int) -> dict[str, Tensor]:
        """ "input", "attention", "output" [L, n, …] and "pooled" [n, d] of a task's images when it had been learned;
        "attention" only for the stored queries."""
        then = dict(self._then[task])
        if "last" in then:
            then["output"] = torch.cat([then["input"][1:], then.pop("last")])
        return then

    def references(self) -> dict[str, dict[str, Tensor]]:
        return {f"task-{task}": then for task, then in self._then.items()}

    def load_references(self, references: Mapping[str, dict[str, Tensor]]) -> None:
        self._then = {int(name.removeprefix("task-")): dict(then) for name, then in references.items()}

    def epoch_ended(self, view: View) -> list[Event]:
        if not view.due:
            return []
        return self.compare(view.method, view.backbone, range(len(view.learned) - 1), view.clock, view.rivals)

    def task_measured(self, view: View) -> list[Event]:
        return self.compare(view.method, view.backbone, view.learned, view.clock, view.rivals)

    @torch.no_grad()
    def compare(
        self, method: Any, backbone: Any, tasks: Sequence[int], clock: Clock, rivals: Callable[[int], range]
    ) -> list[Event]:
        """Measure the probe images of `tasks`, in batches that fit `AT_ONCE`; a task's first measurement becomes its
        reference. `rivals(task)`: the classes competing for its images."""
        said: list[Event] = []
        together: list[int] = []
        for task in tasks:
            if together and self._bytes * sum(len(self.images[t]) for t in (*together, task)) > AT_ONCE:
                said += self._compare(method, backbone, together, clock, rivals)
                together = []
            together.append(task)
        return said + (self._compare(method, backbone, together, clock, rivals) if together else [])

    def _compare(
        self, method: Any, backbone: Any, tasks: Sequence[int], clock: Clock, rivals: Callable[[int], range]
    ) -> list[Event]:
        sizes = [len(self.images[task]) for task in tasks]
        images, ids = (torch.cat([of[task] for task in tasks]) for of in (self.images, self.ids))
        edit = method.edit(backbone, images, ids)
        looked = backbone.features(images, edit, self.taps_of_blocks)
        layers = range(backbone.depth)
        stacked = {kind: _stacked([looked.taps[kind, layer] for layer in layers]) for kind in _KINDS}  # [L, n, …]
        parts = {kind: value.split(sizes, dim=1) for kind, value in stacked.items()}
        pooled = looked.pooled.split(sizes)
        for place, task in enumerate(tasks):
            if task not in self._then:
                self._then[task] = _kept({**{kind: parts[kind][place] for kind in _KINDS}, "pooled": pooled[place]})
        local = self._local_attention(backbone, edit, tasks, stacked["attention"]).split(sizes, dim=1)
        said: list[Event] = []
        for place, task in enumerate(tasks):
            now = {kind: parts[kind][place] for kind in _KINDS}
            said.append(self._compared(now, local[place], pooled[place], task, clock))
            said.append(self._predictions(method, pooled[place], task, clock, rivals(task)))
        return said

    def _local_attention(self, backbone: Any, edit: ModelEdit, tasks: Sequence[int], now: Tensor) -> Tensor:
        """Attention of each block alone with its inputs from then: [L, n, H, N, N + M]. `now`: end to end, which is
        equal up to the first block whose inputs an edit changes."""
        same = blocks_with_frozen_inputs(edit, backbone.depth)
        maps, device = list(now[:same]), self.images[tasks[0]].device
        for layer in range(same, backbone.depth):
            inputs = torch.cat([self._then[task]["input"][layer].float() for task in tasks]).to(device)
            maps.append(backbone.edited_block(layer, inputs, edit, frozenset({"attention"}))[1]["attention"])
        return _stacked(maps)

    def _compared(
        self, now: dict[str, Tensor], local: Tensor, pooled: Tensor, task: int, clock: Clock
    ) -> AttentionCompared:
        then = {kind: value.to(pooled.device) for kind, value in self.reference(task).items()}
        output, shown = (value.to(then["output"].dtype).float() for value in (now["output"], then["output"]))
        drift = (output - shown).flatten(1).norm(dim=1) / shown.flatten(1).norm(dim=1)
        tokens = now["attention"].shape[-2]
        return AttentionCompared(
            clock,
            task,
            array(_variation(local, then["attention"]).float()),
            array(_variation(now["attention"], then["attention"]).float()),
            array(drift.float()),
            array(now["attention"][..., tokens:].sum(dim=-1).flatten(1).mean(dim=1).float()),
            number(1 - torch.cosine_similarity(pooled, then["pooled"]).mean()),
            array(now["attention"][:, :, :, 0].transpose(0, 1).half()),
        )

    def _predictions(self, method: Any, pooled: Tensor, task: int, clock: Clock, rivals: range) -> PredictionsMade:
        scores, labels = method.classify(pooled, rivals), self.labels[task] - rivals.start
        predicted = scores.argmax(dim=1) + rivals.start
        return PredictionsMade(clock, task, array(predicted.short()), array(margins(scores, labels).float()))


def blocks_with_frozen_inputs(edit: ModelEdit, depth: int) -> int:
    """Number of first blocks with the same inputs as in the pre-trained model."""
    if edit.adaptation is not AS_IT_IS:
        return 0
    if edit.first_block is None:
        return depth
    return edit.first_block + (edit.joined is None)  # prepended tokens change the input of their block


def _stacked(parts: list[Tensor]) -> Tensor:
    """[n, …, K_l] of every layer → [L, n, …, max K_l]: if layers have different numbers of prompts, missing ones get
    zero attention."""
    widest = max(part.shape[-1] for part in parts)
    return torch.stack([F.pad(part, (0, widest - part.shape[-1])) for part in parts])


def _kept(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The stored form of a task's activations, on the CPU; `Probe.reference` restores it."""
    kept = dict(found)
    if torch.equal(kept["output"][:-1], kept["input"][1:]):  # a block's output is the next one's input
        kept["last"] = kept.pop("output")[-1:]
    if sum(value.numel() * value.element_size() for value in kept.values()) > LEAN:
        kept["attention"] = kept["attention"][..., _queries(kept["attention"].shape[-2]), :]
        rounded = {kind: value.half() for kind, value in kept.items() if kind != "pooled"}
        kept |= {kind: value for kind, value in rounded.items() if torch.isfinite(value).all()}
    return {kind: value.to("cpu", copy=True) for kind, value in kept.items()}


def _queries(count: int) -> Tensor:
    """At most `QUERIES` of that many queries, including the first."""
    return torch.linspace(0, count - 1, min(count, QUERIES)).round().long()


def _variation(now: Tensor, then: Tensor) -> Tensor:
    """[L, n, H, N, K] now, [L, n, H, queries kept, K] then → [L]."""
    if then.shape[-2] != now.shape[-2]:
        now = now[..., _queries(now.shape[-2]).to(now.device), :]
    now, then = now.to(then.dtype).float(), then.float()
    return 0.5 * (now - then).abs().sum(dim=-1).flatten(1).mean(dim=1)
