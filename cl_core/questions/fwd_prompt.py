"""Claims and open questions of Fwd-Prompt (arXiv:2401.09181), tested on our vision adaptation. No torch.

Forgetting and final accuracy are class-incremental; FWD is the probe's (`ForwardTransferMeasured`), its mean over t.
"""

from __future__ import annotations

import numpy as np

from cl_core.events import ForwardTransferMeasured, SubspaceMeasured
from cl_core.metrics import forward_transfer_over_time, rank_correlation
from cl_core.questions import seeds
from cl_core.questions.question import Question
from cl_core.questions.reporting import (
    domain_results_of,
    events,
    mean,
    results,
)
from cl_core.store import RunFolder
from cl_core.summary import summarise

PRESET = "fwd-prompt-micro"
EPSILONS = (0.95, 0.99, 0.999)
ALIKE = 0.9  # overlap from which two cores count as equal
CLEAR_TREND = 0.5  # rank correlation from which there is a trend


def numbers_of(folder: RunFolder) -> dict[str, float | None]:
    summary, spaces = summarise(folder, by_own_head=True), tasks_of(folder)
    met = spaces[-2].budget if len(spaces) > 1 else {}  # what the last task found
    return {
        **results(summary),
        "probe FWD, pp": mean(forward_transfers(folder)),
        "free for the last task, directions": met["free pre-trained"] + met["free residual"] if met else None,
    }


def tasks_of(folder: RunFolder) -> list[SubspaceMeasured]:
    """Subspaces of the tasks in order, without the pre-trained one."""
    found = {e.clock.task: e for e in events(folder, SubspaceMeasured) if e.clock.task >= 0}
    return [found[task] for task in sorted(found)]


def probe_rows(folder: RunFolder) -> dict[int, np.ndarray]:
    """Task (−1: before training) → accuracy of the probe on every task, percent."""
    return {e.clock.task: np.array(e.row, dtype=float) for e in events(folder, ForwardTransferMeasured)}


def forward_transfers(folder: RunFolder) -> list[float]:
    """Probe FWD_t of every t it is defined for."""
    rows = probe_rows(folder)
    untrained = rows.pop(-1, None)
    if untrained is None or not rows:
        return []
    matrix = np.full((len(untrained), len(untrained)), np.nan)
    for task, row in rows.items():
        matrix[task] = row
    values = forward_transfer_over_time(matrix, untrained)
    return values[np.isfinite(values)].tolist()


def core_numbers(folder: RunFolder) -> dict[str, float | None]:
    """Size and overlap of the first two tasks' cores."""
    measured = tasks_of(folder)
    if len(measured) < 2:
        return {}
    first, second = measured[:2]
    return {
        "core, directions": float(first.rank),
        "overlap": float(second.overlap[1]),
        "overlap of random spaces": float(second.chance[1]),
    }


def pairs_of(folder: RunFolder) -> list[tuple[float, float]]:
    """(overlap of the cores of t and i, change of the probe on i while t is learned) for every task t and later i."""
    rows, cores = probe_rows(folder), {e.clock.task: e for e in tasks_of(folder)}
    return [
        (float(cores[i].overlap[t + 1]), float(rows[t][i] - rows[t - 1][i]))
        for t in rows
        if t >= 0 and t - 1 in rows
        for i in range(t + 1, len(rows[t]))
        if i in cores and len(cores[i].overlap) > t + 1
    ]


def domain_numbers(folder: RunFolder) -> dict[str, float | None]:
    cores = tasks_of(folder)
    overlaps = [float(v) for place, e in enumerate(cores) for v in e.overlap[1 : place + 1]]
    return {**domain_results_of(folder), "smallest overlap": min(overlaps, default=None)}


def similarity_numbers(folder: RunFolder) -> dict[str, float | None]:
    pairs = pairs_of(folder)
    overlaps = [overlap for overlap, _ in pairs]
    trend = rank_correlation(*zip(*pairs, strict=True)) if len(pairs) > 2 else None
    return {
        "rank correlation": None if trend is None else float(trend),
        "smallest overlap": min(overlaps, default=None),
        "largest overlap": max(overlaps, default=None),
    }


def _run(label: str, **settings: object) -> tuple[str, dict[str, object]]:
    return label, {"preset": PRESET, "settings": settings, "diagnostics": {"forward": True}}


def _domains(label: str, **settings: object) -> tuple[str, dict[str, object]]:
    """The same on six domains, which differ in content."""
    run = {**_run(label, **settings)[1], "stream": "micro-mtil", "stream_settings": {"tasks": 6}}
    return label, run


UNWATCHED = ("attention", "drift")


QUESTIONS = (
    Question(
        "fwd-spaces",
        "Do the inputs of two tasks use different directions?",
        "The paper explains forgetting and negative transfer by input embeddings that differ strongly between tasks. "
        "Patch tokens of a ViT are a linear map of pixels and may not. The singular value decomposition of two tasks, "
        "at the first block and half-way up, shows how much they differ.",
        tuple(
            (f"block {site + 1}", {"preset": PRESET, "settings": {"site": site}, "stream_settings": {"tasks": 2}})
            for site in (0, 3)
        ),
        unwatched=UNWATCHED,
        numbers=core_numbers,
        criteria=tuple(
            seeds.stays_below(f"cores of two tasks differ at {block}", "overlap", block, ALIKE)
            for block in ("block 1", "block 4")
        ),
    ),
    Question(
        "fwd-domains",
        "Do projections help where tasks do use different directions?",
        "The paper assumes tasks whose inputs differ strongly. Pairs of digits do not; six domains, "
        "from letters to textures, do. The same pool with both projections, with a random space of the same "
        "dimension, and with none.",
        (
            _domains("both", projection="both"),
            _domains("random", projection="random"),
            _domains("none", projection="none"),
        ),
        unwatched=UNWATCHED,
        numbers=domain_numbers,
        criteria=(
            seeds.less("forgets less than without projection", "forgetting, pp", "both", "none"),
            seeds.more("ends higher than without projection", "Last, %", "both", "none"),
            seeds.more("ends higher than with random directions", "Last, %", "both", "random"),
            seeds.stays_below("cores of two tasks differ", "smallest overlap", "both", ALIKE),
        ),
    ),
    Question(
        "fwd-residual",
        "Does projecting prompts out of old tasks' input directions reduce forgetting?",
        "Projecting to the residual space is the anti-forgetting half of the method. Exact orthogonality to old input "
        "embeddings does not guarantee old outputs, because attention does not see a prompt by its inner product with "
        "a token. The same pool without projection is the comparison.",
        (_run("residual-only", projection="residual-only"), _run("none", projection="none")),
        unwatched=UNWATCHED,
        numbers=numbers_of,
        criteria=(
            seeds.less("forgets less than without projection", "forgetting, pp", "residual-only", "none"),
            seeds.more("ends higher than without projection", "final, %", "residual-only", "none"),
        ),
    ),
    Question(
        "fwd-pretrained",
        "Does restricting prompts to the pre-trained space help future tasks?",
        "Reusing pre-trained knowledge is the forward-transfer half of the method. Probe FWD is compared between the "
        "residual space alone, both spaces, and the pre-trained space alone; the plain pool shows whether there is "
        "negative transfer to avoid.",
        tuple(_run(p, projection=p) for p in ("none", "residual-only", "pretrained-only", "both")),
        unwatched=UNWATCHED,
        numbers=numbers_of,
        criteria=tuple(
            seeds.more(
                f"{label} gains more on tasks to come than residual-only", "probe FWD, pp", label, "residual-only"
            )
            for label in ("both", "pretrained-only")
        ),
    ),
    Question(
        "fwd-random",
        "Do the chosen directions matter, or do random ones work as well?",
        "A projection to fewer directions moves prompts less, for any directions. A random space of the same "
        "dimension, drawn again for every task, separates the two effects; reviews note that this control is missing.",
        (_run("both", projection="both"), _run("random", projection="random")),
        unwatched=UNWATCHED,
        numbers=numbers_of,
        criteria=(
            seeds.more("ends higher than with random directions", "final, %", "both", "random"),
            seeds.less("forgets less than with random directions", "forgetting, pp", "both", "random"),
        ),
    ),
    Question(
        "fwd-epsilon",
        "Does the size of the cores decide the result?",
        "ε is the share of energy that defines a core. The paper's value is not known; reviews suggest trying three.",
        tuple(_run(f"ε {eps:g}", energy=eps) for eps in EPSILONS),
        unwatched=UNWATCHED,
        numbers=numbers_of,
        criteria=(
            seeds.differs("final accuracy differs between values of ε", "final, %", [f"ε {e:g}" for e in EPSILONS]),
        ),
    ),
    Question(
        "fwd-orders",
        "Does projecting help in every order of the classes?",
        "Reviews report a gain in all of six task orders. Here the seed determines the order of classes, and also "
        "draws the prompts and shuffles the batches, so several seeds are needed.",
        (_run("both", projection="both"), _run("none", projection="none")),
        unwatched=UNWATCHED,
        numbers=numbers_of,
        criteria=(
            seeds.more("ends higher than without projection", "final, %", "both", "none"),
            seeds.less("forgets less than without projection", "forgetting, pp", "both", "none"),
        ),
    ),
    Question(
        "fwd-pool",
        "Do a larger pool and more prompts per image help?",
        "Reviews of the paper say that a larger pool helped and more prompt tokens did not. Three pool sizes and three "
        "numbers of selected prompts are compared.",
        tuple(
            _run(f"M {size}, m {length}", pool_size=size, prompt_length=length)
            for size, length in ((10, 5), (20, 5), (40, 5), (20, 1), (20, 10))
        ),
        unwatched=UNWATCHED,
        numbers=numbers_of,
        criteria=(
            seeds.more("a pool of 40 ends higher than one of 10", "final, %", "M 40, m 5", "M 10, m 5"),
            seeds.more("10 picked prompts end higher than 1", "final, %", "M 20, m 10", "M 20, m 1"),
        ),
    ),
    Question(
        "fwd-similarity",
        "Are future tasks harmed more by similar tasks?",
        "Negative transfer should depend on the relation of the learned task to the future one. For every pair of "
        "tasks, the change of the probe while the first is learned is compared with the overlap of their cores, in a "
        "plain pool without projection.",
        (_run("none", projection="none"),),
        unwatched=UNWATCHED,
        numbers=similarity_numbers,
        criteria=(
            seeds.stays_below("tasks that resemble each other are hurt more", "rank correlation", "none", -CLEAR_TREND),
        ),
    ),
)
