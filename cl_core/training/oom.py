"""Handling of out-of-memory errors: an error message with a batch size that fits."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cl_core.training.device import OUT_OF_MEMORY, Memory, free_memory, title


class OutOfMemory(RuntimeError):
    """Out of device memory; the message says where, for how many images, and what was free. `fits`: the
    largest batch that went through since then, 0 if none did; None if it was no step that failed."""

    def __init__(self, where: str, device: torch.device, left: Memory | None, details: str, fits: int | None) -> None:
        free = f": {title(device)} had {left} free" if left is not None else f" on {title(device)}"
        super().__init__(f"out of memory {where}{free}")
        self.fits = fits
        self.add_note(details)  # the traceback of what failed, without what it would keep alive


def fitting(attempt: Callable[[int], None], size: int, device: torch.device) -> int:
    """The largest of `size` / 2, `size` / 4 … 1 for which `attempt` succeeds; 0 if none."""
    while size > 1:
        size //= 2
        free_memory(device)
        try:
            attempt(size)
        except OUT_OF_MEMORY:
            continue  # outside this block nothing of the attempt is alive any more
        return size
    return 0
