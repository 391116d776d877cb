"""Whether narrowing the modality gap before a stream, as CLIP-Refine (arXiv:2504.12717) does, changes what the stream
makes a CLIP forget. Ours: the paper asks about zero-shot accuracy, not about forgetting. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cl_core.events import ModalityGapMeasured
from cl_core.questions.question import Question
from cl_core.questions.reporting import (
    CLEAR,
    Runs,
    events,
    in_each,
    known,
    less,
    mean,
    number,
    percent,
    points,
    sources,
)
from cl_core.store import RunFolder
from cl_core.summary import summarise

SEEDS = (0, 1, 2)
NARROWER = 0.10  # share by which the gap must have shrunk before the first task
ARMS = {"refined": {}, "distilled alone": {"alignment": 0.0}, "as pre-trained": {"refine_epochs": 0}}
PLAIN = "as pre-trained"


@dataclass(frozen=True)
class Course:
    """A run: the gap before its first task, and what its stream came to."""

    gap: float | None
    untrained: float | None  # accuracy of all tasks before the first is trained
    forgetting: float | None
    transfer: float | None
    last: float | None


def course_of(folder: RunFolder) -> Course:
    summary = summarise(folder)
    gaps = [event for event in events(folder, ModalityGapMeasured) if event.clock.task < 0]
    gaps = gaps or events(folder, ModalityGapMeasured)[:1]
    return Course(
        gaps[0].length if gaps else None,
        mean(summary.zero_shot) if summary.zero_shot else None,
        summary.forgetting,
        summary.transfer,
        summary.last,
    )


def refined_first(runs: Runs) -> str:
    found = in_each(runs, course_of)
    pairs = {arm: _differences(found, arm) for arm in ARMS if arm != PLAIN}
    mine = pairs["refined"]
    narrower = mean(less(1.0, ratio) for ratio in mine["gap"])
    if len(mine["forgetting"]) < len(SEEDS):
        verdict = f"Not decided: refined and {PLAIN} are needed with {len(SEEDS)} seeds."
    elif narrower is None or narrower < NARROWER:
        verdict = (
            f"Not decided: refining did not narrow the gap by {100 * NARROWER:g} % (it did by "
            f"{percent(None if narrower is None else 100 * narrower)})."
        )
    else:
        word = {1: "Yes, more is forgotten", -1: "Yes, less is forgotten", 0: "Undecided"}[sign(mine["forgetting"])]
        verdict = f"{word}: with the gap narrowed by {100 * narrower:.0f} %, forgetting changes by "
        verdict += f"{_spread(mine['forgetting'])} (mean and standard deviation of {len(SEEDS)} seeds)."
    beside = "; ".join(
        f"{arm} against {PLAIN}: forgetting {_spread(d['forgetting'])}, Transfer {_spread(d['transfer'])}, Last "
        f"{_spread(d['last'])}, before the first task {_spread(d['untrained'])}"
        for arm, d in pairs.items()
        if d["forgetting"]
    )
    gaps = "; ".join(f"{label}: gap {number(c.gap)}, forgetting {points(c.forgetting)}" for label, c in found.items())
    return f"{verdict} {beside or 'No pair of runs yet'}. {gaps}. " + sources(
        runs, "gap of the general pairs before T1, accuracy matrices of all tasks"
    )


def sign(differences: list[float]) -> int:
    """1 or −1 where all seeds agree and the mean is at least a clear point and its own standard deviation; else 0."""
    values = known(differences)
    centre, spread = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else np.inf
    agreed = bool((values > 0).all() or (values < 0).all())
    return int(np.sign(centre)) if agreed and abs(centre) >= max(CLEAR, spread) else 0


def _differences(found: dict[str, Course], arm: str) -> dict[str, list[float]]:
    """Measure → arm − plain by seed, of seeds that have both; the gap as a ratio."""
    differences: dict[str, list[float]] = {name: [] for name in ("gap", "untrained", "forgetting", "transfer", "last")}
    for seed in SEEDS:
        mine, plain = found.get(_label(arm, seed)), found.get(_label(PLAIN, seed))
        if mine is None or plain is None:
            continue
        if mine.gap is not None and plain.gap:
            differences["gap"].append(mine.gap / plain.gap)
        for name in ("untrained", "forgetting", "transfer", "last"):
            difference = less(getattr(mine, name), getattr(plain, name))
            if difference is not None:
                differences[name].append(difference)
    return differences


def _spread(values: list[float]) -> str:
    if not values:
        return "not measured"
    spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return points(mean(values)).removesuffix(" pp") + f"{spread} pp"


def _label(arm: str, seed: int) -> str:
    return f"{arm}, seed {seed}"


QUESTIONS = (
    Question(
        "clip-refine-forgetting",
        "Does narrowing the modality gap before a stream change what is forgotten?",
        "CLIP-Refine pulls images and their captions together before anything else is learned. The same stream is "
        "then fine-tuned with and without it, with three seeds each. Because the preparation also shows the model more "
        "pairs of its own world, a run with the distillation alone, without the pull on the gap, stands beside both. "
        "An answer needs all seeds to agree by more than they differ.",
        tuple(
            (_label(arm, seed), {"preset": "clip-refine-micro", "settings": settings, "seed": seed})
            for arm, settings in ARMS.items()
            for seed in SEEDS
        ),
        refined_first,
        unwatched=("spectra", "attention", "drift", "selection", "weights"),
    ),
)
