"""How NuSA-CL (arXiv:2510.21175) fares over long streams: whether room runs out, what it costs, which tasks interfere.

The questions stand in `questions.nusa_cl`. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cl_core.events import WeightSpectrumMeasured
from cl_core.questions.reporting import (
    CLEAR,
    ONE_SEED,
    Runs,
    compared,
    events,
    less,
    mean,
    number,
    points,
    processor,
    seconds_of,
    sources,
    task_names,
)
from cl_core.store import RunFolder
from cl_core.summary import summarise

LARGER = (512, 768, 1024)  # widths of larger CLIPs, to which times are extrapolated
COSTLY = 0.10  # share of a run's time from which the decomposition is called costly


# ---------------------------------------------------------------- saturation


def saturation(runs: Runs) -> str:
    (folder,) = runs.values()
    measured, config, summary = (
        events(folder, WeightSpectrumMeasured),
        folder.config(),
        summarise(folder, by_own_head=True),
    )
    if not measured:
        return f"Not decided: the weights of run {folder.name} were not measured."
    limit = config.settings.get("r_max", max(e.written for e in measured))
    tasks = sorted({e.clock.task for e in measured})
    by_task = [[e for e in measured if e.clock.task == t] for t in tasks]
    used = [mean(e.written / min(limit, len(e.before)) for e in group) for group in by_task]
    room = [mean((len(e.before) - e.principal) / len(e.before) for e in group) for group in by_task]
    room.append(mean(directions_left(e) / len(e.after) for e in by_task[-1]))
    tightest = min(directions_left(e) for e in by_task[-1])
    short = sum(directions_left(e) < min(limit, len(e.after)) for e in by_task[-1])
    rank = [mean(e.effective_rank_before for e in by_task[0]), *(mean(e.effective_rank for e in g) for g in by_task)]
    promoted = [sum(e.promoted for e in group) for group in by_task]
    drift, chance = mean(e.drift for e in by_task[-1]), mean(e.chance for e in by_task[-1])
    maps, last = len(by_task[-1]), f"T{tasks[-1] + 1}"
    if short:
        verdict = f"Yes: after {last}, {short} of {maps} maps have fewer than r_max = {limit} directions left to write."
    else:
        verdict = f"No, not within {len(tasks)} tasks: after {last} every one of {maps} maps has r_max = {limit} "
        verdict += "directions left to write."
    learned = [row[task] for task, row in enumerate(summary.accuracy_matrix)]
    change = less(room[-1], room[0])
    return (
        f"{verdict} Written of r_max: {_course(used, '{:.2f}')}. Remaining capacity (d − k)/d: "
        f"{_course(room, '{:.3f}')} (change {number(change)}; tightest map {tightest} directions). Effective rank: "
        f"{_course(rank, '{:.1f}')}. Promoted singular values: {sum(promoted)} in all, {promoted[0]} in T1 and "
        f"{promoted[-1]} in {last}. Drift: {number(drift)} of the whole change since pre-training lies in the "
        f"pre-trained principal space (a random change: {number(chance)}). Accuracy of a task just learned: "
        f"{_course(learned, '{:.0f}')} %. "
        + sources(runs, f"means over {maps} maps; courses are first → middle → last, from the start to {last}")
    )


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
    }


def directions_left(event: WeightSpectrumMeasured) -> int:
    """A map's null directions after the task: the room that a next task would find."""
    energy = np.cumsum(event.after.astype(np.float64) ** 2)
    principal = 1 + int((energy[:-1] < event.rho * energy[-1]).sum())
    return len(event.after) - principal


def _course(values: Sequence[float | None], form: str) -> str:
    """First, middle and last of a course."""
    shown = [values[0], values[len(values) // 2], values[-1]] if len(values) > 2 else list(values)
    return " → ".join("not measured" if v is None else form.format(v) for v in shown)


# ---------------------------------------------------------------- cost


def cost(runs: Runs) -> str:
    (folder,) = runs.values()
    measured = events(folder, WeightSpectrumMeasured)
    if not measured:
        return f"Not decided: the weights of run {folder.name} were not measured."
    widths = sorted({len(e.before) for e in measured})
    typical = {w: float(np.median([e.seconds for e in measured if len(e.before) == w])) for w in widths}
    counts = {w: sum(len(e.before) == w for e in measured) for w in widths}
    spent, whole = sum(e.seconds for e in measured), seconds_of(folder)
    share = spent / whole if whole else None
    if share is None:
        verdict = "Not decided: the run's time is not known."
    elif share < COSTLY:
        verdict = f"No: decompositions take {100 * share:.1f} % of the run's time, less than {100 * COSTLY:g} %."
    else:
        verdict = f"Yes: decompositions take {100 * share:.1f} % of the run's time, {100 * COSTLY:g} % or more."
    each = ", ".join(f"width {w}: {1000 * typical[w]:.2f} ms ({counts[w]} decompositions)" for w in widths)
    grows = ""
    if len(widths) > 1 and typical[widths[0]] > 0:
        power = math.log(typical[widths[-1]] / typical[widths[0]]) / math.log(widths[-1] / widths[0])
        grows = f" Between the measured widths time grows like width to the power {power:.1f}."
    widest = widths[-1]
    further = ", ".join(f"{w}: {typical[widest] * (w / widest) ** 3:.2g} s" for w in LARGER if w > widest)
    return (
        f"{verdict} Median time of one decomposition: {each}; {spent:.2f} s of {whole:.1f} s together.{grows} Not "
        f"measured, extrapolated from width {widest} with the cube of the width: {further}. "
        + sources(
            runs,
            f"one timed decomposition a map and task, {len(measured)} in all, on {processor(folder)}; the method "
            "itself makes each once more, untimed",
        )
    )


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


# ---------------------------------------------------------------- similar tasks


def similar(runs: Runs) -> str:
    near = _losses_to_the_next(runs.get("order I"), other_half=True)
    far = _losses_to_the_next(runs.get("order II"), other_half=False)
    both = [name for name in near if name in far]
    mean_near, mean_far = mean(near[n] for n in both), mean(far[n] for n in both)
    if not both:
        verdict = "Not decided: both orders are needed."
    else:
        worse = sum(near[n] > far[n] for n in both)
        numbers = (
            f"a first half loses {points(mean_near)} when its other half comes next and {points(mean_far)} when "
            f"another domain does (mean of {len(both)} domains; more beside its other half in {worse} of them)"
        )
        how = compared(mean_near, mean_far)
        words = {"higher": "Yes, similar neighbours interfere more", "lower": "No, similar neighbours interfere less"}
        verdict = f"{words.get(how, 'No, it makes no difference of ' + f'{CLEAR:g} pp')}: {numbers}."
    each = "; ".join(
        f"{label}: {', '.join(f'{name} {points(value)}' for name, value in losses.items())}"
        for label, losses in (("other half next", near), ("another domain next", far))
        if losses
    )
    return (
        f"{verdict} {each}. Positive is a loss. "
        + sources(runs, "cells a(i, i) − a(i + 1, i) of the first halves, classes of the half alone competing")
        + f" The same half stands at another place of the stream in the two orders. {ONE_SEED}"
    )


def _losses_to_the_next(folder: RunFolder | None, *, other_half: bool) -> dict[str, float]:
    """Domain → accuracy its first half loses while the next task is learned; only where that task is its other half, or
    only where it is not."""
    if folder is None:
        return {}
    names, matrix = task_names(folder), summarise(folder, by_own_head=True).accuracy_matrix
    found = {}
    for task, name in enumerate(names[:-1]):
        domain, _, half = name.rpartition(" ")
        loss = less(matrix[task][task], matrix[task + 1][task])
        if half == "a" and loss is not None and (names[task + 1] == f"{domain} b") == other_half:
            found[domain] = loss
    return found


def neighbour_numbers(folder: RunFolder) -> dict[str, float | None]:
    """Mean loss of first halves to what comes next: their other half where the stream puts it there, else another
    domain."""
    beside, apart = (_losses_to_the_next(folder, other_half=side) for side in (True, False))
    return {"loss of first halves, pp": mean((beside or apart).values())}
