"""Lesson: move the threshold. What another cut would have let through, and what the cut is worth."""

from __future__ import annotations

from cl_core.events import SpectrumMeasured, UpdateByDirection, UpdateMeasured, WeightSpectrumMeasured
from cl_core.metrics import final_average_accuracy, forgetting, learning_accuracy
from cl_core.whatif import Boundary, Prediction, Threshold, best, boundaries, own_threshold, predict
from dashboard.figures.comparison import accuracy_overlay, forgetting_overlay
from dashboard.figures.updates import gains
from dashboard.figures.whatif import against_threshold, at_equal_freedom, in_percent
from dashboard.lessons.lesson import (
    ALIKE,
    PLAIN,
    PROTECTED,
    Drawing,
    Lesson,
    Link,
    RecordingMissing,
    Recordings,
    Step,
    course,
)
from dashboard.lessons.room import moved
from dashboard.theme import number, percent, task_name

SPACE = "affinity"
LOW, HIGH = 0.9, 0.99  # energy kept for old tasks, the two ends that the text compares
HALF = 0.5  # of all directions
BARELY = 5.0  # percentage points: a number that moves by less hardly moves


def boundary_of(runs: Recordings) -> Boundary:
    """The newest boundary of the protected run after which a task was learned."""
    found = best(
        boundaries(
            runs.events(PROTECTED, SpectrumMeasured),
            runs.events(PROTECTED, WeightSpectrumMeasured),
            runs.events(PROTECTED, UpdateByDirection),
        ),
        SPACE,
    )
    if found is None or found.energies is None:
        raise RecordingMissing(f"the recording {PROTECTED} holds no update by direction")
    return found


def _softness(boundary: Boundary) -> float:
    own = own_threshold(boundary)
    return own.eta if own is not None else 1.0


def facts(runs: Recordings) -> dict[str, str]:
    boundary = boundary_of(runs)
    eta = _softness(boundary)

    def mean(prediction: Prediction, field: str) -> float:
        return float(in_percent(prediction, boundary, field).mean())

    low, high = (predict(boundary, Threshold("energy", v, eta=eta)) for v in (LOW, HIGH))
    strict_low, strict_high = (predict(boundary, Threshold("energy", v)) for v in (LOW, HIGH))
    half = predict(boundary, Threshold("free", HALF))
    plain, protected = runs.accuracies(PLAIN), runs.accuracies(PROTECTED)
    ends = final_average_accuracy(plain), final_average_accuracy(protected)
    felt = mean(low, "interference"), mean(high, "interference")
    return {
        "after": task_name(boundary.task),
        "next": task_name(boundary.task + 1),
        "low": f"{LOW:.2f}",
        "high": f"{HIGH:.2f}",
        "free_low": percent(mean(low, "nullity")),
        "free_high": percent(mean(high, "nullity")),
        "passed_low": percent(mean(low, "passed")),
        "passed_high": percent(mean(high, "passed")),
        "felt_low": percent(felt[0]),
        "felt_high": percent(felt[1]),
        "eta": number(eta),
        "floor": percent(100 * (1 - eta) ** 2, 0),
        "cheap": (
            "It costs the new task much and spares the old ones hardly anything"
            if felt[0] - felt[1] < BARELY < mean(low, "passed") - mean(high, "passed")
            else "It costs the new task something and spares the old ones something"
        ),
        "strict_passed_low": percent(mean(strict_low, "passed")),
        "strict_passed_high": percent(mean(strict_high, "passed")),
        "strict_felt_low": percent(mean(strict_low, "interference")),
        "strict_felt_high": percent(mean(strict_high, "interference")),
        "half": percent(100 * HALF, 0),
        "half_passed": percent(mean(half, "passed")),
        "half_felt": percent(mean(half, "interference")),
        "overlap": (
            "Here it stays low until most directions are free, because what the new digits want is largely what old "
            "ones use. That overlap, whatever the method, is what makes stability cost plasticity"
            if mean(half, "passed") < 100 * HALF
            else "Here it does: old and new digits get out of each other's way"
        ),
        "which_side": (
            "More of what the task wanted lies in the protected half than in the free one"
            if mean(half, "passed") < 100 * HALF
            else "More of what the task wanted lies in the free half than in the protected one"
        ),
        "forgetting": f"{forgetting(plain):.1f}",
        "forgetting_protected": f"{forgetting(protected):.1f}",
        "learning_course": course(learning_accuracy(plain), learning_accuracy(protected)),
        "final": percent(ends[0]),
        "final_protected": percent(ends[1]),
        "same_end": (
            "the two end within a point of each other"
            if abs(ends[0] - ends[1]) < ALIKE
            else f"the {'plain' if ends[0] > ends[1] else 'protected'} run ends higher"
        ),
        "moved": percent(moved(runs.events(PROTECTED, UpdateMeasured)), 0),
        "moved_plain": percent(moved(runs.events(PLAIN, UpdateMeasured)), 0),
    }


def _against(value: float, *, strict: bool = False):
    def draw(runs: Recordings):
        boundary = boundary_of(runs)
        threshold = Threshold("energy", value, eta=1.0 if strict else _softness(boundary))
        return against_threshold(boundary, threshold, layer=0)

    return draw


def _equal(runs: Recordings):
    return at_equal_freedom(boundary_of(runs), Threshold("free", HALF))


def _overlay(function):
    return lambda runs: function({"protected": runs.accuracies(PROTECTED), "plain": runs.accuracies(PLAIN)})


def _gains(runs: Recordings):
    boundary = boundary_of(runs)
    return gains(runs.events(PROTECTED, SpectrumMeasured), space=SPACE, task=boundary.task)


def _at(**choices: str) -> tuple[tuple[str, str], ...]:
    return (("run", PROTECTED), ("task", "T4"), ("rule", "energy share"), *choices.items())


LESSON = Lesson(
    "threshold",
    "Move the threshold",
    "Keep more or less for old tasks, read what it would have cost, and ask whether it is the direction that helps.",
    15,
    (PROTECTED, PLAIN),
    facts,
    (
        Step(
            "One slider, three numbers",
            "The run stored what the task after {after} wanted to change, direction by direction. So one can compute, "
            "without training, what another *energy kept for old tasks* would have meant. From {low} to {high} the "
            "share of directions left free goes from {free_low} to {free_high}, the share of the wanted update that "
            "passes from {passed_low} to {passed_high}, and what old tasks would have felt of it (*interference*) from "
            "{felt_low} to {felt_high}.",
            (Drawing(_against(LOW), (PROTECTED,)),),
            "Is moving the slider from {low} to {high} a good bargain here?",
            "{cheap}. The reason is the softness η = {eta}: a protected direction is weakened, not closed, and {floor} "
            "of the energy along it always passes. No threshold gets below that floor.",
            links=(Link("Drag it yourself", "pages/whatif.py", _at(tau="0.9")),),
            terms=("energy-threshold", "interference", "softness"),
        ),
        Step(
            "The same slider, strictly",
            "Now close protected directions altogether (η = 1). Between {low} and {high} the share passed goes from "
            "{strict_passed_low} to {strict_passed_high}, and interference from {strict_felt_low} to "
            "{strict_felt_high}. The rightmost panel can now fall to zero; the middle one pays for it.",
            (Drawing(_against(LOW, strict=True), (PROTECTED,)),),
            "At which position would you stop, and what would you need to know to be sure?",
            "Where the right curve has fallen and the middle one has not yet. To be sure one has to train: "
            "interference is about old features at one boundary, forgetting also about the head and about later "
            "tasks. *Try it for real* on the What if page trains the remaining tasks from here, on a run of your own.",
            links=(Link("The strict slider", "pages/whatif.py", _at(tau="0.9", eta="1")),),
            terms=("softness", "interference", "fork"),
        ),
        Step(
            "The price of freedom",
            "Forget the rules and leave the same fraction of directions free in every layer, those that old tasks use "
            "least. With {half} left free, {half_passed} of what {next} wanted would pass, and old tasks would feel "
            "{half_felt}. {which_side}.",
            (Drawing(_equal, (PROTECTED,)),),
            "If old and new tasks had nothing in common, where would the left curve run?",
            "On the diagonal or above it: half of the directions would let half of the update pass, or more. "
            "{overlap}.",
            links=(
                Link(
                    "At equal freedom",
                    "pages/whatif.py",
                    (("run", PROTECTED), ("task", "T4"), ("rule", "share left free"), ("tau", "0.5")),
                ),
            ),
            terms=("plasticity", "stability", "interference"),
        ),
        Step(
            "What it came to",
            "Computed numbers are one thing, accuracy another. With protection, forgetting is {forgetting_protected} "
            "points instead of {forgetting}; learning accuracy {learning_course}; and {same_end} ({final_protected} "
            "with protection, {final} without).",
            (
                Drawing(_overlay(forgetting_overlay), (PROTECTED, PLAIN)),
                Drawing(_overlay(accuracy_overlay), (PROTECTED, PLAIN)),
            ),
            "Somebody shows you the upper figure alone. What do you ask for?",
            "The lower one. Less forgetting bought with less learning can leave the sum where it was.",
            links=(Link("Both runs", "pages/compare.py", (("runs", (PROTECTED, PLAIN)),)),),
            terms=("forgetting", "learning-accuracy"),
        ),
        Step(
            "Is it the direction at all?",
            "Protection also makes steps smaller: prompts moved by {moved} of their size in a task, not "
            "{moved_plain}. Would merely smaller steps do as well? The control for this question makes every step "
            "smaller on average by the same factor, in all directions alike. In this project's tables, over several "
            "seeds, that control and the method cannot be told apart in class-incremental accuracy. By stored "
            "statistics the method is ahead: features do stay nearer to where they were.",
            (Drawing(_gains, (PROTECTED,)),),
            "So is the null space worth it?",
            "It depends on what one reads. For features that old statistics can still read: yes. For the accuracy of "
            "the trained heads on this small stream: nothing that these seeds can show. Saying both is the honest "
            "result. No recording of the control comes with the program: train it here and compare.",
            links=(Link("The question, with its three runs", "pages/questions.py", (("question", "nsp2-baseline"),)),),
            preset="nsp2-shrink-micro",
            terms=("softness", "seed"),
        ),
    ),
)
