"""The forgetting ledger: the fall of the accuracy on one task since it was learned, split into parts that add up.

j the task, i the task after which it is evaluated; C accuracy among all classes seen, K with the task known, both of
the method's own heads; R with the task known, of a readout refitted to the current features of task j's training
images; S and Q among all classes seen, of linear discriminant analysis on stored and on recomputed statistics. Then

    C_j − C_i = [(K_i − C_i) − (K_j − C_j)] + [(R_i − K_i) − (R_j − K_j)] + [R_j − R_i]
                 classes compete               head out of date              features lost
    S_j − S_i = [(Q_i − S_i) − (Q_j − S_j)] + [Q_j − Q_i]
                 statistics out of date        features lost

This is an identity without remainder; a part may be negative (an improvement). If the task is known at test time, C is
K and classes of other tasks do not compete. Values not measured are None, and so are parts that need them. Points and
percent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from cl_core.events import AccuracyMeasured, ImagesClassified, OldTasksMeasured, RefitMeasured
from cl_core.readouts import CLASS_INCREMENTAL, RECOMPUTED, REFITTED, STORED, TASK_INCREMENTAL
from cl_core.summary import own_head

COMPETE, OUTDATED, LOST = "classes compete", "head out of date", "features lost"
STALE = "statistics out of date"
SYMBOLS = {"C": CLASS_INCREMENTAL, "K": TASK_INCREMENTAL, "R": REFITTED, "S": STORED, "Q": RECOMPUTED}
FORMULAS = {
    COMPETE: "(K_i − C_i) − (K_j − C_j)",
    OUTDATED: "(R_i − K_i) − (R_j − K_j)",
    LOST: "R_j − R_i",
    STALE: "(Q_i − S_i) − (Q_j − S_j)",
}
MATTERS = 1.0  # points below which a fall needs no explanation

Rows = Mapping[str, Mapping[int, Sequence[float | None]]]  # readout → after which task → percent on each task


def rows_of(measured: Iterable[AccuracyMeasured], refitted: Iterable[RefitMeasured] = ()) -> Rows:
    """All accuracies by readout and task; later events replace earlier ones. After the first task stored and recomputed
    statistics have the same images and features, so they are interchangeable."""
    found: dict[str, dict[int, Sequence[float | None]]] = {}
    for event in measured:
        found.setdefault(event.readout, {})[event.clock.task] = event.row
    for refit in refitted:
        found.setdefault(REFITTED, {})[refit.clock.task] = refit.row
    if RECOMPUTED in found and 0 in found.get(STORED, {}):
        found[RECOMPUTED].setdefault(0, found[STORED][0])
    return found


def with_later(rows: Rows, task: int, after: int, later: Mapping[str, Any] | None) -> Rows:
    """Rows with R and Q of one cell from later measurements (`measured_later.read`: "refit" and "recomputed", each just
    after learning and now), unless the run itself has both."""
    found = dict(rows)
    for readout, key in ((REFITTED, "refit"), (RECOMPUTED, "recomputed")):
        pair = (later or {}).get(key)
        if pair is not None and None in _pair(rows, readout, task, after):
            place = lambda value: [*[None] * task, value]
            found[readout] = {**rows.get(readout, {}), after: place(pair[1]), task: place(pair[0])}
    return found


@dataclass(frozen=True)
class Ledger:
    """One cell. `levels`: symbol → (percent just after learning, percent now); `parts`: name → points, in order."""

    task: int
    after: int
    readout: str  # the fallen task
    levels: Mapping[str, tuple[float | None, float | None]]
    parts: Mapping[str, float | None]

    @property
    def then(self) -> float | None:
        return next(iter(self.levels.values()))[0]

    @property
    def now(self) -> float | None:
        return next(iter(self.levels.values()))[1]

    @property
    def drop(self) -> float | None:
        """Points lost since the task was learned; negative: improved."""
        return None if self.then is None or self.now is None else self.then - self.now

    @property
    def unsplit(self) -> float | None:
        """Points of the fall in parts that were not measured; None where all of them were."""
        if self.drop is None or None not in self.parts.values():
            return None
        return self.drop - sum(value for value in self.parts.values() if value is not None)

    @property
    def cause(self) -> str | None:
        """The largest part; None if nothing fell, or if an unmeasured part may be larger."""
        if self.drop is None or self.drop < MATTERS:
            return None
        known = {name: value for name, value in self.parts.items() if value is not None}
        if not known:
            return None
        largest = max(known, key=lambda name: known[name])
        return largest if known[largest] > max(0.0, self.unsplit or 0.0) else None


def ledger(rows: Rows, task: int, after: int) -> Ledger:
    """The fall of the method's own heads on `task`, after `after` (both from 0). Raises ValueError if the task is
    learned later."""
    _check(task, after)
    readout = own_head(rows)
    named = readout == TASK_INCREMENTAL
    levels = {symbol: _pair(rows, SYMBOLS[symbol], task, after) for symbol in ("C", "K", "R")}
    if named:
        levels["C"] = levels["K"]
    c, k, r = levels.values()
    parts = {COMPETE: _widened(k, c), OUTDATED: _widened(r, k), LOST: _fallen(r)}
    return Ledger(task, after, readout, levels, parts)


def statistics_ledger(rows: Rows, task: int, after: int) -> Ledger:
    """The same for the readout by stored class statistics."""
    _check(task, after)
    levels = {symbol: _pair(rows, SYMBOLS[symbol], task, after) for symbol in ("S", "Q")}
    s, q = levels.values()
    return Ledger(task, after, STORED, levels, {STALE: _widened(q, s), LOST: _fallen(q)})


def _check(task: int, after: int) -> None:
    if task > after:
        raise ValueError(f"T{task + 1} is learned later than T{after + 1}: nothing of it can be forgotten yet")


Pair = tuple[float | None, float | None]


def _pair(rows: Rows, readout: str, task: int, after: int) -> Pair:
    def at(i: int) -> float | None:
        row = rows.get(readout, {}).get(i, ())
        value = row[task] if task < len(row) else None
        return None if value is None or not np.isfinite(value) else float(value)

    return at(task), at(after)


def _fallen(level: Pair) -> float | None:
    then, now = level
    return None if then is None or now is None else then - now


def _widened(upper: Pair, lower: Pair) -> float | None:
    """Growth of the distance between `upper` and `lower` since then."""
    above, below = _fallen(upper), _fallen(lower)
    return None if above is None or below is None else below - above


def falls(rows: Rows, task: int, after: int) -> list[tuple[int, float]]:
    """(task during which it happened, points) of every fall of the heads' accuracy between two boundaries."""
    row = rows.get(own_head(rows), {})
    known = [(i, row[i][task]) for i in sorted(row) if task <= i <= after and task < len(row[i])]
    steps = pairwise([(i, value) for i, value in known if value is not None])
    return [(i, before - value) for (_, before), (i, value) in steps]


def worst_cell(rows: Rows, after: int | None = None) -> tuple[int, int] | None:
    """(task, after) of the largest fall after `after`, by default the newest task; None if nothing was measured
    twice."""
    measured = sorted(task for task in rows.get(own_head(rows), {}) if task >= 0)
    if not measured:
        return None
    after = measured[-1] if after is None else after
    falls = {task: drop for task in range(after) if (drop := ledger(rows, task, after).drop) is not None}
    return (max(falls, key=lambda task: falls[task]), after) if falls else None


@dataclass(frozen=True)
class Stretch:
    """Steps between two measurements of old tasks, and the rise of their loss. Steps count from 0 over the run."""

    task: int
    first: int  # the step of the previous measurement
    last: int
    rise: float  # nats


def costly_steps(looked: Sequence[OldTasksMeasured], task: int, after: int, most: int = 3) -> list[Stretch]:
    """The intervals within tasks `task` + 1 … `after` in which the loss on old tasks rose most, largest first."""
    columns = (np.array([value(event) for event in looked]) for value in (task_of, step_of, loss_of))
    return costliest(*columns, task=task, after=after, most=most)


def task_of(event: OldTasksMeasured) -> float:
    return event.clock.task


def step_of(event: OldTasksMeasured) -> float:
    return event.clock.step


def loss_of(event: OldTasksMeasured) -> float:
    return math.nan if event.loss is None else event.loss


def costliest(
    tasks: np.ndarray, steps: np.ndarray, losses: np.ndarray, *, task: int, after: int, most: int = 3
) -> list[Stretch]:
    """Like `costly_steps`, for measurements given as columns of tasks, steps and losses [n] (NaN: missing)."""
    rises = np.diff(losses)
    here = (tasks[1:] == tasks[:-1]) & (tasks[1:] > task) & (tasks[1:] <= after)
    found = np.flatnonzero(here & (rises > 0))
    worst = found[np.argsort(-rises[found], kind="stable")[:most]]
    return [Stretch(int(tasks[k + 1]), int(steps[k]), int(steps[k + 1]), float(rises[k])) for k in worst]


# ---------------------------------------------------------------- the images behind the parts


@dataclass(frozen=True)
class Images:
    """One task's stored test images in one cell. `right`: symbol → ([n] correct just after learning, [n] correct
    now)."""

    right: Mapping[str, tuple[np.ndarray, np.ndarray]]
    predicted: np.ndarray  # [n] classes predicted by the own heads now
    margins: tuple[np.ndarray, np.ndarray]  # [n] of the own heads, then and now

    @property
    def own(self) -> str:
        return next(iter(self.right))

    @property
    def lost(self) -> np.ndarray:
        """[n] correct when just learned, wrong now."""
        then, now = self.right[self.own]
        return then & ~now

    def of_part(self, part: str) -> np.ndarray:
        """[n] an image's share of a part, −2 to 2: 100 × their mean is the part if all test images are stored.
        "Features lost" uses the refitted head. Empty if a required value was not measured."""
        upper, lower = {COMPETE: ("K", "C"), OUTDATED: ("R", "K"), STALE: ("Q", "S")}.get(part, (None, None))
        fallen = {symbol: then.astype(int) - now.astype(int) for symbol, (then, now) in self.right.items()}
        if upper is None:
            return fallen.get("R", np.zeros(0, int))
        if "C" not in fallen and "K" in fallen:
            fallen["C"] = fallen["K"]
        if upper not in fallen or lower not in fallen:
            return np.zeros(0, int)
        return fallen[lower] - fallen[upper]

    def why(self, image: int) -> str | None:
        """The part that explains the loss of an image: the innermost readout that has lost it too. None if it was not
        lost or that was not measured."""
        if not self.lost[image]:
            return None
        held = lambda symbol: self.right[symbol][1][image] if symbol in self.right else None
        if self.own == "C" and held("K"):
            return COMPETE
        refitted = held("R")
        return None if refitted is None else OUTDATED if refitted else LOST


def answers_of(classified: Iterable[ImagesClassified], task: int) -> dict[int, ImagesClassified]:
    """After which task → the answers for the images of `task`, oldest first."""
    return dict(sorted({e.clock.task: e for e in classified if e.evaluated == task}.items()))


def images(
    answers: Mapping[int, ImagesClassified],
    labels: np.ndarray,
    task: int,
    after: int,
    later: Mapping[str, Any] | None = None,
) -> Images | None:
    """The images of a cell; None where its answers were not stored.

    Args:
        answers: from `answers_of`. labels: [n] classes of the images. later: from `measured_later.read`, for readouts
            refitted after the run.
    """
    if task not in answers or after not in answers:
        return None
    events = answers[task], answers[after]
    labels, right = np.asarray(labels), {}
    said_later = (later or {}).get("answers") or {}
    for symbol in ("C", "K", "R", "S", "Q"):
        name = SYMBOLS[symbol]
        if all(name in event.readouts for event in events):
            told = [np.asarray(event.predicted)[event.readouts.index(name)] for event in events]
        else:
            told = [np.asarray(said) for said in said_later.get(name, ())]
        if len(told) == 2 and all(len(said) == len(labels) for said in told):
            right[symbol] = (told[0] == labels, told[1] == labels)
    if not right or next(iter(right)) not in ("C", "K"):
        return None
    own = SYMBOLS[next(iter(right))]
    places = [event.readouts.index(own) for event in events]
    kept = tuple(
        np.asarray(event.margins)[place].astype(np.float32) for event, place in zip(events, places, strict=True)
    )
    return Images(right, np.asarray(events[1].predicted)[places[1]], kept)  # type: ignore[arg-type]


def flow(answers: Mapping[int, ImagesClassified], labels: np.ndarray, task: int) -> list[tuple[int, dict[str, int]]]:
    """(after which task, images retained, lost, regained and still wrong since the previous boundary), from when the
    task was learned; the first entry has the images learned and not learned."""
    found, before = [], None
    for after, event in answers.items():
        readout = next((name for name in (CLASS_INCREMENTAL, TASK_INCREMENTAL) if name in event.readouts), None)
        if after < task or readout is None:
            continue
        right = np.asarray(event.predicted)[event.readouts.index(readout)] == np.asarray(labels)
        if before is None:
            counts = {"learned": right.sum(), "wrong": (~right).sum()}
        else:
            counts = {
                "kept": (before & right).sum(),
                "lost": (before & ~right).sum(),
                "regained": (~before & right).sum(),
                "wrong": (~before & ~right).sum(),
            }
        found.append((after, {name: int(count) for name, count in counts.items()}))
        before = right
    return found
