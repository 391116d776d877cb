"""What Fwd-Prompt (arXiv:2401.09181) claims and leaves open, asked of our vision adaptation. No torch.

Forgetting and final accuracy are class-incremental; FWD is the probe's (`ForwardTransferMeasured`), its mean over t.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cl_core.events import ForwardTransferMeasured, SubspaceMeasured
from cl_core.metrics import forward_transfer_over_time, rank_correlation
from cl_core.questions import seeds
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
    less,
    mean,
    number,
    percent,
    points,
    sources,
    span,
    told_of,
)
from cl_core.store import RunFolder
from cl_core.summary import summarise

PRESET = "fwd-prompt-micro"
EPSILONS = (0.95, 0.99, 0.999)
ALIKE = 0.9  # overlap from which two cores are called the same
CLEAR_TREND = 0.5  # rank correlation from which a trend is called one


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    final: float | None
    forgetting: float | None
    learning: float | None
    transfer: float | None  # probe FWD, mean over t
    free: int | None  # directions that no task has taken after the last task but one: what the last task found
    width: int
    leak: float | None  # mean over pairs of tasks
    leak_chance: float | None
    tasks: int

    def told(self) -> str:
        return (
            f"final {percent(self.final)}, forgetting {points(self.forgetting)}, learning {percent(self.learning)}, "
            f"probe FWD {points(self.transfer)}"
        )


def outcome_of(folder: RunFolder) -> Outcome:
    summary, spaces = summarise(folder, by_own_head=True), tasks_of(folder)
    met = spaces[-2] if len(spaces) > 1 else None
    return Outcome(
        summary.final_average_accuracy,
        summary.forgetting,
        summary.learning_accuracy,
        mean(forward_transfers(folder)),
        None if met is None else met.budget["free pre-trained"] + met.budget["free residual"],
        sum(spaces[-1].budget.values()) if spaces else 0,
        mean(float(v) for e in spaces for v in e.leak),
        mean(float(v) for e in spaces if len(e.leak) for v in e.leak_chance),
        len(summary.accuracy_matrix),
    )


def numbers_of(folder: RunFolder) -> dict[str, float | None]:
    found = outcome_of(folder)
    return {
        "final, %": found.final,
        "forgetting, pp": found.forgetting,
        "learning, %": found.learning,
        "probe FWD, pp": found.transfer,
        "free for the last task, directions": found.free,
    }


def tasks_of(folder: RunFolder) -> list[SubspaceMeasured]:
    """Subspaces of the tasks in order, the pre-trained one left out."""
    found = {e.clock.task: e for e in events(folder, SubspaceMeasured) if e.clock.task >= 0}
    return [found[task] for task in sorted(found)]


def probe_rows(folder: RunFolder) -> dict[int, np.ndarray]:
    """Task (−1: before any) → what the probe reads on every task, percent."""
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


def each(found: Mapping[str, Outcome]) -> str:
    return told_of(found, Outcome.told)


def cells(found: Mapping[str, Outcome]) -> str:
    tasks = max(outcome.tasks for outcome in found.values())
    return f"class-incremental rows of {span(tasks)}; probe FWD: mean over t of what tasks to come gained"


def lower(value: float | None, against: float | None) -> str:
    """How a quantity that should be low compares: "less", "more", "alike"."""
    return {"higher": "more", "lower": "less"}.get(compared(value, against), compared(value, against))


# ---------------------------------------------------------------- spaces


def spaces(runs: Runs) -> str:
    said, verdicts, tasks = [], [], 0
    for label, folder in runs.items():
        measured = tasks_of(folder)
        tasks = max(tasks, len(measured))
        if len(measured) < 2:
            said.append(f"{label}: the second task was not measured")
            continue
        first, second = measured[:2]
        overlap, chance = float(second.overlap[1]), float(second.chance[1])
        degrees = np.degrees(second.angles[1][np.isfinite(second.angles[1])])
        same = overlap >= ALIKE
        verdicts.append(f"at {label} the cores are {'nearly the same' if same else 'different'} ({overlap:.2f})")
        width = len(first.eigenvalues)
        said.append(
            f"{label}: cores of {first.rank} and {second.rank} of {width} directions, effective rank "
            f"{number(first.effective_rank)} and {number(second.effective_rank)}, overlap {overlap:.3f} (random spaces "
            f"{chance:.2f}), principal angles {degrees.min():.0f}° to {degrees.max():.0f}°; with pre-training "
            f"{float(first.overlap[0]):.2f} and {float(second.overlap[0]):.2f}"
        )
    if not verdicts:
        verdict = "Not decided: no run has measured two tasks."
    else:
        word = {0: "No", len(verdicts): "Yes"}.get(sum("different" in v for v in verdicts), "It depends on the block")
        verdict = f"{word}: {', '.join(verdicts)}; from {ALIKE:g} on they are called the same."
    return f"{verdict} {'; '.join(said)}. " + sources(runs, "input embeddings of the first two tasks without prompts")


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


# ---------------------------------------------------------------- projections


def residual(runs: Runs) -> str:
    found = in_each(runs, outcome_of)
    with_it, without = found.get("residual-only"), found.get("none")
    if with_it is None or without is None:
        verdict = "Not decided: both runs are needed."
    else:
        how = lower(with_it.forgetting, without.forgetting)
        word = {"less": "Yes", "more": "No", "alike": "No"}.get(how, "Not decided")
        verdict = (
            f"{word}: with the residual projection it forgets {how} ({points(with_it.forgetting)} against "
            f"{points(without.forgetting)}), and the final accuracy is {compared(with_it.final, without.final)} "
            f"({points(less(with_it.final, without.final))}). Net changes of the prompts lie in old cores by "
            f"{number(with_it.leak)} against {number(without.leak)} (a random change {number(without.leak_chance)})."
        )
    return concluded(verdict, each(found), runs, cells(found))


def pretrained(runs: Runs) -> str:
    found = in_each(runs, outcome_of)
    plain, kept = found.get("residual-only"), [label for label in ("both", "pretrained-only") if label in found]
    if plain is None or not kept:
        verdict = "Not decided: residual-only and one that keeps to the pre-trained space are needed."
    else:
        helped = [label for label in kept if compared(found[label].transfer, plain.transfer) == "higher"]
        differences = ", ".join(
            f"{label} {points(less(found[label].transfer, plain.transfer))} of probe FWD and "
            f"{points(less(found[label].final, plain.final))} of final accuracy"
            for label in kept
        )
        word = "Yes" if len(helped) == len(kept) else "Partly" if helped else "No"
        verdict = f"{word}: against the residual space alone {differences}."
    negative = [label for label, o in found.items() if o.transfer is not None and o.transfer < -CLEAR]
    verdict += f" Negative transfer (probe FWD below −{CLEAR:g} pp): {', '.join(negative) or 'in none of them'}."
    return concluded(verdict, each(found), runs, cells(found))


def random_control(runs: Runs) -> str:
    found = in_each(runs, outcome_of)
    chosen, control = found.get("both"), found.get("random")
    if chosen is None or control is None:
        verdict = "Not decided: both runs are needed."
    else:
        final, fallen = (compared(chosen.final, control.final), lower(chosen.forgetting, control.forgetting))
        better = final == "higher" or (final == "alike" and fallen == "less")
        verdict = (
            f"{'Yes' if better else 'No'}: against a random space of the same dimension the final accuracy is {final} "
            f"({points(less(chosen.final, control.final))}), it forgets {fallen} "
            f"({points(less(chosen.forgetting, control.forgetting))}), probe FWD "
            f"{points(less(chosen.transfer, control.transfer))}. The last task found "
            f"{chosen.free if chosen.free is not None else 'an unknown number'} of {chosen.width} directions free."
        )
    return concluded(verdict, each(found), runs, cells(found))


def epsilon(runs: Runs) -> str:
    found = in_each(runs, outcome_of)
    ranks = {
        label: f"cores of {', '.join(str(e.rank) for e in tasks_of(folder)) or 'unknown size'}"
        for label, folder in runs.items()
    }
    finals = {label: o.final for label, o in found.items() if o.final is not None}
    if len(finals) < 2:
        verdict = "Not decided: it takes two values of ε."
    else:
        high, low = max(finals, key=lambda k: finals[k]), min(finals, key=lambda k: finals[k])
        apart = finals[high] - finals[low]
        verdict = (
            f"Yes: final accuracy differs by {apart:.1f} pp, highest at {high}, lowest at {low}."
            if apart >= CLEAR
            else f"No: final accuracy differs by {apart:.1f} pp only, less than {CLEAR:g}."
        )
    said = "; ".join(
        f"{label}: {ranks[label]} directions, {o.free if o.free is not None else 'not measured'} of {o.width} free for "
        f"the last task, {o.told()}"
        for label, o in found.items()
    )
    return concluded(verdict, said, runs, cells(found))


# ---------------------------------------------------------------- pool, similarity


def pool(runs: Runs) -> str:
    found = in_each(runs, outcome_of)
    finals = {label: o.final for label, o in found.items()}
    larger = less(finals.get("M 40, m 5"), finals.get("M 10, m 5"))
    longer = less(finals.get("M 20, m 10"), finals.get("M 20, m 1"))

    def part(what: str, gain: float | None) -> str:
        if gain is None:
            return f"Not decided whether {what} helps"
        helps = "helps" if gain >= CLEAR else "hurts" if gain <= -CLEAR else "makes no difference"
        return f"{what[:1].upper() + what[1:]} {helps} ({points(gain)} of final accuracy)"

    verdict = f"{part('a pool of 40 instead of 10', larger)}. {part('picking 10 prompts instead of 1', longer)}."
    return (
        f"{verdict} Reviews of the paper say that a larger pool helped and more prompt tokens did not. {each(found)}. "
        f"{sources(runs, cells(found))} M prompts in the pool, m picked for an image. {ONE_SEED}"
    )


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


def similarity(runs: Runs) -> str:
    (folder,) = runs.values()
    pairs = pairs_of(folder)
    trend = rank_correlation(*zip(*pairs, strict=True)) if pairs else None
    if trend is None or not np.isfinite(trend):
        verdict = "Not decided: too few pairs of tasks, or none that differ, were measured."
    elif trend <= -CLEAR_TREND:
        verdict = f"Yes, similar tasks are hurt more: rank correlation {number(trend)}."
    elif trend >= CLEAR_TREND:
        verdict = f"No, similar tasks are hurt less: rank correlation {number(trend)}."
    else:
        verdict = f"No trend: rank correlation {number(trend)}, between −{CLEAR_TREND:g} and {CLEAR_TREND:g}."
    overlaps, changes = ([p[k] for p in pairs] for k in (0, 1))
    spread = (
        f" {len(pairs)} pairs; overlap {min(overlaps):.2f} to {max(overlaps):.2f}, change of the probe "
        f"{points(min(changes))} to {points(max(changes))}, mean {points(mean(changes))}."
        if pairs
        else ""
    )
    return (
        f"{verdict}{spread} Pairs of one run are not independent. "
        + sources(runs, "probe on tasks not learned yet, after minus before each task, against overlap O of the cores")
        + f" {ONE_SEED}"
    )


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
    """The same on six domains, which differ in what they show."""
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
        spaces,
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
        "The paper's premise is tasks whose inputs differ strongly. Two digits and two others do not; six domains, "
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
        "Does keeping prompts out of old tasks' input directions reduce forgetting?",
        "Projecting to the residual space is the anti-forgetting half of the method. Exact orthogonality to old input "
        "embeddings does not guarantee old outputs, because attention does not see a prompt by its inner product with "
        "a token. The same pool without projection is the comparison.",
        (_run("residual-only", projection="residual-only"), _run("none", projection="none")),
        residual,
        unwatched=UNWATCHED,
        numbers=numbers_of,
        criteria=(
            seeds.less("forgets less than without projection", "forgetting, pp", "residual-only", "none"),
            seeds.more("ends higher than without projection", "final, %", "residual-only", "none"),
        ),
    ),
    Question(
        "fwd-pretrained",
        "Does keeping to the pre-trained space help tasks still to come?",
        "Reusing what pre-training knew is the forward-transfer half of the method. Probe FWD is compared between the "
        "residual space alone, both spaces, and the pre-trained space alone; the plain pool shows whether there is "
        "negative transfer to avoid.",
        tuple(_run(p, projection=p) for p in ("none", "residual-only", "pretrained-only", "both")),
        pretrained,
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
        "Is it the chosen directions, or would random ones do?",
        "A projection to fewer directions moves prompts less, whatever the directions are. A random space of the same "
        "dimension, drawn anew for every task, separates the two; reviews name this control as missing.",
        (_run("both", projection="both"), _run("random", projection="random")),
        random_control,
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
        "ε is the share of energy that makes a core. The paper's value is not known; reviews suggest trying three.",
        tuple(_run(f"ε {eps:g}", energy=eps) for eps in EPSILONS),
        epsilon,
        unwatched=UNWATCHED,
        numbers=numbers_of,
        criteria=(
            seeds.differs("final accuracy differs between values of ε", "final, %", [f"ε {e:g}" for e in EPSILONS]),
        ),
    ),
    Question(
        "fwd-orders",
        "Does projecting help in every order of the classes?",
        "Reviews report a gain in all of six task orders. An order of the classes is a seed here, which also draws the "
        "prompts and shuffles the batches: ask for several.",
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
        "numbers of picked prompts are compared.",
        tuple(
            _run(f"M {size}, m {length}", pool_size=size, prompt_length=length)
            for size, length in ((10, 5), (20, 5), (40, 5), (20, 1), (20, 10))
        ),
        pool,
        unwatched=UNWATCHED,
        numbers=numbers_of,
        criteria=(
            seeds.more("a pool of 40 ends higher than one of 10", "final, %", "M 40, m 5", "M 10, m 5"),
            seeds.more("10 picked prompts end higher than 1", "final, %", "M 20, m 10", "M 20, m 1"),
        ),
    ),
    Question(
        "fwd-similarity",
        "Are tasks to come hurt more by tasks that resemble them?",
        "Negative transfer should depend on how the learned task relates to the one to come. For every pair of tasks, "
        "the change of the probe while the first is learned is set against the overlap of their cores, in a plain pool "
        "without projection.",
        (_run("none", projection="none"),),
        similarity,
        unwatched=UNWATCHED,
        numbers=similarity_numbers,
        criteria=(
            seeds.stays_below("tasks that resemble each other are hurt more", "rank correlation", "none", -CLEAR_TREND),
        ),
    ),
)
