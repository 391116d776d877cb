"""What the algebra asks of its arguments, said once: a floating tensor, a spectrum, a moment, a share, a count.

Everything here either returns its argument in the form the formulas want or raises one sentence that names the thing,
the bound, the value met and the way out.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

SMALL = 512  # width up to which a symmetric eigenproblem is faster on one thread
SYMMETRY_TOLERANCE = 1e-3  # of the largest entry: far above float32 accumulation, far below a forgotten transpose
ORDER_TOLERANCE = 1e-6  # of the largest eigenvalue: rounding may swap near-equal neighbours

_asked: ContextVar[list[tuple[Tensor, Callable[[], Exception]]] | None] = ContextVar("asked of values", default=None)


@contextmanager
def asked_together() -> Iterator[None]:
    """Within the block, what is asked of values on a GPU is queued there and read once, at its end, instead of one by
    one: each reading is waited for. What fails is raised then, the first first. On the CPU nothing changes."""
    asked: list[tuple[Tensor, Callable[[], Exception]]] = []
    before = _asked.set(asked)
    try:
        yield
    except torch.linalg.LinAlgError as failed:  # what a decomposition makes of values that were never looked at
        _answer(asked, failed)
        raise
    finally:
        _asked.reset(before)
    _answer(asked)


def _answer(asked: list[tuple[Tensor, Callable[[], Exception]]], cause: Exception | None = None) -> None:
    wrong = torch.stack([found for found, _ in asked]).tolist() if asked else []
    for (_, complaint), is_wrong in zip(asked, wrong, strict=True):
        if is_wrong:
            raise complaint() from cause


def refuse(wrong: Tensor, complaint: Callable[[], Exception]) -> None:
    """Raise what `complaint` makes if `wrong` [] bool holds: now, or at the end of `asked_together`."""
    asked = _asked.get()
    if asked is not None and wrong.device.type != "cpu":
        asked.append((wrong, complaint))
    elif wrong:
        raise complaint()


def floating(value: Tensor, name: str) -> Tensor:
    """`value` itself, once it is known to be a finite real floating-point tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch tensor, got {type(value).__name__}; wrap it in torch.as_tensor")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {value.dtype}; convert it with .double()")
    # NaN and infinity survive any sum, so one cheap sum clears most where reading it is free
    if value.device.type != "cpu" or not torch.isfinite(value.sum()):
        diverged = f"{name} must be finite, got NaN or infinity; look for a diverged run or an empty batch"
        refuse(~torch.isfinite(value).all(), lambda: ValueError(diverged))
    return value


def descending(spectrum: Tensor, name: str = "spectrum") -> Tensor:
    """A spectrum [..., n] in float64, once it is known not to rise along its last axis."""
    values = floating(spectrum, name).double()
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ValueError(f"{name} needs at least one eigenvalue on its last axis, got shape {list(spectrum.shape)}")
    rise = (values[..., 1:] - values[..., :-1]).amax() if values.shape[-1] > 1 else values.new_zeros(())
    rises = lambda: ValueError(f"{name} must descend, but it rises by {rise.item():.3g}; sort it with descending=True")
    refuse(rise > ORDER_TOLERANCE * values.abs().amax(), rises)
    return values


def symmetric(moment: Tensor, name: str = "moment") -> Tensor:
    """A symmetric matrix [..., d, d] in float64, its two halves averaged."""
    matrix = floating(moment, name).double()
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2] or matrix.shape[-1] == 0:
        raise ValueError(f"{name} must be square [..., d, d] with d ≥ 1, got shape {list(moment.shape)}")
    skew = (matrix - matrix.mT).abs().amax() if matrix.numel() else matrix.new_zeros(())
    differs = f"{name} must be symmetric, but it differs from its transpose by"
    complaint = lambda: ValueError(f"{differs} {skew.item():.3g}; pass XᵀX")
    refuse(skew > SYMMETRY_TOLERANCE * matrix.abs().amax(), complaint)
    return (matrix + matrix.mT) / 2


def share(value: float, name: str) -> float:
    """A number in [0, 1]."""
    value = float(value)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must lie in [0, 1], got {value:g}")
    return value


def counts(value: int | Tensor, *, width: int, leading: torch.Size, device: torch.device, name: str) -> Tensor:
    """Whole numbers in [0, width], one for each matrix of a batch: int64 [*leading]."""
    numbers = torch.as_tensor(value)  # looked at where it lies: a plain number is free to read
    if numbers.is_floating_point() or numbers.dtype == torch.bool:
        raise TypeError(f"{name} must be whole numbers, got {numbers.dtype}")
    bound = f"{name} must lie in [0, {width}] for a {width}×{width} moment, got"
    refuse(((numbers < 0) | (numbers > width)).any(), lambda: ValueError(f"{bound} {numbers.tolist()}"))
    return numbers.to(device).long().expand(leading)


def as_count(numbers: Tensor) -> int | Tensor:
    """A Python int where there is one spectrum, an int64 tensor [...] where there is a batch of them."""
    return int(numbers) if numbers.ndim == 0 else numbers


@contextmanager
def few_threads(matrix: Tensor) -> Iterator[None]:
    """One thread inside the block for decompositions on the CPU that are too small to gain from more.

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
