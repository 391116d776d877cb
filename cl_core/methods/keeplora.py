"""KeepLoRA: LoRA branches outside the space of the pre-trained weights and of past features.

Parts: `clip_method`, `clip_weights`, `stored_directions`.

Luo et al. KeepLoRA: Continual Learning with Residual Gradient Adaptation. ICLR 2026, arXiv:2601.19659. Written from the
release's behaviour (its CLIP code); only the abstract of the paper was available to us.
Shapes: a map y = W x of q, k, v, o in both towers, W [out, in]; M [in, k] orthonormal, A [in, r], B [r, out], s = 1/r.

    M      starts as the leading right singular vectors of the pre-trained W (share ε_w of its energy, one fewer) G mean
    over the task's batches of ∂CE/∂W, before its first step G' = (I − M Mᵀ) Gᵀ = U S Vᵀ;   A = U_r, frozen;   B_0 = S_r
    V_rᵀ;   W ← W − s (A B_0)ᵀ: same function steps  y = W x + s Bᵀ Aᵀ x, B alone is trained, from B_0;   at the end W ←
    W + s (A B)ᵀ then   M grows by the leading directions of (I − M Mᵀ) x, x what the map reads of this task, until it
    holds ε_f

ΔW = s (A (B − B_0))ᵀ is zero along M at every step, with any optimiser. q, k, v read the block's input after its norm,
o the concatenated heads; in the text tower x comes from the class texts.

Differences from the release: `side="output"` reproduces it: it uses the LEFT singular vectors of W, which are
directions of outputs, to project inputs; this works only because W is square, and leaves the pre-trained input
directions unprotected. `side="input"` follows the paper. Moments of x are summed; the release averages the feature
matrices of batches, so that tokens of different images cancel. Text padding is excluded from x. If the gradient has
fewer than r directions left, the rest of A is 0. KeepLoRA+ (an additional cosine classifier) is not implemented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_core.backbones.io_types import Adaptation, Features, LowRank, Tap
from cl_core.config import setting
from cl_core.events import Clock, Event
from cl_core.linalg import added_directions, first_directions, gram, singular_directions
from cl_core.methods.method import Collector, ParameterGroup
from cl_core.methods.parts.clip_method import ClipConfig, ClipMethod
from cl_core.methods.parts.clip_weights import ClipWeights, attention_parameters, key
from cl_core.methods.parts.stored_directions import Guard, StoredDirections, heads_of, taps_of, tokens_of
from cl_core.streams.stream import Batch

if TYPE_CHECKING:  # only the type is needed, and open_clip takes seconds to import
    from cl_core.backbones.clip import ClipBackbone

NO_ROOM = 1e-6  # of the gradient's norm: smaller values after projection are rounding errors


@dataclass(frozen=True)
class KeepLoraConfig(ClipConfig):
    """Defaults are the release's for CLIP ViT-B/16 and eleven data sets."""

    rate: float = setting(1e-3, low=0.0, high=10.0, help="peak learning rate of B")
    weight_decay: float = setting(0.01, low=0.0, high=1.0, help="decoupled decay of B (AdamW)")
    label_smoothing: float = setting(0.0, low=0.0, high=0.99, help="share of the target spread over all classes")
    rank: int = setting(16, low=1, high=1024, help="rank r of every branch; at most the width of a tower is used")
    weights_image: float = setting(
        0.85, low=0.0, high=1.0, fixed="decides what is stored first", help="ε_w of the image tower's weights"
    )
    weights_text: float = setting(
        0.2, low=0.0, high=1.0, fixed="decides what is stored first", help="ε_w of the text tower's weights"
    )
    features: float = setting(0.99, low=0.0, high=1.0, help="ε_f, share of a task's features that M must hold")
    side: str = setting(
        "input",
        choices=("input", "output"),
        fixed="decides what is stored first",
        help="protected singular vectors of W: of its inputs (as in the paper), or of its outputs (as released)",
    )
    towers: str = setting(
        "both", choices=("both", "image"), fixed="decides which maps are trained", help="trained towers"
    )


@final
class KeepLoRA(ClipMethod):
    """Trains along the gradient, outside two protected subspaces."""

    Config = KeepLoraConfig

    def __init__(self, config: KeepLoraConfig, backbone: ClipBackbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        self.text_is_trained = config.towers == "both"
        self.maps = backbone.attention_maps(("image", "text") if self.text_is_trained else ("image",))
        self.depth = backbone.depth
        self.clip = ClipWeights(backbone, attention_parameters(backbone, self.maps))
        self.down, self.up = nn.Module(), nn.ParameterDict()  # Aᵀ [r, in] as buffers, Bᵀ [out, r]
        weights = {name: self.clip.map(name) for name in self.maps}
        self.stored = StoredDirections({name: weight.shape[1] for name, weight in weights.items()})
        for name, weight in weights.items():
            rank = min(config.rank, *weight.shape)
            self.down.register_buffer(key(name), torch.zeros(rank, weight.shape[1]))
            self.up[key(name)] = nn.Parameter(torch.zeros(weight.shape[0], rank))
            share = config.weights_text if name.startswith("text") else config.weights_image
            self.stored.add(name, principal(weight, share, config.side))
        self._grams: dict[str, Tensor] = {}  # Σ x xᵀ of the finished task, by map; never saved partially

    def groups(self) -> list[ParameterGroup]:
        trained = {f"up.{key(name)}": self.up[key(name)] for name in self.maps}
        return [ParameterGroup("branches", trained, self.config.rate, self.config.weight_decay, "adamw")]

    def adaptation(self, *, training: bool = False) -> Adaptation:
        return Adaptation(self.clip.weights(), self.branches())

    def branches(self) -> dict[str, LowRank]:
        """s A B in parallel to every map."""
        down, scale = self.down, 1 / self.config.rank
        return {n: LowRank(cast(Tensor, getattr(down, key(n))), self.up[key(n)], scale) for n in self.maps}

    # ------------------------------------------------------------ before the steps: directions of the gradient

    def prepare_task(
        self, backbone: ClipBackbone, epoch: Callable[[int], Iterable[Batch]], clock: Clock
    ) -> list[Event]:
        """A and B_0 from the mean gradient, with their contribution subtracted from W."""
        self.clip.train_only(self.clip.names, "clip")
        sums, batches = {name: torch.zeros_like(self.clip[name]) for name in self.clip.names}, 0
        for batch in epoch(0):
            total = torch.stack(list(self.loss(backbone, batch).parts.values())).sum()
            found = torch.autograd.grad(total, [self.clip[name] for name in self.clip.names])
            for name, gradient in zip(self.clip.names, found, strict=True):
                sums[name] += gradient
            batches += 1
        self.clip.train_only((), "clip")
        with torch.no_grad():
            for name in self.maps:
                place = backbone.linear_map(name)
                self._begin(name, sums[place.parameter][place.rows] / batches)
        self.refresh()
        return []

    def _begin(self, name: str, gradient: Tensor) -> None:
        down, up = cast(Tensor, getattr(self.down, key(name))), self.up[key(name)]
        a, b = residual_factors(gradient, self.stored.basis(name), len(down))
        down.copy_(a.mT)
        up.copy_(b.mT)
        self.clip.merge(name, -up @ down / self.config.rank)

    # ------------------------------------------------------------ after them: merge, and store input directions

    def collectors(self, backbone: ClipBackbone) -> list[Collector]:
        guards = self.guards()

        def add(features: Features, batch: Batch) -> None:
            for guard in guards:
                self._see(guard.maps[0], guard.inputs(features.taps))

        return [Collector(taps_of(guards), add)]

    def _see(self, name: str, inputs: Tensor) -> None:
        found = gram(inputs).double()
        self._grams[name] = self._grams[name] + found if name in self._grams else found

    @torch.no_grad()
    def end_task(self, clock: Clock) -> list[Event]:
        if self.text_is_trained:
            self._see_texts()
        for name, branch in self.branches().items():
            self.clip.merge(name, branch.update())
            self.up[key(name)].zero_()
            self.stored.add(name, added_directions(self._grams[name], self.stored.basis(name), self.config.features))
        self._grams = {}
        return []

    def _see_texts(self) -> None:
        """Inputs of the text tower's maps for the task's class texts, without padding."""
        (backbone,), adaptation = self._model, self.adaptation()
        tokens = self._training_tokens[self.classes.start : self.classes.stop]
        ends = tokens.argmax(dim=-1)  # end-of-text has the highest id
        tokens = tokens[:, : int(ends.max()) + 1]
        real = torch.arange(tokens.shape[1], device=tokens.device) <= ends[:, None]
        rows = real.flatten().nonzero().flatten()
        x = F.embedding(tokens, backbone.parameter("token_embedding.weight", adaptation))
        x = x + backbone.parameter("positional_embedding", adaptation)[: tokens.shape[1]]
        wanted = frozenset(("normed", "attention", "v"))
        for layer in range(backbone.text_depth):
            x, tapped = backbone.block(layer, x, adaptation, wanted, tower="text")
            heads = heads_of({(kind, layer): value for kind, value in tapped.items()}, layer)
            for part in "qkvo":
                inputs = heads if part == "o" else tapped["normed"].flatten(0, 1)
                self._see(f"text.{layer}.{part}", inputs[rows])

    def guards(self) -> list[Guard]:
        """Directions that constrain the next task in the image tower, by map."""
        rule, found = f"energy {self.config.features:g}", []
        for layer in range(self.depth):
            for part in "qkvo":
                name, tap = f"image.{layer}.{part}", ("normed", layer)
                basis, held = self.stored.basis(name), self.stored.held(name)
                taps: tuple[Tap, ...] = (tap,) if part != "o" else (("attention", layer), ("v", layer))
                inputs = _heads(layer) if part == "o" else tokens_of(tap)
                found.append(Guard(layer, part, taps, inputs, (name,), basis, held, rule))
        return found

    def kept_bytes(self) -> int:
        """Reset A and B; adapted weights replace the model's own."""
        state = self.state_dict().items()
        return sum(v.numel() * v.element_size() for n, v in state if n.startswith("stored."))


def _heads(layer: int) -> Callable[..., Tensor]:
    return lambda taps: heads_of(taps, layer)


def principal(weight: Tensor, share: float, side: str) -> Tensor:
    """Leading singular vectors of W [out, in] that stay below a share of Σσ², one at least: those of its inputs (right)
    or, side "output", those of its outputs (left). [in or out, k]"""
    w = weight.detach().double()
    return first_directions(w.mT @ w if side == "input" else w @ w.mT, share)


def residual_factors(gradient: Tensor, basis: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A [in, r] and B_0 [r, out] of the gradient [out, in] without its part along the basis [in, k]: (I − M Mᵀ) Gᵀ ≈ A
    B_0, the best approximation of rank r. Missing columns of A are 0."""
    flipped, known = gradient.detach().double().mT, basis.double()
    rest = flipped - known @ (known.mT @ flipped)
    left, sizes, right = singular_directions(rest)
    left, sizes, right = left[:, :rank], sizes[:rank], right[:rank]
    there = sizes > NO_ROOM * flipped.norm()
    a = torch.where(there, left - known @ (known.mT @ left), 0.0)
    return a.to(gradient), (torch.where(there, sizes, 0.0)[:, None] * right).to(gradient)
