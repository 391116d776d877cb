"""What the algebra asks of its arguments, said once: a floating tensor, a spectrum, a moment, a share, a count.

Everything here either returns its argument in the form the formulas want or raises one sentence that names the thing,
the bound, the value met and the way out.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

SMALL = 512  # width up to which a symmetric eigenproblem is faster on one thread
SYMMETRY_TOLERANCE = 1e-3  # of the largest entry: far above float32 accumulation, far below a forgotten transpose
ORDER_TOLERANCE = 1e-6  # of the largest eigenvalue: rounding may swap near-equal neighbours


def floating(value: Tensor, name: str) -> Tensor:
    """`value` itself, once it is known to be a finite real floating-point tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch tensor, got {type(value).__name__}; wrap it in torch.as_tensor")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {value.dtype}; convert it with .double()")
    if not _finite(value):
        raise ValueError(f"{name} must be finite, got NaN or infinity; look for a diverged run or an empty batch")
    return value


def _finite(value: Tensor) -> bool:
    """Whether no entry is NaN or infinite. Either survives any sum, so one cheap sum clears most; a finite sum that
    overflows is looked at entry by entry."""
    return bool(torch.isfinite(value.sum())) or bool(torch.isfinite(value).all())


def descending(spectrum: Tensor, name: str = "spectrum") -> Tensor:
    """A spectrum [..., n] in float64, once it is known not to rise along its last axis."""
    values = floating(spectrum, name).double()
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ValueError(f"{name} needs at least one eigenvalue on its last axis, got shape {list(spectrum.shape)}")
    rise = (values[..., 1:] - values[..., :-1]).amax() if values.shape[-1] > 1 else values.new_zeros(())
    if rise > ORDER_TOLERANCE * values.abs().amax():
        raise ValueError(f"{name} must descend, but it rises by {rise.item():.3g}; sort it with descending=True")
    return values


def symmetric(moment: Tensor, name: str = "moment") -> Tensor:
    """A symmetric matrix [..., d, d] in float64, its two halves averaged."""
    matrix = floating(moment, name).double()
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2] or matrix.shape[-1] == 0:
        raise ValueError(f"{name} must be square [..., d, d] with d ≥ 1, got shape {list(moment.shape)}")
    skew = (matrix - matrix.mT).abs().amax() if matrix.numel() else matrix.new_zeros(())
    if skew > SYMMETRY_TOLERANCE * matrix.abs().amax():
        raise ValueError(f"{name} must be symmetric, but it differs from its transpose by {skew.item():.3g}; pass XᵀX")
    return (matrix + matrix.mT) / 2


def share(value: float, name: str) -> float:
    """A number in [0, 1]."""
    value = float(value)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must lie in [0, 1], got {value:g}")
    return value


def counts(value: int | Tensor, *, width: int, leading: torch.Size, device: torch.device, name: str) -> Tensor:
    """Whole numbers in [0, width], one for each matrix of a batch: int64 [*leading]."""
    numbers = torch.as_tensor(value, device=device)
    if numbers.is_floating_point() or numbers.dtype == torch.bool:
        raise TypeError(f"{name} must be whole numbers, got {numbers.dtype}")
    if numbers.numel() and (numbers.amin() < 0 or numbers.amax() > width):
        raise ValueError(f"{name} must lie in [0, {width}] for a {width}×{width} moment, got {numbers.tolist()}")
    return numbers.long().expand(leading)


def as_count(numbers: Tensor) -> int | Tensor:
    """A Python int where there is one spectrum, an int64 tensor [...] where there is a batch of them."""
    return int(numbers) if numbers.ndim == 0 else numbers


@contextmanager
def few_threads(matrix: Tensor) -> Iterator[None]:
    """One thread inside the block for decompositions on the processor that are too small to gain from more.

    LAPACK hands threads many short pieces; where waiting threads sleep (as they should beside a browser) each piece
    wakes them anew. Six symmetric eigenproblems of width 192: 9 ms with one thread, 139 ms with two.
    """
    threads = torch.get_num_threads()
    if matrix.device.type != "cpu" or matrix.shape[-1] > SMALL or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
