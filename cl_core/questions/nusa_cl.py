"""What NuSA-CL (arXiv:2510.21175) claims and leaves open, asked of the embedded CLIP. No torch.

Leaks, ranks and drifts are those of `WeightSpectrumMeasured`, one event an attention projection ("map") and task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cl_core.events import WeightSpectrumMeasured
from cl_core.presets import PRESETS
from cl_core.questions import seeds
from cl_core.questions.long_streams import (
    COSTLY,
    cost,
    cost_numbers,
    neighbour_numbers,
    saturation,
    saturation_numbers,
    similar,
)
from cl_core.questions.question import Question
from cl_core.questions.reporting import (
    CLEAR,
    ONE_SEED,
    Runs,
    compared,
    concluded,
    domain_results_of,
    events,
    in_each,
    known,
    less,
    mean,
    number,
    percent,
    points,
    scores,
    sources,
    span,
    summaries,
    told_of,
    untrained_transfer,
)
from cl_core.store import RunFolder
from cl_core.summary import summarise

PRESET = "nusa-cl-micro"
NEGLIGIBLE = 0.01  # of chance: a leak below it is rounding of float32 weights, not a change
RHOS = (0.80, 0.90, 0.95, 0.99, 0.999)
WIDEST = 192  # directions of the widest map: with r_max there, the rank limit never binds
LONG = {"preset": PRESET, "stream": "micro-mtil-long"}
FREE_RATE = PRESETS["lora-sequential-micro"].config["settings"]["rate"]


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


def leak_numbers(folder: RunFolder) -> dict[str, float | None]:
    found = leaks_of(folder)
    over = None if found.worst is None or not found.chance else 100 * found.worst / found.chance
    return {"largest leak, % of chance": over, "median leak": found.median, "chance": found.chance}


def results_and_leak(folder: RunFolder) -> dict[str, float | None]:
    return {**domain_results_of(folder), "median leak": leaks_of(folder).median}


def leak_cells(leaks: Leaks) -> str:
    return f"leaks of {leaks.maps} maps after each of {span(leaks.tasks)}"


# ---------------------------------------------------------------- orthogonality


def orthogonality(runs: Runs) -> str:
    found = in_each(runs, leaks_of)
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
    each = told_of(found, Leaks.told)
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
        measured, summary = events(folder, WeightSpectrumMeasured), summarise(folder, by_own_head=True)
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


def rho_numbers(folder: RunFolder) -> dict[str, float | None]:
    summary = summarise(folder, by_own_head=True)
    matrix = summary.accuracy_matrix
    return {
        "directions written": mean(e.written for e in events(folder, WeightSpectrumMeasured)),
        "learning, %": summary.learning_accuracy,
        "loss on T1, pp": less(matrix[0][0], matrix[-1][0]) if matrix else None,
        "Transfer, %": summary.transfer,
    }


# ---------------------------------------------------------------- persistence and directions


def persistence(runs: Runs) -> str:
    found, leaks = summaries(runs), in_each(runs, leaks_of)
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
    return concluded(verdict, each, runs, _cells(found, leaks))


def directions(runs: Runs) -> str:
    found, leaks = summaries(runs), in_each(runs, leaks_of)
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
    return concluded(verdict, each, runs, _cells(found, leaks))


def _cells(found: Mapping, leaks: Mapping[str, Leaks]) -> str:
    """Which cells scores and leaks come from."""
    before = untrained_transfer(next(iter(found.values())))
    return (
        "Transfer: cells above the diagonal, column means first"
        + (f" (untrained model: {percent(before)})" if before is not None else "")
        + f"; Last: the last row; {leak_cells(next(iter(leaks.values())))}"
    )


UNWATCHED = ("attention",)
ENDS = ("rho 0.999", "rho 0.80")

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
        unwatched=UNWATCHED,
        numbers=leak_numbers,
        criteria=(
            seeds.stays_below(
                "no change has more in the principal space than rounding leaves",
                "largest leak, % of chance",
                "nusa_cl",
                100 * NEGLIGIBLE,
            ),
        ),
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
        unwatched=UNWATCHED,
        numbers=rho_numbers,
        criteria=(
            seeds.less("fewer directions are written", "directions written", *ENDS, unit="directions"),
            seeds.less("less is learned", "learning, %", *ENDS),
            seeds.less("less of T1 is lost", "loss on T1, pp", *ENDS),
        ),
    ),
    Question(
        "nusa-persistence",
        "Must every step stay in the null space, or is starting there enough?",
        "Other low-rank methods only start in the directions that a weight uses least and then move freely. NuSA-CL "
        "holds every step there; the paper says that this is what counts. Free branches train at plain LoRA's rate: at "
        "that of the small matrix between fixed directions they fly apart.",
        (
            ("every step", {"preset": PRESET}),
            ("initial only", {"preset": PRESET, "settings": {"persistence": "initial only", "rate": FREE_RATE}}),
        ),
        persistence,
        unwatched=UNWATCHED,
        numbers=results_and_leak,
        criteria=(
            seeds.more("raises Transfer", "Transfer, %", "every step", "initial only"),
            seeds.more("raises Last", "Last, %", "every step", "initial only"),
        ),
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
        unwatched=UNWATCHED,
        numbers=results_and_leak,
        criteria=tuple(
            seeds.more(f"higher {name} than {other}", f"{name}, %", "last", other)
            for other in ("after the cut", "random")
            for name in ("Transfer", "Last")
        ),
    ),
    Question(
        "nusa-saturation",
        "Does the room to write run out over a long stream?",
        "Every merge raises the smallest singular values, and the cut is found anew: null directions may become "
        "principal until nothing can be written. Twelve tasks, six domains cut in halves, show the course.",
        (("twelve tasks", {**LONG, "stream_settings": {"tasks": 12}}),),
        saturation,
        unwatched=UNWATCHED,
        numbers=saturation_numbers,
        criteria=(
            seeds.reaches(
                "some map has fewer than r_max directions left at the end", "short of room, maps", "twelve tasks", 1.0
            ),
        ),
    ),
    Question(
        "nusa-cost",
        "Is the decomposition of every weight costly?",
        "NuSA-CL needs one singular value decomposition a weight and task, whose time grows with the cube of the "
        "width. It is timed at the widths of the embedded model; larger ones can only be extrapolated.",
        (("nusa_cl", {"preset": PRESET}),),
        cost,
        unwatched=UNWATCHED,
        numbers=cost_numbers,
        criteria=(
            seeds.reaches("decompositions take a tenth of the time", "share of time, %", "nusa_cl", 100 * COSTLY),
        ),
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
        unwatched=UNWATCHED,
        numbers=neighbour_numbers,
        criteria=(
            seeds.more(
                "a first half loses more when its other half comes next",
                "loss of first halves, pp",
                "order I",
                "order II",
            ),
        ),
    ),
)
