"""Many runs from one grid: settings × methods × seeds, shared out to workers, and the frontier they draw.

`plan` says what is swept, `standing` where it is, `frontier` what came out: all a page needs, without torch. `conduct`
hands runs to an engine (`local`, `on_ray`), whose workers train them.
"""

from cl_core.sweeps.frontier import Spot, best_within, frontier, spots
from cl_core.sweeps.plan import Axis, Sweep, ask_to_stop, axis, conducted_by, known_sweeps, load, output_of
from cl_core.sweeps.standing import Standing, standing

__all__ = [
    "Axis",
    "Spot",
    "Standing",
    "Sweep",
    "ask_to_stop",
    "axis",
    "best_within",
    "conducted_by",
    "frontier",
    "known_sweeps",
    "load",
    "output_of",
    "spots",
    "standing",
]
