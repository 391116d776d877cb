"""Sweeps: a grid of settings × methods × seeds, distributed to workers, and its frontier.

`spec` describes the grid, `status` its progress, `pareto` its results: all that a page needs, without torch.
`scheduler` passes runs to an executor (`local`, `on_ray`), whose workers train them.
"""

from cl_core.sweeps.pareto import ParetoPoint, best_within, frontier, spots
from cl_core.sweeps.spec import Axis, Sweep, ask_to_stop, axis, conducted_by, known_sweeps, load, output_of
from cl_core.sweeps.status import SweepStatus, sweep_status

__all__ = [
    "Axis",
    "ParetoPoint",
    "Sweep",
    "SweepStatus",
    "ask_to_stop",
    "axis",
    "best_within",
    "conducted_by",
    "frontier",
    "known_sweeps",
    "load",
    "output_of",
    "spots",
    "sweep_status",
]
