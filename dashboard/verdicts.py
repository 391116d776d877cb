"""Sentences that answer a page's question for a run, computed from its events. No streamlit.

Layers and tasks count from 1 in sentences, from 0 in arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np

from cl_core.analysis.alerts import entries_in_use
from cl_core.events import (
    AttentionCompared,
    ConceptorMeasured,
    ModalityGapMeasured,
    SelectionMeasured,
    SpectrumMeasured,
    SubspaceMeasured,
    UpdateMeasured,
    WeightSpectrumMeasured,
)
from dashboard.figures.event_arrays import compared_later, mean_so_far
from dashboard.theme import number, percent, points, task_name

LEARNED = "How well are the tasks learned, and how much is retained?"
FORGOTTEN = "What was forgotten, and why?"
ROOM = "Is there room left to learn?"
WEIGHTS = "How far did the weights move?"
ATTENTION = "Has the attention on old images changed?"
POOLS = "Do images select the prompts that were learned for them?"
JOINT = "Do images and texts stay where pre-training put them?"
THRESHOLD = "What would another threshold change?"
BEST_RUN = "Which run retains most of what it learns?"
MEASURED = "What was measured in this run?"

LEAST = 3  # seeds required for a verdict, as in Questions
NAMED = 3  # most differing settings named in a sentence
FELL = 0.05  # points that round to 0.1
UNMOVED = 0.005  # total variation that rounds to 0.00


def weight_room_left(measured: Sequence[WeightSpectrumMeasured], task: int | None = None) -> str:
    """Say which weight has the fewest directions outside its principal space after `task`, and how many it lost.

    Args:
        measured: in the order of the events.
        task: None = the newest that was measured.
    """
    from dashboard.figures.weights import words  # imports Plotly

    by_task: dict[int, dict[str, WeightSpectrumMeasured]] = {}
    for event in measured:
        by_task.setdefault(event.clock.task, {})[event.name] = event
    if not by_task:
        return ""
    now = task if task in by_task else max(by_task)

    def free(event: WeightSpectrumMeasured) -> int:
        return len(event.before) - event.principal

    least = min(by_task[now].values(), key=lambda event: free(event) / len(event.before))
    width, first = len(least.before), by_task[min(by_task)].get(least.name)
    said = (
        f"After {task_name(now)} {words(least.name)} has the fewest null directions, {free(least)} of {width} "
        f"({percent(100 * free(least) / width, 0)})"
    )
    if first is None or first is least:
        return said + "."
    lost = free(first) - free(least)
    when = task_name(min(by_task))
    return f"{said}; since {when} it {f'lost {lost}' if lost > 0 else 'gained ' + str(-lost) if lost else 'lost none'}."


def subspace_room_left(measured: Sequence[SubspaceMeasured]) -> str:
    """Say how many directions of the input embeddings are free after the newest task, and how many were at first."""
    known = [event for event in measured if event.budget]
    if not known:
        return ""
    first, last = known[0], known[-1]
    now, before = (e.budget["free pre-trained"] + e.budget["free residual"] for e in (last, first))
    width = sum(last.budget.values())
    said = f"After {task_name(last.clock.task)} {now} of {width} directions are free ({percent(100 * now / width, 0)})"
    when = "before training" if first.clock.task < 0 else f"after {task_name(first.clock.task)}"
    return f"{said}, {when} {before}." if first is not last else said + "."


def capacity_left(measured: Sequence[ConceptorMeasured]) -> str:
    """Say in which layer past tasks occupy most of the input directions after the newest task."""
    if not measured:
        return ""
    now = measured[-1].clock.task
    most = max((event for event in measured if event.clock.task == now), key=lambda event: event.capacity)
    taken = percent(100 * most.capacity)
    return f"After {task_name(now)} layer {most.layer + 1} has the least capacity left: {taken} is used."


def learned_and_kept(matrix: np.ndarray) -> str:
    """Compare the accuracy on the tasks learned so far with that when just learned; name the task that fell most.

    Args:
        matrix: [after, on] accuracies in percent, NaN = not measured.

    Returns:
        "" without a measured row.
    """
    rows = np.flatnonzero(np.isfinite(matrix).any(axis=1)) if matrix.size else np.array([], dtype=int)
    if not rows.size:
        return ""
    now, mean = int(rows[-1]), float(mean_so_far(matrix)[rows[-1]])
    if len(matrix) == 1 < matrix.shape[1]:
        return f"All {matrix.shape[1]} tasks were learned at once; accuracy on them averages {percent(mean)}."
    if now == 0:
        return f"{task_name(0)} has been learned: {percent(mean)} of its test images are correct."
    said = f"After {task_name(now)} accuracy on the {now + 1} tasks learned so far averages {percent(mean)}"
    then, here = np.diagonal(matrix)[:now], matrix[now, :now]
    known = np.isfinite(then) & np.isfinite(here)
    if not known.any():
        return said + "."
    fallen = np.where(known, then - here, -np.inf)
    worst = int(fallen.argmax())
    if fallen[worst] < FELL:
        return f"{said}; none of them is worse than when it had just been learned."
    return f"{said}; {task_name(worst)} fell most, from {percent(float(then[worst]))} to {percent(float(here[worst]))}."


def room_left(measured: Sequence[SpectrumMeasured], task: int | None = None) -> str:
    """Say how many directions are free in the layers of a space after `task`, and how many were used since the first.

    Args:
        measured: spectra of one space, in the order of the events.
        task: None = the newest that was measured.

    Returns:
        "" without events.
    """
    by_task: dict[int, dict[int, SpectrumMeasured]] = {}
    for event in measured:
        by_task.setdefault(event.clock.task, {})[event.layer] = event
    if not by_task:
        return ""
    now = task if task in by_task else max(by_task)
    here, first = by_task[now], by_task[min(by_task)]
    least = min(here, key=lambda layer: here[layer].nullity / len(here[layer].eigenvalues))
    least_event = here[least]
    shares = {round(e.nullity / len(e.eigenvalues), 4) for e in here.values()}
    width = len(least_event.eigenvalues)
    left = f"{least_event.nullity} of {width} directions ({percent(100 * least_event.nullity / width, 0)})"
    if len(shares) == 1:
        where = f"every layer has {left} left" if len(here) > 1 else f"{left} are left"
    else:
        where = f"layer {least + 1} has the fewest left, {left}"
    said = f"After {task_name(now)} {where}"
    if now == min(by_task):
        return said + "."
    taken = {layer: first[layer].nullity - event.nullity for layer, event in here.items() if layer in first}
    if not any(taken.values()):
        return f"{said}: none has been taken since {task_name(min(by_task))}."
    most = max(taken, key=lambda layer: taken[layer])
    if taken[most] <= 0:
        return f"{said}; no layer has fewer than after {task_name(min(by_task))}."
    loser = "it" if most == least and len(shares) > 1 else f"layer {most + 1}"
    return f"{said}; since {task_name(min(by_task))} {loser} lost most, {taken[most]} directions."


def weights_moved(updates: Sequence[UpdateMeasured], task: int | None = None) -> str:
    """Say which layer's weights moved most in `task`, relative to their size, and in which task it moved most.

    Args:
        updates: in the order of the events.
        task: None = the newest.
    """
    if not updates:
        return ""
    tasks = [event.clock.task for event in updates]
    now = task if task in tasks else tasks[-1]
    most = max((event for event in updates if event.clock.task == now), key=lambda event: event.movement)
    ever = max((event for event in updates if event.layer == most.layer), key=lambda event: event.movement)
    said = f"In {task_name(now)} layer {most.layer + 1} moved most, by {percent(100 * most.movement)} of its size"
    if ever.clock.task == now:
        return said + "."
    return f"{said}; in {task_name(ever.clock.task)} it moved {percent(100 * ever.movement)}."


def attention_kept(compared: Sequence[AttentionCompared], task: int | None = None) -> str:
    """Say how far attention on probe images of earlier tasks has moved after `task`, by end-to-end total variation.

    Total variation is half the sum of absolute differences: 0 = the same, 1 = entirely elsewhere.

    Args:
        compared: in the order of the events.
        task: None = the newest that was compared.

    Returns:
        "" where nothing was compared with an earlier moment.
    """
    later = {(e.clock.task, e.probe_task): e for e in compared_later(compared)}
    if not later:
        return ""
    tasks = {clock for clock, _ in later}
    now = task if task in tasks else max(tasks)
    here = {probe: e for (clock, probe), e in later.items() if clock == now}
    moved = {probe: np.asarray(e.total_variation, dtype=float) for probe, e in here.items()}
    mean = float(np.mean([values.mean() for values in moved.values()]))
    if all(values.max() < UNMOVED for values in moved.values()):
        return f"After {task_name(now)} attention on images of earlier tasks is what it was when they were learned."
    probe = max(moved, key=lambda p: moved[p].max())
    layer = int(moved[probe].argmax())
    return (
        f"After {task_name(now)} {percent(100 * mean)} of the attention on images of earlier tasks lies elsewhere than "
        f"when they were learned; most on {task_name(probe)} in layer {layer + 1}, "
        f"{percent(100 * float(moved[probe][layer]))}."
    )


def own_entries_found(now: SelectionMeasured, shares: Mapping[int, float]) -> str:
    """Say how many images select mostly their own entries of a pool, compared with chance, and which task's do least.

    Args:
        now: the selections of one layer after one task.
        shares: task → percent of its images' selections that are own entries; empty or single if entries have no owner.
    """
    used = f"{number(entries_in_use(now.counts))} of {len(now.owners)} entries are in use"
    when = f"After {task_name(now.clock.task)}"
    if now.accuracy is None:
        return f"{when} {used}; they belong to no task, so no selection is right or wrong."
    chance = 100 / max(len({owner for owner in now.owners if owner >= 0}), 1)
    said = f"{when} {percent(now.accuracy)} of the images select mostly their own entries (chance {percent(chance)})"
    if len(shares) > 1:
        worst = min(shares, key=lambda task: shares[task])
        said += f", those of {task_name(worst)} least"
    return f"{said}; {used}."


def threshold_moved(now: Mapping[str, float], before: Mapping[str, float] | None, *, task: int, at: str) -> str:
    """Say what a threshold leaves free and lets through, compared with the run's own.

    Args:
        now: `nullity` and `interference` at the chosen threshold, in percent, NaN = not stored.
        before: the same for the run's own threshold, named if it differs; None = the run used none.
        task: the task after which the spectrum was taken.
        at: the threshold in words.
    """
    free, felt = now["nullity"], now["interference"]
    said = f"After {task_name(task)} {at} leaves {percent(free)} of the directions free"
    if before is not None and abs(free - before["nullity"]) >= 0.05:
        said += f" (the run: {percent(before['nullity'])})"
    if not np.isfinite(felt):
        return said + "."
    said += f"; {percent(felt)} of the next update's effect on what old tasks use would pass"
    if before is not None and abs(felt - before["interference"]) >= 0.05:
        said += f" (the run: {percent(before['interference'])})"
    return said + "."


def remembered(here: Mapping[str, Any], top: Mapping[str, Any] | None, at: str) -> str:
    """Say what a Playground network learned and retained, compared with the best known one for its settings.

    Args:
        here: its point of a frontier (`cl_core.playground.frontier.point`).
        top: the best point of the frontier; None = not drawn.
        at: its strength in words.
    """
    if not here["after"]:
        return ""
    now = here["after"][-1]
    said = (
        f"{at}: learned to {percent(now['learning'])}, forgotten {now['forgetting']:.1f} points, "
        f"{percent(now['final'])} in the end"
    ).replace(" -", " −")
    if top is None:
        return said + "."
    best_known = top["after"][-1]["final"]
    return f"{said}; the best known threshold is {top['text']}, with {percent(best_known)}."


def tried_and_measured(
    rows: Sequence[tuple[str, float, float, float]],
    by_readout: Mapping[str, tuple[Mapping[str, float | None], Mapping[str, float | None]]],
) -> str:
    """Say whether a tried threshold had the predicted effect, and its effect on forgetting.

    Args:
        rows: (quantity, before, predicted, measured) in percent, NaN = unknown; the interference, if present.
        by_readout: readout → measures before and after, the readout of the protected features first.

    Returns:
        "" while nothing has been measured.
    """
    said = []
    for name, before, predicted, came in rows:
        if name.startswith("Interference") and np.isfinite(came):
            said.append(f"{name}: predicted {percent(predicted)}, measured {percent(came)}, before {percent(before)}")
            break
    for readout, (then, now) in by_readout.items():
        first, last = then.get("forgetting"), now.get("forgetting")
        if first is not None and last is not None:
            said.append(f"forgetting by {readout} went from {first:.1f} to {last:.1f} points".replace("-", "−"))
            break
    return (said[0][:1].upper() + "; ".join(said)[1:] + ".") if said else ""


@dataclass(frozen=True)
class Contender:
    """One of the compared settings: its name, and its measures by seed (None = unknown seed)."""

    name: str
    final: Mapping[int | None, float]  # final average accuracy, percent
    forgetting: Mapping[int | None, float]  # percentage points


def runs_compared(runs: Sequence[Contender], differ: Sequence[str] = ()) -> str:
    """Compare final accuracy and forgetting of settings, with their seeds and the settings that differ.

    A setting is called better only if the difference per seed exceeds its spread, |mean| > sample sd, over at least
    `LEAST` common seeds.

    Args:
        runs: one for each setting.
        differ: settings that differ between them, in words.

    Returns:
        "" for a single run.
    """
    if not runs or (len(runs) == 1 and len(runs[0].final) < 2):
        return ""
    if len(runs) == 1:
        only = runs[0]
        return (
            f"The runs differ only in their seed: they end at {_over(only.final)} % and forget "
            f"{_over(only.forgetting)} points over seeds {_seeds([only])}."
        )
    high = sorted(runs, key=lambda run: -fmean(run.final.values()))
    low = sorted(runs, key=lambda run: fmean(run.forgetting.values()))
    leads, keeps = _beyond(high[0].final, high[1].final), _beyond(low[0].forgetting, low[1].forgetting)
    most = "highest" if len(runs) > 2 else "higher"
    against = f"{_over(high[1].final)} % of {high[1].name}"
    ends = f"{high[0].name} ends {most}, at {_over(high[0].final)} % against {against}"
    least = f"{low[0].name} forgets {'least' if len(runs) > 2 else 'less'}, {_over(low[0].forgetting)} points against "
    least += _over(low[1].forgetting) + (f" of {low[1].name}" if len(runs) > 2 else "")
    if not leads and len(runs) == 2:
        ends = f"{high[0].name} ends at {_over(high[0].final)} %, {high[1].name} at {_over(high[1].final)} %"
    elif not leads:
        lowest, top = high[-1], high[0]
        ends = f"{len(runs)} settings end between {_over(lowest.final)} % ({lowest.name}) and {_over(top.final)} % "
        ends += f"({top.name})"
    if not keeps and len(runs) == 2:
        least = f"they forget {_over(high[0].forgetting)} and {_over(high[1].forgetting)} points"
    elif not keeps:
        least = f"they forget between {_over(low[0].forgetting)} points ({low[0].name}) and "
        least += f"{_over(low[-1].forgetting)} ({low[-1].name})"
    said = f"{ends}; {least}."
    if not (leads and keeps):
        open_ = "" if not (leads or keeps) else " in forgetting" if leads else " in final accuracy"
        said += f" {_why_undecided(runs)}: which is better{open_} is undecided."
    else:
        said += f" Seeds {_seeds(runs)}."
    if differ:
        shown, rest = list(differ[:NAMED]), len(differ) - NAMED
        said += f" They differ in {', '.join(shown)}" + (f" and {rest} more (table below)." if rest > 0 else ".")
    return said


def _beyond(first: Mapping[int | None, float], second: Mapping[int | None, float]) -> bool:
    """Return whether the difference over common seeds exceeds its spread."""
    gaps = [value - second[seed] for seed, value in first.items() if seed is not None and seed in second]
    return len(gaps) >= LEAST and abs(fmean(gaps)) > stdev(gaps)


def _why_undecided(runs: Sequence[Contender]) -> str:
    most, common = max(len(run.final) for run in runs), set.intersection(*(set(run.final) for run in runs)) - {None}
    if most == 1:
        seeds = _seeds(runs)
        return f"One seed each ({seeds})" if seeds else "One run each"
    if len(common) < LEAST:
        return f"{len(common)} of the {LEAST} seeds that it takes are common to all (seeds {_seeds(runs) or 'unknown'})"
    return f"Within the spread over seeds {_seeds(runs)}"


def _seeds(runs: Sequence[Contender]) -> str:
    return ", ".join(map(str, sorted({seed for run in runs for seed in run.final if seed is not None})))


def _over(values: Mapping[int | None, float]) -> str:
    """62.4, or 62.4 ± 7.4 over several seeds."""
    known = list(values.values())
    return _signed(fmean(known)) + (f" ± {stdev(known):.1f}" if len(known) > 1 else "")


def _signed(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")


def joint_space_kept(measured: Sequence[ModalityGapMeasured], task: int | None = None) -> str:
    """Compare gap, retrieval and general accuracy after `task` with those before training.

    Args:
        measured: in the order of the events; the first is before training.
        task: None = the newest that was measured.

    Returns:
        "" before a task was learned.
    """
    if not measured:
        return ""
    first = measured[0]
    now = next((e for e in reversed(measured) if task is None or e.clock.task == task), measured[-1])
    if now is first:
        return ""

    def recall(event: ModalityGapMeasured) -> float:
        return (event.image_to_text.get("1", np.nan) + event.text_to_image.get("1", np.nan)) / 2

    return (
        f"After {task_name(now.clock.task)} the gap is {number(now.length)}, before training {number(first.length)}; "
        f"R@1 changed by {points(recall(now) - recall(first))}, general accuracy by "
        f"{points(now.general_accuracy - first.general_accuracy)}."
    )
