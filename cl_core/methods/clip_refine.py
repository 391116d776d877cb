"""CLIP-Refine: narrows the modality gap before a stream, then fine-tunes all of CLIP task by task.

Parts: `clip_method`, `clip_weights`.

Yamaguchi et al. Post-pre-training for Modality Alignment in Vision-Language Foundation Models. CVPR 2025,
arXiv:2504.12717; written from the equations, details as in the release. It is not a continual method but a preparation,
followed here by `finetune`, so that a run with `refine_epochs=0` equals that method bit for bit.
Shapes: b pairs per batch, D joint width; v, t [b, D] features of the refined model, v*, t* of the pre-trained one, not
normalised; Z = v tᵀ, Z* = v* t*ᵀ, no temperature.

    RaFA = mean (v − z)² + mean (t − z)²,   z ~ σ N(0, I) [b, D], new in every step, the same for image and caption
    q    = a I + (1 − a) softmax(Z*/T)
    HyCD = T²/2 ( KL(q ‖ softmax Z/T) + KL(q' ‖ softmax Zᵀ/T) ),   q' of Z*ᵀ
    L    = w RaFA + HyCD;   all parameters but the logit scale are trained by AdamW

Averaged over z, RaFA pulls features to 0 and adds noise shared within a pair: it acts through norms and that noise.
`noise="features"` chooses σ so that z is as long as a feature on average; 1, as published, suits features of length √D.
The means are over b and D as in the release; the paper's sum over D weights RaFA D/2 times as much.

Differences: pairs from the stream's pre-training distribution instead of COCO; the seed fixes order and noise (the
release's loaders are unseeded); no weight decay on the logit scale.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from cl_core.backbones.io_types import AS_IT_IS, Adaptation
from cl_core.config import ConfigError, setting
from cl_core.events import Clock, Event, StageEnded
from cl_core.methods.method import ParameterGroup
from cl_core.methods.parts.clip_method import ClipConfig, ClipMethod
from cl_core.methods.parts.clip_weights import ClipWeights
from cl_core.methods.parts.event_values import mean
from cl_core.streams.stream import Batch, TaskStream, mixed_seed

if TYPE_CHECKING:  # only the type is needed, and open_clip takes seconds to import
    from cl_core.backbones.clip import ClipBackbone


@dataclass(frozen=True)
class ClipRefineConfig(ClipConfig):
    """Settings of `finetune`; the preparation's defaults are the release's for ViT-B/32 and COCO."""

    weight_decay: float = setting(0.01, low=0.0, high=1.0, help="decoupled weight decay (AdamW)")
    refine_epochs: int = setting(1, low=0, high=1000, help="passes over the pairs before the first task (0: none)")
    refine_rate: float = setting(1e-6, low=0.0, high=10.0, help="learning rate of the preparation")
    refine_decay: float = setting(0.1, low=0.0, high=1.0, help="decoupled decay of the preparation")
    refine_pairs: int = setting(10_000, low=2, high=1_000_000, help="pairs of image and caption")
    refine_batch: int = setting(512, low=2, high=4096, help="pairs per step; a last, shorter batch is dropped")
    alignment: float = setting(1.0, low=0.0, high=1e6, help="w, weight of RaFA")
    noise: str = setting(
        "unit", choices=("unit", "features"), help="σ: 1 (published), or matched to the norm of the features"
    )
    mixing: float = setting(0.5, low=0.0, high=1.0, help="a, weight of the hard targets in HyCD")
    refine_temperature: float = setting(1.0, low=0.01, high=100.0, help="T of HyCD")


@final
class ClipRefine(ClipMethod):
    """Refinement before the first task, then fine-tuning."""

    Config = ClipRefineConfig

    def __init__(self, config: ClipRefineConfig, backbone: ClipBackbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        self.clip = ClipWeights(backbone, backbone.parameter_names())

    def setup(self, stream: TaskStream, backbone: ClipBackbone) -> None:
        super().setup(stream, backbone)
        if self.config.refine_epochs and stream.references is None:
            lacks = f"stream {stream.name} has no pairs of the pre-training world"
            raise ConfigError(f"{lacks}; choose micro-mtil, or set refine_epochs=0")
        self._stream = stream

    def groups(self) -> list[ParameterGroup]:
        trained = self.clip.train_only(self.clip.names, "clip")
        return [ParameterGroup("weights", trained, self.config.rate, self.config.weight_decay, "adamw")]

    def adaptation(self, *, training: bool = False) -> Adaptation:
        return Adaptation(weights=self.clip.weights())

    # ------------------------------------------------------------ the preparation

    def prepare_task(
        self, backbone: ClipBackbone, epoch: Callable[[int], Iterable[Batch]], clock: Clock
    ) -> list[Event]:
        """Before the first task: one stage on reference pairs; the pre-trained model is the teacher."""
        c, started = self.config, time.perf_counter()
        if self.classes.start or not c.refine_epochs:
            return []
        assert self._stream.references is not None  # `setup` rejects such a stream
        pairs, prepare = self._stream.references(0, c.refine_pairs), self._stream[0].prepare
        tokens = backbone.tokenize(pairs.captions)
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, "refinement"))
        trained = list(self.clip.train_only(self.clip.names, "clip").values())
        optimiser = torch.optim.AdamW(trained, lr=c.refine_rate, weight_decay=c.refine_decay)
        size = min(c.refine_batch, len(pairs))
        losses: dict[str, list[float]] = {"alignment": [], "distillation": []}
        for _ in range(c.refine_epochs):
            parts: dict[str, list[Tensor]] = {name: [] for name in losses}
            order = torch.randperm(len(pairs), generator=generator)
            for rows in order[: len(pairs) // size * size].split(size):
                shown, captions = prepare(pairs.pictures[rows]).to(tokens.device), tokens[rows.to(tokens.device)]
                with torch.no_grad():
                    teacher = self._embedded(backbone, shown, captions, AS_IT_IS)
                images, texts = self._embedded(backbone, shown, captions, self.adaptation())
                z = torch.randn(images.shape, generator=generator).to(images) * noise_scale(c.noise, *teacher)
                found = {
                    "alignment": c.alignment * feature_alignment(images, texts, z),
                    "distillation": hybrid_distillation(
                        images @ texts.mT, teacher[0] @ teacher[1].mT, c.mixing, c.refine_temperature
                    ),
                }
                optimiser.zero_grad()
                torch.stack(list(found.values())).sum().backward()
                optimiser.step()
                for name, value in found.items():
                    parts[name].append(value.detach().double())
            for name, values in parts.items():
                losses[name].append(mean(values))
        optimiser.zero_grad(set_to_none=True)
        self.refresh()
        return [StageEnded(clock, "refinement", losses, time.perf_counter() - started)]

    @staticmethod
    def _embedded(
        backbone: ClipBackbone, shown: Tensor, captions: Tensor, adaptation: Adaptation
    ) -> tuple[Tensor, Tensor]:
        """v, t [b, D], not normalised."""
        images = backbone(shown, adaptation=adaptation).pooled
        return images, backbone.encode_text(captions, adaptation=adaptation, unit=False)


def noise_scale(noise: str, images: Tensor, texts: Tensor) -> float | Tensor:
    """σ: 1, or the mean length of features [b, D] over √D."""
    if noise == "unit":
        return 1.0
    return torch.cat([images, texts]).norm(dim=1).mean() / images.shape[1] ** 0.5


def feature_alignment(images: Tensor, texts: Tensor, z: Tensor) -> Tensor:
    """RaFA: mean (v − z)² + mean (t − z)², means over all entries of [b, D]."""
    return (images - z).square().mean() + (texts - z).square().mean()


def hybrid_targets(teacher: Tensor, mixing: float, temperature: float) -> Tensor:
    """q = a I + (1 − a) softmax(Z*/T) of Z* [b, b]: rows sum to 1."""
    whole = torch.eye(len(teacher), dtype=teacher.dtype, device=teacher.device)
    return mixing * whole + (1 - mixing) * (teacher / temperature).softmax(dim=1)


def hybrid_distillation(student: Tensor, teacher: Tensor, mixing: float, temperature: float) -> Tensor:
    """HyCD of Z, Z* [b, b], in both directions; for a = 0 it is 0 if Z = Z*."""

    def one_way(z: Tensor, wanted: Tensor) -> Tensor:
        q, said = hybrid_targets(wanted, mixing, temperature), (z / temperature).log_softmax(dim=1)
        return (torch.special.xlogy(q, q) - q * said).sum(dim=1).mean()

    return temperature**2 / 2 * (one_way(student, teacher) + one_way(student.mT, teacher.mT))
