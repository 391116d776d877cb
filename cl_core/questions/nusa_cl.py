"""What NuSA-CL (arXiv:2510.21175) claims and leaves open, asked of the embedded CLIP. No torch.

Leaks, ranks and drifts are those of `WeightSpectrumMeasured`, one event an attention projection ("map") and task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cl_core.events import WeightSpectrumMeasured
from cl_core.presets import PRESETS
from cl_core.questions.evidence import (
    CLEAR,
    ONE_SEED,
    compared,
    events,
    known,
    less,
    mean,
    number,
    percent,
    points,
    processor,
    scores,
    seconds_of,
    sources,
    span,
    summaries,
    task_names,
    untrained_transfer,
)
from cl_core.questions.question import Question
from cl_core.store import RunFolder
from cl_core.summary import summarise

PRESET = "nusa-cl-micro"
NEGLIGIBLE = 0.01  # of chance: a leak below it is rounding of float32 weights, not a change
RHOS = (0.80, 0.90, 0.95, 0.99, 0.999)
WIDEST = 192  # directions of the widest map: with r_max there, the rank limit never binds
LARGER = (512, 768, 1024)  # widths of larger CLIPs, to which times are extrapolated
COSTLY = 0.10  # share of a run's time from which the decomposition is called costly
LONG = {"preset": PRESET, "stream": "micro-mtil-long"}

Runs = Mapping[str, RunFolder]


@dataclass(frozen=True)
class Leaks:
    """Shares of a run's weight changes that lie in the principal space, over all maps and tasks."""

    left: np.ndarray
    right: np.ndarray
    chance: float | None  # mean over the same maps and tasks
    maps: int
    tasks: int

    @property
    def worst(self) -> float | None:
        both = np.concatenate([self.left, self.right])
        return float(both.max()) if both.size else None

    @property
    def median(self) -> float | None:
        both = np.concatenate([self.left, self.right])
        return float(np.median(both)) if both.size else None

    @property
    def negligible(self) -> bool:
        return self.worst is not None and self.chance is not None and self.worst < NEGLIGIBLE * self.chance

    def told(self) -> str:
        if not self.left.size:
            return "no change of a weight was measured"
        sides = (
            f"{side} median {number(float(np.median(values)))}, max {number(float(values.max()))}"
            for side, values in (("left", self.left), ("right", self.right))
        )
        return f"{'; '.join(sides)}; chance {number(self.chance)}"


def leaks_of(folder: RunFolder) -> Leaks:
    measured = events(folder, WeightSpectrumMeasured)
    return Leaks(
        known(e.leak_left for e in measured),
        known(e.leak_right for e in measured),
        mean(e.chance for e in measured if e.leak_left is not None),
        len({e.name for e in measured}),
        len({e.clock.task for e in measured}),
    )


def leak_cells(leaks: Leaks) -> str:
    return f"leaks of {leaks.maps} maps after each of {span(leaks.tasks)}"


# ---------------------------------------------------------------- orthogonality


def orthogonality(runs: Runs) -> str:
    found = {label: leaks_of(folder) for label, folder in runs.items()}
    mine = found.get("nusa_cl")
    if mine is None or mine.worst is None:
        verdict = "Not decided: the run nusa_cl has not measured a change of the weights."
    elif mine.negligible:
        verdict = (
            f"Yes. No change that NuSA-CL made has more than {number(mine.worst)} of its norm in the principal space, "
            f"below {100 * NEGLIGIBLE:g} % of the {number(mine.chance)} that a random change would have."
        )
    else:
        verdict = (
            f"No. A change that NuSA-CL made has {number(mine.worst)} of its norm in the principal space; rounding "
            f"would be below {100 * NEGLIGIBLE:g} % of chance, {number(mine.chance)}."
        )
    each = "; ".join(f"{label}: {leaks.told()}" for label, leaks in found.items())
    references = {
        label: leaks.median / leaks.chance
        for label, leaks in found.items()
        if label != "nusa_cl" and leaks.median is not None and leaks.chance
    }
    beside = "".join(
        f" {label} has {share:.2f} times the leak of chance (median)." for label, share in references.items()
    )
    any_leaks = next(iter(found.values()))
    return f"{verdict} Leaks, {each}.{beside} {sources(runs, leak_cells(any_leaks))}"


# ---------------------------------------------------------------- rho


def rho_trade(runs: Runs) -> str:
    limit = PRESETS[PRESET].config["settings"]["r_max"]
    parts, written, learned, lost = [], [], [], []
    maps = 0
    for label, folder in runs.items():
        measured, summary = events(folder, WeightSpectrumMeasured), summarise(folder)
        matrix = summary.accuracy_matrix
        first = [e for e in measured if e.clock.task == 0]
        maps = len(first)
        room = mean(e.written for e in measured)
        loss = less(matrix[0][0], matrix[-1][0]) if matrix else None
        binding = sum(len(e.before) - e.principal > limit for e in first)
        written.append(room)
        learned.append(summary.learning_accuracy)
        lost.append(loss)
        parts.append(
            f"{label}: {number(room)} directions written, learning accuracy {percent(summary.learning_accuracy)}, loss "
            f"on T1 {points(loss)}, Transfer {percent(summary.transfer)}, and r_max = {limit} would have bound in "
            f"{binding} of {maps} maps before T1"
        )
    return (
        f"{_traded(list(runs), written, learned, lost)} {'; '.join(parts)}. Here r_max = {WIDEST}, so that rho alone "
        f"decides how many directions are written (the scale alpha / √r_max is smaller for it than the preset's). "
        f"{sources(runs, 'directions over all maps, T1 and T2; loss on T1 = a(1, 1) − a(2, 1); Transfer = a(1, 2)')} "
        f"{ONE_SEED}"
    )


def _traded(
    labels: Sequence[str],
    written: Sequence[float | None],
    learned: Sequence[float | None],
    lost: Sequence[float | None],
) -> str:
    """The verdict, from the lowest rho to the highest that are there."""
    ends = f"from {labels[0]} to {labels[-1]}"
    room, learning, loss = (less(v[-1], v[0]) for v in (written, learned, lost))
    if len(labels) < 2 or room is None or learning is None or loss is None:
        return "Not decided: it takes two values of rho."
    moved = f"{ends} the written directions change by {number(room)}, learning accuracy by {points(learning)} and the "
    moved += f"loss on T1 by {points(loss)}."
    if room < 0 and learning <= -CLEAR and loss <= -CLEAR:
        return f"Yes, it trades learning for keeping: {moved}"
    if abs(learning) < CLEAR and abs(loss) < CLEAR:
        return f"No, nothing moves by {CLEAR:g} pp: {moved}"
    return f"No, not as a trade of learning for keeping: {moved}"


# ---------------------------------------------------------------- persistence and directions


def persistence(runs: Runs) -> str:
    found, leaks = summaries(runs), {label: leaks_of(folder) for label, folder in runs.items()}
    kept, free = found.get("every step"), found.get("initial only")
    if kept is None or free is None:
        verdict = "Not decided: both runs are needed."
    else:
        transfer, last = less(kept.transfer, free.transfer), less(kept.last, free.last)
        better = [n for n, v in (("Transfer", transfer), ("Last", last)) if v is not None and v >= CLEAR]
        worse = [n for n, v in (("Transfer", transfer), ("Last", last)) if v is not None and v <= -CLEAR]
        moved = f"Transfer {points(transfer)}, Last {points(last)} against starting there and moving freely"
        if better and not worse:
            verdict = f"Yes, staying in the null space at every step helps: {moved}."
        elif better:
            verdict = f"Partly, it helps {better[0]} and costs {worse[0]}: {moved}."
        else:
            verdict = f"No, staying in the null space at every step does not help: {moved}."
    each = "; ".join(f"{label}: {scores(found[label])}, leak {leaks[label].told()}" for label in runs)
    return f"{verdict} {each}. {sources(runs, _cells(found, leaks))} {ONE_SEED}"


def directions(runs: Runs) -> str:
    found, leaks = summaries(runs), {label: leaks_of(folder) for label, folder in runs.items()}
    mine = found.get("last")
    others = {label: summary for label, summary in found.items() if label != "last"}
    if mine is None or not others:
        verdict = "Not decided: the run with the last directions and one control are needed."
    else:
        said = {
            name: {label: compared(getattr(mine, key), getattr(s, key)) for label, s in others.items()}
            for name, key in (("Transfer", "transfer"), ("Last", "last"))
        }
        ahead = [f"{name} against {label}" for name, by in said.items() for label, how in by.items() if how == "higher"]
        behind = [f"{name} against {label}" for name, by in said.items() for label, how in by.items() if how == "lower"]
        if ahead and not behind:
            verdict = f"Yes, the last directions are the better ones where anything differs: {', '.join(ahead)}."
        elif ahead:
            verdict = f"Partly: the last directions are better in {', '.join(ahead)}, worse in {', '.join(behind)}."
        elif behind:
            verdict = f"No, the last directions are nowhere better, and worse in {', '.join(behind)}."
        else:
            verdict = f"No, which directions are written to makes no difference of {CLEAR:g} pp."
    each = "; ".join(
        f"{label}: {scores(s)}, learning accuracy {percent(s.learning_accuracy)}, leak {leaks[label].told()}"
        for label, s in found.items()
    )
    return f"{verdict} {each}. {sources(runs, _cells(found, leaks))} {ONE_SEED}"


def _cells(found: Mapping, leaks: Mapping[str, Leaks]) -> str:
    """Which cells scores and leaks come from."""
    before = untrained_transfer(next(iter(found.values())))
    return (
        "Transfer: cells above the diagonal, column means first"
        + (f" (untrained model: {percent(before)})" if before is not None else "")
        + f"; Last: the last row; {leak_cells(next(iter(leaks.values())))}"
    )


# ---------------------------------------------------------------- saturation


def saturation(runs: Runs) -> str:
    (folder,) = runs.values()
    measured, config, summary = events(folder, WeightSpectrumMeasured), folder.config(), summarise(folder)
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
    names, matrix = task_names(folder), summarise(folder).accuracy_matrix
    found = {}
    for task, name in enumerate(names[:-1]):
        domain, _, half = name.rpartition(" ")
        loss = less(matrix[task][task], matrix[task + 1][task])
        if half == "a" and loss is not None and (names[task + 1] == f"{domain} b") == other_half:
            found[domain] = loss
    return found


QUESTIONS = (
    Question(
        "nusa-orthogonality",
        "Is the change of the weights orthogonal to their principal space?",
        "NuSA-CL promises that a task leaves the directions alone that carry most of a weight's energy. The leak is "
        "the share of a task's weight change that lies there; LoRA and fine-tuning, which promise nothing, show what "
        "happens without a rule.",
        (
            ("nusa_cl", {"preset": PRESET}),
            ("lora_sequential", {"preset": "lora-sequential-micro"}),
            ("finetune", {"preset": "finetune-micro"}),
        ),
        orthogonality,
    ),
    Question(
        "nusa-rho",
        "Does rho trade learning for keeping?",
        "rho divides a weight's directions into principal and null. At the preset's r_max the rank limit often binds "
        f"first and moving rho does nothing; with r_max = {WIDEST} rho alone decides. Two tasks show what it costs and "
        "keeps.",
        tuple(
            (
                f"rho {rho:g}" if rho > 0.99 else f"rho {rho:.2f}",
                {"preset": PRESET, "settings": {"rho": rho, "r_max": WIDEST}, "stream_settings": {"tasks": 2}},
            )
            for rho in RHOS
        ),
        rho_trade,
    ),
    Question(
        "nusa-persistence",
        "Must every step stay in the null space, or is starting there enough?",
        "Other low-rank methods only start in the directions that a weight uses least and then move freely. NuSA-CL "
        "holds every step there; the paper says that this is what counts.",
        (
            ("every step", {"preset": PRESET}),
            ("initial only", {"preset": PRESET, "settings": {"persistence": "initial only"}}),
        ),
        persistence,
    ),
    Question(
        "nusa-directions",
        "Do the very last directions matter, or would others do?",
        "NuSA-CL writes to the smallest singular directions, not to those just below the cut. The same number of "
        "directions just below the cut, and of random ones, are the controls.",
        (
            ("last", {"preset": PRESET}),
            ("after the cut", {"preset": PRESET, "settings": {"directions": "after the cut"}}),
            ("random", {"preset": PRESET, "settings": {"directions": "random"}}),
        ),
        directions,
    ),
    Question(
        "nusa-saturation",
        "Does the room to write run out over a long stream?",
        "Every merge raises the smallest singular values, and the cut is found anew: null directions may become "
        "principal until nothing can be written. Twelve tasks, six domains cut in halves, show the course.",
        (("twelve tasks", {**LONG, "stream_settings": {"tasks": 12}}),),
        saturation,
    ),
    Question(
        "nusa-cost",
        "Is the decomposition of every weight costly?",
        "NuSA-CL needs one singular value decomposition a weight and task, whose time grows with the cube of the "
        "width. It is timed at the widths of the embedded model; larger ones can only be extrapolated.",
        (("nusa_cl", {"preset": PRESET}),),
        cost,
    ),
    Question(
        "nusa-similar",
        "Do similar tasks that follow each other interfere more?",
        "Directions that are free in the weights are not free of earlier tasks' features, and similar tasks share "
        "features. In order I the two halves of a domain follow each other, in order II they lie six tasks apart.",
        (
            ("order I", {**LONG, "stream_settings": {"tasks": 12, "order": "I"}}),
            ("order II", {**LONG, "stream_settings": {"tasks": 12, "order": "II"}}),
        ),
        similar,
    ),
)
