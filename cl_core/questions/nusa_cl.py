"""Claims and open questions of NuSA-CL (arXiv:2510.21175), tested on the bundled CLIP. No torch.

Leaks, ranks and drifts are those of `WeightSpectrumMeasured`, one event per attention projection ("map") and task.
"""

from __future__ import annotations

import numpy as np

from cl_core.events import WeightSpectrumMeasured
from cl_core.presets import PRESETS
from cl_core.questions import seeds
from cl_core.questions.long_streams import (
    COSTLY,
    cost_numbers,
    neighbour_numbers,
    saturation_numbers,
)
from cl_core.questions.question import Question
from cl_core.questions.reporting import (
    domain_results_of,
    events,
    known,
    less,
    mean,
)
from cl_core.store import RunFolder
from cl_core.summary import summarise

PRESET = "nusa-cl-micro"
NEGLIGIBLE = 0.01  # of chance: a leak below it is rounding of float32 weights, not a change
RHOS = (0.80, 0.90, 0.95, 0.99, 0.999)
WIDEST = 192  # directions of the widest map: with this r_max the rank limit is never active
LONG = {"preset": PRESET, "stream": "micro-mtil-long"}
FREE_RATE = PRESETS["lora-sequential-micro"].config["settings"]["rate"]


def leak_numbers(folder: RunFolder) -> dict[str, float | None]:
    """Shares of a run's weight changes that lie in the principal space, over both sides, all maps and tasks."""
    measured = events(folder, WeightSpectrumMeasured)
    leaks = known(leak for e in measured for leak in (e.leak_left, e.leak_right))
    chance = mean(e.chance for e in measured if e.leak_left is not None)
    return {
        "largest leak, % of chance": 100 * float(leaks.max()) / chance if leaks.size and chance else None,
        "median leak": float(np.median(leaks)) if leaks.size else None,
        "chance": chance,
    }


def results_and_leak(folder: RunFolder) -> dict[str, float | None]:
    return {**domain_results_of(folder), "median leak": leak_numbers(folder)["median leak"]}


def rho_numbers(folder: RunFolder) -> dict[str, float | None]:
    summary = summarise(folder, by_own_head=True)
    matrix = summary.accuracy_matrix
    return {
        "directions written": mean(e.written for e in events(folder, WeightSpectrumMeasured)),
        "learning, %": summary.learning_accuracy,
        "loss on T1, pp": less(matrix[0][0], matrix[-1][0]) if matrix else None,
        "Transfer, %": summary.transfer,
    }


UNWATCHED = ("attention",)
ENDS = ("rho 0.999", "rho 0.80")

QUESTIONS = (
    Question(
        "nusa-orthogonality",
        "Is the change of the weights orthogonal to their principal space?",
        "NuSA-CL claims that a task does not change the directions with most of a weight's energy. The leak is "
        "the share of a task's weight change in these directions; LoRA and fine-tuning, without such a constraint, "
        "show what happens without a rule.",
        (
            ("nusa_cl", {"preset": PRESET}),
            ("lora_sequential", {"preset": "lora-sequential-micro"}),
            ("finetune", {"preset": "finetune-micro"}),
        ),
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
        "Does rho trade learning for retention?",
        "rho divides a weight's directions into principal and null. At the preset's r_max the rank limit is often "
        f"active first and rho has no effect; with r_max = {WIDEST} only rho matters. Two tasks show its cost and "
        "keeps.",
        tuple(
            (
                f"rho {rho:g}" if rho > 0.99 else f"rho {rho:.2f}",
                {"preset": PRESET, "settings": {"rho": rho, "r_max": WIDEST}, "stream_settings": {"tasks": 2}},
            )
            for rho in RHOS
        ),
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
        "keeps every step there; according to the paper this is essential. Free branches train at plain LoRA's rate: "
        "at that of the small matrix between fixed directions they diverge.",
        (
            ("every step", {"preset": PRESET}),
            ("initial only", {"preset": PRESET, "settings": {"persistence": "initial only", "rate": FREE_RATE}}),
        ),
        unwatched=UNWATCHED,
        numbers=results_and_leak,
        criteria=(
            seeds.more("raises Transfer", "Transfer, %", "every step", "initial only"),
            seeds.more("raises Last", "Last, %", "every step", "initial only"),
        ),
    ),
    Question(
        "nusa-directions",
        "Do the trailing directions matter, or do others work as well?",
        "NuSA-CL updates the smallest singular directions, not those just below the cut. The same number of "
        "directions just below the cut, and of random ones, are the controls.",
        (
            ("last", {"preset": PRESET}),
            ("after the cut", {"preset": PRESET, "settings": {"directions": "after the cut"}}),
            ("random", {"preset": PRESET, "settings": {"directions": "random"}}),
        ),
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
        "Do free directions run out over a long stream?",
        "Every merge raises the smallest singular values, and the cut is recomputed: null directions may become "
        "principal until none is left. Twelve tasks, six domains in halves, show the trend.",
        (("twelve tasks", {**LONG, "stream_settings": {"tasks": 12}}),),
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
        "NuSA-CL needs one singular value decomposition per weight and task, whose time grows with the cube of the "
        "width. It is timed at the widths of the bundled model; larger ones can only be extrapolated.",
        (("nusa_cl", {"preset": PRESET}),),
        unwatched=UNWATCHED,
        numbers=cost_numbers,
        criteria=(
            seeds.reaches("decompositions take a tenth of the time", "share of time, %", "nusa_cl", 100 * COSTLY),
        ),
    ),
    Question(
        "nusa-similar",
        "Do consecutive similar tasks interfere more?",
        "Directions that are free in the weights may still carry earlier tasks' features, and similar tasks share "
        "features. In order I the two halves of a domain are consecutive, in order II six tasks apart.",
        (
            ("order I", {**LONG, "stream_settings": {"tasks": 12, "order": "I"}}),
            ("order II", {**LONG, "stream_settings": {"tasks": 12, "order": "II"}}),
        ),
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
