"""One sentence that answers a page's question for one run, computed from its events. No streamlit.

Percentages are of what is named; layers and tasks count from 1 in what is said, from 0 in what is given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cl_core.events import AttentionCompared, ModalityGapMeasured, SpectrumMeasured
from dashboard.figures.event_arrays import compared_later
from dashboard.theme import number, percent, points, task_name

ROOM = "Is there room left to learn?"
ATTENTION = "Do old images still get the attention they had?"
JOINT = "Do images and texts stay where pre-training put them?"

UNMOVED = 0.005  # total variation that rounds to 0.00


def room_left(measured: Sequence[SpectrumMeasured], task: int | None = None) -> str:
    """Directions left free over the layers of one space after `task`, and how many the run has taken since its first.

    Args:
        measured: spectra of one space, in the order of the events.
        task: None = the newest that was measured.

    Returns:
        "" without events.
    """
    by_task: dict[int, dict[int, SpectrumMeasured]] = {}
    for event in measured:
        by_task.setdefault(event.clock.task, {})[event.layer] = event
    if not by_task:
        return ""
    now = task if task in by_task else max(by_task)
    here, first = by_task[now], by_task[min(by_task)]
    least = min(here, key=lambda layer: here[layer].nullity / len(here[layer].eigenvalues))
    least_event = here[least]
    shares = {round(e.nullity / len(e.eigenvalues), 4) for e in here.values()}
    width = len(least_event.eigenvalues)
    left = f"{least_event.nullity} of {width} directions ({percent(100 * least_event.nullity / width, 0)})"
    if len(shares) == 1:
        where = f"every layer has {left} left" if len(here) > 1 else f"{left} are left"
    else:
        where = f"layer {least + 1} has least left, {left}"
    said = f"After {task_name(now)} {where}"
    if now == min(by_task):
        return said + "."
    taken = {layer: first[layer].nullity - event.nullity for layer, event in here.items() if layer in first}
    if not any(taken.values()):
        return f"{said}: none has been taken since {task_name(min(by_task))}."
    most = max(taken, key=lambda layer: taken[layer])
    if taken[most] <= 0:
        return f"{said}; no layer has fewer than after {task_name(min(by_task))}."
    loser = "it" if most == least and len(shares) > 1 else f"layer {most + 1}"
    return f"{said}; since {task_name(min(by_task))} {loser} lost most, {taken[most]} directions."


def attention_kept(compared: Sequence[AttentionCompared], task: int | None = None) -> str:
    """How far attention on probe images of earlier tasks has moved after `task`, by total variation, end to end.

    Total variation is half the sum of absolute differences: 0 = the same, 1 = entirely elsewhere.

    Args:
        compared: in the order of the events.
        task: None = the newest that was compared.

    Returns:
        "" where nothing was compared with an earlier moment.
    """
    later = {(e.clock.task, e.probe_task): e for e in compared_later(compared)}
    if not later:
        return ""
    tasks = {clock for clock, _ in later}
    now = task if task in tasks else max(tasks)
    here = {probe: e for (clock, probe), e in later.items() if clock == now}
    moved = {probe: np.asarray(e.total_variation, dtype=float) for probe, e in here.items()}
    mean = float(np.mean([values.mean() for values in moved.values()]))
    if all(values.max() < UNMOVED for values in moved.values()):
        return f"After {task_name(now)} attention on images of earlier tasks is what it was when they were learned."
    probe = max(moved, key=lambda p: moved[p].max())
    layer = int(moved[probe].argmax())
    return (
        f"After {task_name(now)} {percent(100 * mean)} of the attention on images of earlier tasks lies elsewhere than "
        f"when they were learned; most on {task_name(probe)} in layer {layer + 1}, "
        f"{percent(100 * float(moved[probe][layer]))}."
    )


def joint_space_kept(measured: Sequence[ModalityGapMeasured], task: int | None = None) -> str:
    """What `task` has left of the gap, of retrieval and of general accuracy, against before training.

    Args:
        measured: in the order of the events; the first is before training.
        task: None = the newest that was measured.

    Returns:
        "" before a task was learned.
    """
    if not measured:
        return ""
    first = measured[0]
    now = next((e for e in reversed(measured) if task is None or e.clock.task == task), measured[-1])
    if now is first:
        return ""

    def recall(event: ModalityGapMeasured) -> float:
        return (event.image_to_text.get("1", np.nan) + event.text_to_image.get("1", np.nan)) / 2

    return (
        f"After {task_name(now.clock.task)} the gap is {number(now.length)}, before training {number(first.length)}; "
        f"R@1 changed by {points(recall(now) - recall(first))}, general accuracy by "
        f"{points(now.general_accuracy - first.general_accuracy)}."
    )
