"""What a method keeps between tasks, in bytes, and what it holds of frozen models' answers."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import nn

from cl_core.backbones.answer_cache import Kept


@runtime_checkable
class CountsWhatItKeeps(Protocol):
    """A method of whose state not all counts: what begins anew with every task, or takes the place of the model's."""

    def kept_bytes(self) -> int: ...


@runtime_checkable
class KeepsAnswers(Protocol):
    def answers_kept(self, backbone: Any) -> list[Kept]:
        """Frozen models that are asked once an image, and how much of their answers is held in memory."""
        ...


def kept_bytes(method: nn.Module) -> int:
    """Bytes kept between tasks: all state, unless the method counts for itself."""
    if isinstance(method, CountsWhatItKeeps):
        return method.kept_bytes()
    return sum(value.numel() * value.element_size() for value in method.state_dict().values())
