"""Claims of SplitLoRA (arXiv:2505.22370) and CODE-CL (ICCV 2025) about trained keys and values. No torch.

On camouflaged shapes adaptation pays, so there is a gain to preserve; recomputed statistics measure the features,
stored ones the accuracy without old images.
"""

from __future__ import annotations

from cl_core.questions import seeds
from cl_core.questions.question import Question
from cl_core.questions.reporting import results
from cl_core.readouts import RECOMPUTED, STORED, TASK_INCREMENTAL
from cl_core.store import RunFolder
from cl_core.summary import measures, summarise

SPLIT, FROZEN, CODE = "split-lora-camouflage", "frozen-camouflage", "code-cl-micro"
HELD = (0.5, 0.95, 0.99)
UNWATCHED = ("attention", "drift", "spectra", "weights")


def numbers_of(folder: RunFolder) -> dict[str, float | None]:
    """By the heads without and with the task known, and by stored and recomputed statistics."""
    summary = summarise(folder, by_own_head=True)
    found = {readout: measures(matrix) for readout, matrix in summary.readouts.items()}
    return {
        **results(summary),
        "forgetting with the task known, pp": found.get(TASK_INCREMENTAL, {}).get("forgetting"),
        "stored statistics, %": found.get(STORED, {}).get("final_average_accuracy"),
        "recomputed statistics, %": found.get(RECOMPUTED, {}).get("final_average_accuracy"),
    }


QUESTIONS = (
    Question(
        "splitlora-protection",
        "Does training only along weak directions preserve earlier tasks?",
        "SplitLoRA changes keys and values along weak directions of past inputs. With α so large that nearly every "
        "direction counts as weak, the same branches train unprotected.",
        (("protected", {"preset": SPLIT}), ("nothing protected", {"preset": SPLIT, "settings": {"alpha": 1e6}})),
        unwatched=UNWATCHED,
        numbers=numbers_of,
        criteria=(
            seeds.more("keeps more by stored statistics", "stored statistics, %", "protected", "nothing protected"),
            seeds.less(
                "forgets less with the task known",
                "forgetting with the task known, pp",
                "protected",
                "nothing protected",
            ),
        ),
    ),
    Question(
        "splitlora-gain",
        "Does the gain of adaptation over frozen features last to the end?",
        "On this stream trained keys and values gain 25 points in joint training. Recomputed statistics measure "
        "the features; statistics stored with each task measure what is usable without old images.",
        (("split_lora", {"preset": SPLIT}), ("frozen", {"preset": FROZEN})),
        unwatched=UNWATCHED,
        numbers=numbers_of,
        criteria=(
            seeds.more("reads better when read anew", "recomputed statistics, %", "split_lora", "frozen"),
            seeds.more("reads better by what was stored", "stored statistics, %", "split_lora", "frozen"),
        ),
    ),
    Question(
        "codecl-protection",
        "Do conceptors keep what was learned?",
        "CODE-CL damps steps along directions that earlier inputs use. The control uses unmodified steps.",
        (("conceptors", {"preset": CODE}), ("as they are", {"preset": CODE, "settings": {"project": "none"}})),
        unwatched=UNWATCHED,
        numbers=numbers_of,
        criteria=(
            seeds.more("keeps more by stored statistics", "stored statistics, %", "conceptors", "as they are"),
            seeds.less("forgets less by its heads", "forgetting, pp", "conceptors", "as they are"),
        ),
    ),
    Question(
        "codecl-held",
        "Does stronger protection trade learning for retention?",
        "m is the share of its inputs that a conceptor must pass: the larger, the stronger the protection. The "
        "released aperture passes more than 99 % from the start on this stream, so there m is never reached.",
        tuple((f"m {held:g}", {"preset": CODE, "settings": {"held": held}}) for held in HELD),
        unwatched=UNWATCHED,
        numbers=numbers_of,
        criteria=(
            seeds.less("learns less at the high end", "learning, %", f"m {HELD[-1]:g}", f"m {HELD[0]:g}"),
            seeds.less("forgets less at the high end", "forgetting, pp", f"m {HELD[-1]:g}", f"m {HELD[0]:g}"),
        ),
    ),
)
