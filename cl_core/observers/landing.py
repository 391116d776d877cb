"""Tensors on their way to the CPU: all that is wanted together in one copy.

A GPU works through a queue. Reading one number makes the CPU wait until the queue is empty, and the GPU idle
until it has been filled again. So whoever measures builds events of tensors that still lie on the device, and `landed`
fetches those of a whole moment at once; on the CPU it hands the same memory on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cl_core.events import Event


def copied(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same values on the CPU. What lies elsewhere comes packed, byte by byte, in one copy, whatever the
    types; what lies there already is handed back."""
    far = [place for place, value in enumerate(tensors) if value.device.type != "cpu"]
    far.sort(key=lambda place: -tensors[place].element_size())  # so that every type begins where it may begin
    found = [value.detach() for value in tensors]
    if far:
        packed = [found[place].contiguous().view(-1).view(torch.uint8) for place in far]
        parts = torch.cat(packed).cpu().split([len(part) for part in packed])
        for place, part in zip(far, parts, strict=True):
            found[place] = part.view(tensors[place].dtype).view(tensors[place].shape)
    return found


def landed(moment: Iterable[Event]) -> tuple[Event, ...]:
    """The events of a moment with a numpy array in the place of every tensor, of its type, and a plain number in the
    place of every tensor without axes."""
    events = tuple(moment)
    tensors: list[Tensor] = []
    for event in events:
        _each(event.body(), tensors.append)
    if not tensors:
        return events
    plain = iter([value.numpy() if value.ndim else value.item() for value in copied(tensors)])
    return tuple(replace(event, **_each(event.body(), lambda _: next(plain))) for event in events)


def _each(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """`value` with every tensor in it changed, in order."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: _each(part, change) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_each(part, change) for part in value)
    return value
