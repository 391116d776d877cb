"""Claims and open questions of GNSP (arXiv:2507.19839), tested on the bundled CLIP. No torch."""

from __future__ import annotations

from cl_core.events import ModalityGapMeasured, SpectrumMeasured, UpdateMeasured
from cl_core.questions import seeds
from cl_core.questions.question import Question
from cl_core.questions.reporting import (
    domain_results_of,
    events,
    less,
    mean,
)
from cl_core.store import RunFolder

PRESET = "gnsp-micro"
RHOS = (0.01, 0.05, 0.15, 0.4, 0.8)
PUBLISHED = "rho 0.15"
STEADY = 0.10  # relative change of the gap's length up to which it counts as preserved
AIMED = 0.95  # least cosine with the gap before training
RETRIEVED = 5.0  # percentage points of R@1 that may be lost


def _recall(event: ModalityGapMeasured) -> float:
    """R@1, mean of both directions."""
    return (event.image_to_text["1"] + event.text_to_image["1"]) / 2


def space_numbers(folder: RunFolder) -> dict[str, float | None]:
    """The joint space at the end of a run, relative to before training."""
    measured = events(folder, ModalityGapMeasured)
    start = [e for e in measured if e.clock.task < 0]
    end = [e for e in measured if e.clock.task >= 0]
    if not start or not end:
        return {}
    before, after = start[0], end[-1]
    return {
        "change of the gap, %": 100 * (after.length / before.length - 1),
        "cosine of its direction": after.direction,
        "R@1 lost, pp": _recall(before) - _recall(after),
        "general accuracy lost, pp": less(before.general_accuracy, after.general_accuracy),
    }


def _stretched(numbers: seeds.Numbers) -> float | None:
    change = numbers["gnsp"]["change of the gap, %"]
    return None if change is None else abs(change)


def cut_numbers(folder: RunFolder) -> dict[str, float | None]:
    """Free directions and leak of updates; means over layers, spaces and tasks. Chance is √(k / n) of the same
    layers."""
    spectra = events(folder, SpectrumMeasured)
    shares = {(e.clock.task, e.layer, e.space): e.nullity / len(e.eigenvalues) for e in spectra}
    tasks = len({e.clock.task for e in spectra})
    leaks, chances = [], []
    for event in events(folder, UpdateMeasured):
        for space, leak in event.leak.items():
            held_to = shares.get((event.clock.task - 1, event.layer, space))  # free directions after the previous task
            if leak is not None and held_to is not None:
                leaks.append(leak)
                chances.append((1 - held_to) ** 0.5)
    # The last task's cut constrains nothing.
    obeyed = [share for (task, _, _), share in shares.items() if task < tasks - 1] or list(shares.values())
    free, leak, chance = mean(obeyed), mean(leaks), mean(chances)
    return {
        "free, %": None if free is None else 100 * free,
        "leak, times chance": leak / chance if leak is not None and chance else None,
        **domain_results_of(folder),
    }


UNWATCHED = ("attention",)

QUESTIONS = (
    Question(
        "gnsp-gap",
        "Are the modality gap and retrieval preserved?",
        "GNSP claims to preserve the joint space of images and texts, and with it CLIP's zero-shot "
        "ability. Fine-tuning shows the loss without protection; GNSP without distillation and alignment shows how "
        "much of the effect comes from the two losses on reference pairs instead of the projection.",
        (
            ("gnsp", {"preset": PRESET}),
            ("finetune", {"preset": "finetune-micro"}),
            ("without the two losses", {"preset": PRESET, "settings": {"distillation": 0.0, "alignment": 0.0}}),
        ),
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
        "How much do the cut and the projection matter?",
        "rho is the share of past features' energy left unprotected: a small one protects almost all directions, a "
        "large one almost none. AdamW rescales a projected gradient, so its step may leave the space; projecting the "
        "final step, only shrinking it, and no projection are the controls at rho = 0.15.",
        (
            *((f"rho {rho:g}", {"preset": PRESET, "settings": {"rho": rho}}) for rho in RHOS),
            *(
                (project, {"preset": PRESET, "settings": {"rho": 0.15, "project": project}})
                for project in ("update", "shrink", "none")
            ),
        ),
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
        "What does each part preserve: distillation, alignment, or the projection?",
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
