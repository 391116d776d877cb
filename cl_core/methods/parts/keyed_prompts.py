"""Prompts with keys: an image selects those with keys nearest to its feature under the pre-trained model.

Wang et al. Learning to Prompt for Continual Learning. CVPR 2022, arXiv:2112.08654 (keys and their loss). Selected for
every image independently, never by majority of a batch.
Shapes: M prompts of one token, m selected per image, d width, e width of queries, B images.

    q = f(image)/‖·‖ without prompts,   selected = the m largest cos(q, k_j),   key loss = mean (1 − cos(q, k_j))

Keys forget as well: when they move, old images select other prompts. Policies: "project" removes the core of old
queries from every step of a key, "freeze-used" freezes keys selected by old tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_core.backbones.backbone import Backbone
from cl_core.config import ConfigError, check_settings, setting
from cl_core.linalg import core_space, gram
from cl_core.methods.parts.query_features import FrozenQueries
from cl_core.streams.stream import mixed_seed


@dataclass(frozen=True)
class KeyedPromptConfig:
    """Size of the pool, prompts per image, and protection of keys."""

    pool_size: int = setting(
        20, low=1, high=1000, fixed="sets the shape of the prompts", help="prompts in the pool (M), one token each"
    )
    prompt_length: int = setting(5, low=1, high=64, help="prompts picked for an image (m)")
    key_policy: str = setting(
        "project",
        choices=("trainable", "project", "freeze-used"),
        live=True,
        help="project: keys do not move along old tasks' queries; freeze-used: keys selected by old tasks are frozen",
    )
    key_energy: float = setting(
        0.97, low=0.0, high=1.0, live=True, help="share of old queries' energy protected from steps of keys"
    )
    key_weight: float = setting(0.1, low=0.0, high=1e3, live=True, help="weight of the key loss")

    def __post_init__(self) -> None:
        check_settings(self)
        if self.prompt_length > self.pool_size:
            raise ConfigError(
                f"prompt_length must be at most pool_size = {self.pool_size}, got {self.prompt_length}; no image can "
                "pick more prompts than there are"
            )


class KeyedPrompts(nn.Module):
    """A component: prompts, keys, and moments of past queries."""

    past_queries: Tensor
    task_queries: Tensor
    used: Tensor
    task_used: Tensor

    def __init__(self, count: int, picked: int, width: int, query_width: int, seed: int) -> None:
        super().__init__()
        self.picked = picked
        generator = torch.Generator().manual_seed(mixed_seed(seed, "prompt pool"))
        self.prompts = nn.Parameter(0.02 * torch.randn(count, width, generator=generator))  # [M, d]
        self.keys = nn.Parameter(2 * torch.rand(count, query_width, generator=generator) - 1)  # [M, e]
        self.queries = FrozenQueries()
        moment = torch.zeros(query_width, query_width, dtype=torch.float64)
        self.register_buffer("past_queries", moment)  # Σ qᵀq of finished tasks
        self.register_buffer("task_queries", moment.clone())
        self.register_buffer("used", torch.zeros(count, dtype=torch.bool))  # selected by finished tasks
        self.register_buffer("task_used", self.used.clone())
        self._old: Tensor | None = None  # derived: [e, k] core of old queries
        self._taken = torch.ones(count, dtype=torch.bool)  # rows selected by the current batch

    def tokens(self, rows: Tensor) -> Tensor:
        """The prompts of rows [B, m]: [B, m, d]. By embedding, not by indexing, whose backward pass is not
        deterministic with several threads."""
        return F.embedding(rows, self.prompts)

    def refresh(self, energy: float) -> None:
        """Old directions: the fewest that hold this share of past queries' energy."""
        self._old = core_space(self.past_queries, energy) if bool(self.past_queries.any()) else None

    @torch.no_grad()
    def survey(self, queries: Tensor) -> None:
        """Add queries [B, e] of the new task."""
        self.task_queries += gram(queries.double())

    @torch.no_grad()
    def query(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> Tensor:
        """q [B, e], unit, of images [B, 3, S, S]."""
        return F.normalize(self.queries(backbone, images, ids), dim=1)

    def pick(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines [B, m] and indices [B, m] of the prompts selected by queries."""
        cosines, rows = (queries @ F.normalize(self.keys, dim=1).mT).topk(self.picked, dim=1)
        return cosines, rows

    def note(self, rows: Tensor) -> None:
        """Set the rows selected by the current batch; only they may move."""
        self._taken = torch.zeros_like(self.used).index_fill_(0, rows.flatten(), True)
        self.task_used |= self._taken

    def on_picked(self, step: Tensor) -> Tensor:
        """A step [M, d], zero in rows that were not selected, which Adam's stale moments would move."""
        return step * self._taken[:, None]

    def key_step(self, step: Tensor, policy: str) -> Tensor:
        """Apply the policy ("trainable", "project" or "freeze-used") to a step of the keys [M, e]."""
        step = self.on_picked(step)
        if policy == "freeze-used":
            return step * ~self.used[:, None]
        if policy == "project" and self._old is not None:
            wide = step.double()
            return (wide - wide @ self._old @ self._old.mT).to(step)
        return step

    def taken(self, queries: Tensor) -> Tensor:
        """[B, M]: 1 if a query selects a prompt, else 0."""
        rows = self.pick(queries)[1]
        return torch.zeros(len(rows), len(self.keys), device=rows.device).scatter_(1, rows, 1.0)

    def end_task(self) -> None:
        """Store the moment of the task's queries and the rows they selected."""
        self.past_queries += self.task_queries
        self.used |= self.task_used
        self.task_queries.zero_()
        self.task_used.zero_()
