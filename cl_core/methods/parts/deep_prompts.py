"""Deep visual prompts with a head per task, shared by sequential, joint and NSP².

Jia et al. Visual Prompt Tuning. ECCV 2022, arXiv:2203.12119 (VPT-Deep); heads as in the release of arXiv:2406.05658.
Shapes: L blocks, K of them with prompts, M prompts per block, d width, B images, c classes of the task.

One set of prompts P [K, M, d] for all tasks, drawn once uniformly from (−1, 1). K = L by default; with `prompt_blocks`
prompts enter only the last K blocks, and lower blocks are a fixed function of the image
(`cl_core.training.frozen_prefix`). Each task trains a linear head on its own classes only; at test time all heads are
concatenated (no task id).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_core.backbones.io_types import BlockIntervention, ModelEdit
from cl_core.config import ConfigError, check_settings, setting
from cl_core.methods.method import Loss, ParameterGroup


@dataclass(frozen=True)
class PromptConfig:
    """Defaults are those of the NSP² release for CIFAR-100 in 10 tasks."""

    prompt_length: int = setting(
        4, low=0, high=64, fixed="sets shapes", help="prompts per block (M); 0 = frozen features, head only"
    )
    prompt_blocks: int = setting(
        0,
        low=0,
        high=1000,
        fixed="sets shapes",
        help="number of last blocks with prompts (K); lower blocks are then computed once per image; 0 = all",
    )
    prompt_rate: float = setting(0.01, low=0.0, high=10.0, help="learning rate of the prompts")
    head_rate: float = setting(0.01, low=0.0, high=10.0, help="learning rate of the heads")
    temperature: float = setting(
        28.0, low=0.01, high=1000.0, help="logits are divided by this in the training loss only"
    )
    weight_decay: float = setting(5e-5, low=0.0, high=1.0, help="coupled L2 decay inside Adam")
    head_init: str = setting(
        "official",
        choices=("official", "fresh"),
        help="official: the second task's head starts from the first one's, as in the release",
    )

    def __post_init__(self) -> None:
        check_settings(self)


def with_prompts(prompts: Tensor, first: int = 0) -> ModelEdit:
    """Prompts [K, M, d], appended to the tokens of each block from `first` on; M = 0: the unchanged model."""
    return ModelEdit(
        {layer: BlockIntervention(prompts=own) for layer, own in enumerate(prompts, first)} if prompts.numel() else {}
    )


def prompted_blocks(config: PromptConfig, depth: int) -> range:
    """The blocks with prompts in a model of `depth` blocks. Raises ConfigError if there are too few."""
    if config.prompt_blocks > depth:
        raise ConfigError(
            f"prompt_blocks must be at most {depth}, the number of blocks of this backbone, got {config.prompt_blocks}"
        )
    return range(depth - (config.prompt_blocks or depth), depth)


class DeepPrompts(nn.Module):
    """Prompts and heads: a component of a method."""

    def __init__(self, config: PromptConfig, layers: int, width: int, seed: int) -> None:
        super().__init__()
        self.config, self.width, self.seed = config, width, seed
        self.blocks = prompted_blocks(config, layers)
        draw = torch.rand(layers, config.prompt_length, width, generator=self._generator(0))[self.blocks.start :]
        self.prompts = nn.Parameter(2 * draw - 1)
        self.heads = nn.ModuleList()
        self.classes = range(0)

    def begin_task(self, index: int, classes: range) -> None:
        """Add a head for `classes`; earlier heads are never trained again."""
        head = nn.Linear(self.width, len(classes))
        generator = self._generator(len(self.heads) + 1)
        previous = cast(nn.Linear, self.heads[-1]) if len(self.heads) else None
        with torch.no_grad():
            official = self.config.head_init == "official"
            if official and previous is None:
                nn.init.trunc_normal_(head.weight, std=0.02, generator=generator)
                nn.init.zeros_(head.bias)
            elif official and len(self.heads) == 1 and previous is not None and previous.out_features == len(classes):
                head.load_state_dict(previous.state_dict())
            else:
                bound = self.width**-0.5
                head.weight.uniform_(-bound, bound, generator=generator)
                head.bias.uniform_(-bound, bound, generator=generator)
        for earlier in self.heads:
            earlier.requires_grad_(False)
        self.heads.append(head.to(self.prompts.device))
        self.classes = classes

    def groups(self, prefix: str) -> list[ParameterGroup]:
        """Prompts and the current head, for Adam with coupled decay, new for each task; `prefix` is this component's
        name within the method."""
        last = len(self.heads) - 1
        head = {f"{prefix}.heads.{last}.{name}": p for name, p in self.heads[last].named_parameters()}
        prompts = {f"{prefix}.prompts": self.prompts} if self.prompts.numel() else {}
        groups = [
            ParameterGroup("prompts", prompts, self.config.prompt_rate, self.config.weight_decay),
            ParameterGroup("head", head, self.config.head_rate, self.config.weight_decay),
        ]
        return [g for g in groups if g.parameters]

    def edit(self) -> ModelEdit:
        return self.with_prompts(self.prompts)

    def with_prompts(self, prompts: Tensor) -> ModelEdit:
        """An edit with other prompts [K, M, d] in the same blocks."""
        return with_prompts(prompts, self.blocks.start)

    def classify(self, pooled: Tensor) -> Tensor:
        """Concatenated heads: [B, classes seen]."""
        return torch.cat([head(pooled) for head in self.heads], dim=1)

    def loss_of(self, pooled: Tensor, labels: Tensor) -> Loss:
        """CE of features [B, d] over the current task's classes only, on logits / τ."""
        logits = self.heads[-1](pooled)  # [B, c]
        targets = labels - self.classes.start
        correct = (logits.detach().argmax(dim=1) == targets).float().mean()
        return Loss({"cross_entropy": F.cross_entropy(logits / self.config.temperature, targets)}, correct)

    def _generator(self, place: int) -> torch.Generator:
        """Index 0 draws the prompts, index k the k-th head, independently of other draws."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + place)
