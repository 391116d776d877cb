"""Where SplitLoRA cuts a spectrum: energy left unprotected, weighed against directions granted.

Reference: Qiu et al., SplitLoRA, arXiv:2505.22370, as its released code computes it.
"""

import torch
from torch import Tensor

from cl_core.linalg.validation import as_count, descending

PROTECTED = 2  # the leading directions that are always protected


def splitting_costs(spectrum: Tensor, *, tasks: int, alpha: float) -> tuple[Tensor, Tensor]:
    """The two terms of the trade-off at every cut.

        J(i) = t (1 − Σ_{j ≤ i} λ_j / Σ_j λ_j) − α (d − i)/d,     i = 0 … d − 1
               stability loss                    plasticity gain

    Args:
        spectrum: [..., d] descending eigenvalues of a second moment, squared activation units.
        tasks: t ≥ 1, how many have been learned.
        alpha: α ≥ 0, what a granted direction is worth.

    Returns:
        Both terms [..., d], dimensionless, float64; J is the first minus the second.

    Raises:
        TypeError: if the spectrum is not a floating-point tensor.
        ValueError: if it rises or is not finite, t < 1 or α < 0.
    """
    if tasks < 1:
        raise ValueError(f"tasks must be at least 1, got {tasks}; before the first there is nothing to protect")
    if not alpha >= 0:
        raise ValueError(f"alpha must be at least 0, got {alpha:g}")
    energies = descending(spectrum).clamp(min=0)
    width = energies.shape[-1]
    total = energies.sum(dim=-1, keepdim=True)
    held = energies.cumsum(dim=-1) / torch.where(total > 0, total, torch.ones_like(total))
    granted = (width - torch.arange(width, dtype=torch.float64, device=energies.device)) / width
    return tasks * (1 - held), (alpha * granted).expand_as(energies)


def splitting_cut(spectrum: Tensor, *, tasks: int, alpha: float) -> int | Tensor:
    """How many leading directions SplitLoRA protects; updates go into the d − k others.

        k = max(i*, 1) + 1,   i* = argmin_i J(i)     (J: `splitting_costs`)

    The offset is the release's: at least the top two directions are protected, and the minimiser itself is, too.

    Args, raises: as `splitting_costs`.

    Returns:
        k, a count in [min(2, d), d]: a Python int for one spectrum, int64 [...] for a batch. It does not fall with t
        and does not rise with α.
    """
    loss, gain = splitting_costs(spectrum, tasks=tasks, alpha=alpha)
    lowest = (loss - gain).argmin(dim=-1)
    return as_count((lowest.clamp(min=PROTECTED - 1) + 1).clamp(max=spectrum.shape[-1]))
