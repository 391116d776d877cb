"""GPM on attention weights: keys and values never change along directions used by past inputs.

Parts: `gradient_memory`, `key_value`, `stored_directions`.

Saha, Garg, Roy. Gradient Projection Memory for Continual Learning. ICLR 2021; the inputs are those of InfLoRA (Liang,
Li. CVPR 2024). Written from the equations, details as in the released code.
Shapes: d width of a block, k directions stored; B [d, k]; X [d, N] inputs of a block's attention, G = X Xᵀ.

    ΔW ← ΔW + S (I − B Bᵀ)                     S the optimiser's step, from the second task on
    after task 1    B = leading directions of G that together stay below ε of its energy, one at least
    after task t    B ← [B, U],  U the fewest directions of (I − BBᵀ) G (I − BBᵀ) with which B holds ε_t of tr G
    ε_t = ε + t · growth

Our adaptation: the paper trains whole convolutional networks with known tasks; here a ViT is frozen except for its key
and value matrices, as in `split_lora`. InfLoRA uses a low-rank branch that starts in the free directions; the changes
here have full rank, the protection is the same. G is summed over all images of the task (release: 24 to 125 of them).
With `shares="moment"` shares are of σ⁴, as in InfLoRA's code. Its complement for k > d/2, which only saves memory, is
omitted.
"""

from __future__ import annotations

from typing import final

from torch import Tensor

from cl_core.linalg import added_directions, first_directions
from cl_core.methods.parts.gradient_memory import GradientMemoryConfig, GradientMemoryMethod


@final
class GPM(GradientMemoryMethod):
    """Stored directions are fully protected."""

    Config = GradientMemoryConfig

    def store(self, place: str, gram: Tensor) -> None:
        if not int(self.tasks):
            self.stored.add(place, first_directions(gram, self.threshold))
        else:
            self.stored.add(place, added_directions(gram, self.stored.basis(place), self.threshold))
