"""Fwd-Prompt (vision adaptation): prompt updates outside the space of earlier tasks or inside the pre-trained space.

Parts: `keyed_prompts`, `selection`, `subspace_memory`, `task_heads`.

After Zheng, Ma, Liu, Wu, Feng. Beyond Anti-Forgetting: Multimodal Continual Instruction Tuning with Positive Forward
Transfer. arXiv:2401.09181. No code of the authors was found, and their setting is a multimodal language model. Shapes:
M prompts of one token each, m selected per image, d width, K directions of a core, B images, N tokens.

    core of a task   C_t [d, K] = leading directions of its input embeddings, the fewest with Σσ² ≥ ε of all
    pre-trained      V = core of the pre-training world; F ⊂ V conflicting, R ⊥ V occupied by finished tasks
    from task 2 on   step ← step P,   P = λ (V Vᵀ − F Fᵀ) + (I − V Vᵀ − R Rᵀ)
    loss             CE(logits/τ) over the task's classes + w mean over selected j of (1 − cos(q, k_j))

From the paper (abstract, quoted passages): the SVD of input embeddings, core and residual space, projecting the
prompts' gradient to the residual space and to the pre-trained space, no projection in the first task, and that only a
pool of prompts and its keys is trained. From reviews only: selection by keys, and that a conflicting space exists.
Our reading, because there is no release: a task adds to F and R only directions for the energy they do not yet hold, by
the rule of gradient projection memory (Saha et al., ICLR 2021); the two halves of P are treated separately (V and its
complement together are the whole space, so V would cancel); τ_c and the tolerance, uncentred embeddings and squared
energies, key loss, optimiser, and all values. We project the *step*: Adam rescales entries, so that a projected
gradient leaves the space again.
Our adaptation to vision: image keys only; prompts are inserted after the class token at the input of a chosen block;
the pre-trained space comes from images of the pre-training distribution, or from that block's stacked query, key and
value
weights; a head per task; keys do not move along old queries (`key_policy`). `random`, the control, projects to a random
space of the same dimension as `both`.
Old outputs are not guaranteed to stay: attention sees a prompt through its weights, not by its inner product with
tokens. Only rows selected in a step move; Adam's stale moments would move the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from cl_core.backbones.answer_cache import Kept
from cl_core.backbones.backbone import Backbone
from cl_core.backbones.io_types import ModelEdit, PrependedTokens
from cl_core.config import ConfigError, setting
from cl_core.events import Clock, Event
from cl_core.methods.method import Constraint, Loss, Method, ParameterGroup
from cl_core.methods.parts.keyed_prompts import KeyedPromptConfig, KeyedPrompts
from cl_core.methods.parts.selection import Selection
from cl_core.methods.parts.subspace_memory import Allocation, EmbeddingSpaces, site_tokens
from cl_core.methods.parts.task_heads import TaskHeads
from cl_core.streams.stream import Batch, TaskStream

SOURCES = {"pictures": "pictures of the pre-training world", "weights": "query, key and value weights"}


@dataclass(frozen=True)
class FwdPromptConfig(KeyedPromptConfig):
    """The authors' values are not known: all defaults are ours."""

    site: int = setting(
        0,
        low=0,
        high=100,
        fixed="past embeddings were measured there",
        help="block (from 0) where prompts are inserted and embeddings are measured",
    )
    projection: str = setting(
        "both",
        choices=("none", "residual-only", "pretrained-only", "both", "random"),
        live=True,
        help="space of steps from the second task on; random: a random space of the same dimension (control)",
    )
    energy: float = setting(0.99, low=0.5, high=1.0, live=True, help="ε, share of Σσ² that makes a core")
    reuse: float = setting(
        0.7, low=0.0, high=1.01, live=True, help="τ_c: cosine above which a direction of V counts as used"
    )
    tolerance: float = setting(
        0.1, low=0.0, high=1.0, live=True, help="smaller components of a core outside V are left free"
    )
    accumulation: str = setting(
        "energy",
        choices=("energy", "every direction"),
        live=True,
        help="what a task adds to used directions. energy: the fewest with which all of them hold ε of its energy, as "
        "in gradient projection memory; every direction: its whole core, however little of it is new",
    )
    pretrained_weight: float = setting(1.0, low=0.0, high=1.0, live=True, help="λ, factor on a step inside V (both)")
    pretrained_space: str = setting(
        "pictures",
        choices=("pictures", "weights"),
        fixed="is measured before the first task",
        help="source of the pre-trained space: images of the pre-training distribution, or the site's weights",
    )
    statistics: int = setting(256, low=1, high=100_000, help="maximum number of images per task for embeddings")
    prompt_rate: float = setting(5e-3, low=0.0, high=10.0, help="learning rate of prompts and keys")
    head_rate: float = setting(0.01, low=0.0, high=10.0, help="learning rate of the heads")
    temperature: float = setting(
        1.0, low=0.01, high=1000.0, help="logits are divided by this in the training loss only"
    )

    def allocation(self) -> Allocation:
        return Allocation(
            self.projection, self.energy, self.reuse, self.tolerance, self.pretrained_weight, self.accumulation
        )


@final
class FwdPrompt(Method[Backbone]):
    """A pool of prompts for a frozen ViT, with projected steps."""

    Config = FwdPromptConfig

    def __init__(self, config: FwdPromptConfig, backbone: Backbone, seed: int) -> None:
        super().__init__(config, seed)
        if config.site >= backbone.depth:
            raise ConfigError(f"site must be a block of {backbone.name}, 0 … {backbone.depth - 1}, got {config.site}")
        self.pool = KeyedPrompts(config.pool_size, config.prompt_length, backbone.width, backbone.pooled_width, seed)
        self.heads = TaskHeads(backbone.pooled_width, seed)
        self.spaces = EmbeddingSpaces(backbone.width, seed)

    def setup(self, stream: TaskStream, backbone: Backbone) -> None:
        self._world, self._prepare = stream.world, stream[0].prepare
        if stream.world is None and self.config.pretrained_space == "pictures":
            raise ConfigError(f"stream {stream.name} has no pretraining pictures; set pretrained_space=weights")

    def begin_task(self, index: int, classes: range) -> None:
        self.heads.begin_task(classes, self.pool.prompts.device)
        self.spaces.begin_task()

    def answers_kept(self, backbone: Backbone) -> list[Kept]:
        return [self.pool.queries.kept(backbone)]

    def refresh(self) -> None:
        self.spaces.refresh(self.config.allocation())
        self.pool.refresh(self.config.key_energy)

    def groups(self) -> list[ParameterGroup]:
        return [
            ParameterGroup("pool", dict(self.pool.named_parameters(prefix="pool")), self.config.prompt_rate),
            ParameterGroup("head", self.heads.trained("heads"), self.config.head_rate),
        ]

    @torch.no_grad()
    def prepare_task(self, backbone: Backbone, epoch: Callable[[int], Iterable[Batch]], clock: Clock) -> list[Event]:
        """One pass over the task's images without prompts: queries of all, embeddings of the first in random order."""
        site, left = self.config.site, self.config.statistics
        if not int(self.spaces.finished) and self.config.pretrained_space == "weights":
            self.spaces.see_weights(backbone, site)
        elif not int(self.spaces.finished):
            assert self._world is not None  # `setup` rejects such a stream
            self.spaces.see_pretraining(backbone, site, map(self._prepare, self._world(left).split(64)))
        for batch in epoch(0):
            self.pool.survey(self.pool.query(backbone, batch.images, batch.ids))
            if left > 0:
                some = batch.first(left)
                self.spaces.see(site_tokens(backbone, site, some.images, some.ids))
                left -= len(batch.images)
        self.refresh()  # the pre-trained space is known only now
        return []

    def edit(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> ModelEdit:
        return self.with_prompts(self.pool.pick(self.pool.query(backbone, images, ids))[1])

    def edits_from(self, backbone: Backbone) -> int:
        return self.config.site

    def with_prompts(self, rows: Tensor) -> ModelEdit:
        """Insert the prompts of rows [B, m] at the site."""
        return ModelEdit(joined=PrependedTokens(self.pool.tokens(rows), self.config.site))

    def classify(self, pooled: Tensor, classes: range) -> Tensor:
        return self.heads(pooled)[:, classes.start : classes.stop]

    def loss(self, backbone: Backbone, batch: Batch) -> Loss:
        cosines, rows = self.pool.pick(self.pool.query(backbone, batch.images, batch.ids))
        self.pool.note(rows)
        pooled = backbone.features(batch.images, self.with_prompts(rows), ids=batch.ids).pooled
        loss = self.heads.loss(pooled, batch.labels, self.config.temperature)
        loss.parts["keys"] = self.config.key_weight * (1 - cosines).mean()
        return loss

    def constraints(self) -> dict[str, Constraint]:
        keys = lambda step: self.pool.key_step(step, self.config.key_policy)
        return {"pool.prompts": Constraint(step=self._prompt_step), "pool.keys": Constraint(step=keys)}

    def _prompt_step(self, step: Tensor) -> Tensor:
        """U → U P on the selected rows, zero on the others."""
        step = self.pool.on_picked(step)
        return step if self.spaces.projector is None else (step.double() @ self.spaces.projector).to(step)

    def end_task(self, clock: Clock) -> list[Event]:
        """Add the task's embeddings to the spaces."""
        self.spaces.end_task()
        self.spaces.refresh(self.config.allocation())
        self.pool.end_task()
        return []

    def selection(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> list[Selection]:
        taken = self.pool.taken(self.pool.query(backbone, images, ids))
        return [Selection(-1, "", [-1] * self.config.pool_size, taken)]
