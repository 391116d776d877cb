"""Bare loops: what a step would cost at least, made from what a method does in its step and without knowing its name.

A method's loss is called once with a backbone that writes down what it is asked for. What then enters the backbone and
wants a gradient says which kind of tuning this is:

    prompts, prefixes, shifts, joined tokens   free parameters of the same shape, the same for every image, enter the
                                               same frozen backbone
    branches beside a ViT's attention          timm's own forward pass; the attention matrices beside which they stand
                                               are trained themselves
    a CLIP's weights, or branches beside them  open_clip's own forward pass; those weights (or the ones beside which
                                               branches stand) are trained themselves; class texts are embedded once
                                               where the text tower stands still
    nothing (ViT)                              frozen features

In each case a linear head (CLIP: the class texts), cross-entropy over the task's classes, backward, and an optimiser of
the method's own kind as torch has it. Left out is everything a method adds: queries, selection, teachers, penalties,
rehearsal beside the batch, projections, and everything the engine adds: schedule, norms, checks, events.

`OwnLoss` is the other floor: the method's own loss on a copy of it, backward and its own optimiser. The step divided by
that is what the engine and the projections cost.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_core.backbones.io_types import NO_EDIT, BlockIntervention, LowRank, ModelEdit, PrependedTokens
from cl_core.methods.method import new_optimiser
from cl_core.streams.stream import Batch, Task
from cl_core.training.trainer import Trainer


class NoBareLoop(ValueError):
    """Why there is nothing honest to compare a step with."""


@dataclass
class Asked:
    """A call of a backbone: what entered it, and whether gradients were wanted of what came out."""

    entered: dict[str, Any]
    trained: bool
    tokens: Tensor | None = None  # of a text


@dataclass
class Watched:
    """A backbone that writes down what it is asked for; everything else is the backbone's own."""

    backbone: Any
    images: list[Asked] = field(default_factory=list)
    texts: list[Asked] = field(default_factory=list)

    def __call__(self, images: Tensor, **entered: Any) -> Any:
        features = self.backbone(images, **entered)
        self.images.append(Asked(entered, features.pooled.requires_grad))
        return features

    def features(self, images: Tensor, edit: ModelEdit = NO_EDIT, taps: Any = (), ids: Tensor | None = None) -> Any:
        found = type(self.backbone).features(self, images, edit, taps)  # through __call__ above, nothing kept
        asked, prompts = self.images[-1], [block.prompts for block in edit.blocks.values()]
        if prompts and all(own is not None for own in prompts):  # one set for all images, block by block
            entered = {name: value for name, value in asked.entered.items() if name != "edits"}
            self.images[-1] = replace(asked, entered={**entered, "prompts": torch.stack(prompts)})
        return found

    def _run(self, *given: Any) -> Any:  # what a ViT's `features` hands over to: through __call__ above as well
        return type(self.backbone)._run(self, *given)

    def encode_text(self, tokens: Tensor, **entered: Any) -> Tensor:
        said = self.backbone.encode_text(tokens, **entered)
        self.texts.append(Asked(entered, said.requires_grad, tokens))
        return said

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backbone, name)


class OwnLoss:
    """The method's own loss, backward and optimiser on a copy of the method as it stands: no engine, no projection."""

    def __init__(self, trainer: Trainer) -> None:
        shared = (trainer.stream, trainer.backbone, trainer.curriculum)
        self.method = copy.deepcopy(trainer.method, {id(o): o for o in shared})
        self.backbone, self.optimiser = trainer.backbone, new_optimiser(self.method.groups())

    def step(self, batch: Batch) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack(list(self.method.loss(self.backbone, batch).parts.values())).sum().backward()
        self.optimiser.step()


def bare_loop(own: OwnLoss, task: Task, batch: Batch, precision: torch.dtype) -> BareViT | BareClip:
    """The bare loop of the kind of tuning that `own`'s next step is, in the precision its backbone has. Raises
    NoBareLoop with the reason."""
    watched, kind = Watched(own.backbone), type(own.optimiser)
    own.method.loss(watched, batch)
    asked = next((a for a in watched.images if a.trained), Asked({}, False))
    kind = kind if kind.__module__.startswith("torch.optim") else torch.optim.Adam
    if not hasattr(own.backbone, "encode_text"):
        return BareViT(own.backbone, asked, task, kind, precision)
    if not watched.texts:
        raise NoBareLoop("its step embeds no class texts")
    return BareClip(own.backbone, asked, watched.texts[0], task, kind, precision)


def narrowed(precision: torch.dtype, device: torch.device) -> torch.autocast:
    """Where a library's own forward pass runs, as the backbones' doors do it."""
    return torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)


class BareViT:
    """Free parameters enter a frozen ViT, or its attention weights are trained; a linear head on top."""

    def __init__(
        self, backbone: Any, asked: Asked, task: Task, optimiser: type[torch.optim.Optimizer], precision: torch.dtype
    ) -> None:
        self.classes, self.device, self.precision = task.classes, next(backbone.parameters()).device, precision
        self.trained: list[Tensor] = []
        self.entering, written = self._entering(asked.entered)
        if written:  # the blocks of a copy are trained
            backbone = copy.deepcopy(backbone)
            for layer in written:
                weight = backbone.vit.blocks[layer].attn.qkv.weight
                self.trained.append(weight.requires_grad_())
        self.backbone = backbone
        self.about = self._about(asked.entered, bool(written))
        head = nn.Linear(backbone.pooled_width, len(task.classes)).to(self.device)
        self.frozen, self.head = not self.trained, head
        self.optimiser = optimiser([*self.trained, *head.parameters()], lr=1e-3)

    def step(self, batch: Batch) -> None:
        with torch.set_grad_enabled(not self.frozen):
            if self.entering:
                pooled = self.backbone(batch.images, **self.entering).pooled
            else:
                with narrowed(self.precision, self.device):
                    vit = self.backbone.vit
                    pooled = vit.forward_head(vit.forward_features(batch.images), pre_logits=True)
        loss = F.cross_entropy(self.head(pooled.float()), batch.labels - self.classes.start)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()

    def _free(self, value: Tensor | None, *, per_image: bool = False) -> Tensor | None:
        """A free parameter in the place of what was trained there; `per_image`: one for all images of the batch."""
        if value is None or not value.requires_grad:
            return value
        own = (value[:1] if per_image else value).detach().clone().requires_grad_()
        self.trained.append(own)
        return own

    def _entering(self, entered: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """What enters in its place, and the blocks whose weights are trained because branches stood beside them."""
        entering: dict[str, Any] = {}
        prompts, joined, edits = (entered.get(name) for name in ("prompts", "joined", "edits"))
        if prompts is not None and prompts.numel():
            entering["prompts"] = self._free(prompts)
        if joined is not None:
            entering["joined"] = PrependedTokens(self._free(joined.tokens, per_image=True), joined.block)
        free, written = {}, []
        for layer, edit in (edits or {}).items():
            if any(wants_gradient(branch) for branch in edit.branches.values()):
                written.append(layer)
            prefix = edit.prefix and tuple(self._free(side, per_image=True) for side in edit.prefix)
            shifts = (self._free(shift, per_image=True) for shift in (edit.head_shift, edit.stream_shift))
            free[layer] = BlockIntervention(self._free(edit.prompts), prefix, *shifts)
        if any(edit != BlockIntervention() for edit in free.values()):
            entering["edits"] = free
        return entering, written

    def _about(self, entered: dict[str, Any], written: bool) -> str:
        if not self.trained:
            return "frozen features, linear head"
        kinds = {
            "prompts": "prompts" in self.entering,
            "joined tokens": "joined" in self.entering,
            "prefixes": any(e.prefix is not None for e in self.entering.get("edits", {}).values()),
            "shifts": any(
                e.head_shift is not None or e.stream_shift is not None for e in self.entering.get("edits", {}).values()
            ),
            "attention weights": written,
        }
        return ", ".join(name for name, there in kinds.items() if there) + " trained freely"


class BareClip:
    """open_clip's own forward pass, cross-entropy over the task's classes, backward: what any fine-tuning pays."""

    def __init__(
        self,
        backbone: Any,
        image: Asked,
        text: Asked,
        task: Task,
        optimiser: type[torch.optim.Optimizer],
        precision: torch.dtype,
    ) -> None:
        names = {*changed(image, backbone, "image"), *changed(text, backbone, "text")}
        if not names:
            raise NoBareLoop("nothing inside the towers is trained")
        self.clip, self.start, self.tokens = copy.deepcopy(backbone.clip), task.classes.start, text.tokens
        for name, parameter in self.clip.named_parameters():
            parameter.requires_grad_(name in names)
        self.device, self.precision, self.texts = self.tokens.device, precision, None
        if not text.trained:
            with torch.no_grad():
                self.texts = self.clip.encode_text(self.tokens, normalize=True)
        self.trained = [p for p in self.clip.parameters() if p.requires_grad]
        self.optimiser = optimiser(self.trained, lr=1e-6)
        towers = "both towers" if text.trained else "the image tower"
        self.about = f"{len(names)} parameters of {towers} trained freely, by open_clip"

    def step(self, batch: Batch) -> None:
        with narrowed(self.precision, self.device):
            texts = self.clip.encode_text(self.tokens, normalize=True) if self.texts is None else self.texts
            x = self.clip.encode_image(batch.images, normalize=True)
        logits = self.clip.logit_scale.exp() * x.float() @ texts.float().mT
        loss = F.cross_entropy(logits, batch.labels - self.start)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()


def changed(asked: Asked, backbone: Any, tower: str) -> Iterator[str]:
    """Parameters of a tower that a call changed and that want a gradient: replaced ones, and those beside branches."""
    adaptation = asked.entered.get("adaptation")
    if adaptation is None or not asked.trained:
        return
    of_tower = lambda name: name.startswith("visual.") == (tower == "image")
    yield from (name for name, value in adaptation.weights.items() if value.requires_grad and of_tower(name))
    for name, branch in adaptation.branches.items():
        if name.startswith(tower) and wants_gradient(branch):
            yield backbone.linear_map(name).parameter


def wants_gradient(branch: LowRank | Tensor) -> bool:
    parts = (branch.down, branch.up) if isinstance(branch, LowRank) else (branch,)
    return any(part.requires_grad for part in parts)
