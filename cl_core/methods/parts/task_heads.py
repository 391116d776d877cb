"""A linear head per task, trained on its own task's classes only; all of them together answer at test time.

That is masked cross-entropy with one growing head: a class outside the task has no gradient, so its row stays. Heads of
earlier tasks are never trained again.
Shapes: B images, d width, c classes of the task.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_core.methods.method import Loss
from cl_core.streams.stream import mixed_seed


class TaskHeads(nn.Module):
    """A component that a method owns and asks."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.width, self.seed = width, seed
        self.heads = nn.ModuleList()
        self.classes = range(0)

    def begin_task(self, classes: range, device: torch.device) -> None:
        """A head for `classes`, uniform in ±1/√d."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, "head", len(self.heads)))
        head, bound = nn.Linear(self.width, len(classes)), self.width**-0.5
        with torch.no_grad():
            head.weight.uniform_(-bound, bound, generator=generator)
            head.bias.uniform_(-bound, bound, generator=generator)
        self.heads.requires_grad_(False)
        self.heads.append(head.to(device))
        self.classes = classes

    def trained(self, prefix: str) -> dict[str, nn.Parameter]:
        """The current head's parameters; `prefix` is this component's name within the method."""
        last = len(self.heads) - 1
        return {f"{prefix}.heads.{last}.{name}": p for name, p in self.heads[last].named_parameters()}

    def forward(self, pooled: Tensor) -> Tensor:
        """Logits of every class begun, of features [B, d]."""
        return torch.cat([head(pooled) for head in self.heads], dim=1)

    def loss(self, pooled: Tensor, labels: Tensor, temperature: float = 1.0) -> Loss:
        """CE over the current task's classes, on logits / τ."""
        logits, targets = self.heads[-1](pooled), labels - self.classes.start  # [B, c]
        correct = (logits.detach().argmax(dim=1) == targets).float().mean()
        return Loss({"cross_entropy": F.cross_entropy(logits / temperature, targets)}, correct)
