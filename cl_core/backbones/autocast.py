"""Reduced precision inside a backbone's own methods, and nowhere else.

    with backbone.computing_in(torch.bfloat16):
        loss = method.loss(backbone, images, labels)

Within the block, matrix products and convolutions inside the backbone run in that type (`torch.autocast`). Weights are
unchanged; the residual stream and all outputs are float32. A method's own computations (logits, losses, keys, moments,
projections of a step) are not affected, so only backbones need to handle precision.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cl_core.backbones.io_types import Features

Wrapped = TypeVar("Wrapped", bound=Callable[..., Any])


class MixedPrecision(nn.Module):
    """A module whose methods marked by `autocast_method` may run in another type than its weights have."""

    _inside: torch.dtype = torch.float32

    @contextlib.contextmanager
    def computing_in(self, dtype: torch.dtype) -> Iterator[None]:
        """Run marked methods in `dtype` within the block; float32 disables autocast, also inside an outer block."""
        before, self._inside = self._inside, dtype
        try:
            yield
        finally:
            self._inside = before


def autocast_method(call: Wrapped) -> Wrapped:
    """Decorate a method of a `MixedPrecision` module: it runs in the chosen type and returns float32 (or wider)."""

    @functools.wraps(call)
    def through(self: MixedPrecision, *arguments: Any, **others: Any) -> Any:
        if self._inside == torch.float32:
            return call(self, *arguments, **others)
        with torch.autocast(next(self.parameters()).device.type, dtype=self._inside):
            found = call(self, *arguments, **others)
        return _widened(found)

    return through  # type: ignore[return-value]


def _widened(found: Any) -> Any:
    if isinstance(found, Tensor):
        return found.float() if found.dtype in (torch.bfloat16, torch.float16) else found
    if isinstance(found, Features):
        return replace(found, pooled=_widened(found.pooled), taps=_widened(found.taps))
    if isinstance(found, tuple):
        return tuple(map(_widened, found))
    if isinstance(found, dict):
        return {name: _widened(value) for name, value in found.items()}
    return found
