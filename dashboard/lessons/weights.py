"""Lesson: weights that stay out of the way. Principal and null directions of a weight matrix."""

from __future__ import annotations

import numpy as np

from cl_core.events import ModalityGapMeasured, WeightSpectrumMeasured
from cl_core.metrics import forgetting, last
from dashboard.figures.gap import gap_over_tasks
from dashboard.figures.weight_directions import change_against_principal
from dashboard.figures.weight_history import room_left
from dashboard.figures.weights import map_spectrum, words
from dashboard.lessons.lesson import (
    FINE_TUNED,
    WEIGHTS,
    Drawing,
    Lesson,
    Link,
    Recordings,
    Step,
    beside,
    course,
    matrix_of,
    of_gap,
)
from dashboard.theme import number, percent, task_title

MAP = "image.0.q"  # the weight that the first step looks at


def leaks(measured: list[WeightSpectrumMeasured]) -> list[float]:
    """Share of each change that lies in the principal space, both sides."""
    return [v for e in measured for v in (e.leak_left, e.leak_right) if v is not None]


def facts(runs: Recordings) -> dict[str, str]:
    measured, tuned_always = (runs.events(run, WeightSpectrumMeasured) for run in (WEIGHTS, FINE_TUNED))
    tuned = [e for e in tuned_always if e.clock.task == 0]
    tasks = runs.tasks(WEIGHTS)
    (chosen,) = [e for e in measured if e.name == MAP and e.clock.task == 0]
    end = max(e.clock.task for e in measured)
    text = [e for e in measured if e.name.startswith("text")]
    null = [
        100 * float(np.mean([1 - e.principal / len(e.before) for e in text if e.clock.task == t])) for t in (0, end)
    ]
    most = max(e.written for e in measured if e.bound == "r_max")
    gap, gap_tuned = (runs.events(run, ModalityGapMeasured) for run in (WEIGHTS, FINE_TUNED))
    matrix, matrix_tuned = runs.accuracies(WEIGHTS), runs.accuracies(FINE_TUNED)
    movement, movement_tuned = (100 * float(np.mean([e.movement for e in m])) for m in (measured, tuned_always))
    return {
        "map": words(MAP),
        "width": str(len(chosen.before)),
        "share": percent(100 * chosen.rho, 0),
        "principal": str(chosen.principal),
        "null": str(len(chosen.before) - chosen.principal),
        "written": str(chosen.written),
        "promoted": str(chosen.promoted),
        "first": task_title(0, tasks),
        "leak": number(max(leaks(measured))),
        "leak_tuned": number(float(np.mean(leaks(tuned)))),
        "chance": f"{min(e.chance for e in tuned):.2f} to {max(e.chance for e in tuned):.2f}",
        "above_chance": (
            "more than a random change would have there"
            if np.mean(leaks(tuned)) > np.mean([e.chance for e in tuned])
            else "no more than a random change would have there"
        ),
        "null_course": course(*null),
        "most": str(most),
        "fewest": str(min(e.written for e in measured)),
        "movement": percent(movement),
        "movement_tuned": percent(movement_tuned),
        "further": (
            f"{movement / movement_tuned:.1f} times as far as fine-tuning's"
            if movement > movement_tuned
            else "no further than fine-tuning's"
        ),
        "forgetting": f"{forgetting(matrix):.1f}",
        "forgetting_tuned": f"{forgetting(matrix_tuned):.1f}",
        "last": percent(last(matrix)),
        "last_tuned": percent(last(matrix_tuned)),
        "general_course": course(gap[0].general_accuracy, gap[-1].general_accuracy),
        "general_tuned": course(gap_tuned[0].general_accuracy, gap_tuned[-1].general_accuracy),
        "length_before": number(gap[0].length),
        "length": number(gap[-1].length),
        "length_tuned": number(gap_tuned[-1].length),
    }


def _map(runs: Recordings):
    return map_spectrum(runs.events(WEIGHTS, WeightSpectrumMeasured), runs.tasks(WEIGHTS), name=MAP, task=0)


def _change(runs: Recordings, run: str):
    return change_against_principal(runs.events(run, WeightSpectrumMeasured), runs.tasks(run), task=0)


def _room(runs: Recordings):
    return room_left(runs.events(WEIGHTS, WeightSpectrumMeasured), runs.tasks(WEIGHTS))


LESSON = Lesson(
    "weights",
    "Weights that stay out of the way",
    "Instead of asking what pictures use, ask what the weights use, and write new tasks where they hardly do.",
    12,
    (WEIGHTS, FINE_TUNED),
    facts,
    (
        Step(
            "A weight has directions, too",
            "Any weight matrix can be taken apart into directions with a strength each, its singular values. Here: "
            "{map}, before {first} (dotted) and after it (solid). {principal} of {width} directions hold {share} of "
            "the squared strength; they are *principal*, the other {null} are *null*. NuSA-CL writes a new task into "
            "the last {written} only (shaded).",
            (Drawing(_map, (WEIGHTS,)),),
            "Only the shaded directions were written to. Why does the solid line leave the dotted one further left?",
            "Because it is sorted anew. Every direction left of the shade keeps its value exactly, but values that "
            "have risen out of the tail now stand among them: {promoted} exceed even the smallest principal one, and "
            "will count as principal for the next task.",
            links=(Link("Other matrices of this run", "pages/spectra.py", (("run", WEIGHTS), ("task", "T1"))),),
            terms=("principal-directions", "null-space"),
        ),
        Step(
            "Does the change stay out?",
            "Measure it: which share of a change lies in the principal space? With NuSA-CL at most {leak} in any map "
            "and task, which is rounding. Fine-tuning on {first} puts {leak_tuned} of its change there on average, "
            "{above_chance} ({chance}, bars). The axes are logarithmic.",
            (
                Drawing(beside(_change, WEIGHTS, FINE_TUNED), (WEIGHTS,), "NuSA-CL"),
                Drawing(beside(_change, FINE_TUNED, WEIGHTS), (FINE_TUNED,), "Fine-tuning"),
            ),
            "Why do NuSA-CL's dots lie at rounding and not just 'low'?",
            "By construction: only a small matrix between two fixed bases is trained, and whatever it becomes, the "
            "product lies in the chosen directions. No optimiser can leave them.",
            links=(Link("Where the change lies", "pages/spectra.py", (("run", WEIGHTS), ("task", "T1"))),),
            terms=("null-space",),
        ),
        Step(
            "Does the room run out?",
            "After each task the change is merged, and the next task takes the merged weight apart anew. Directions "
            "that were written to may have become principal. In the text tower the share of null directions "
            "{null_course}. At most {most} directions may be written to; by the end some maps offer only {fewest}.",
            (Drawing(_room, (WEIGHTS,)),),
            "The pre-trained principal directions: are they protected for ever?",
            "Only from the next task, not for ever. The cut is made anew each time, on a weight that already carries "
            "earlier tasks, so what counts as principal drifts.",
            links=(Link("Ask what a longer stream does", "pages/questions.py", (("question", "nusa-saturation"),)),),
            terms=("nullity", "principal-directions"),
        ),
        Step(
            "What it buys, and what not",
            "NuSA-CL's weights moved by {movement} of their norm in a task, {further} ({movement_tuned}). Yet it "
            "forgets {forgetting} points instead of {forgetting_tuned}, ends at {last} instead of {last_tuned}, and "
            "accuracy on the first world's own classes {general_course}; under this fine-tuning it "
            "{general_tuned}.",
            (Drawing(matrix_of(WEIGHTS), (WEIGHTS,)), Drawing(of_gap(gap_over_tasks, WEIGHTS), (WEIGHTS,))),
            "The gap between pictures and texts still goes from {length_before} to {length} (fine-tuning: "
            "{length_tuned}). How can that be, if nothing principal was touched?",
            "A direction in which a *weight* is weak may still carry what old *inputs* need. Staying out of the "
            "weights' way is not the same as leaving the function alone. Two more cautions: the fine-tuning shown "
            "runs at a rate too high for it, and the control that writes into random directions, which does far worse "
            "in this project's tables, is not among the recordings.",
            links=(
                Link("The control, as a question", "pages/questions.py", (("question", "nusa-directions"),)),
                Link("Both runs", "pages/compare.py", (("runs", (WEIGHTS, FINE_TUNED)),)),
            ),
            preset="nusa-cl-micro",
            terms=("modality-gap", "forgetting"),
        ),
    ),
)
