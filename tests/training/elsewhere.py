"""A device that is not the CPU, for machines without one: tensors that say they lie on "meta" and keep their
numbers beside them.

What a GPU refuses, this refuses: an operation on tensors of two devices, and `.numpy()`. Copies to the CPU and
everything else a GPU would have to be waited for are counted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

DEVICE = torch.device("meta")
aten = torch.ops.aten
CROSSING = {aten.copy_.default, aten._to_copy.default, aten.index.Tensor, aten.index_put_.default}
WAITING = {
    aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten.masked_select.default,
    aten._unique2.default, aten.unique_dim.default,
}  # fmt: skip


class There(torch.Tensor):
    """A tensor on the device; `here` holds its numbers."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> There:
        made = torch.Tensor._make_wrapper_subclass(
            cls, here.size(), here.stride(), here.storage_offset(), dtype=here.dtype, device=DEVICE
        )
        made.here = here
        return made

    def __init__(self, here: torch.Tensor) -> None: ...

    def __repr__(self) -> str:
        return f"There({self.here!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError("use tensors of the device within `Elsewhere()` only")


class Literals(TorchFunctionMode):
    """Numbers in Python reach the device, and come from it, by way of the CPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            target = torch.device(kwargs.pop("device"))
            return func(*args, **kwargs).to(target)
        if func is torch.Tensor.tolist:  # copies by itself, past the dispatcher
            return args[0].cpu().tolist()
        return func(*args, **kwargs)


def _autocast(real):
    """There is no autocast for "meta": nothing is narrowed on the device."""
    return lambda kind, *args, **kwargs: nullcontext() if kind == DEVICE.type else real(kind, *args, **kwargs)


# torch has the same for any tree, several times slower; a run makes some hundred thousand operations.
def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in arguments of an operation."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def _changed(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Arguments or results of an operation with each tensor changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)([_changed(part, change) for part in value])
    return {name: _changed(part, change) for name, part in value.items()} if isinstance(value, dict) else value


def _here(value: torch.Tensor) -> torch.Tensor:
    return value.here if isinstance(value, There) else value


@functools.cache
def _aliases(func: Any) -> bool:
    """Whether any result of an operation shares memory with an argument, or is one."""
    return any(part.alias_info is not None for part in (*func._schema.arguments, *func._schema.returns))


class Elsewhere(TorchDispatchMode):
    """Within it "meta" is a device that computes. `waits`: operations that a GPU would have been waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self._literals = Literals()

    def __enter__(self) -> Elsewhere:
        self._literals.__enter__()
        self._autocast, torch.autocast = torch.autocast, _autocast(torch.autocast)
        return super().__enter__()

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        torch.autocast = self._autocast
        self._literals.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = list(_tensors((args, kwargs)))
        there = [x for x in tensors if isinstance(x, There)]
        alien = [x for x in tensors if not isinstance(x, There) and x.dim() > 0]
        if there and alien and func not in CROSSING:
            raise RuntimeError(f"{func}: tensors on two devices, {[tuple(x.shape) for x in tensors]}")
        target = kwargs.get("device")
        if target is not None and torch.device(target) == DEVICE and kwargs.get("generator") is not None:
            raise RuntimeError(f"{func}: a generator of the CPU cannot draw on the device")
        lands_there = bool(there) if target is None else torch.device(target) == DEVICE
        if func is aten.copy_.default:
            lands_there = isinstance(args[0], There)
        if (func in WAITING and there) or (there and target is not None and not lands_there):
            self.waits.append(str(func))
        masks = func in (aten.index.Tensor, aten.index_put_.default) and there
        if masks and any(x is not None and x.dtype == torch.bool for x in args[1]):
            self.waits.append("index by a mask")
        if target is not None and lands_there:
            kwargs["device"] = torch.device("cpu")
        out = func(*_changed(args, _here), **_changed(kwargs, _here))
        if func is aten._local_scalar_dense.default or not lands_there:
            return out
        wrapped = _changed(out, There)
        return return_and_correct_aliasing(func, args, kwargs, wrapped) if _aliases(func) else wrapped
