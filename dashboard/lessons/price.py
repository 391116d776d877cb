"""Lesson: the price of remembering. One threshold, two ways to fail, and a best value in between."""

from __future__ import annotations

from typing import Any

from cl_core.events import SpectrumMeasured
from cl_core.playground.frontier import best
from cl_core.playground.settings import PlaygroundConfig
from dashboard.figures.nullity_plots import free_directions
from dashboard.figures.playground import room_of_similar_tasks, threshold_profile
from dashboard.lessons.lesson import Drawing, Lesson, Link, RecordingMissing, Recordings, Step, matrix_of
from dashboard.theme import percent
from dashboard.widgets.playground_board import layer_names, recorded_points

UNPROTECTED, HELD = "none-permuted-digits", "gpm-permuted-digits"
ALIKE = 0.8  # similarity of the stream that the last step compares with
PAGE = "pages/playground.py"


def recorded(similarity: float = 0.0) -> list[dict[str, Any]]:
    found = recorded_points(PlaygroundConfig(similarity=similarity))
    if not found:
        raise RecordingMissing("this lesson reads a recorded frontier, which did not come with this copy")
    return found


def top(similarity: float = 0.0) -> dict[str, Any]:
    found = best(recorded(similarity))
    assert found is not None
    return found


def at(similarity: float, text: str) -> dict[str, Any]:
    """The recorded point of a threshold."""
    return next(point for point in recorded(similarity) if point["text"] == text)


def end(point: dict[str, Any], measure: str) -> float:
    return float(point["after"][-1][measure])


def pp(value: float) -> str:
    return f"{value:.1f} points"


def facts(runs: Recordings) -> dict[str, str]:
    found, chosen = recorded(), top()
    nothing, everything = found[0], found[-1]
    alike = at(ALIKE, chosen["text"])
    matrix = runs.accuracies(UNPROTECTED)
    spread = chosen["spread"]["final"]
    gap = min(end(chosen, "final") - end(p, "final") for p in (nothing, everything))
    return {
        "tasks": str(len(chosen["matrix"])),
        "seeds": str(len(chosen["seeds"])),
        "fresh": percent(float(matrix[0, 0])),
        "faded": percent(float(matrix[-1, 0])),
        "learned_nothing": percent(end(nothing, "learning")),
        "forgotten_nothing": pp(end(nothing, "forgetting")),
        "final_nothing": percent(end(nothing, "final")),
        "learned_everything": percent(end(everything, "learning")),
        "forgotten_everything": pp(end(everything, "forgetting")),
        "final_everything": percent(end(everything, "final")),
        "best": chosen["text"],
        "final_best": percent(end(chosen, "final")),
        "sd_best": f"{spread:.1f}",
        "learned_best": percent(end(chosen, "learning")),
        "forgotten_best": pp(end(chosen, "forgetting")),
        "sure": "far more than the seeds differ" if gap > 3 * spread else "not far beyond what the seeds differ by",
        "first_left": percent(100 * chosen["free"][-1][0], 0),
        "last_left": percent(100 * chosen["free"][-1][-1], 0),
        "alike": percent(100 * ALIKE, 0),
        "alike_left": percent(100 * alike["free"][-1][0], 0),
        "alike_forgotten": pp(end(alike, "forgetting")),
        "alike_final": percent(end(alike, "final")),
        "alike_nothing": percent(end(recorded(ALIKE)[0], "final")),
    }


def _profile(runs: Recordings):
    return threshold_profile(recorded())


def _room(runs: Recordings):
    return free_directions(runs.events(HELD, SpectrumMeasured), tasks=len(runs.tasks(HELD)))


def _similar(runs: Recordings):
    text = top()["text"]
    streams = [("unlike tasks", at(0.0, text)), ("similar tasks", at(ALIKE, text))]
    return room_of_similar_tasks(streams, layers=layer_names(PlaygroundConfig()))


LESSON = Lesson(
    "price",
    "The price of remembering",
    "One threshold decides how much a network forgets and how much it can still learn. Find its best value, and why "
    "both ends fail.",
    8,
    (UNPROTECTED, HELD),
    facts,
    (
        Step(
            "Nothing protected",
            "A small network learns {tasks} tasks, one after the other: the same ten handwritten digits, their pixels "
            "shuffled differently in every task. It is trained plainly. Each row of the matrix is one moment: how well "
            "it does on every task so far. T1 stands at {fresh} when it has just been learned and at {faded} at the "
            "end. Over {seeds} seeds such networks learn {learned_nothing} of each task and forget "
            "{forgotten_nothing} of it.",
            (Drawing(matrix_of(UNPROTECTED), (UNPROTECTED,)),),
            "Why does learning a new task undo the old ones?",
            "All tasks share the weights. A step that helps the new task changes the outputs for old inputs as well, "
            "unless it happens to lie where old inputs never go.",
            (Link("Watch it happen: ε at its lowest", PAGE, (("epsilon", "0"),)),),
            terms=("forgetting", "accuracy-matrix"),
        ),
        Step(
            "One threshold",
            "Gradient projection memory keeps, for every layer, the directions that hold the share ε of the energy of "
            "old inputs, and forbids steps along them. At the left of the figure nothing is protected, at the right "
            "everything: there the network learns {learned_everything} of each task, because hardly any step is "
            "allowed, and forgets {forgotten_everything}.",
            (Drawing(_profile, ()),),
            "Both ends are poor: {final_nothing} and {final_everything} in the end. Where is the best threshold, and "
            "is its lead more than chance?",
            "{final_best} ± {sd_best} at ε = {best}: {learned_best} learned, {forgotten_best} forgotten. Its lead over "
            "both ends is {sure}. To its left the network forgets, to its right it cannot learn.",
            (Link("Find it yourself", PAGE, (("predict", "true"),)),),
            terms=("energy-threshold", "plasticity", "stability"),
        ),
        Step(
            "Room that runs out",
            "Every task adds directions to what is protected. The map shows what is left, layer by layer, in one run "
            "near the best threshold. Over {seeds} seeds the first layer ends with {first_left} of its directions "
            "free, the last with {last_left}: shuffled pixels are new directions for the first layer, while later "
            "layers see features that tasks share.",
            (Drawing(_room, (HELD,)),),
            "What happens when the first layer has no direction left?",
            "Nothing new can be learned there. The other layers have to make do with the features that the first one "
            "computes already. That is why accuracy right after learning falls from task to task when ε is large.",
            (
                Link("Its spectra", "pages/spectra.py", (("run", HELD), ("layer", "1"))),
                Link("A threshold for each layer", PAGE, (("bylayer", "true"),)),
            ),
            terms=("nullity",),
        ),
        Step(
            "Similar tasks are cheaper",
            "Now {alike} of the pixels stay where they are. Old and new inputs share most directions, so a new task "
            "takes few of its own: {alike_left} of the first layer's directions are free at the end, instead of "
            "{first_left}. The same threshold forgets {alike_forgotten} instead of {forgotten_best} and ends at "
            "{alike_final}.",
            (Drawing(_similar, ()),),
            "With nothing protected, similar tasks already end at {alike_nothing}. Why?",
            "A step for the new task is nearly a step for the old ones too. How much protection is needed depends on "
            "how unlike the tasks are: a threshold that was found on one stream need not suit another.",
            (Link("Make the tasks more similar", PAGE, (("similarity", "0.8"),)),),
        ),
    ),
)
