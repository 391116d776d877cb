"""Lesson: room to learn. Spectra, the cut, the null space, and what gets through of a step."""

from __future__ import annotations

import numpy as np

from cl_core.events import SpectrumMeasured, StepEnded, UpdateMeasured
from dashboard.figures.nullity_plots import directions_left, free_directions
from dashboard.figures.spectra import energy_kept, of, spectrum_decay
from dashboard.figures.training import update_norms
from dashboard.figures.updates import update_residual
from dashboard.lessons.lesson import (
    GRADIENTS,
    PLAIN,
    PROTECTED,
    Drawing,
    Lesson,
    Link,
    Recordings,
    Step,
    beside,
    course,
)
from dashboard.theme import directions, layer_name, number, percent

LAYER, SPACE = 0, "affinity"  # the prompts' wider side: what image tokens ask of a prompt
MOST, NEARLY_ALL = 0.9, 0.99  # shares of the energy that the text counts directions for
MATRIX = "c_fc"  # inputs of the first MLP matrix, which the other method protects


def through(steps: list[StepEnded]) -> float:
    """Median over steps after the first task: applied over proposed norm, percent."""
    shares = []
    for event in steps:
        proposed = np.sqrt(sum(v**2 for v in event.proposed_norm.values()))
        applied = np.sqrt(sum(v**2 for v in event.applied_norm.values()))
        if event.clock.task > 0 and proposed > 0:
            shares.append(100 * applied / proposed)
    return float(np.median(shares)) if shares else float("nan")


def left_free(spectra: list[SpectrumMeasured], task: int) -> float:
    """Mean over layers of the share of directions left free after `task`, percent."""
    return float(np.mean([100 * e.nullity / len(e.eigenvalues) for e in of(spectra, task=task)]))


def moved(updates: list[UpdateMeasured]) -> float:
    """Mean net change of a layer's prompts in a task after the first, percent of their norm."""
    return 100 * float(np.mean([e.movement for e in updates if e.clock.task > 0]))


def along(updates: list[UpdateMeasured]) -> tuple[float, float]:
    """Mean residual of net changes, and of a random direction."""
    known = [e for e in updates if e.residual.get(SPACE) is not None]
    return (
        float(np.mean([e.residual[SPACE] for e in known])),
        float(np.mean([e.isotropic[SPACE] for e in known])),
    )


def facts(runs: Recordings) -> dict[str, str]:
    spectra = of(runs.events(PROTECTED, SpectrumMeasured), space=SPACE)
    (first,) = of(spectra, layer=LAYER, task=0)
    energies = np.asarray(first.eigenvalues, dtype=np.float64)
    shares, width = np.cumsum(energies) / energies.sum(), len(energies)
    end = max(e.clock.task for e in spectra)
    inputs = of(runs.events(GRADIENTS, SpectrumMeasured), space=MATRIX)
    protected, plain = runs.events(PROTECTED, UpdateMeasured), runs.events(PLAIN, UpdateMeasured)
    where, where_plain = along(protected), along(plain)
    free = left_free(spectra, 0), left_free(spectra, end)
    free_inputs = left_free(inputs, 0), left_free(inputs, max(e.clock.task for e in inputs))
    return {
        "layer": layer_name(LAYER),
        "width": str(width),
        "free": directions(first.nullity, width),
        "kept": str(width - first.nullity),
        "kept_energy": percent(100 * first.protected_energy),
        "effective": number(first.effective_rank),
        "most": percent(100 * MOST, 0),
        "most_rank": str(int(np.searchsorted(shares, MOST) + 1)),
        "nearly_all": percent(100 * NEARLY_ALL, 0),
        "nearly_all_rank": str(int(np.searchsorted(shares, NEARLY_ALL) + 1)),
        "through": percent(through(runs.events(PROTECTED, StepEnded)), 0),
        "through_plain": percent(through(runs.events(PLAIN, StepEnded)), 0),
        "moved": percent(moved(protected), 0),
        "moved_plain": percent(moved(plain), 0),
        "why_moved": (
            "Much more than the projection takes, so something else holds the prompts as well: NSP² also has a loss "
            "that keeps each prompt's mean and spread where they were"
            if moved(protected) / moved(plain) < through(runs.events(PROTECTED, StepEnded)) / 100 - 0.1
            else "About what the projection takes"
        ),
        "residual": number(where[0]),
        "residual_plain": number(where_plain[0]),
        "random": number(where[1]),
        "avoids": (
            "avoids what old digits use better than the plain run"
            if where[0] < where_plain[0]
            else "does not avoid what old digits use better than the plain run"
        ),
        "beside_random": (
            "yet it lies above a random direction: what a new digit wants lies along what old digits use, more than "
            "chance would have it, and this run's softness η lets a part of that pass"
            if min(where[0], where_plain[0]) > where[1]
            else "and lies below a random direction"
        ),
        "eta": number(float(runs.config(PROTECTED).settings["eta_affinity"])),
        "free_course": course(*free),
        "inputs_course": course(*free_inputs),
        "does_it_run_out": (
            "By the knee, no; by the share of energy, yes"
            if abs(free[0] - free[1]) < 1 < free_inputs[0] - free_inputs[1]
            else "The two rules do not disagree here as they usually do"
        ),
    }


def _spectrum(runs: Recordings):
    spectra = of(runs.events(PROTECTED, SpectrumMeasured), task=0)
    return spectrum_decay(spectra, layer=LAYER, space=SPACE, task=0, tasks=len(runs.tasks(PROTECTED)))


def _energy(runs: Recordings):
    spectra = of(runs.events(PROTECTED, SpectrumMeasured), task=0)
    return energy_kept(spectra, layer=LAYER, space=SPACE, tasks=len(runs.tasks(PROTECTED)))


def _steps(runs: Recordings, run: str):
    plan = runs.log(run).started()
    return update_norms(runs.events(run, StepEnded), total_steps=plan.total_steps if plan else None)


def _where(runs: Recordings, run: str):
    return update_residual(runs.events(run, UpdateMeasured), space=SPACE, tasks=len(runs.tasks(run)))


def _knee(runs: Recordings):
    return directions_left(
        runs.events(PROTECTED, SpectrumMeasured), space=SPACE, layer=LAYER, tasks=len(runs.tasks(PROTECTED))
    )


def _tail(runs: Recordings):
    return free_directions(runs.events(GRADIENTS, SpectrumMeasured), tasks=len(runs.tasks(GRADIENTS)))


LESSON = Lesson(
    "room",
    "Room to learn",
    "See what old tasks use of a layer, where the cut falls, and how much of each step is still allowed.",
    15,
    (PROTECTED, PLAIN, GRADIENTS),
    facts,
    (
        Step(
            "What a layer has seen",
            "A layer of this network works in {width} dimensions. Collect what the pictures of T1 ask of the prompts "
            "in {layer}, and sort the directions by how much they are used: the figure shows their singular values, "
            "on a log axis. They fall steeply. The method puts its *cut* at the knee of the curve (circle): {kept} "
            "directions are *protected*, the rest are called free.",
            (Drawing(_spectrum, (PROTECTED,)),),
            "How many directions are left free for the next task, and are these directions unused?",
            "{free}. Hardly used, not unused: no value is exactly zero. The cut calls them free, and with it we take "
            "the risk.",
            links=(
                Link(
                    "Move through layers and tasks",
                    "pages/spectra.py",
                    (("run", PROTECTED), ("task", "T1"), ("layer", "1")),
                ),
            ),
            terms=("nullity", "protected-rank", "knee"),
        ),
        Step(
            "Energy: the same curve, added up",
            "Square the singular values and add them up from the left: the share of *energy* that the first "
            "directions hold. {most} of it lies in {most_rank} of {width} directions, {nearly_all} in "
            "{nearly_all_rank}; the {kept} protected ones hold {kept_energy}. So a past task uses few directions "
            "strongly and leaves most of the space alone. That is why there is room to learn at all.",
            (Drawing(_energy, (PROTECTED,)),),
            "You keep more energy for old tasks, {nearly_all} instead of {most}. What does it cost?",
            "More protected directions: {nearly_all_rank} instead of {most_rank}. The last few percent of energy are "
            "dear, because they are spread thinly over many directions.",
            links=(
                Link(
                    "Energy, layer by layer", "pages/spectra.py", (("run", PROTECTED), ("task", "T1"), ("layer", "1"))
                ),
                Link(
                    "Move the energy yourself",
                    "pages/whatif.py",
                    (("run", PROTECTED), ("task", "T1"), ("rule", "energy share"), ("tau", "0.9")),
                ),
            ),
            terms=("energy-threshold", "nullity"),
        ),
        Step(
            "What gets through of a step",
            "From the second task on, every step of the optimiser (dotted) is projected: what points along protected "
            "directions is taken away or weakened before the step is made (solid). Of a step {through} get through; "
            "in the plain run {through_plain}. Over a whole later task the prompts move by {moved} of their size "
            "instead of {moved_plain}.",
            (
                Drawing(beside(_steps, PROTECTED, PLAIN), (PROTECTED,), "With protection"),
                Drawing(beside(_steps, PLAIN, PROTECTED), (PLAIN,), "Plain"),
            ),
            "Is the whole difference in movement the projection's doing?",
            "{why_moved}. A figure of one cause never shows that it is the only one.",
            links=(Link("The run's own page", "pages/run.py", (("run", PROTECTED),)),),
            terms=("null-space", "softness"),
        ),
        Step(
            "Smaller, or better aimed?",
            "A smaller step is not yet a safer one: what matters is where it points. The dots say how much of a task's "
            "net change lies along what earlier tasks use; zero would be none of it, grey bars are a random direction. "
            "On average {residual} with protection, {residual_plain} without, {random} at random. The protected run "
            "{avoids}, {beside_random}.",
            (
                Drawing(beside(_where, PROTECTED, PLAIN), (PROTECTED,), "With protection"),
                Drawing(beside(_where, PLAIN, PROTECTED), (PLAIN,), "Plain"),
            ),
            "The softness η of this run is {eta}. What would the dots do at one, and what would it cost?",
            "At one, protected directions let nothing pass, and the dots fall towards zero. The new task then loses "
            "everything that it wanted there. The next lesson moves exactly this.",
            links=(
                Link("Updates inside the protected space", "pages/spectra.py", (("run", PROTECTED), ("layer", "1"))),
            ),
            terms=("softness", "interference"),
        ),
        Step(
            "Does the room run out?",
            "Every task adds to what must be protected. In the run on digits, whose cut is at the knee, the share "
            "left free {free_course} from the first task to the last (mean over layers). GNSP cuts by energy instead, "
            "on a stream of six domains: there the share left free in the inputs of the first MLP matrix "
            "{inputs_course}.",
            (
                Drawing(_knee, (PROTECTED,), "Digits, cut at the knee"),
                Drawing(_tail, (GRADIENTS,), "Six domains, cut by energy"),
            ),
            "Does the room to learn run out?",
            "{does_it_run_out}. 'Room' is a property of the rule as much as of the network: a rule that always keeps "
            "the same number of directions cannot show it shrinking, whatever the tasks add.",
            links=(
                Link("Room of the six domains", "pages/spectra.py", (("run", GRADIENTS),)),
                Link("Room of the digits", "pages/spectra.py", (("run", PROTECTED), ("layer", "1"))),
            ),
            preset="nsp2-micro",
            terms=("nullity", "knee", "energy-threshold"),
        ),
    ),
)
