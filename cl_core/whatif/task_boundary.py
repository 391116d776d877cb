"""What is stored about the moment between two tasks: spectra, the cut that was made, and the update that came next.

Shapes: L layers of one space, n directions; λ [L, n] energies, u [L, n] energies of the next task's update along the
same directions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cl_core.events import SpectrumMeasured, UpdateByDirection, WeightSpectrumMeasured
from cl_core.whatif.threshold import MOMENTS, RULES, WEIGHTS, Threshold


@dataclass(frozen=True)
class Boundary:
    """One space after one task: the spectra that the next task was held to, and what it then wanted."""

    task: int  # after which task, from 0; −1: before the first
    space: str
    kind: str  # what the spectra are of: "moments" or "weights"
    layers: tuple[int, ...]
    spectra: np.ndarray  # [L, n] λ, descending: eigenvalues of a moment, σ² of a weight
    recorded: np.ndarray  # [L] directions that were left free
    rule: str  # as the run said it: "elbow", "energy 0.95", "tail 0.15", "rho 0.95"
    used: bool  # whether training obeyed the cut
    gains: np.ndarray  # [L, 2] factors on free and on protected directions
    energies: np.ndarray | None  # [L, n] u, squared parameter units; None where no update is stored
    source: str  # what the update is: "steps", "gradients" or "net change"; "" without one
    most: int | None = None  # r_max, where it limits at least one layer

    @property
    def width(self) -> int:
        return self.spectra.shape[1]

    @property
    def confined(self) -> bool:
        """Whether the stored update could not leave the directions left free: what lies beyond was never tried."""
        return self.kind == WEIGHTS and self.used


def boundaries(
    measured: Iterable[SpectrumMeasured],
    weights: Iterable[WeightSpectrumMeasured] = (),
    updates: Iterable[UpdateByDirection] = (),
) -> list[Boundary]:
    """All boundaries of a run, by space and then by task. A later event of the same place replaces an earlier one."""
    wanted = {(event.clock.task, event.space): event for event in updates}
    found = [*_of_moments(measured, wanted), *_of_weights(weights, wanted)]
    return sorted(found, key=lambda b: (b.space, b.task))


def best(found: Sequence[Boundary], space: str | None = None, task: int | None = None) -> Boundary | None:
    """The boundary of a space after `task`; without a task the newest one after which a task was learned, because
    only there an update is known."""
    mine = [b for b in found if space in (None, b.space) and task in (None, b.task)]
    return next((b for b in reversed(mine) if b.energies is not None), mine[-1] if mine else None)


def own_threshold(boundary: Boundary) -> Threshold | None:
    """The threshold the run itself had, read from its events; None where they do not say its value.

    Where training obeyed no cut, the rule it was measured with, strictly obeyed.
    """
    rule, _, value = boundary.rule.partition(" ")
    rule = {"rho": "energy"}.get(rule, rule)
    if rule not in RULES or (RULES[rule].takes_value and not _number(value)):
        return None
    eta, scale = 1.0, "plain"
    if boundary.used:
        free, protected = boundary.gains[:, 0], boundary.gains[:, 1]
        eta = 1 - float(protected[0])
        known = np.isfinite(free)
        if known.any() and not np.allclose(free[known], 1, atol=1e-6):
            scale = "frobenius"
    return Threshold(
        rule,
        float(value) if RULES[rule].takes_value else math.nan,
        round(eta, 9),
        scale,
        boundary.most if boundary.used else None,
    )


def _number(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def _update(
    wanted: dict[tuple[int, str], UpdateByDirection], task: int, space: str, layers: Sequence[int], width: int
) -> tuple[np.ndarray | None, str]:
    """Energies [L, n] of the update in `task`, in the order of `layers`; None if any is missing or of another width."""
    event = wanted.get((task, space))
    if event is None or np.shape(event.energies)[-1] != width or not set(layers) <= set(event.layers):
        return None, ""
    rows = [list(event.layers).index(layer) for layer in layers]
    return np.asarray(event.energies, np.float64)[rows], event.source


def _of_moments(
    measured: Iterable[SpectrumMeasured], wanted: dict[tuple[int, str], UpdateByDirection]
) -> Iterable[Boundary]:
    groups: dict[tuple[str, int], dict[int, SpectrumMeasured]] = {}
    for event in measured:
        groups.setdefault((event.space, event.clock.task), {})[event.layer] = event
    for (space, task), by_layer in groups.items():
        events = [by_layer[layer] for layer in sorted(by_layer)]
        width = len(events[0].eigenvalues)
        events = [e for e in events if len(e.eigenvalues) == width]
        layers = tuple(e.layer for e in events)
        energies, source = _update(wanted, task + 1, space, layers, width)
        yield Boundary(
            task,
            space,
            MOMENTS,
            layers,
            np.stack([np.asarray(e.eigenvalues) for e in events]),
            np.array([e.nullity for e in events]),
            events[0].rule,
            events[0].used,
            np.array([[e.gain_free, e.gain_protected] for e in events], dtype=np.float64),
            energies,
            source,
        )


def _of_weights(
    measured: Iterable[WeightSpectrumMeasured], wanted: dict[tuple[int, str], UpdateByDirection]
) -> Iterable[Boundary]:
    """A weight's spectrum is said *after* a task, with the cut that held in it: it belongs to the boundary before."""
    groups: dict[tuple[str, int], dict[int, WeightSpectrumMeasured]] = {}
    for event in measured:
        tower, block, part = event.name.split(".")
        groups.setdefault((f"{tower}.{part}", event.clock.task), {})[int(block)] = event
    for (space, task), by_layer in groups.items():
        events, layers = [by_layer[layer] for layer in sorted(by_layer)], tuple(sorted(by_layer))
        width = len(events[0].before)
        energies, source = _update(wanted, task, space, layers, width)
        limited = [e.written for e in events if e.bound == "r_max"]
        yield Boundary(
            task - 1,
            space,
            WEIGHTS,
            layers,
            np.stack([np.asarray(e.before, np.float64) ** 2 for e in events]),
            np.array([e.written for e in events]),
            f"rho {events[0].rho:g}",
            events[0].used,
            np.tile([1.0, 0.0 if events[0].used else 1.0], (len(events), 1)),
            energies,
            source,
            max(limited) if limited else None,
        )
