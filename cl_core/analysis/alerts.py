"""Alerts about a run: each with its value, threshold, figure and a remedy.

Computed from the stored events, so alerts are the same during training, afterwards, and for older recordings. The
thresholds are conventions, shown with each alert; alerts never change a run.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cl_core.analysis.ledger import COMPETE, ledger, rows_of, worst_cell
from cl_core.events import (
    AccuracyMeasured,
    AttentionCompared,
    Event,
    RefitMeasured,
    SelectionMeasured,
    SpectrumMeasured,
    StepEnded,
    UpdateMeasured,
)
from cl_core.readouts import TASK_INCREMENTAL, ZERO_SHOT

ROOM = 0.10  # share of free directions below which they are nearly exhausted
CHANCE = 0.9  # as a fraction of the leak of a random update
FALL = 10.0  # points
KEPT = 2.0  # points that accuracy with the task known may fall while features count as intact
MASS = 0.01  # attention paid to prompts, in every layer
USED = 0.2  # share of a pool's entries in use, exp(entropy) / entries
GROWTH = 10.0  # growth factor of the step size within a task
WINDOW = 10  # steps compared at the start and the end of a task

Events = Callable[[type[Any]], Sequence[Any]]


@dataclass(frozen=True)
class Alert:
    """`task` from 0: after or during which; `figure`: its id in the catalogue; `value` crossed `threshold`. `layer`,
    `fallen`: the layer or the fallen task, from 0, if there is one."""

    name: str
    task: int
    sentence: str
    value: float
    threshold: float
    figure: str
    remedy: str
    layer: int | None = None
    fallen: int | None = None


def alerts(events: Events) -> list[Alert]:
    """All current alerts, at most one per kind. `events(kind)`: the run's events of a kind, oldest first."""
    checks = (_loss, _room, _leak, _heads, _zero_shot, _prompts, _pool)
    return [alert for check in checks for alert in check(events)]


def _newest(found: Sequence[Event]) -> list[Any]:
    """Events of the newest task among them."""
    return [event for event in found if event.clock.task == found[-1].clock.task] if found else []


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def _room(events: Events) -> Iterator[Alert]:
    shares = [(e.nullity / len(e.eigenvalues), e) for e in _newest(events(SpectrumMeasured)) if e.used]
    if not shares:
        return
    share, event = min(shares, key=lambda pair: pair[0])
    if share < ROOM:
        yield Alert(
            "room nearly gone",
            event.clock.task,
            f"Layer {event.layer + 1} has {event.nullity} of {len(event.eigenvalues)} directions left ({event.space}, "
            f"{_percent(share)}).",
            share,
            ROOM,
            "directions-left",
            "Protect less: a smaller energy share or a softer projection; What if shows the effect.",
            layer=event.layer,
        )


def _leak(events: Events) -> Iterator[Alert]:
    updates = _newest(events(UpdateMeasured))
    if not updates:
        return
    task = updates[-1].clock.task
    obeyed = {(e.layer, e.space): e for e in events(SpectrumMeasured) if e.used and e.clock.task == task - 1}
    found = []
    for update in updates:
        for space, leak in update.leak.items():
            spectrum = obeyed.get((update.layer, space))
            if leak is None or spectrum is None:
                continue
            chance = math.sqrt(1 - spectrum.nullity / len(spectrum.eigenvalues))
            if chance > 0 and leak >= CHANCE * chance:
                found.append((leak / chance, update.layer, space, leak, chance))
    if found:
        ratio, layer, space, leak, chance = max(found)
        yield Alert(
            "updates inside the protected space",
            task,
            f"In layer {layer + 1} {_percent(leak)} of the update of T{task + 1} lies inside what is protected "
            f"({space}); a random one has {_percent(chance)}.",
            ratio,
            CHANCE,
            "leak-of-updates",
            "The projection does not hold here: project more strictly (eta nearer 1), or protect more energy.",
            layer=layer,
        )


def _heads(events: Events) -> Iterator[Alert]:
    rows = rows_of(events(AccuracyMeasured), events(RefitMeasured))
    worst = worst_cell(rows)
    if worst is None:
        return
    cell = ledger(rows, *worst)
    then, now = cell.levels["K"]
    part = cell.parts[COMPETE]
    if cell.cause != COMPETE or part is None or then is None or now is None or cell.drop is None:
        return
    if cell.drop >= FALL and then - now < KEPT:
        yield Alert(
            "heads compete, features are fine",
            cell.after,
            f"By its own heads T{cell.task + 1} fell {cell.drop:.0f} points, {part:.0f} of them because other "
            f"tasks' classes score higher; with the task known {now:.0f} % are still correct.",
            cell.drop,
            FALL,
            "forgetting-ledger",
            "Change the readout, not the features: stored statistics, nearest class means, heads balanced by replay.",
            fallen=cell.task,
        )


def _zero_shot(events: Events) -> Iterator[Alert]:
    rows: dict[int, Sequence[float | None]] = {}
    before: Sequence[float | None] | None = None
    for event in events(AccuracyMeasured):
        if event.readout == ZERO_SHOT:
            before = event.row
        elif event.readout == TASK_INCREMENTAL:
            rows[event.clock.task] = event.row
    if before is None or not rows:
        return
    task = max(rows)
    pairs = [(a, b) for a, b in zip(before[task + 1 :], rows[task][task + 1 :], strict=False)]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    lost = float(np.mean([a - b for a, b in known])) if known else 0.0
    if lost >= FALL:
        yield Alert(
            "zero-shot collapses",
            task,
            f"Tasks not learned yet fell by {lost:.0f} points on average since before training.",
            lost,
            FALL,
            "zero-shot-lost",
            "Average the adapted weights with the pre-trained ones (WiSE-FT): recovers much zero-shot ability for "
            "little of what was learned.",
        )


def _prompts(events: Events) -> Iterator[Alert]:
    compared = _newest(events(AttentionCompared))
    masses = [float(np.max(e.prompt_mass)) for e in compared if len(e.prompt_mass)]
    if masses and 0 < max(masses) < MASS:
        yield Alert(
            "prompts unused",
            compared[-1].clock.task,
            f"No layer pays more than {_percent(max(masses))} of its attention to prompts.",
            max(masses),
            MASS,
            "prompt-mass",
            "Prompts can change little here: raise their learning rate or number, or adapt weights instead.",
        )


def entries_in_use(counts: np.ndarray) -> float:
    """exp(H(p)), p the mean of counts [C, E] over classes, normalised: E if all entries are used alike, 1 if one."""
    used = np.nanmean(np.asarray(counts, dtype=float), axis=0)
    p = used[used > 0] / used.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def _pool(events: Events) -> Iterator[Alert]:
    found = []
    for event in _newest(events(SelectionMeasured)):
        entries = np.shape(event.counts)[-1]
        if not event.of and entries >= 5 and np.nansum(event.counts) > 0:
            found.append((entries_in_use(event.counts), entries, event))
    if not found:
        return
    used, entries, event = min(found, key=lambda item: item[0] / item[1])
    if used < USED * entries:
        yield Alert(
            "pool collapsed",
            event.clock.task,
            f"Of {entries} entries about {used:.1f} are in use.",
            used / entries,
            USED,
            "pool-use",
            "All images select the same few prompts: initialise keys apart, reduce the key loss, or use a smaller "
            "pool.",
        )


def _loss(events: Events) -> Iterator[Alert]:
    steps = events(StepEnded)
    if not steps:
        return
    task = steps[-1].clock.task
    first_step = bisect.bisect_left(steps, task, key=lambda event: event.clock.task)
    if len(steps) - first_step < 2 * WINDOW:
        return

    def middle(part: Sequence[StepEnded], value: Callable[[StepEnded], float]) -> float:
        return float(np.median([value(event) for event in part]))

    size = lambda event: sum(event.proposed_norm.values())
    loss = lambda event: event.losses.get("total") or 0.0
    late, early = steps[-WINDOW:], steps[first_step : first_step + WINDOW]
    first, last = middle(early, size), middle(late, size)
    if first > 0 and last >= GROWTH * first and middle(late, loss) > middle(early, loss):
        yield Alert(
            "loss may not stay finite",
            task,
            f"Steps of T{task + 1} have grown {last / first:.0f} times, and its loss rises.",
            last / first,
            GROWTH,
            "losses",
            "Lower the learning rate now (Change settings while training), before the loss is not finite.",
        )
