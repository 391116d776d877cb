"""Tensors in the fields of events.

Events hold arrays and numbers. A method hands in tensors that may still lie on the device, so that it does not wait for
it; the engine replaces all of a moment's tensors at once before anyone reads them (`cl_core.observers.landing`). To a
type checker these functions say what a tensor will be by then; at run time they pass it on as it is.
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
    """Mean of at least one tensor without axes, in their own type."""
    return cast(float, sum(values) / len(values))
