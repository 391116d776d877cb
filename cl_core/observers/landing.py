"""Transfer of events' tensors to the CPU, packed into one copy.

A GPU works through a queue. Reading a single number makes the CPU wait until the queue is empty, and then the GPU idles
until it is filled again. Observers therefore build events from tensors on the device, and `landed` fetches those of a
group of events at once; on the CPU no copy is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cl_core.events import Event


def copied(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same values on the CPU. Tensors on a device are packed as bytes into one copy, for any types; CPU tensors are
    returned unchanged."""
    far = [place for place, value in enumerate(tensors) if value.device.type != "cpu"]
    far.sort(key=lambda place: -tensors[place].element_size())  # alignment of every type
    found = [value.detach() for value in tensors]
    if far:
        packed = [found[place].contiguous().view(-1).view(torch.uint8) for place in far]
        parts = torch.cat(packed).cpu().split([len(part) for part in packed])
        for place, part in zip(far, parts, strict=True):
            found[place] = part.view(tensors[place].dtype).view(tensors[place].shape)
    return found


def landed(moment: Iterable[Event]) -> tuple[Event, ...]:
    """The events with every tensor replaced by a numpy array of the same type, and every scalar tensor by a number."""
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
