"""Every number of the lessons, by its expression, computed again from the recordings without the program's measures."""

from __future__ import annotations

import functools
import itertools
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
UNHELD, HELD = "none-permuted-digits", "gpm-permuted-digits"
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


def lost_unasked() -> dict[tuple[int, int], float]:
    """(i, j) with j > i → change against zero-shot, percentage points."""
    a, before = matrix(TUNED, TIL), zero_shot(TUNED)
    return {(i, j): a[i][j] - before[j] for i in range(len(a)) for j in range(i + 1, len(a))}


def gap(run: str, moment: int) -> Any:
    return rows(run)["ModalityGapMeasured"][moment]


def weight_changes(run: str, task: int | None = None) -> list[Any]:
    return [e for e in rows(run)["WeightSpectrumMeasured"] if task in (None, e.clock.task)]


def sides(events: list[Any]) -> list[float]:
    return [v for e in events for v in (e.leak_left, e.leak_right) if v is not None]


def null_share(task: int) -> float:
    text = [e for e in weight_changes(NUSA, task) if e.name.startswith("text")]
    return fmean(100 * (len(e.before) - e.principal) / len(e.before) for e in text)


def error(accuracy: float, pictures: int) -> float:
    return math.sqrt(accuracy * (100 - accuracy) / pictures)


def error_of_end(run: str) -> float:
    last, pictures = matrix(run, CIL)[-1], [t["test"] for t in tasks(run)]
    return math.sqrt(sum(error(v, n) ** 2 for v, n in zip(last, pictures, strict=True))) / len(last)


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


def accuracies() -> dict[str, list[float]]:
    """Of the runs on split digits."""
    a, b = matrix(PLAIN, CIL), matrix(PROTECTED, CIL)
    n = len(a) - 1
    lost = [a[j][j] - a[n][j] for j in range(n)]
    worst, best = lost.index(max(lost)), lost.index(min(lost))
    free, told, stored = matrix(PLAIN, CIL)[-1], matrix(PLAIN, TIL)[-1], matrix(PLAIN, STORED)
    widest = max(range(len(free)), key=lambda j: told[j] - free[j])
    apart = 'widest_apart(plain, "class-incremental", "task-incremental")'
    pictures = tasks(PLAIN)[0]["test"]
    found = {
        "tasks(plain)": [n + 1],
        "classes(plain)": [sum(len(t["classes"]) for t in tasks(PLAIN))],
        "classes(plain, 1)": [len(tasks(PLAIN)[0]["classes"])],
        "newest(plain)": [n + 1],
        "most_forgotten(plain)": [worst + 1],
        "least_forgotten(plain)": [best + 1],
        "accuracy(plain, 1, 1)": [a[0][0]],
        "accuracy(plain, 3, 1)": [a[2][0]],
        "accuracy(plain, on=1)": [a[n][0]],
        "accuracy(plain)": [a[n][n]],
        "fate(plain, 1)": [a[0][0], a[n][0]],
        "fate(plain, most_forgotten(plain))": [a[worst][worst], a[n][worst]],
        "fate(plain, least_forgotten(plain))": [a[best][best], a[n][best]],
        "last_row(plain)": a[n],
        "size(final(protected) - final(plain))": [abs(end(b) - end(a))],
        "difference(final(protected), final(plain))": [end(b) - end(a)],
        "change(learning(plain), learning(protected))": [learned(a), learned(b)],
        apart: [widest + 1],
        f'accuracy(plain, on={apart}, readout="class-incremental")': [free[widest]],
        f'accuracy(plain, on={apart}, readout="task-incremental")': [told[widest]],
        "chance(plain, 1)": [100 / len(tasks(PLAIN)[0]["classes"])],
        'change(accuracy(plain, 1, 1, "stored statistics"), accuracy(plain, 2, 1, "stored statistics"))': [
            stored[0][0],
            stored[1][0],
        ],
        "test_images(plain, 1)": [pictures],
        "standard_error(plain, 1)": [error(a[-1][0], pictures)],
        "error_of_difference(protected, plain)": [math.hypot(error_of_end(PLAIN), error_of_end(PROTECTED))],
        "seed(plain)": [RunFolder(recordings_folder() / PLAIN).config().seed],
    }
    for name, run in (("plain", PLAIN), ("protected", PROTECTED)):
        whole = matrix(run, CIL)
        found |= {
            f"final({name})": [end(whole)],
            f"incremental({name})": [on_the_way(whole)],
            f"forgetting({name})": [forgotten(whole)],
            f"learning({name})": [learned(whole)],
        } | {f'final({name}, "{readout}")': [end(matrix(run, readout))] for readout in (CIL, TIL, STORED, AFRESH)}
    for readout in (CIL, STORED):
        ours, theirs = (end(matrix(run, readout)) for run in (PROTECTED, PLAIN))
        found[f'compared(final(protected, "{readout}"), final(plain, "{readout}"))'] = [ours - theirs]
    return found


def spaces() -> dict[str, list[float]]:
    """Of spectra, steps and updates."""
    first, last = first_spectrum(), len(tasks(PROTECTED)) - 1
    n = len(first.eigenvalues)
    shares = [free_share(PROTECTED, "affinity", task) for task in (0, last)]
    inputs = [free_share(GNSP, "c_fc", task) for task in (0, len(tasks(GNSP)) - 1)]
    return {
        "layer(1)": [1],
        "width(protected)": [n],
        "free_directions(protected)": [first.nullity, n, 100 * first.nullity / n],
        "protected_directions(protected)": [n - first.nullity],
        "protected_energy(protected)": [
            100 * float(sum(first.eigenvalues[: n - first.nullity]) / sum(first.eigenvalues))
        ],
        "directions_for(protected, 0.9)": [counted(0.9)],
        "directions_for(protected, 0.99)": [counted(0.99)],
        'share(setting(protected, "energy_affinity"))': [100 * settings(PROTECTED)["energy_affinity"]],
        "step_passed(protected)": [through(PROTECTED)],
        "step_passed(plain)": [through(PLAIN)],
        "movement(protected)": [movement(PROTECTED)],
        "movement(plain)": [movement(PLAIN)],
        "inside(protected)": [residual(PROTECTED)],
        "inside(plain)": [residual(PLAIN)],
        "inside_at_random(protected)": [residual(PROTECTED, "isotropic")],
        'setting(protected, "eta_affinity")': [eta()],
        "change(free_share(protected, 1), free_share(protected, newest(protected)))": shares,
        "tasks(domains)": [len(tasks(GNSP))],
        'change(free_share(domains, 1, "c_fc"), free_share(domains, newest(domains), "c_fc"))': inputs,
    }


def thresholds() -> dict[str, list[float]]:
    """Of what another threshold would have let through."""
    half = at_threshold(lambda energy: len(energy) // 2, 1.0)
    boundary = max(e.clock.task for e in rows(PROTECTED)["UpdateByDirection"])
    found = {
        "boundary(protected)": [boundary],
        "own_eta(protected)": [eta()],
        "floor(own_eta(protected))": [100 * (1 - eta()) ** 2],
        "passed_free(protected, 0.5)": [half[1]],
        "interference_free(protected, 0.5)": [half[2]],
    }
    for energy in (0.9, 0.99):
        soft, strict = (at_threshold(keeping(energy), eta_) for eta_ in (eta(), 1.0))
        found |= {
            f"free_at(protected, {energy})": [soft[0]],
            f"passed_at(protected, {energy})": [soft[1]],
            f"interference_at(protected, {energy})": [soft[2]],
            f"passed_at(protected, {energy}, true)": [strict[1]],
            f"interference_at(protected, {energy}, true)": [strict[2]],
        }
    return found


def domains() -> dict[str, list[float]]:
    """Of the runs on six domains."""
    before, a = zero_shot(TUNED), matrix(TUNED, TIL)
    worst, lost = before.index(min(before)), lost_unasked()
    found = {
        "tasks(tuned)": [len(before)],
        "zero_shot_mean(tuned)": [fmean(before)],
        "zero_shot_mean(tuned, true)": [fmean(before[1:])],
        "accuracy(tuned, 0, best_zero_shot(tuned))": [max(before)],
        "accuracy(tuned, 0, worst_zero_shot(tuned))": [min(before)],
        "chance(tuned, worst_zero_shot(tuned))": [100 / len(tasks(TUNED)[worst]["classes"])],
        "accuracy(tuned, worst_zero_shot(tuned), worst_zero_shot(tuned))": [a[worst][worst]],
        "worst_hit_by(tuned)": [min(lost.values())],
        "mean_hit(tuned)": [fmean(lost.values())],
        "gap_direction(tuned)": [gap(TUNED, -1).direction],
        "change(recall(tuned, 0), recall(tuned))": [gap(TUNED, moment).image_to_text["1"] for moment in (0, -1)],
        'setting(gnsp, "rate")': [settings(GNSP)["rate"]],
        "compared(learning(gnsp), learning(tuned))": [learned(matrix(GNSP, TIL)) - learned(a)],
        "forgetting(nusa, true)": [forgotten(turned(matrix(NUSA, TIL)))],
        "transfer(nusa, true)": [transferred(turned(matrix(NUSA, TIL)))],
    }
    for name, run in (("tuned", TUNED), ("gnsp", GNSP), ("nusa", NUSA)):
        whole = matrix(run, TIL)
        found |= {
            f"transfer({name})": [transferred(whole)],
            f"average({name})": [fmean(fmean(row) for row in whole)],
            f"last({name})": [end(whole)],
            f"learning({name})": [learned(whole)],
            f"forgetting({name})": [forgotten(whole)],
            f"gap_length({name}, 0)": [gap(run, 0).length],
            f"gap_length({name})": [gap(run, -1).length],
            f"change(general({name}, 0), general({name}))": [gap(run, moment).general_accuracy for moment in (0, -1)],
        }
    return found


def matrices() -> dict[str, list[float]]:
    """Of weights and their principal directions."""
    (chosen,) = [e for e in weight_changes(NUSA, 0) if e.name == "image.0.q"]
    strength = np.asarray(chosen.before, np.float64) ** 2
    principal = keeping(0.95)(strength)
    first = weight_changes(TUNED, 0)
    far, near = (100 * fmean(e.movement for e in weight_changes(run)) for run in (NUSA, TUNED))
    of = lambda field: f'weight(nusa, "{field}", 1, "image.0.q")'
    return {
        'matrix_name("image.0.q")': [1],
        of("width"): [len(chosen.before)],
        of("rho"): [95],
        of("principal"): [principal],
        of("null"): [len(chosen.before) - principal],
        of("written"): [chosen.written],
        of("promoted"): [int(sum(chosen.after > 1.000001 * chosen.before[principal - 1])) - (principal - 1)],
        "largest_leak(nusa)": [max(sides(weight_changes(NUSA)))],
        "mean_leak(tuned, 1)": [fmean(sides(first))],
        "random_leaks(tuned, 1)": [min(e.chance for e in first), max(e.chance for e in first)],
        "change(null_share(nusa, 1), null_share(nusa, newest(nusa)))": [
            null_share(0),
            null_share(len(tasks(NUSA)) - 1),
        ],
        'setting(nusa, "r_max")': [settings(NUSA)["r_max"]],
        "fewest_written(nusa)": [min(e.written for e in weight_changes(NUSA))],
        "weight_movement(nusa)": [far],
        "weight_movement(tuned)": [near],
        "ratio(weight_movement(nusa), weight_movement(tuned))": [far / near],
    }


HEADS = {"K": TIL, "C": CIL}
PARTS = {"classes compete": ("K", "C"), "head out of date": ("R", "K"), "features lost": ("R", None)}


def levels(run: str, task: int, after: int) -> dict[str, tuple[float, float]]:
    """C, K, R of a cell (from 0): just after learning, and now."""
    found = {s: (matrix(run, name)[task][task], matrix(run, name)[after][task]) for s, name in HEADS.items()}
    refitted = {e.clock.task: e.row for e in rows(run)["RefitMeasured"]}
    return found | {"R": (refitted[task][task], refitted[after][task])}


def parts(run: str, task: int, after: int) -> dict[str, float]:
    level = levels(run, task, after)
    fallen = {symbol: then - now for symbol, (then, now) in level.items()}
    return {name: (fallen[low] - fallen[up]) if low else fallen[up] for name, (up, low) in PARTS.items()}


def lost_of(run: str, task: int, after: int) -> tuple[list[int], list[int], list[float]]:
    """Of the lost images of a task: their places, what they are taken for, and the margin lost."""
    (labels,) = [np.asarray(e.labels) for e in rows(run)["ImagesStored"] if e.clock.task == task]
    then, now = (
        next(e for e in rows(run)["ImagesClassified"] if e.evaluated == task and e.clock.task == moment)
        for moment in (task, after)
    )
    said = [np.asarray(e.predicted)[e.readouts.index(CIL)] for e in (then, now)]
    kept = [np.asarray(e.margins, dtype=np.float64)[e.readouts.index(CIL)] for e in (then, now)]
    lost = [i for i in range(len(labels)) if said[0][i] == labels[i] != said[1][i]]
    return lost, [int(said[1][i]) for i in lost], [kept[1][i] - kept[0][i] for i in lost]


def diagnosed() -> dict[str, list[float]]:
    """Of why tasks fell."""
    last, found = len(tasks(PLAIN)) - 1, {}
    for name, run in (("plain", PLAIN), ("protected", PROTECTED)):
        level = levels(run, 2, last)
        found[f"fall({name}, 3)"] = [level["C"][0] - level["C"][1]]
        found |= {f'part({name}, "{part}", 3)': [value] for part, value in parts(run, 2, last).items()}
    statistics = {s: matrix(PLAIN, readout) for s, readout in (("S", STORED), ("Q", AFRESH))}
    fallen = {symbol: a[2][2] - a[last][2] for symbol, a in statistics.items()}
    lost, taken, margins = lost_of(PLAIN, 2, last)
    mostly = max(set(taken), key=taken.count)
    looked = rows(PLAIN)["OldTasksMeasured"]
    rises = [
        (now.loss - before.loss, before.clock.step + 1, now.clock.step + 1, now.clock.task + 1)
        for before, now in itertools.pairwise(looked)
        if before.clock.task == now.clock.task
    ]
    spectrum = {e.clock.task: e for e in rows(HELD)["SpectrumMeasured"] if e.layer == 0}
    room = {
        f'free_directions(held, {task}, 1, "inputs")': [
            e.nullity,
            len(e.eigenvalues),
            100 * e.nullity / len(e.eigenvalues),
        ]
        for task, e in ((1, spectrum[0]), (10, spectrum[9]))
    }
    held, unheld = matrix(HELD, CIL), matrix(UNHELD, CIL)
    return (
        found
        | room
        | {
            "refitted(plain, 3)": [levels(PLAIN, 2, last)["R"][1]],
            "refitted(plain, 3, then=true)": [levels(PLAIN, 2, last)["R"][0]],
            "lost_images(plain, 3)": [len(lost)],
            "taken_count(plain, 3)": [taken.count(mostly)],
            "worst_image(plain, 3)": [lost[margins.index(min(margins))] + 1],
            "costliest_steps(plain)": list(max(rises)[1:3]),
            "costliest_task(plain)": [max(rises)[3]],
            'accuracy(protected, on=3, readout="task-incremental")': [matrix(PROTECTED, TIL)[last][2]],
            'part(plain, "statistics out of date", 3, 5, true)': [fallen["S"] - fallen["Q"]],
            'final(protected, "stored statistics")': [end(matrix(PROTECTED, STORED))],
            "accuracy(held, 1, 1)": [held[0][0]],
            "accuracy(held)": [held[-1][-1]],
            "accuracy(unprotected)": [unheld[-1][-1]],
            **{f"final({name})": [end(a)] for name, a in (("held", held), ("unprotected", unheld))},
            **{f"learning({name})": [learned(a)] for name, a in (("held", held), ("unprotected", unheld))},
            "forgetting(held)": [forgotten(held)],
        }
    )


def kept_file(run: str, name: str) -> dict[str, Any]:
    """What was measured of a recording from the run's checkpoints."""
    return json.loads((recordings_folder() / run / "analysis" / f"{name}.json").read_text("utf-8"))


def looked_into() -> dict[str, list[float]]:
    """Of the fine-tuned CLIP's weights, block by block and along a line."""
    cell, line, a = kept_file(TUNED, "T2-after-T5"), kept_file(TUNED, "line-T0-T6"), matrix(TUNED, TIL)
    (then, now), fallen = cell["refit"], a[1][1] - a[4][1]
    best = max(cell["layers"], key=lambda row: row["alone"])
    blocks = kept_file(PLAIN, "T3-after-T5")["layers"]
    at = {alpha: line["alphas"].index(alpha) for alpha in (0.0, 0.5, 1.0)}
    on = lambda what, alpha: [line[what][at[alpha]]]
    return {
        "change(accuracy(tuned, 2, 2), accuracy(tuned, 5, 2))": [a[1][1], a[4][1]],
        "refitted(tuned, 2, 5, true)": [then],
        "refitted(tuned, 2, 5)": [now],
        'part(tuned, "features lost", 2, 5)': [then - now],
        'part(tuned, "head out of date", 2, 5)': [fallen - (then - now)],
        "worst_layer(tuned, 2, 5)": [best["layer"]],
        "worst_layer(plain, 3, 5)": [max(blocks, key=lambda row: row["alone"])["layer"]],
        "layer_recovers(plain, 3, 5)": [max(row["alone"] for row in blocks)],
        "body_recovers(plain, 3, 5)": [kept_file(PLAIN, "T3-after-T5")["body"]],
        "layer_recovers(tuned, 2, 5)": [best["alone"]],
        "body_recovers(tuned, 2, 5)": [cell["body"]],
        **{f'on_the_line(tuned, "{w}", {x:g})': on(w, x) for w in ("learned", "general") for x in (0.5, 1.0)},
        'compared(on_the_line(tuned, "learned", 0.5), on_the_line(tuned, "learned", 1))': [
            line["learned"][at[0.5]] - line["learned"][at[1.0]]
        ],
    }


def played() -> dict[str, list[float]]:
    """Of the playground's recorded frontier."""
    found, alike = frontier("0"), frontier("0.8")
    text = best_text()
    plain_run = matrix(UNHELD, CIL)
    said: dict[str, list[float]] = {
        "tasks(unprotected)": [len(found[text]["matrix"])],
        'played_seeds("0")': [len(found[text]["seeds"])],
        "accuracy(unprotected, 1, 1)": [plain_run[0][0]],
        "accuracy(unprotected, on=1)": [plain_run[-1][0]],
        "best_threshold()": [float(text)],
        "played_spread(best_threshold())": [found[text]["spread"]["final"]],
        "played_free(best_threshold(), 1)": [100 * found[text]["free"][-1][0]],
        "played_free(best_threshold(), -1)": [100 * found[text]["free"][-1][-1]],
        "played_free(best_threshold(), 1, 0.8)": [100 * alike[text]["free"][-1][0]],
        'played("0", "final", 0.8)': [alike["0"]["after"][-1]["final"]],
    }
    for measure in ("final", "learning", "forgetting"):
        for name, key in (('"0"', "0"), ('"1"', "1"), ("best_threshold()", text)):
            said[f'played({name}, "{measure}")'] = [found[key]["after"][-1][measure]]
        said[f'played(best_threshold(), "{measure}", 0.8)'] = [alike[text]["after"][-1][measure]]
    return said


@functools.cache
def numbers() -> dict[str, list[float]]:
    """Expression of a lesson → the numbers in what it says."""
    typed = {f"share({value})": [100 * value] for value in (0.5, 0.8, 0.9, 0.99)}
    typed |= {f"decimals({value})": [value] for value in (0.9, 0.99)}
    return (
        typed | accuracies() | spaces() | thresholds() | domains() | matrices() | played() | diagnosed() | looked_into()
    )
