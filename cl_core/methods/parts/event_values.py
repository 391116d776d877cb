"""Tensors in the fields of events.

Events hold arrays and numbers. A method passes tensors that may still be on the device, to avoid synchronisation; the
engine replaces all tensors of a group of events at once (`cl_core.observers.landing`). For the type checker these
functions declare the final type; at run time they return the tensor unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from torch import Tensor


def array(values: Tensor) -> np.ndarray:
    """A tensor with axes: an array of the same shape and type once the engine has fetched it."""
    return cast(np.ndarray, values)


def number(value: Tensor | float) -> float:
    """A tensor without axes: a number once the engine has fetched it."""
    return cast(float, value)


def mean(values: Sequence[Tensor]) -> float:
    """Mean of at least one scalar tensor, in their type."""
    return cast(float, sum(values) / len(values))
