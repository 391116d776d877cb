"""Lesson: what adapting costs a CLIP, in what it could do before it was adapted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cl_core.events import AccuracyMeasured, ModalityGapMeasured
from cl_core.metrics import last, learning_accuracy, transfer
from dashboard.figures.accuracy import accuracy_matrix
from dashboard.figures.event_arrays import zero_shot
from dashboard.figures.gap import gap_over_tasks
from dashboard.figures.zero_shot_ability import general_accuracy, lost_before_learning, retrieval, zero_shot_lost
from dashboard.lessons.lesson import (
    FINE_TUNED,
    GRADIENTS,
    Drawing,
    Lesson,
    Link,
    RecordingMissing,
    Recordings,
    Step,
    against,
    course,
    listed,
    matrix_of,
    of_gap,
)
from dashboard.theme import number, percent, points, task_name, task_title


def untrained(runs: Recordings, run: str) -> np.ndarray:
    """[T] zero-shot accuracies in percent."""
    found = zero_shot(runs.events(run, AccuracyMeasured))
    if found is None:
        raise RecordingMissing(f"the recording {run} holds no zero-shot row")
    return found


def facts(runs: Recordings) -> dict[str, str]:
    tasks = runs.tasks(FINE_TUNED)
    before, matrix, other = untrained(runs, FINE_TUNED), runs.accuracies(FINE_TUNED), runs.accuracies(GRADIENTS)
    best, worst = int(np.argmax(before)), int(np.argmin(before))
    lost = lost_before_learning(runs.events(FINE_TUNED, AccuracyMeasured))
    row, column = np.unravel_index(np.nanargmin(lost), lost.shape)
    gap, other_gap = runs.events(FINE_TUNED, ModalityGapMeasured), runs.events(GRADIENTS, ModalityGapMeasured)
    return {
        "domains": str(len(tasks)),
        "names": listed([task_title(j, tasks) for j in range(len(tasks))]),
        "best": task_title(best, tasks),
        "best_zero": percent(before[best]),
        "worst": task_title(worst, tasks),
        "worst_zero": percent(before[worst]),
        "worst_chance": percent(100 / len(tasks[worst]["classes"])),
        "worst_learned": percent(matrix[worst, worst]),
        "mean_zero": percent(float(before.mean())),
        "damage": task_title(int(column), tasks),
        "damage_after": task_title(int(row), tasks),
        "damage_size": points(float(lost[row, column])),
        "damage_mean": points(float(np.nanmean(lost))),
        "transfer": percent(transfer(matrix)),
        "transfer_zero": percent(float(before[1:].mean())),
        "first": task_name(0),
        "length_before": number(gap[0].length),
        "length": number(gap[-1].length),
        "direction": number(gap[-1].direction),
        "recall_course": course(gap[0].image_to_text["1"], gap[-1].image_to_text["1"]),
        "general_course": course(gap[0].general_accuracy, gap[-1].general_accuracy),
        "length_other": number(other_gap[-1].length),
        "recall_other": course(other_gap[0].image_to_text["1"], other_gap[-1].image_to_text["1"]),
        "general_other": course(other_gap[0].general_accuracy, other_gap[-1].general_accuracy),
        "learning": percent(learning_accuracy(matrix)),
        "learning_other": percent(learning_accuracy(other)),
        "learning_against": against(learning_accuracy(other), learning_accuracy(matrix)),
        "last": percent(last(matrix)),
        "last_other": percent(last(other)),
        "transfer_other": percent(transfer(other)),
        "rate": number(float(runs.config(FINE_TUNED).settings["rate"])),
        "rate_other": number(float(runs.config(GRADIENTS).settings["rate"])),
    }


def _zero(runs: Recordings):
    measured = [
        e if e.clock.task < 0 else replace(e, row=[None] * len(e.row))
        for e in runs.events(FINE_TUNED, AccuracyMeasured)
    ]
    return accuracy_matrix(measured, stages=runs.stages(FINE_TUNED), tasks=runs.tasks(FINE_TUNED))


def _lost(runs: Recordings):
    return zero_shot_lost(runs.events(FINE_TUNED, AccuracyMeasured), runs.tasks(FINE_TUNED))


LESSON = Lesson(
    "clip",
    "What adapting costs a CLIP",
    "A model that understands words can answer before it is trained. See what training takes from that.",
    12,
    (FINE_TUNED, GRADIENTS),
    facts,
    (
        Step(
            "The row before training",
            "This model has two towers, one for pictures and one for texts, and was taught to bring a picture and its "
            "caption together. Asked which of several sentences fits a picture, it can answer for things it was never "
            "trained on: *zero-shot*. Over the {domains} domains to come ({names}) it gets {mean_zero} right on "
            "average, most for {best} ({best_zero}) and least for {worst} ({worst_zero}).",
            (Drawing(_zero, (FINE_TUNED,)),),
            "{worst_zero} for {worst} looks poor. Is it nothing?",
            "Guessing would give {worst_chance}. The gap to what it can learn is wide all the same: once trained on, "
            "{worst} stands at {worst_learned}.",
            links=(Link("The whole run", "pages/start.py", (("run", FINE_TUNED),)),),
            terms=("zero-shot", "scenario"),
        ),
        Step(
            "The upper triangle",
            "Now all weights are trained on one domain after the other. Above the diagonal stand domains that were "
            "*not yet* learned: what the model can still do unasked. The second figure subtracts the row before "
            "training. On average these cells change by {damage_mean}; worst hit is {damage} after {damage_after}, "
            "{damage_size}.",
            (Drawing(matrix_of(FINE_TUNED), (FINE_TUNED,)), Drawing(_lost, (FINE_TUNED,))),
            "The mean over what lies above the diagonal, column by column, is called *Transfer*. Here it is "
            "{transfer}. What does one compare it with?",
            "With zero-shot on the same domains, {transfer_zero}: {first} is left out, because nothing comes before "
            "it. Transfer above that would mean that earlier domains helped.",
            links=(Link("Zero-shot lost before learning", "pages/gap.py", (("run", FINE_TUNED),)),),
            terms=("transfer", "zero-shot"),
        ),
        Step(
            "Do pictures and texts still meet?",
            "Held-out pairs of the world it was first trained on tell what happens to the two towers. The *modality "
            "gap*, from the mean picture to the mean text, goes from length {length_before} to {length}, and its "
            "direction turns (cosine {direction} with where it began). Finding the right text for a picture, first "
            "try, {recall_course}.",
            (
                Drawing(of_gap(gap_over_tasks, FINE_TUNED), (FINE_TUNED,)),
                Drawing(of_gap(retrieval, FINE_TUNED), (FINE_TUNED,)),
            ),
            "Is a longer gap bad in itself?",
            "No. It can grow while every picture still finds its text. Retrieval and zero-shot accuracy say whether it "
            "hurts; here accuracy on the first world's own classes {general_course}.",
            links=(Link("Gap, with the two clouds", "pages/gap.py", (("run", FINE_TUNED), ("task", "T6"))),),
            terms=("modality-gap", "retrieval"),
        ),
        Step(
            "The same stream, protected",
            "GNSP trains the same weights at the same rate ({rate_other}), but keeps gradients out of what earlier "
            "inputs use and holds on to pairs of the first world. It learns {learning_against} of each new domain "
            "({learning_other}, not {learning}) and ends at {last_other}, not {last}. The gap ends at {length_other}; "
            "accuracy on the first world's own classes {general_other}.",
            (Drawing(matrix_of(GRADIENTS), (GRADIENTS,)), Drawing(of_gap(general_accuracy, GRADIENTS), (GRADIENTS,))),
            "Is that a fair comparison?",
            "Fair in that only the method differs; unfair in that the rate suits GNSP. Fine-tuning at a rate chosen "
            "for it ends much closer, in this project's tables. Give every method its own best settings before you "
            "say one is better.",
            links=(
                Link("Both runs", "pages/compare.py", (("runs", (GRADIENTS, FINE_TUNED)),)),
                Link("The gap under GNSP", "pages/gap.py", (("run", GRADIENTS), ("task", "T6"))),
            ),
            preset="finetune-micro",
            terms=("transfer", "modality-gap"),
        ),
    ),
)
