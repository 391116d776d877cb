"""Every number that the lessons say, computed once more from the recordings, without the program's own measures."""

from __future__ import annotations

import functools
import json
import math
from collections import defaultdict
from collections.abc import Callable
from statistics import fmean, median
from typing import Any

import numpy as np

from cl_core.assets import assets_folder, recordings_folder
from cl_core.store import RunFolder, RunReader

PLAIN, PROTECTED = "sequential-split-digits", "nsp2-split-digits"
UNHELD = "none-permuted-digits"
TUNED, GNSP, NUSA = "finetune-micro-mtil", "gnsp-micro-mtil", "nusa-cl-micro-mtil"
CIL, TIL, STORED, AFRESH = "class-incremental", "task-incremental", "stored statistics", "recomputed statistics"

Matrix = list[list[float]]


@functools.cache
def rows(run: str) -> dict[str, list[Any]]:
    """Kind → events of a recording, as stored."""
    reader = RunReader(RunFolder(recordings_folder() / run))
    found = defaultdict(list)
    for stored in reader.since():
        found[type(stored.event).__name__].append(stored.event)
    reader.close()
    return found


def tasks(run: str) -> list[dict[str, Any]]:
    return rows(run)["RunStarted"][-1].tasks


def matrix(run: str, readout: str) -> Matrix:
    """a[i][j] in percent, NaN = not measured; [−1] is left out."""
    found = {e.clock.task: e.row for e in rows(run)["AccuracyMeasured"] if e.readout == readout and e.clock.task >= 0}
    wide = len(tasks(run))
    return [[(v if v is not None else math.nan) for v in (*found[i], *[None] * (wide - len(found[i])))] for i in found]


def zero_shot(run: str) -> list[float]:
    (found,) = [e.row for e in rows(run)["AccuracyMeasured"] if e.clock.task < 0]
    return found


def end(a: Matrix) -> float:
    return fmean(a[-1])


def on_the_way(a: Matrix) -> float:
    return fmean(fmean(row[: i + 1]) for i, row in enumerate(a))


def learned(a: Matrix) -> float:
    return fmean(a[j][j] for j in range(len(a)))


def forgotten(a: Matrix) -> float:
    n = len(a) - 1
    return fmean(max(a[i][j] for i in range(j, n)) - a[n][j] for j in range(n))


def transferred(a: Matrix) -> float:
    return fmean(fmean(a[i][j] for i in range(j)) for j in range(1, len(a)))


def turned(a: Matrix) -> Matrix:
    return [list(column) for column in zip(*a, strict=True)]


def forgetting() -> dict[str, list[float]]:
    a, b = matrix(PLAIN, CIL), matrix(PROTECTED, CIL)
    n = len(a) - 1
    lost = [a[j][j] - a[n][j] for j in range(n)]
    worst, best = lost.index(max(lost)), lost.index(min(lost))
    return {
        "classes": [sum(len(t["classes"]) for t in tasks(PLAIN))],
        "first_classes": [len(tasks(PLAIN)[0]["classes"])],
        "rows": [n + 1],
        "shown": [3],
        "first": [a[0][0]],
        "first_shown": [a[2][0]],
        "first_end": [a[n][0]],
        "first_course": [a[0][0], a[n][0]],
        "worst_course": [a[worst][worst], a[n][worst]],
        "best_course": [a[best][best], a[n][best]],
        "last_row": a[n],
        "final": [end(a)],
        "incremental": [on_the_way(a)],
        "forgetting": [forgotten(a)],
        "learning": [learned(a)],
        "newest": [a[n][n]],
        "forgetting_protected": [forgotten(b)],
        "learning_protected": [learned(b)],
        "final_protected": [end(b)],
    }


def readouts() -> dict[str, list[float]]:
    found = {}
    for run, suffix in ((PLAIN, ""), (PROTECTED, "_protected")):
        for name, readout in (("class", CIL), ("task", TIL), ("stored", STORED), ("recomputed", AFRESH)):
            found[name + suffix] = [end(matrix(run, readout))]
    free, told = matrix(PLAIN, CIL)[-1], matrix(PLAIN, TIL)[-1]
    j = max(range(len(free)), key=lambda j: told[j] - free[j])
    counts = [t["test"] for t in tasks(PLAIN)]
    first = matrix(PLAIN, STORED)
    return found | {
        "widest_class": [free[j]],
        "widest_task": [told[j]],
        "tests": [min(counts), max(counts)],
        "stored_first": [first[0][0], first[1][0]],
        "stored_between": [found["stored_protected"][0] - found["stored"][0]],
        "class_between": [found["class_protected"][0] - found["class"][0]],
        "chance": [100 / len(tasks(PLAIN)[0]["classes"])],
    }


def spectra(run: str, space: str, task: int) -> list[Any]:
    return [e for e in rows(run)["SpectrumMeasured"] if e.space == space and e.clock.task == task]


def free_share(run: str, space: str, task: int) -> float:
    return fmean(100 * e.nullity / len(e.eigenvalues) for e in spectra(run, space, task))


def through(run: str) -> float:
    def size(norms: dict[str, float]) -> float:
        return math.sqrt(sum(v * v for v in norms.values()))

    steps = [e for e in rows(run)["StepEnded"] if e.clock.task > 0]
    return 100 * median(size(e.applied_norm) / size(e.proposed_norm) for e in steps)


def movement(run: str) -> float:
    return 100 * fmean(e.movement for e in rows(run)["UpdateMeasured"] if e.clock.task > 0)


def residual(run: str, field: str = "residual") -> float:
    return fmean(v for e in rows(run)["UpdateMeasured"] if (v := getattr(e, field)["affinity"]) is not None)


def first_spectrum() -> Any:
    return next(e for e in spectra(PROTECTED, "affinity", 0) if e.layer == 0)


def counted(share: float) -> int:
    """How many of the first directions hold this share of the energy."""
    energies = [float(v) for v in first_spectrum().eigenvalues]
    total, kept = sum(energies), 0.0
    for count, energy in enumerate(energies, start=1):
        kept += energy
        if kept >= share * total:
            return count
    return len(energies)


def room() -> dict[str, list[float]]:
    first, last = first_spectrum(), len(tasks(PROTECTED)) - 1
    n = len(first.eigenvalues)
    return {
        "layer": [1],
        "width": [n],
        "free": [first.nullity, n, 100 * first.nullity / n],
        "kept": [n - first.nullity],
        "kept_energy": [100 * float(sum(first.eigenvalues[: n - first.nullity]) / sum(first.eigenvalues))],
        "effective": [first.effective_rank],
        "most": [90],
        "most_rank": [counted(0.9)],
        "nearly_all": [99],
        "nearly_all_rank": [counted(0.99)],
        "through": [through(PROTECTED)],
        "through_plain": [through(PLAIN)],
        "moved": [movement(PROTECTED)],
        "moved_plain": [movement(PLAIN)],
        "residual": [residual(PROTECTED)],
        "residual_plain": [residual(PLAIN)],
        "random": [residual(PROTECTED, "isotropic")],
        "eta": [eta()],
        "free_course": [free_share(PROTECTED, "affinity", 0), free_share(PROTECTED, "affinity", last)],
        "inputs_course": [free_share(GNSP, "c_fc", 0), free_share(GNSP, "c_fc", len(tasks(GNSP)) - 1)],
    }


def settings(run: str) -> dict[str, Any]:
    return RunFolder(recordings_folder() / run).config().settings


def eta() -> float:
    return float(settings(PROTECTED)["eta_affinity"])


def at_threshold(protected: Callable[[np.ndarray], int], softness: float) -> tuple[float, float, float]:
    """Left free, passed and interference in percent, means over layers, at the newest boundary with an update."""
    updates = [e for e in rows(PROTECTED)["UpdateByDirection"] if e.space == "affinity"]
    update = max(updates, key=lambda e: e.clock.task)
    found = []
    for place, layer in enumerate(update.layers):
        (event,) = [e for e in spectra(PROTECTED, "affinity", update.clock.task - 1) if e.layer == layer]
        energy, wanted = (np.asarray(v, np.float64) for v in (event.eigenvalues, update.energies[place]))
        k = protected(energy)
        factor = np.where(np.arange(len(energy)) < k, (1 - softness) ** 2, 1.0)
        found.append(
            (
                100 * (len(energy) - k) / len(energy),
                100 * float((factor * wanted).sum() / wanted.sum()),
                100 * float((factor * wanted * energy).sum() / (wanted * energy).sum()),
            )
        )
    return tuple(fmean(column) for column in zip(*found, strict=True))


def keeping(share: float) -> Callable[[np.ndarray], int]:
    return lambda energy: int(np.searchsorted(np.cumsum(energy) / energy.sum(), share)) + 1


def threshold() -> dict[str, list[float]]:
    soft_low, soft_high = (at_threshold(keeping(v), eta()) for v in (0.9, 0.99))
    strict_low, strict_high = (at_threshold(keeping(v), 1.0) for v in (0.9, 0.99))
    half = at_threshold(lambda energy: len(energy) // 2, 1.0)
    a, b = matrix(PLAIN, CIL), matrix(PROTECTED, CIL)
    return {
        "low": [0.9],
        "high": [0.99],
        "free_low": [soft_low[0]],
        "free_high": [soft_high[0]],
        "passed_low": [soft_low[1]],
        "passed_high": [soft_high[1]],
        "felt_low": [soft_low[2]],
        "felt_high": [soft_high[2]],
        "eta": [eta()],
        "floor": [100 * (1 - eta()) ** 2],
        "strict_passed_low": [strict_low[1]],
        "strict_passed_high": [strict_high[1]],
        "strict_felt_low": [strict_low[2]],
        "strict_felt_high": [strict_high[2]],
        "half": [50],
        "half_passed": [half[1]],
        "half_felt": [half[2]],
        "forgetting": [forgotten(a)],
        "forgetting_protected": [forgotten(b)],
        "learning_course": [learned(a), learned(b)],
        "final": [end(a)],
        "final_protected": [end(b)],
        "moved": [movement(PROTECTED)],
        "moved_plain": [movement(PLAIN)],
    }


def lost_unasked() -> dict[tuple[int, int], float]:
    """(i, j) with j > i → change against zero-shot, percentage points."""
    a, before = matrix(TUNED, TIL), zero_shot(TUNED)
    return {(i, j): a[i][j] - before[j] for i in range(len(a)) for j in range(i + 1, len(a))}


def gap(run: str, moment: int) -> Any:
    return rows(run)["ModalityGapMeasured"][moment]


def clip() -> dict[str, list[float]]:
    before, a, b = zero_shot(TUNED), matrix(TUNED, TIL), matrix(GNSP, TIL)
    worst, lost = before.index(min(before)), lost_unasked()

    def both(run: str, value: Callable[[Any], float]) -> list[float]:
        return [value(gap(run, 0)), value(gap(run, -1))]

    return {
        "domains": [len(before)],
        "best_zero": [max(before)],
        "worst_zero": [min(before)],
        "worst_chance": [100 / len(tasks(TUNED)[worst]["classes"])],
        "worst_learned": [a[worst][worst]],
        "mean_zero": [fmean(before)],
        "damage_size": [min(lost.values())],
        "damage_mean": [fmean(lost.values())],
        "transfer": [transferred(a)],
        "transfer_zero": [fmean(before[1:])],
        "length_before": [gap(TUNED, 0).length],
        "length": [gap(TUNED, -1).length],
        "direction": [gap(TUNED, -1).direction],
        "recall_course": both(TUNED, lambda e: e.image_to_text["1"]),
        "general_course": both(TUNED, lambda e: e.general_accuracy),
        "length_other": [gap(GNSP, -1).length],
        "recall_other": both(GNSP, lambda e: e.image_to_text["1"]),
        "general_other": both(GNSP, lambda e: e.general_accuracy),
        "learning": [learned(a)],
        "learning_other": [learned(b)],
        "learning_against": [learned(b) - learned(a)],
        "last": [end(a)],
        "last_other": [end(b)],
        "transfer_other": [transferred(b)],
        "rate": [settings(TUNED)["rate"]],
        "rate_other": [settings(GNSP)["rate"]],
    }


def weight_changes(run: str, task: int | None = None) -> list[Any]:
    return [e for e in rows(run)["WeightSpectrumMeasured"] if task in (None, e.clock.task)]


def sides(events: list[Any]) -> list[float]:
    return [v for e in events for v in (e.leak_left, e.leak_right) if v is not None]


def null_share(task: int) -> float:
    text = [e for e in weight_changes(NUSA, task) if e.name.startswith("text")]
    return fmean(100 * (len(e.before) - e.principal) / len(e.before) for e in text)


def weights() -> dict[str, list[float]]:
    (chosen,) = [e for e in weight_changes(NUSA, 0) if e.name == "image.0.q"]
    strength = np.asarray(chosen.before, np.float64) ** 2
    principal = keeping(0.95)(strength)
    first, a, b = weight_changes(TUNED, 0), matrix(NUSA, TIL), matrix(TUNED, TIL)
    far, near = (100 * fmean(e.movement for e in weight_changes(run)) for run in (NUSA, TUNED))
    general = {run: [gap(run, moment).general_accuracy for moment in (0, -1)] for run in (NUSA, TUNED)}
    return {
        "map": [1],
        "width": [len(chosen.before)],
        "share": [95],
        "principal": [principal],
        "null": [len(chosen.before) - principal],
        "written": [chosen.written],
        "promoted": [int(sum(chosen.after > 1.000001 * chosen.before[principal - 1])) - (principal - 1)],
        "leak": [max(sides(weight_changes(NUSA)))],
        "leak_tuned": [fmean(sides(first))],
        "chance": [min(e.chance for e in first), max(e.chance for e in first)],
        "null_course": [null_share(0), null_share(len(tasks(NUSA)) - 1)],
        "most": [settings(NUSA)["r_max"]],
        "fewest": [min(e.written for e in weight_changes(NUSA))],
        "movement": [far],
        "movement_tuned": [near],
        "further": [far / near],
        "forgetting": [forgotten(a)],
        "forgetting_tuned": [forgotten(b)],
        "last": [end(a)],
        "last_tuned": [end(b)],
        "general_course": general[NUSA],
        "general_tuned": general[TUNED],
        "length_before": [gap(NUSA, 0).length],
        "length": [gap(NUSA, -1).length],
        "length_tuned": [gap(TUNED, -1).length],
    }


def error(accuracy: float, pictures: int) -> float:
    return math.sqrt(accuracy * (100 - accuracy) / pictures)


def error_of_end(run: str) -> float:
    last, pictures = matrix(run, CIL)[-1], [t["test"] for t in tasks(run)]
    return math.sqrt(sum(error(v, n) ** 2 for v, n in zip(last, pictures, strict=True))) / len(last)


def tables() -> dict[str, list[float]]:
    a, b, c = matrix(PLAIN, CIL), matrix(PROTECTED, CIL), matrix(NUSA, TIL)
    pictures = tasks(PLAIN)[0]["test"]
    return {
        "forgetting": [forgotten(c)],
        "turned_forgetting": [forgotten(turned(c))],
        "transfer": [transferred(c)],
        "turned_transfer": [transferred(turned(c))],
        "average": [fmean(fmean(row) for row in c)],
        "last": [end(c)],
        "final": [end(a)],
        "incremental": [on_the_way(a)],
        "learning": [learned(a)],
        "final_protected": [end(b)],
        "incremental_protected": [on_the_way(b)],
        "pictures": [pictures],
        "cell": [a[-1][0]],
        "cell_error": [error(a[-1][0], pictures)],
        "difference": [end(b) - end(a)],
        "noise": [math.hypot(error_of_end(PLAIN), error_of_end(PROTECTED))],
        "seed": [RunFolder(recordings_folder() / PLAIN).config().seed],
        "stored": [end(matrix(PLAIN, STORED))],
        "recomputed": [end(matrix(PLAIN, AFRESH))],
    }


def frontier(similarity: str) -> dict[str, Any]:
    """Text of a threshold → what the recorded frontier holds of it."""
    file = assets_folder() / "playground" / f"gpm-permuted-digits-{similarity}.json"
    return {point["text"]: point for point in json.loads(file.read_text("utf-8"))["points"]}


def best_text() -> str:
    found = frontier("0")
    return max(found, key=lambda text: found[text]["after"][-1]["final"])


def left(similarity: str) -> list[float]:
    """Free directions of every layer at the end, at the threshold that is best for unlike tasks."""
    return frontier(similarity)[best_text()]["free"][-1]


def price() -> dict[str, list[float]]:
    found, alike = frontier("0"), frontier("0.8")
    last = {text: point["after"][-1] for text, point in found.items()}
    best = max(last, key=lambda text: last[text]["final"])
    plain_run = matrix("none-permuted-digits", CIL)
    said: dict[str, list[float]] = {
        "tasks": [len(found[best]["matrix"])],
        "seeds": [len(found[best]["seeds"])],
        "fresh": [plain_run[0][0]],
        "faded": [plain_run[-1][0]],
        "best": [float(best)],
        "sd_best": [found[best]["spread"]["final"]],
        "first_left": [100 * found[best]["free"][-1][0]],
        "last_left": [100 * found[best]["free"][-1][-1]],
        "alike": [80],
        "alike_left": [100 * alike[best]["free"][-1][0]],
        "alike_forgotten": [alike[best]["after"][-1]["forgetting"]],
        "alike_final": [alike[best]["after"][-1]["final"]],
        "alike_nothing": [alike["0"]["after"][-1]["final"]],
    }
    for name, text in (("nothing", "0"), ("everything", "1"), ("best", best)):
        said |= {
            f"learned_{name}": [last[text]["learning"]],
            f"forgotten_{name}": [last[text]["forgetting"]],
            f"final_{name}": [last[text]["final"]],
        }
    return said


NUMBERS: dict[str, Callable[[], dict[str, list[float]]]] = {
    "price": price,
    "forgetting": forgetting,
    "readouts": readouts,
    "room": room,
    "threshold": threshold,
    "clip": clip,
    "weights": weights,
    "tables": tables,
}
