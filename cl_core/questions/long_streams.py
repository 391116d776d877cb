"""NuSA-CL (arXiv:2510.21175) on long streams: free directions, cost, and interference of tasks.

The questions are in `questions.nusa_cl`. No torch.
"""

from __future__ import annotations

import numpy as np

from cl_core.events import WeightSpectrumMeasured
from cl_core.questions.reporting import (
    events,
    less,
    mean,
    seconds_of,
    task_names,
)
from cl_core.store import RunFolder
from cl_core.summary import summarise

COSTLY = 0.10  # share of a run's time from which the decomposition counts as costly


def saturation_numbers(folder: RunFolder) -> dict[str, float | None]:
    measured, config = events(folder, WeightSpectrumMeasured), folder.config()
    if not measured:
        return {}
    limit = config.settings.get("r_max", max(e.written for e in measured))
    last = [e for e in measured if e.clock.task == max(m.clock.task for m in measured)]
    first = [e for e in measured if e.clock.task == 0]
    return {
        "short of room, maps": float(sum(directions_left(e) < min(limit, len(e.after)) for e in last)),
        "room before T1, share": mean((len(e.before) - e.principal) / len(e.before) for e in first),
        "room at the end, share": mean(directions_left(e) / len(e.after) for e in last),
        "tightest map, directions": float(min(directions_left(e) for e in last)),
        "effective rank before T1": mean(e.effective_rank_before for e in first),
        "effective rank at the end": mean(e.effective_rank for e in last),
        "promoted singular values": float(sum(e.promoted for e in measured)),
        "change in the pre-trained principal space, share": mean(e.drift for e in last),
        "the same of a random change, share": mean(e.chance for e in last),
    }


def directions_left(event: WeightSpectrumMeasured) -> int:
    """A map's null directions after the task, available to the next task."""
    energy = np.cumsum(event.after.astype(np.float64) ** 2)
    principal = 1 + int((energy[:-1] < event.rho * energy[-1]).sum())
    return len(event.after) - principal


def cost_numbers(folder: RunFolder) -> dict[str, float | None]:
    measured = events(folder, WeightSpectrumMeasured)
    whole = seconds_of(folder)
    found: dict[str, float | None] = {
        "share of time, %": 100 * sum(e.seconds for e in measured) / whole if whole else None
    }
    for width in sorted({len(e.before) for e in measured}):
        times = [e.seconds for e in measured if len(e.before) == width]
        found[f"width {width}, ms"] = 1000 * float(np.median(times))
    return found


def _losses_to_the_next(folder: RunFolder, *, other_half: bool) -> dict[str, float]:
    """Domain → accuracy lost by its first half while the next task is learned; only if that task is its other half, or
    only if it is not."""
    names, matrix = task_names(folder), summarise(folder, by_own_head=True).accuracy_matrix
    found = {}
    for task, name in enumerate(names[:-1]):
        domain, _, half = name.rpartition(" ")
        loss = less(matrix[task][task], matrix[task + 1][task])
        if half == "a" and loss is not None and (names[task + 1] == f"{domain} b") == other_half:
            found[domain] = loss
    return found


def neighbour_numbers(folder: RunFolder) -> dict[str, float | None]:
    """Mean loss of first halves to the next task: their other half if the stream places it there, else another
    domain."""
    beside, apart = (_losses_to_the_next(folder, other_half=side) for side in (True, False))
    return {"loss of first halves, pp": mean((beside or apart).values())}
