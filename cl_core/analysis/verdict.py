"""Sentences about a cell's ledger, the same on the page and in a terminal. Plain text; tasks count from 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cl_core.analysis.ledger import COMPETE, LOST, MATTERS, OUTDATED, Images, Ledger, Rows, falls, statistics_ledger
from cl_core.analysis.measured_later import path_of
from cl_core.readouts import STORED, TASK_INCREMENTAL

INTACT = 2.0  # points of R within which features count as intact
HOW_TO_REFIT = (
    "during a run it is measured after the last task, or after every one with diagnostics.readout_control=every; later "
    "from checkpoints, together with which layer it was"
)
MEANING = {
    COMPETE: "other tasks' classes score higher; with the task known its images are still separated",
    OUTDATED: "a head refitted to the current features still separates them, the task's own head does not",
    LOST: "not even a head refitted to the current features separates them",
}


def verdict(cell: Ledger, rows: Rows, found: Images | None = None, names: Sequence[str] = ()) -> str:
    """One sentence: size and time of the fall, state of the features, cause, and confusions."""
    task = f"T{cell.task + 1}"
    if cell.then is None or cell.now is None or cell.drop is None:
        missing = f"T{cell.task + 1}" if cell.then is None else f"T{cell.after + 1}"
        return f"Accuracy on {task} was not measured after {missing}."
    if cell.after == cell.task:
        return f"{task} has just been learned: {cell.now:.0f} % of its test images are correct."
    if cell.drop < MATTERS:
        change = "stands where it stood" if cell.drop > -MATTERS else f"rose by {-cell.drop:.0f} points"
        return f"{task} {change}: {cell.then:.0f} % when learned, {cell.now:.0f} % after T{cell.after + 1}."
    said = [f"{task} fell {cell.drop:.0f} of {cell.then:.0f} points{_when(cell, rows)}"]
    if (held := _features(cell, rows)) is not None:
        said.append(held)
    if cell.cause is not None:
        said.append(f"mainly {cell.cause} ({cell.parts[cell.cause]:+.0f} points)".replace("-", "−"))
    elif cell.unsplit is not None:
        said.append(f"head or features: {cell.unsplit:.0f} points, not separated because no head was refitted here")
    if (taken := taken_for(found, names)) is not None:
        said.append(taken)
    return "; ".join(said) + "."


def by_headline(readout: str, rows: Rows, task: int, after: int, then: float, now: float) -> str:
    """The same for the run's default readout, if that is not its heads, in one sentence.

    Args:
        then, now: its accuracy on the task when learned and after `after`, percent.
    """
    name, said = f"T{task + 1}", f"By {readout}, this run's default readout,"
    if after == task:
        return f"{said} {now:.0f} % of {name} are correct."
    if then - now < MATTERS:
        return f"{said} {name} is retained: {now:.0f} % now, {then:.0f} % when learned."
    cell = statistics_ledger(rows, task, after)
    cause = f", mainly {cell.cause}" if readout == STORED and cell.cause is not None else ""
    return f"{said} {name} fell {then - now:.0f} points, from {then:.0f} to {now:.0f} %{cause}."


def why_two(headline: str, heads: str) -> str:
    """Why two readouts of the same features may differ, in one sentence."""
    if headline == STORED:
        return (
            "Why two answers: stored statistics fail only when the features move, the heads also when a head trained "
            "later scores higher on old images."
        )
    if TASK_INCREMENTAL in (headline, heads) and headline != heads:
        return "Why two answers: with the task known only its own classes compete, without it those of all tasks."
    return f"Why two answers: {headline} and the heads read the same features, each in its own way."


def _features(cell: Ledger, rows: Rows) -> str | None:
    """State of the current features, by the refitted head, else by recomputed statistics, among all classes."""
    then, now = cell.levels["R"]
    if then is not None and now is not None:
        state = "features still separable" if then - now < INTACT else "features less separable"
        return f"{state} (refitted head {now:.0f} %, was {then:.0f} %)"
    then, now = statistics_ledger(rows, cell.task, cell.after).levels["Q"]
    if then is None or now is None:
        return None
    seen = f"recomputed statistics {now:.0f} %, was {then:.0f} %"
    return f"features still separable ({seen})" if then - now < INTACT else seen


def _when(cell: Ledger, rows: Rows) -> str:
    """The task during which most was lost, if one dominates."""
    steps = falls(rows, cell.task, cell.after)
    if not steps or cell.drop is None:
        return ""
    worst, fall = max(steps, key=lambda step: step[1])
    if len(steps) == 1 or fall >= 0.9 * cell.drop:
        return f" during T{worst + 1}"
    return f", {fall:.0f} of them during T{worst + 1}" if fall >= 0.5 * cell.drop else f" by T{cell.after + 1}"


def where(found: Mapping[str, Any]) -> str:
    """One sentence about the result of patching (`cl_core.analysis.patching`)."""
    best = _best(found)
    body, head = found["body"], found["head"]
    signed = lambda value: f"{value:+.0f} points".replace("-", "−")
    if max(body, head, best["alone"]) < MATTERS:
        return "Restoring no part of the model recovers accuracy."
    if head >= body:
        return f"The old head alone recovers {signed(head)}, everything but the head {signed(body)}."
    said = f"All but the head recovers {signed(body)}; block {best['layer']} alone {signed(best['alone'])}"
    return said + (": it is this block." if best["alone"] >= 0.8 * body else ": it is spread over several blocks.")


def block_found(found: Mapping[str, Any]) -> int | None:
    """The block, from 1, that `where` names; None where it names none."""
    best = _best(found)
    return None if found["head"] >= found["body"] or best["alone"] < MATTERS else int(best["layer"])


def _best(found: Mapping[str, Any]) -> Mapping[str, Any]:
    return max(found["layers"], key=lambda row: row["alone"])


def taken_for(found: Images | None, names: Sequence[str]) -> str | None:
    """Most frequent confusion: "21 of 46 lost images are taken for nine"."""
    if found is None or not found.lost.any():
        return None
    wrong = Counter(int(k) for k in found.predicted[found.lost])
    k, count = wrong.most_common(1)[0]
    name = names[k] if 0 <= k < len(names) else f"class {k + 1}"
    return f"{count} of {int(found.lost.sum())} lost images are taken for {name}"


def near_means(found: Mapping[str, Any] | None, row: int, names: Sequence[str]) -> list[str]:
    """The stored class means nearest to an image after every task, one line each; empty if it was not followed."""
    mine = path_of(found, row)
    name = lambda k: names[k] if 0 <= k < len(names) else f"class {k + 1}"
    if mine is None:
        return []
    return [
        f"nearest class means after T{after}: " + ", ".join(f"{name(int(k))} {distance:.3g}" for k, distance in near)
        for after, near in zip(mine["after"], mine["nearest"], strict=True)
    ]


def why_image(found: Images, image: int, names: Sequence[str], label: int) -> str:
    """One sentence about one image of a cell."""
    name = lambda k: names[k] if 0 <= k < len(names) else f"class {k + 1}"
    then, now = (right[image] for right in found.right[found.own])
    before, after = (float(np.asarray(margins)[image]) for margins in found.margins)
    kept = f"margin {before:+.1f} then, {after:+.1f} now".replace("-", "−")
    if then and now:
        return f"Still right, a {name(label)} ({kept})."
    if now:
        return f"Wrong when just learned, correct now ({kept})."
    answer = f"taken for {name(int(found.predicted[image]))} ({kept})"
    if not then:
        return f"Wrong when just learned and now {answer}."
    cause = found.why(image)
    reason = f"{cause}: {MEANING[cause]}" if cause else "head or features, not separated: no head was refitted here"
    return f"Lost, {answer}. {reason[0].upper()}{reason[1:]}."
