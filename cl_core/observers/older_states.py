"""Conversion of checkpoints from before observers had their own state."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from cl_core.methods.method import Method
from cl_core.methods.parts.clip_weights import key
from cl_core.observers.input_spectra import ProjectsInputs


def with_observers(state: dict[str, Any], method: Method) -> dict[str, Any]:
    """`state` in the current format. Older ones also contained the probe's references and methods' display-only
    state."""
    if "observers" in state:
        return state
    known = set(method.state_dict())
    kept: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    for name, value in state["method"].items():
        display = name.startswith(("moments.", "previous_")) or name in ("spaces.shares", "spaces.passed")
        (shown if display and name not in known else kept)[name] = value
    asked = {f"asked/{name}": value for name, value in state.get("proposals", {}).items()}
    moments = {
        name.replace("moments.", "moments/", 1): value
        for name, value in shown.items()
        if name.startswith("moments.") and not name.startswith("moments.task_")
    }
    observers: dict[str, dict[str, Tensor]] = {
        "modality gap": state["gap"],
        "weights": {name.replace("_", "."): value for name, value in state["weights"].items()},
    }
    if (prompts := state["method"].get("previous_prompts")) is not None:
        observers["prompt spectra"] = {**asked, **moments, "before/deep_prompts": prompts}
        tallies = {name: shown[f"spaces.{name}"] for name in ("shares", "passed") if f"spaces.{name}" in shown}
        observers["subspaces"] = {"before": prompts, **tallies}
    if isinstance(method, ProjectsInputs):
        names = (layer.parameter for layer in method.layers)
        before = {f"before/{name}": shown[f"previous_{key(name)}"] for name in names}
        observers["input spectra"] = {**asked, **moments, **before}
    references: dict[str, dict[str, Tensor]] = {}
    for name, value in state["probe"].items():  # task_0_attention
        _, task, kind = name.split("_")
        references.setdefault(f"probe-task-{task}", {})[kind] = value
    return {**state, "method": kept, "observers": observers, "references": references}
