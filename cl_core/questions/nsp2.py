"""Claims and open questions of VPT-NSP² (arXiv:2406.05658), tested on the bundled ViT. No torch.

Final accuracy and forgetting are class-incremental. "Stored statistics" is linear discriminant analysis on statistics
stored when each task was learned: it fails when old features move, independently of the heads.
"""

from __future__ import annotations

from collections.abc import Callable

from cl_core.events import AttentionCompared, UpdateMeasured
from cl_core.metrics import rank_correlation
from cl_core.questions import seeds
from cl_core.questions.question import Question
from cl_core.questions.reporting import (
    events,
    mean,
    results,
)
from cl_core.readouts import STORED
from cl_core.store import RunFolder
from cl_core.summary import measures, summarise

PRESET = "nsp2-elbow-micro"  # the released cut, for settings that the release tunes
STRICT, SEQUENTIAL, SHRINK = "nsp2-micro", "sequential-micro", "nsp2-shrink-micro"
ETAS = (0.9, 0.93, 0.95, 0.97, 1.0)
RELEASED_ETAS = tuple(round(0.1 * step, 1) for step in range(11))
WEIGHTS = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)


def numbers_of(folder: RunFolder) -> dict[str, float | None]:
    summary = summarise(folder, by_own_head=True)
    stored = summary.readouts.get(STORED)
    final = measures(stored)["final_average_accuracy"] if stored else None
    return {**results(summary), "stored statistics, %": final}


def consistency(folder: RunFolder) -> dict[str, float | None]:
    """Change of attention on old tasks' images at the end; means over old tasks and layers."""
    compared = events(folder, AttentionCompared)
    last = max((e.clock.task for e in compared), default=0)
    old = {e.probe_task: e for e in compared if e.clock.task == last and e.probe_task < last}.values()
    return {
        "layer by layer, total variation": mean(float(e.total_variation_local.mean()) for e in old),
        "end to end, total variation": mean(float(e.total_variation.mean()) for e in old),
        "features, 1 − cos": mean(e.feature_drift for e in old),
    }


def _share(measure: str, mine: str, other: str) -> Callable[[seeds.Numbers], float | None]:
    """Ratio of a measure between two runs."""

    def read(numbers: seeds.Numbers) -> float | None:
        first, second = numbers[mine][measure], numbers[other][measure]
        return first / second if first is not None and second else None

    return read


def predicted(folder: RunFolder) -> dict[str, float | None]:
    """Rank correlation, over blocks and tasks, of the predicted and measured effect of a task on the previous one.

    Predicted: ‖ΔP‖/‖P‖ · residual(ΔP) on the affinity side. Measured: total variation of attention on the images of the
    previous task since it was learned, where only that block's prompts act.
    """
    moved = {
        (e.clock.task, e.layer): e.movement * residual
        for e in events(folder, UpdateMeasured)
        if (residual := e.residual.get("affinity")) is not None
    }
    last = {(e.clock.task, e.probe_task): e for e in events(folder, AttentionCompared)}
    pairs = [
        (wanted, float(last[task, task - 1].total_variation_local[layer]))
        for (task, layer), wanted in moved.items()
        if (task, task - 1) in last
    ]
    if len(pairs) < 3:
        return {"rank correlation": None, "pairs": float(len(pairs))}
    return {"rank correlation": float(rank_correlation(*zip(*pairs, strict=True))), "pairs": float(len(pairs))}


def _trade_of(low: str, high: str) -> tuple[seeds.Criterion, ...]:
    """A trade-off of learning for retention: both must fall from the first value of a setting to the last."""
    return (
        seeds.less("learns less at the high end", "learning, %", high, low),
        seeds.less("forgets less at the high end", "forgetting, pp", high, low),
    )


UNWATCHED = ("attention", "drift")
BASELINE = (("nsp2", {"preset": STRICT}), ("sequential", {"preset": SEQUENTIAL}), ("shrink-only", {"preset": SHRINK}))
TELLS = 0.5  # rank correlation from which one predicts the other


def _part(label: str, **settings: object) -> tuple[str, dict[str, object]]:
    return label, {"preset": PRESET, "settings": settings}


QUESTIONS = (
    Question(
        "nsp2-baseline",
        "Does NSP² forget less than the same prompts without protection?",
        "The paper's main claim, against VPT-Seq. Because the released projectors also shrink every step, a control "
        "with equally shrunk steps but no projection is included.",
        BASELINE,
        numbers=numbers_of,
        criteria=(
            seeds.less("forgets less than sequential", "forgetting, pp", "nsp2", "sequential"),
            seeds.more("ends higher than sequential by its heads", "final, %", "nsp2", "sequential"),
            seeds.more("ends higher by stored statistics", "stored statistics, %", "nsp2", "sequential"),
            seeds.more(
                "ends higher by stored statistics than steps shrunk by as much",
                "stored statistics, %",
                "nsp2",
                "shrink-only",
            ),
        ),
    ),
    Question(
        "nsp2-ablation",
        "Which part matters: B1, B2, or the loss on the prompts' mean and spread?",
        "B1 projects along channels, B2 along prompts, L_LN controls the effect of LayerNorm. Each alone, both "
        "projections, all three, and nothing.",
        (
            _part("nothing", projection="none", norm_weight=0.0),
            _part("B1", sides="affinity", norm_weight=0.0),
            _part("B2", sides="mixture", norm_weight=0.0),
            _part("L_LN", projection="none"),
            _part("B1 and B2", norm_weight=0.0),
            ("B1, B2 and L_LN", {"preset": PRESET}),
        ),
        unwatched=UNWATCHED,
        numbers=numbers_of,
        criteria=tuple(
            seeds.more(f"{part} keeps more by stored statistics than nothing", "stored statistics, %", part, "nothing")
            for part in ("B1", "B2", "L_LN", "B1 and B2", "B1, B2 and L_LN")
        ),
    ),
    Question(
        "nsp2-eta",
        "Does η trade learning for retention?",
        "η is the strictness of the projection; the paper tunes it per data set between 0.9 and 1. Both sides "
        "get the same value here.",
        tuple(_part(f"η {value:g}", eta_affinity=value, eta_mixture=value) for value in ETAS),
        unwatched=UNWATCHED,
        numbers=numbers_of,
        criteria=_trade_of("η 0.9", "η 1"),
    ),
    Question(
        "nsp2-eta-released",
        "Does η trade learning for retention on the released scale?",
        "The release divides each projector by the root of its size, so that at width 192 a step keeps about a "
        "fourteenth of its length and prompts hardly move for any η. Eleven values from no protection to "
        "strict show whether η has an effect there.",
        tuple(
            _part(f"η {value:g}", eta_affinity=value, eta_mixture=value, scale="frobenius") for value in RELEASED_ETAS
        ),
        unwatched=UNWATCHED,
        numbers=numbers_of,
        criteria=_trade_of("η 0", "η 1"),
    ),
    Question(
        "nsp2-adaptive",
        "Does a cut that depends on the data preserve more than one that does not?",
        "The released elbow leaves the same number of directions free in every layer, for any data; with a share of "
        "energy layers differ. Both are strict, with equal settings otherwise.",
        (
            ("share of energy", {"preset": STRICT}),
            ("elbow", {"preset": STRICT, "settings": {"rule": "elbow"}}),
        ),
        unwatched=UNWATCHED,
        numbers=numbers_of,
        criteria=(
            seeds.more("keeps more by stored statistics", "stored statistics, %", "share of energy", "elbow"),
            seeds.less("forgets less by its heads", "forgetting, pp", "share of energy", "elbow"),
        ),
    ),
    Question(
        "nsp2-exact",
        "Does the effect of a step on old inputs predict the change of attention?",
        "The null space is derived from Q Pᵀ: a change of the prompts orthogonal to old inputs' queries changes no "
        "affinity. Predicted is ‖ΔP‖ / ‖P‖ times the residual of ΔP, measured the change of attention on the last "
        "task's images, block by block where only that block's prompts act, over all blocks and tasks. LayerNorm is "
        "not part of the derivation; folding its gain into the moments includes some of its effect.",
        (
            ("nsp2", {"preset": STRICT}),
            ("nsp2, norm folded", {"preset": STRICT, "settings": {"fold_norm": True}}),
            ("sequential", {"preset": SEQUENTIAL}),
        ),
        numbers=predicted,
        criteria=tuple(
            seeds.reaches(f"{label}: blocks that should move more do", "rank correlation", label, TELLS)
            for label in ("nsp2", "nsp2, norm folded", "sequential")
        ),
    ),
    Question(
        "nsp2-norm",
        "Does the weight of the loss on prompts' mean and spread matter?",
        "L_LN is added with weight 1 in the release. Six weights over five decades, zero included, show whether it "
        "has an effect and whether it can constrain the prompts too much.",
        tuple(_part(f"weight {value:g}", norm_weight=value) for value in WEIGHTS),
        unwatched=UNWATCHED,
        numbers=numbers_of,
        criteria=_trade_of("weight 0", "weight 100"),
    ),
    Question(
        "nsp2-attention",
        "Is attention on old tasks' images preserved?",
        "The projections are derived from consistency of attention. It is measured on fixed images of every old "
        "task: layer by layer, where only that layer's prompts act, and end to end.",
        BASELINE,
        numbers=consistency,
        criteria=(
            seeds.Criterion(
                "attention moves less than half as much as without protection, layer by layer",
                _share("layer by layer, total variation", "nsp2", "sequential"),
                0.5,
                "times",
                below=True,
            ),
            seeds.Criterion(
                "and end to end",
                _share("end to end, total variation", "nsp2", "sequential"),
                0.5,
                "times",
                below=True,
            ),
        ),
    ),
)
