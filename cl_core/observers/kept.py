"""Bytes of a method's state between tasks, and its caches of frozen models' outputs."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import nn

from cl_core.backbones.answer_cache import Kept


@runtime_checkable
class CountsWhatItKeeps(Protocol):
    """A method with state that does not count: reset with every task, or replacing the model's own."""

    def kept_bytes(self) -> int: ...


@runtime_checkable
class KeepsAnswers(Protocol):
    def answers_kept(self, backbone: Any) -> list[Kept]:
        """Frozen models evaluated once per image, and the size of their caches."""
        ...


def kept_bytes(method: nn.Module) -> int:
    """Bytes of state between tasks: all of it, unless the method counts itself."""
    if isinstance(method, CountsWhatItKeeps):
        return method.kept_bytes()
    return sum(value.numel() * value.element_size() for value in method.state_dict().values())
