"""NuSA-CL: trains each task in the directions that the weights use least, then merges and decomposes again.

Parts: `clip_method`, `clip_weights`.

Jo and Kim. Memory-Free Continual Learning with Null Space Adaptation for Zero-Shot Vision-Language Models. ICLR 2026,
arXiv:2510.21175. Written from the equations; where paper and release leave room we follow the release.
Shapes: every adapted map W [d, d]; U, V [d, q]; M [q, q].

    W = U diag(σ) Vᵀ,  E_j = Σ_{i≤j} σ_i² / Σ σ_i²                 (fresh SVD before every task)
    k = min { j : E_j ≥ ρ },   q = min(d − k, r_max)               principal rank, used null rank
    U_n, V_n = the last q singular directions, frozen
    y = W x + b + s U_n M V_nᵀ dropout(x),   s = alpha / √r_max,   M = 0 at the start of every task
    W ← W + s U_n M V_nᵀ                                           at its end; nothing else is stored

Adapted: q, k, v, o of every block of both towers. No change of M leaves the subspace, so the update is exactly
orthogonal to the first d − q directions of W. Not guaranteed: that old inputs lie there (`directions` are those of the
weight, not of the data), and that the pre-trained principal space stays principal after many merges.

Our reading: `persistence="initial only"` is the paper's init-only ablation, whose text was not available to us: A =
V_nᵀ and B = 0 start in the null space, both are then trained freely. `directions="after the cut"` and `"random"` are
our own controls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from cl_core.backbones.io_types import Adaptation, LowRank
from cl_core.config import setting
from cl_core.events import Clock, Event
from cl_core.linalg import SingularDirections, WeightSplit, singular_directions, weight_split
from cl_core.methods.method import ParameterGroup
from cl_core.methods.parts.clip_method import ClipConfig, ClipMethod
from cl_core.methods.parts.clip_weights import ClipWeights, attention_parameters, key
from cl_core.streams.stream import mixed_seed

if TYPE_CHECKING:  # only the type is needed, and open_clip takes seconds to import
    from cl_core.backbones.clip import ClipBackbone


@dataclass(frozen=True)
class NusaConfig(ClipConfig):
    """Defaults are the release's for eleven data sets and ViT-B/16."""

    rate: float = setting(3e-4, low=0.0, high=10.0, help="peak learning rate of M")
    weight_decay: float = setting(0.01, low=0.0, high=1.0, help="decoupled weight decay of M (AdamW)")
    # not live: the size of M depends on it, so it can change only between tasks
    rho: float = setting(0.95, low=0.0, high=1.0, help="share of a weight's energy Σσ² that counts as principal")
    r_max: int = setting(128, low=1, high=4096, help="maximum number of updated null directions, smallest σ first")
    alpha: float = setting(2.0, low=0.0, high=1000.0, help="branches are scaled by alpha / √r_max")
    dropout: float = setting(0.25, low=0.0, high=0.95, help="dropout on the branches' input during training")
    directions: str = setting(
        "last",
        choices=("last", "after the cut", "random"),
        help="the q updated directions: smallest singular values (the method), the ones just below the cut, "
        "or a random subspace (controls)",
    )
    persistence: str = setting(
        "every step",
        choices=("every step", "initial only"),
        help="every step: only M is trained; initial only: branches start in the null space and move freely (ablation)",
    )


@final
class NusaCL(ClipMethod):
    """Trains each task in the null space of the weights."""

    Config = NusaConfig

    def __init__(self, config: NusaConfig, backbone: ClipBackbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        self.maps = backbone.attention_maps()
        self.clip = ClipWeights(backbone, attention_parameters(backbone, self.maps))
        self.middle = nn.ParameterDict()  # M of every map with q > 0; empty between tasks
        self.left, self.right = nn.ParameterDict(), nn.ParameterDict()  # U_n, V_nᵀ if they are trained as well
        self._bases: dict[str, tuple[Tensor, Tensor]] = {}  # U_n [d, q], V_nᵀ [q, d]: derived from the merged weights
        self._task, self._unsized = -1, False
        self.register_load_state_dict_pre_hook(_take_sizes)

    def begin_task(self, index: int, classes: range) -> None:
        super().begin_task(index, classes)
        self._task, self._bases, self._unsized = index, {}, True

    def refresh(self) -> None:
        """M = 0 for a new task; a loaded state already has M."""
        super().refresh()
        if not self._unsized:
            return
        self._unsized = False
        for name, (left, right) in self.bases().items():
            self.middle[key(name)] = nn.Parameter(left.new_zeros(len(right), len(right)))
            if self.config.persistence == "initial only":
                self.left[key(name)] = nn.Parameter(left.clone())
                self.right[key(name)] = nn.Parameter(right.clone())

    def bases(self) -> dict[str, tuple[Tensor, Tensor]]:
        """U_n, V_nᵀ of every map with free directions: one SVD per map and task."""
        if not self._bases:
            for name in self.maps:
                weight = self.clip.map(name)
                directions = singular_directions(weight)
                split = weight_split(directions.values, self.config.rho, self.config.r_max)
                if split.written:
                    left, right = self._chosen(directions, split, name)
                    self._bases[name] = left.to(weight).contiguous(), right.to(weight).contiguous()
        return self._bases

    def _chosen(self, directions: SingularDirections, split: WeightSplit, name: str) -> tuple[Tensor, Tensor]:
        if self.config.directions == "random":
            seed = mixed_seed(self.seed, "random directions", self._task, name)
            generator = torch.Generator().manual_seed(seed)
            left, right = (
                torch.linalg.qr(torch.randn(side, split.written, generator=generator, dtype=torch.float64)).Q
                for side in (len(directions.left), directions.right.shape[1])
            )
            return left, right.mT
        d = len(directions.values)
        end = d if self.config.directions == "last" else split.principal + split.written
        rows = slice(end - split.written, end)
        return directions.left[:, rows], directions.right[rows]

    def groups(self) -> list[ParameterGroup]:
        parts = {"middle": self.middle, "left": self.left, "right": self.right}
        trained = {f"{part}.{name}": p for part, held in parts.items() for name, p in held.items()}
        return [ParameterGroup("null-space", trained, self.config.rate, self.config.weight_decay, "adamw")]

    def adaptation(self, *, training: bool = False) -> Adaptation:
        return Adaptation(self.clip.weights(), self.branches(self.config.dropout if training else 0.0))

    def branches(self, dropout: float = 0.0) -> dict[str, LowRank]:
        """s U_n M V_nᵀ in parallel to every map; none between tasks."""
        found, scale = {}, self.config.alpha / math.sqrt(self.config.r_max)
        for name, (left, right) in self.bases().items() if self.middle else ():
            place = key(name)
            if place in self.left:
                left, right = self.left[place], self.right[place]
            found[name] = LowRank(right, left @ self.middle[place], scale, dropout)
        return found

    @torch.no_grad()
    def end_task(self, clock: Clock) -> list[Event]:
        """Merge and discard the adapter."""
        for name, branch in self.branches().items():
            self.clip.merge(name, branch.update())
        for held in (self.middle, self.left, self.right):
            held.clear()
        self._bases = {}
        return []


def _take_sizes(method: NusaCL, state: dict[str, Tensor], prefix: str, *others: Any) -> None:
    """Before loading: allocate M with the shapes in the state, since their sizes depend on weights loaded at the same
    time."""
    for part in ("middle", "left", "right"):
        held = getattr(method, part)
        held.clear()
        start = f"{prefix}{part}."
        for name, value in state.items():
            if name.startswith(start):
                held[name.removeprefix(start)] = nn.Parameter(torch.zeros_like(value, device=method.clip.device))
    method._bases, method._unsized = {}, False
