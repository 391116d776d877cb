"""What GNSP (arXiv:2507.19839) claims and leaves open, asked of the embedded CLIP. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cl_core.events import ModalityGapMeasured, SpectrumMeasured, UpdateMeasured
from cl_core.questions import seeds
from cl_core.questions.question import Question
from cl_core.questions.reporting import (
    CLEAR,
    ONE_SEED,
    Runs,
    compared,
    domain_results_of,
    events,
    in_each,
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

PRESET = "gnsp-micro"
RHOS = (0.01, 0.05, 0.15, 0.4, 0.8)
PUBLISHED = "rho 0.15"
STEADY = 0.10  # relative change of the gap's length up to which it is called kept
AIMED = 0.95  # least cosine with the gap before training
RETRIEVED = 5.0  # percentage points of R@1 that may be lost


# ---------------------------------------------------------------- the gap


@dataclass(frozen=True)
class JointSpace:
    """The joint space at the end of a run, against before its training."""

    before: ModalityGapMeasured
    after: ModalityGapMeasured

    @property
    def stretched(self) -> float:
        """Relative change of the gap's length."""
        return self.after.length / self.before.length - 1

    @property
    def lost(self) -> float:
        """R@1 lost, percentage points, mean of both ways."""
        return _recall(self.before) - _recall(self.after)

    @property
    def gap_kept(self) -> bool:
        return abs(self.stretched) <= STEADY and self.after.direction >= AIMED

    @property
    def retrieval_kept(self) -> bool:
        return self.lost <= RETRIEVED

    def told(self) -> str:
        return (
            f"gap length {number(self.before.length)} → {number(self.after.length)}, its direction's cosine "
            f"{number(self.after.direction)}, R@1 {percent(_recall(self.before))} → {percent(_recall(self.after))}, "
            f"general accuracy {percent(self.before.general_accuracy)} → {percent(self.after.general_accuracy)}"
        )


def _recall(event: ModalityGapMeasured) -> float:
    """R@1, mean of both ways."""
    return (event.image_to_text["1"] + event.text_to_image["1"]) / 2


def joint_space(folder: RunFolder) -> JointSpace | None:
    """None where the joint space was not measured before training and after a task."""
    measured = events(folder, ModalityGapMeasured)
    before = [e for e in measured if e.clock.task < 0]
    after = [e for e in measured if e.clock.task >= 0]
    return JointSpace(before[0], after[-1]) if before and after else None


def space_numbers(folder: RunFolder) -> dict[str, float | None]:
    found = joint_space(folder)
    if found is None:
        return {}
    return {
        "change of the gap, %": 100 * found.stretched,
        "cosine of its direction": found.after.direction,
        "R@1 lost, pp": found.lost,
        "general accuracy lost, pp": less(found.before.general_accuracy, found.after.general_accuracy),
    }


def _stretched(numbers: seeds.Numbers) -> float | None:
    change = numbers["gnsp"]["change of the gap, %"]
    return None if change is None else abs(change)


def gap_kept(runs: Runs) -> str:
    found = {label: space for label, folder in runs.items() if (space := joint_space(folder)) is not None}
    mine = found.get("gnsp")
    if mine is None:
        verdict = "Not decided: the run gnsp has not measured the joint space before training and after a task."
    else:
        parts = [
            "the gap " + ("is kept" if mine.gap_kept else "is not kept"),
            "retrieval " + ("is kept" if mine.retrieval_kept else f"is not kept ({points(-mine.lost)} R@1)"),
        ]
        word = {2: "Yes", 1: "Partly", 0: "No"}[mine.gap_kept + mine.retrieval_kept]
        verdict = f"{word}: {', '.join(parts)}."
    each = told_of(found, JointSpace.told)
    bare, plain = found.get("without the two losses"), found.get("finetune")
    owed = ""
    if mine is not None and bare is not None:
        owed += f" The two losses on reference pairs are worth {points(bare.lost - mine.lost)} of R@1"
        owed += f", and what is left of GNSP {points(plain.lost - bare.lost)} against fine-tuning." if plain else "."
    tasks = max((space.after.clock.task + 1 for space in found.values()), default=1)
    pairs = next((space.after.pairs for space in found.values()), 0)
    return (
        f"{verdict} Kept means here: length within {100 * STEADY:g} %, cosine at least {AIMED:g}, at most "
        f"{RETRIEVED:g} pp of R@1 lost (mean of both ways).{owed}" + (f" {each}." if each else "") + " "
        + sources(runs, f"{pairs} held-out pairs, before training and after T{tasks}")
        + f" {ONE_SEED}"
    )  # fmt: skip


# ---------------------------------------------------------------- rho


@dataclass(frozen=True)
class Cut:
    """What the cut left free in a run, and how far its updates left it; means over layers, spaces and tasks."""

    free: float | None  # share of directions
    leak: float | None
    chance: float | None  # sqrt(k / n) of the same layers
    tasks: int


def cut_of(folder: RunFolder) -> Cut:
    spectra = events(folder, SpectrumMeasured)
    shares = {(e.clock.task, e.layer, e.space): e.nullity / len(e.eigenvalues) for e in spectra}
    tasks = len({e.clock.task for e in spectra})
    leaks, chances = [], []
    for event in events(folder, UpdateMeasured):
        for space, leak in event.leak.items():
            held_to = shares.get((event.clock.task - 1, event.layer, space))  # what the task before left free
            if leak is not None and held_to is not None:
                leaks.append(leak)
                chances.append((1 - held_to) ** 0.5)
    # The last task's cut binds nothing any more.
    obeyed = [share for (task, _, _), share in shares.items() if task < tasks - 1] or list(shares.values())
    return Cut(mean(obeyed), mean(leaks), mean(chances), tasks)


def cut_numbers(folder: RunFolder) -> dict[str, float | None]:
    cut = cut_of(folder)
    return {
        "free, %": None if cut.free is None else 100 * cut.free,
        "leak, times chance": cut.leak / cut.chance if cut.leak is not None and cut.chance else None,
        **domain_results_of(folder),
    }


def rho_and_projection(runs: Runs) -> str:
    found, cuts = summaries(runs), in_each(runs, cut_of)
    each = "; ".join(
        f"{label}: {number(None if cut.free is None else 100 * cut.free)} % of directions free, leak "
        f"{number(cut.leak)} (chance {number(cut.chance)}), {scores(found[label])}"
        for label, cut in cuts.items()
    )
    summary = next(iter(found.values()))
    before, tasks = untrained_transfer(summary), len(summary.accuracy_matrix)
    cells = (
        f"free directions and leaks over layers and tasks from T2 on, of {span(tasks)}; Transfer: cells above the "
        "diagonal" + (f" (untrained model: {percent(before)})" if before is not None else "") + "; Last: the last row"
    )
    return (
        f"{_rho_verdict(runs, found)} {_leak_verdict(cuts)} {_direction_verdict(found)} {each}. "
        f"{sources(runs, cells)} {ONE_SEED}"
    )


def _rho_verdict(runs: Runs, found: Mapping) -> str:
    """Does the cut decide anything?"""
    swept = [label for label in runs if label.startswith("rho ")]
    ranges = {}
    for name, key in (("Last", "last"), ("Transfer", "transfer"), ("forgetting", "forgetting")):
        values = {label: getattr(found[label], key) for label in swept if getattr(found[label], key) is not None}
        if len(values) > 1:
            high, low = max(values, key=lambda label: values[label]), min(values, key=lambda label: values[label])
            ranges[name] = (values[high] - values[low], high, low)
    if not ranges:
        return "Not decided whether the cut matters: it takes two values of rho."
    said = ", ".join(
        f"{name} by {r:.1f} pp (lowest at {low}, highest at {high})" for name, (r, high, low) in ranges.items()
    )
    if max(r for r, _, _ in ranges.values()) < CLEAR:
        return (
            f"No, the cut decides nothing from {swept[0]} to {swept[-1]}: no measure differs by {CLEAR:g} pp ({said})."
        )
    return f"Yes, the cut matters: from {swept[0]} to {swept[-1]} the results differ, {said}."


def _leak_verdict(cuts: Mapping[str, Cut]) -> str:
    """Does a projected gradient keep the update in the free directions?"""
    published = cuts.get(PUBLISHED)
    if published is None or published.leak is None or published.chance is None:
        return "Not decided whether the updates stay in the free directions."
    share = published.leak / published.chance if published.chance else None
    stays = share is not None and share < 0.01
    text = (
        f"Updates {'stay' if stays else 'do not stay'} in the free directions when the gradient is projected: leak "
        f"{number(published.leak)}, {number(share)} times chance"
    )
    step = cuts.get("update")
    return text + (f"; when the step is projected: {number(step.leak)}." if step is not None else ".")


def _direction_verdict(found: Mapping) -> str:
    """Is it the direction that helps, or only a shorter step?"""
    published, controls = found.get(PUBLISHED), [label for label in ("shrink", "none") if label in found]
    if published is None or not controls:
        return "Not decided whether the direction helps."
    said = []
    for label in controls:
        last = less(published.last, found[label].last)
        transfer = less(published.transfer, found[label].transfer)
        how = compared(published.last, found[label].last)
        said.append(f"against {label} Last is {how} ({points(last)}) and Transfer {points(transfer)}")
    helps = all(compared(published.last, found[label].last) == "higher" for label in controls)
    return f"{'Yes' if helps else 'No'}, projecting {'raises' if helps else 'does not raise'} Last: {', '.join(said)}."


UNWATCHED = ("attention",)

QUESTIONS = (
    Question(
        "gnsp-gap",
        "Are the modality gap and retrieval kept?",
        "GNSP claims that the joint space of pictures and texts keeps its shape, and with it what CLIP could do "
        "before. Fine-tuning shows what is lost without protection; GNSP without distillation and alignment shows how "
        "much of it the two losses on reference pairs do, which the projection cannot claim.",
        (
            ("gnsp", {"preset": PRESET}),
            ("finetune", {"preset": "finetune-micro"}),
            ("without the two losses", {"preset": PRESET, "settings": {"distillation": 0.0, "alignment": 0.0}}),
        ),
        gap_kept,
        unwatched=UNWATCHED,
        numbers=space_numbers,
        criteria=(
            seeds.Criterion("the gap keeps its length", _stretched, 100 * STEADY, "%", below=True),
            seeds.reaches("the gap keeps its direction", "cosine of its direction", "gnsp", AIMED),
            seeds.stays_below("retrieval is kept", "R@1 lost, pp", "gnsp", RETRIEVED),
        ),
    ),
    Question(
        "gnsp-rho",
        "How much do the cut and the projection decide?",
        "rho is the share of past features' energy left open to change: a small one protects almost all directions, a "
        "large one almost none. AdamW rescales a projected gradient, so its step may leave the space; projecting the "
        "finished step, only shortening it, or doing nothing are the controls at rho = 0.15.",
        (
            *((f"rho {rho:g}", {"preset": PRESET, "settings": {"rho": rho}}) for rho in RHOS),
            *(
                (project, {"preset": PRESET, "settings": {"rho": 0.15, "project": project}})
                for project in ("update", "shrink", "none")
            ),
        ),
        rho_and_projection,
        unwatched=UNWATCHED,
        numbers=cut_numbers,
        criteria=(
            seeds.differs("Last differs between cuts", "Last, %", [f"rho {rho:g}" for rho in RHOS]),
            seeds.stays_below("updates stay in the free directions", "leak, times chance", PUBLISHED, 0.01),
            seeds.more("projecting ends higher than shrinking as much", "Last, %", PUBLISHED, "shrink"),
            seeds.more("projecting ends higher than not projecting", "Last, %", PUBLISHED, "none"),
            seeds.less("projecting forgets less than not projecting", "forgetting, pp", PUBLISHED, "none"),
        ),
    ),
    Question(
        "gnsp-losses",
        "Which part keeps what: distillation, alignment, or the projection?",
        "GNSP adds two losses on reference pairs to its projection. Each of the three alone, and none of them, in the "
        "same matrices at the same rate.",
        (
            ("all", {"preset": PRESET}),
            ("distillation alone", {"preset": "gnsp-kd-micro"}),
            ("alignment alone", {"preset": "gnsp-map-micro"}),
            ("projection alone", {"preset": PRESET, "settings": {"distillation": 0.0, "alignment": 0.0}}),
            (
                "nothing",
                {"preset": PRESET, "settings": {"project": "none", "distillation": 0.0, "alignment": 0.0}},
            ),
        ),
        unwatched=UNWATCHED,
        numbers=domain_results_of,
        criteria=(
            *(
                seeds.more(f"{part} alone keeps more Transfer than nothing", "Transfer, %", f"{part} alone", "nothing")
                for part in ("distillation", "alignment", "projection")
            ),
            *(
                seeds.less(f"{part} alone forgets less than nothing", "forgetting, pp", f"{part} alone", "nothing")
                for part in ("distillation", "alignment", "projection")
            ),
        ),
    ),
)
