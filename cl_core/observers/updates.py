"""Unconstrained updates of a task: sums of the gradients or steps passed to constraints.

Δ[parameter] = Σ over the task's steps of its constraint's input
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cl_core.events import Event
from cl_core.methods.method import Method
from cl_core.observers.observer import Observer, View

SHOWN = ("prompts", "keys and values", "residuals")  # groups whose steps are shown although unconstrained


def measured_parameters(method: Method) -> set[str]:
    """Parameters with measured steps: constrained ones and those shared by tasks."""
    shared = (group.parameters for group in method.groups() if group.name in SHOWN)
    return {*method.constraints(), *(name for parameters in shared for name in parameters)}


class Asked(Observer):
    """Abstract: an observer that needs the sums and the parameters at the start of the task."""

    def __init__(self) -> None:
        self.asked: dict[str, Tensor] = {}
        self.before: dict[str, Tensor] = {}

    def watched(self, view: View) -> Mapping[str, Tensor]:
        """Parameters copied in `before`."""
        return {}

    def task_begun(self, view: View) -> list[Event]:
        self.asked = {}
        self.before = {name: value.detach().clone() for name, value in self.watched(view).items()}
        return []

    def step_taken(self, view: View, given: Mapping[str, Tensor]) -> list[Event]:
        for name, value in given.items():
            if name in self.asked:
                self.asked[name] += value
            else:
                self.asked[name] = value.clone()
        return []

    def state_dict(self) -> dict[str, Tensor]:
        parts = {"asked": self.asked, "before": self.before}
        return {f"{part}/{name}": value for part, held in parts.items() for name, value in held.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.asked, self.before = (
            {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
            for start in ("asked/", "before/")
        )
