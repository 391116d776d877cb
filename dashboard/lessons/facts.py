"""What a lesson may say of a run: named pure functions of its events; in a lesson's text `{{ final(plain) }}`.

A fact knows its unit, so it prints as "58.0 %" and compares as 58.0. Tasks and layers count from 1 here, as on the
pages; `after=0` is before training. What a run did not measure raises `LookupError` with a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from cl_core import metrics
from cl_core.analysis import measured_later
from cl_core.analysis.ledger import (
    Images,
    Ledger,
    Stretch,
    answers_of,
    costly_steps,
    images,
    ledger,
    statistics_ledger,
)
from cl_core.events import (
    AccuracyMeasured,
    Event,
    ImagesClassified,
    ImagesStored,
    ModalityGapMeasured,
    OldTasksMeasured,
    SpectrumMeasured,
    StepEnded,
    UpdateByDirection,
    UpdateMeasured,
    WeightSpectrumMeasured,
)
from cl_core.playground.frontier import best as best_point
from cl_core.playground.settings import PlaygroundConfig
from cl_core.whatif import Boundary, Prediction, Threshold, best, boundaries, own_threshold, predict
from dashboard.figures.catalogue import cell_rows
from dashboard.figures.event_arrays import accuracies, zero_shot
from dashboard.figures.spectra import of
from dashboard.figures.weights import words
from dashboard.figures.whatif import in_percent
from dashboard.figures.zero_shot_ability import lost_before_learning
from dashboard.run_log import Snapshot
from dashboard.theme import directions, layer_name, number, percent, points, task_name, task_title

ALIKE = 1.0  # percentage points: two accuracies that differ by less are called alike
Kind = TypeVar("Kind", bound=Event)


class Number(float):
    """A number without a unit; three significant digits."""

    def __str__(self) -> str:
        return number(self)


class Percent(Number):
    """58.0 %."""

    def __str__(self) -> str:
        return percent(self)


class Whole(Number):
    """58 %, of what is a setting or a share that nobody reads to a tenth."""

    def __str__(self) -> str:
        return percent(self, 0)


class Points(Number):
    """12.3, a size in percentage points; the text says the unit."""

    def __str__(self) -> str:
        return f"{self:.1f}"


class Change(Number):
    """−3.2 pp."""

    def __str__(self) -> str:
        return points(self)


class Decimals(Number):
    """0.90"""

    def __str__(self) -> str:
        return f"{self:.2f}"


class Task(int):
    """T3; a task of the run, from 1."""

    def __str__(self) -> str:
        return task_name(self - 1)


class Layer(int):
    """layer 1"""

    def __str__(self) -> str:
        return layer_name(self - 1)


# ---------------------------------------------------------------- reading a run


def _events(run: Snapshot, kind: type[Kind]) -> list[Kind]:
    found = run.events(kind)
    if not found:
        raise LookupError(f"the run {run.name} holds no {kind.__name__}")
    return found


def _matrix(run: Snapshot, readout: str | None = None) -> np.ndarray:
    """[rows, tasks] in percent, of the readout that the run is judged by or another."""
    found = accuracies(_events(run, AccuracyMeasured), readout)
    if not found.size:
        raise LookupError(f"the run {run.name} has no accuracies{f' of {readout}' if readout else ''}")
    return found


def _plan(run: Snapshot) -> list[dict[str, Any]]:
    plan = run.started()
    if plan is None:
        raise LookupError(f"the run {run.name} has not begun")
    return list(plan.tasks)


def _classes(run: Snapshot, task: int) -> list[Any]:
    return list(_plan(run)[task - 1]["classes"])


def _at(run: Snapshot, kind: type[Kind], after: int | None) -> Kind:
    """The last event of a kind after task `after`; 0 = before training, None = the newest."""
    found = [event for event in _events(run, kind) if after is None or event.clock.task == after - 1]
    if not found:
        raise LookupError(f"the run {run.name} holds no {kind.__name__} after {task_name((after or 1) - 1)}")
    return found[-1]


# ---------------------------------------------------------------- the stream


def tasks(run: Snapshot) -> int:
    """Number of tasks."""
    return len(_plan(run))


def classes(run: Snapshot, task: int | None = None) -> int:
    """Number of classes of a task, or of all."""
    return sum(len(_classes(run, j)) for j in ([task] if task else range(1, tasks(run) + 1)))


def test_images(run: Snapshot, task: int) -> int:
    """Number of test images of a task."""
    return int(_plan(run)[task - 1]["test"])


def chance(run: Snapshot, task: int) -> Percent:
    """Accuracy of guessing among a task's own classes: 100 / classes."""
    return Percent(100 / len(_classes(run, task)))


def title(run: Snapshot, task: int) -> str:
    """What the stream calls a task."""
    return task_title(task - 1, _plan(run))


def titles(run: Snapshot) -> str:
    """All tasks by name: a, b and c."""
    return listed([title(run, j) for j in range(1, tasks(run) + 1)])


def order(run: Snapshot) -> str:
    """T1 (two and seven); T2 (…): the tasks in order with their classes."""
    named = [(task_name(j), title(run, j + 1), _classes(run, j + 1)) for j in range(tasks(run))]
    return "; ".join(f"{n} ({listed([str(c) for c in found])})" if t == n else t for n, t, found in named)


def setting(run: Snapshot, name: str) -> Any:
    """A setting of the run's method."""
    known = run.config.settings if run.config else {}
    if name not in known:
        raise LookupError(f"the run {run.name} has no setting {name}")
    value = known[name]
    return Number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def seed(run: Snapshot) -> int:
    """The run's seed."""
    return int(run.config.seed or 0) if run.config else 0


# ---------------------------------------------------------------- accuracy


def accuracy(run: Snapshot, after: int | None = None, on: int | None = None, readout: str | None = None) -> Percent:
    """Accuracy on task `on` (None: the last one) after training on task `after` (None: the end; 0: before training)."""
    if after == 0:
        row = zero_shot(_events(run, AccuracyMeasured))
        if row is None:
            raise LookupError(f"the run {run.name} holds no zero-shot row")
    else:
        row = _matrix(run, readout)[-1 if after is None else after - 1]
    return Percent(row[-1 if on is None else on - 1])


def final(run: Snapshot, readout: str | None = None) -> Percent:
    """Final average accuracy: the mean of the last row."""
    return Percent(metrics.final_average_accuracy(_matrix(run, readout)))


def incremental(run: Snapshot) -> Percent:
    """Average incremental accuracy: the mean of all rows' means."""
    return Percent(metrics.average_incremental_accuracy(_matrix(run)))


def learning(run: Snapshot) -> Percent:
    """Learning accuracy: the mean of the diagonal."""
    return Percent(metrics.learning_accuracy(_matrix(run)))


def forgetting(run: Snapshot, turned: bool = False) -> Points:
    """Forgetting in points; `turned`: of the transposed matrix."""
    matrix = _matrix(run)
    return Points(metrics.forgetting(matrix.T if turned else matrix))


def transfer(run: Snapshot, turned: bool = False) -> Percent:
    """Transfer: the mean above the diagonal, column by column; `turned`: of the transposed matrix."""
    matrix = _matrix(run)
    return Percent(metrics.transfer(matrix.T if turned else matrix))


def average(run: Snapshot) -> Percent:
    """Average: the mean of all cells, column by column."""
    return Percent(metrics.average(_matrix(run)))


def last(run: Snapshot) -> Percent:
    """Last: the mean of the last row."""
    return Percent(metrics.last(_matrix(run)))


def all_measured(run: Snapshot) -> bool:
    """Whether every cell of the matrix was measured."""
    return bool(np.isfinite(_matrix(run)).all())


def last_row(run: Snapshot) -> str:
    """91.2, 40.0 and 77.1 %: accuracies on all tasks at the end."""
    return listed([f"{value:.1f}" for value in _matrix(run)[-1]]) + " %"


def newest(run: Snapshot) -> Task:
    """The last task that was trained on."""
    return Task(len(_matrix(run)))


def _lost(run: Snapshot) -> np.ndarray:
    matrix = _matrix(run)
    return matrix.diagonal()[:-1] - matrix[-1, : len(matrix) - 1]


def most_forgotten(run: Snapshot) -> Task:
    """The task that lost most from its diagonal cell to the last row."""
    return Task(int(np.argmax(_lost(run))) + 1)


def least_forgotten(run: Snapshot) -> Task:
    """The task that lost least."""
    return Task(int(np.argmin(_lost(run))) + 1)


def fate(run: Snapshot, task: int) -> str:
    """ "falls from 99.0 % to 58.0 %": a task from when it was learned to the end."""
    return change(accuracy(run, task, task), accuracy(run, None, task))


def widest_apart(run: Snapshot, first: str, second: str) -> Task:
    """The task whose accuracies at the end, by two readouts, differ most: second minus first."""
    return Task(int(np.argmax(_matrix(run, second)[-1] - _matrix(run, first)[-1])) + 1)


def below_diagonal(run: Snapshot) -> Percent:
    """Mean accuracy on tasks after they were learned."""
    matrix = _matrix(run)
    return Percent(matrix[np.tril_indices(len(matrix), -1)].mean())


def above_diagonal(run: Snapshot) -> Percent:
    """Mean accuracy on tasks before they were learned."""
    matrix = _matrix(run)
    return Percent(matrix[np.triu_indices(len(matrix), 1)].mean())


def standard_error(run: Snapshot, task: int) -> Points:
    """Of a task's accuracy p at the end on its n test images: 100 √(p (1 − p) / n), in points."""
    share = accuracy(run, None, task) / 100
    return Points(100 * math.sqrt(share * (1 - share) / test_images(run, task)))


def error_of_difference(first: Snapshot, second: Snapshot) -> Points:
    """Standard error of the difference of two final average accuracies, as far as test images go."""
    parts = [standard_error(run, j) / tasks(run) for run in (first, second) for j in range(1, tasks(run) + 1)]
    return Points(math.sqrt(sum(part**2 for part in parts)))


# ---------------------------------------------------------------- why a task fell


def _cell(run: Snapshot, task: int, after: int | None, statistics: bool = False) -> Ledger:
    split, moment = statistics_ledger if statistics else ledger, (newest(run) if after is None else after) - 1
    return split(cell_rows(run, task - 1, moment), task - 1, moment)


def fall(run: Snapshot, task: int, after: int | None = None, statistics: bool = False) -> Points:
    """Points that the method's own heads (or the readout by stored statistics) lost on a task since it was learned."""
    drop = _cell(run, task, after, statistics).drop
    if drop is None:
        raise LookupError(f"the run {run.name} does not hold both accuracies on {task_name(task - 1)}")
    return Points(drop)


def part(run: Snapshot, name: str, task: int, after: int | None = None, statistics: bool = False) -> Points:
    """A part of that fall by its name on Forgetting, "features lost" say."""
    value = _cell(run, task, after, statistics).parts[name]
    if value is None:
        raise LookupError(f"the run {run.name} has not measured {name}")
    return Points(value)


def cause(run: Snapshot, task: int, after: int | None = None) -> str:
    """The largest part of the fall: "classes compete"."""
    return _cell(run, task, after).cause or "none"


def refitted(run: Snapshot, task: int, after: int | None = None, then: bool = False) -> Percent:
    """Accuracy on a task, its own classes competing, of a head fitted anew to the features after `after`; `then`: to
    those just after the task was learned."""
    value = _cell(run, task, after).levels["R"][0 if then else 1]
    if value is None:
        raise LookupError(f"the run {run.name} holds no refitted head of {task_name(task - 1)}")
    return Percent(value)


def layers_of(run: Snapshot, task: int, after: int) -> dict[str, Any]:
    """What was measured of a cell from checkpoints."""
    found = measured_later.read(run.folder, task - 1, after - 1)
    if found is None:
        raise LookupError(f"the run {run.name} has not measured in which layer {task_name(task - 1)} was lost")
    return found


def worst_layer(run: Snapshot, task: int, after: int) -> Layer:
    """The block that brings most accuracy on a task back when it is put back as it was."""
    return Layer(max(layers_of(run, task, after)["layers"], key=lambda row: row["alone"])["layer"])


def layer_recovers(run: Snapshot, task: int, after: int) -> Points:
    """How many points that block alone brings back."""
    return Points(max(row["alone"] for row in layers_of(run, task, after)["layers"]))


def body_recovers(run: Snapshot, task: int, after: int) -> Points:
    """How many points everything but the head brings back."""
    return Points(layers_of(run, task, after)["body"])


def line_of(run: Snapshot, after: int) -> dict[str, Any]:
    """Accuracies between the untouched weights and those after a task."""
    found = measured_later.read_line(run.folder, measured_later.UNTOUCHED, after - 1)
    if found is None:
        raise LookupError(f"the run {run.name} has not measured the line between its weights")
    return found


def on_the_line(run: Snapshot, what: str, alpha: float, after: int | None = None) -> Percent:
    """Accuracy ("learned" or "general") of weights averaged between untouched (0) and those after a task (1)."""
    found = line_of(run, newest(run) if after is None else after)
    if found.get(what) is None:
        raise LookupError(f"the line between the weights of {run.name} does not hold {what}")
    return Percent(found[what][int(np.argmin(np.abs(np.array(found["alphas"]) - alpha)))])


def _images(run: Snapshot, task: int, after: int | None) -> tuple[Images, np.ndarray]:
    stored = next((e for e in _events(run, ImagesStored) if e.clock.task == task - 1), None)
    moment = (newest(run) if after is None else after) - 1
    answers = answers_of(_events(run, ImagesClassified), task - 1)
    found = None if stored is None else images(answers, np.asarray(stored.labels), task - 1, moment)
    if stored is None or found is None:
        raise LookupError(f"the run {run.name} does not hold what became of the images of {task_name(task - 1)}")
    return found, np.asarray(stored.labels)


def lost_images(run: Snapshot, task: int, after: int | None = None) -> int:
    """Test images of a task that were right when it had been learned and are wrong now."""
    return int(_images(run, task, after)[0].lost.sum())


def taken_mostly_for(run: Snapshot, task: int, after: int | None = None) -> str:
    """The class that most of them are taken for."""
    found, _ = _images(run, task, after)
    names = [str(name) for planned in _plan(run) for name in planned["classes"]]
    return names[int(np.bincount(found.predicted[found.lost].astype(int)).argmax())]


def taken_count(run: Snapshot, task: int, after: int | None = None) -> int:
    """How many of them are taken for it."""
    found, _ = _images(run, task, after)
    return int(np.bincount(found.predicted[found.lost].astype(int)).max())


def worst_image(run: Snapshot, task: int, after: int | None = None) -> int:
    """Which of them lost most margin, from 1."""
    found, _ = _images(run, task, after)
    lost = np.flatnonzero(found.lost)
    return int(lost[np.argmin((found.margins[1] - found.margins[0])[lost])]) + 1


def _costliest(run: Snapshot) -> Stretch:
    found = costly_steps(_events(run, OldTasksMeasured), -1, tasks(run), 1)
    if not found:
        raise LookupError(f"in the run {run.name} the loss on old tasks rose between no two looks")
    return found[0]


def costliest_task(run: Snapshot) -> Task:
    """The task within which the loss on old tasks rose most between two looks."""
    return Task(_costliest(run).task + 1)


def costliest_steps(run: Snapshot) -> str:
    """84 to 88: between which steps that was."""
    found = _costliest(run)
    return f"{found.first + 1} to {found.last + 1}"


# ---------------------------------------------------------------- zero-shot, images and texts


def zero_shot_mean(run: Snapshot, without_first: bool = False) -> Percent:
    """Mean accuracy before training; `without_first`: over all tasks but the first, as Transfer counts."""
    values = [accuracy(run, 0, j) for j in range(1, tasks(run) + 1)]
    return Percent(np.mean(values[1:] if without_first else values))


def best_zero_shot(run: Snapshot) -> Task:
    """The task with the highest accuracy before training."""
    return Task(max(range(1, tasks(run) + 1), key=lambda j: accuracy(run, 0, j)))


def worst_zero_shot(run: Snapshot) -> Task:
    """The task with the lowest accuracy before training."""
    return Task(min(range(1, tasks(run) + 1), key=lambda j: accuracy(run, 0, j)))


def _unlearned(run: Snapshot) -> tuple[int, int, float]:
    lost = lost_before_learning(_events(run, AccuracyMeasured))
    row, column = np.unravel_index(np.nanargmin(lost), lost.shape)
    return int(row) + 1, int(column) + 1, float(lost[row, column])


def worst_hit(run: Snapshot) -> Task:
    """The task that lost most of its zero-shot accuracy before it was learned."""
    return Task(_unlearned(run)[1])


def worst_hit_after(run: Snapshot) -> Task:
    """The task after whose training that was so."""
    return Task(_unlearned(run)[0])


def worst_hit_by(run: Snapshot) -> Change:
    """How much it lost, in percentage points."""
    return Change(_unlearned(run)[2])


def mean_hit(run: Snapshot) -> Change:
    """Mean change of zero-shot accuracy before learning, in percentage points."""
    return Change(np.nanmean(lost_before_learning(_events(run, AccuracyMeasured))))


def gap_length(run: Snapshot, after: int | None = None) -> Number:
    """Distance between mean image and mean text."""
    return Number(_at(run, ModalityGapMeasured, after).length)


def gap_direction(run: Snapshot, after: int | None = None) -> Number:
    """Cosine between the gap's direction and where it began."""
    return Number(_at(run, ModalityGapMeasured, after).direction)


def recall(run: Snapshot, after: int | None = None) -> Percent:
    """Held-out images that find their text first."""
    return Percent(_at(run, ModalityGapMeasured, after).image_to_text["1"])


def general(run: Snapshot, after: int | None = None) -> Percent:
    """Zero-shot accuracy on general classes."""
    return Percent(_at(run, ModalityGapMeasured, after).general_accuracy or math.nan)


# ---------------------------------------------------------------- spectra and updates


def _spectrum(run: Snapshot, task: int, layer: int, space: str) -> SpectrumMeasured:
    found = of(_events(run, SpectrumMeasured), space=space, layer=layer - 1, task=task - 1)
    if not found:
        raise LookupError(f"the run {run.name} holds no spectrum of {space} in layer {layer} after T{task}")
    return found[-1]


def width(run: Snapshot, task: int = 1, layer: int = 1, space: str = "affinity") -> int:
    """Dimensions of a layer's space."""
    return len(_spectrum(run, task, layer, space).eigenvalues)


def free_directions(run: Snapshot, task: int = 1, layer: int = 1, space: str = "affinity") -> str:
    """174 of 192, 91 %: directions left free after a task."""
    event = _spectrum(run, task, layer, space)
    return directions(event.nullity, len(event.eigenvalues))


def protected_directions(run: Snapshot, task: int = 1, layer: int = 1, space: str = "affinity") -> int:
    """Directions protected after a task."""
    event = _spectrum(run, task, layer, space)
    return len(event.eigenvalues) - event.nullity


def protected_energy(run: Snapshot, task: int = 1, layer: int = 1, space: str = "affinity") -> Percent:
    """Share of the energy in the protected directions."""
    return Percent(100 * _spectrum(run, task, layer, space).protected_energy)


def directions_for(run: Snapshot, energy: float, task: int = 1, layer: int = 1, space: str = "affinity") -> int:
    """How many of the first directions hold this share of the energy."""
    values = np.asarray(_spectrum(run, task, layer, space).eigenvalues, dtype=np.float64)
    return int(np.searchsorted(np.cumsum(values) / values.sum(), energy) + 1)


def smallest_value(run: Snapshot, task: int = 1, layer: int = 1, space: str = "affinity") -> Number:
    """Smallest singular value over the largest."""
    values = np.sqrt(np.asarray(_spectrum(run, task, layer, space).eigenvalues, dtype=np.float64))
    return Number(values[-1] / values[0])


def free_share(run: Snapshot, task: int, space: str = "affinity") -> Percent:
    """Mean over layers of the share of directions left free after a task."""
    found = of(_events(run, SpectrumMeasured), space=space, task=task - 1)
    return Percent(np.mean([100 * event.nullity / len(event.eigenvalues) for event in found]))


def step_passed(run: Snapshot) -> Whole:
    """Median over steps after the first task: norm of the applied step over that of the proposed one."""
    size = lambda norms: math.sqrt(sum(value**2 for value in norms.values()))
    later = [event for event in _events(run, StepEnded) if event.clock.task > 0 and size(event.proposed_norm) > 0]
    return Whole(100 * np.median([size(event.applied_norm) / size(event.proposed_norm) for event in later]))


def movement(run: Snapshot) -> Whole:
    """Mean net change of a layer's prompts in a task after the first, over their norm."""
    return Whole(100 * np.mean([event.movement for event in _events(run, UpdateMeasured) if event.clock.task > 0]))


def inside(run: Snapshot, space: str = "affinity") -> Number:
    """Mean share of net changes that lies along what earlier tasks use (residual, 0 to 1)."""
    found = [event.residual.get(space) for event in _events(run, UpdateMeasured)]
    return Number(np.mean([value for value in found if value is not None]))


def inside_at_random(run: Snapshot, space: str = "affinity") -> Number:
    """The same of a random direction."""
    found = [event for event in _events(run, UpdateMeasured) if event.residual.get(space) is not None]
    return Number(np.mean([event.isotropic[space] for event in found]))


# ---------------------------------------------------------------- another threshold (What if)


def boundary_of(run: Snapshot, space: str = "affinity") -> Boundary:
    """The newest boundary of a run after which a task was learned."""
    events = (run.events(kind) for kind in (SpectrumMeasured, WeightSpectrumMeasured, UpdateByDirection))
    found = best(boundaries(*events), space)  # type: ignore[arg-type]
    if found is None or found.energies is None:
        raise LookupError(f"the run {run.name} holds no update by direction")
    return found


def own_eta(run: Snapshot) -> Number:
    """Strictness η of the run's own projection: 1 closes protected directions."""
    own = own_threshold(boundary_of(run))
    return Number(own.eta if own is not None else 1.0)


def boundary(run: Snapshot) -> Task:
    """The task whose end is that boundary."""
    return Task(boundary_of(run).task + 1)


def _predicted(run: Snapshot, threshold: Threshold, field: str) -> Percent:
    place = boundary_of(run)
    prediction: Prediction = predict(place, threshold)
    return Percent(in_percent(prediction, place, field).mean())


def _energy(run: Snapshot, energy: float, strict: bool) -> Threshold:
    return Threshold("energy", energy, eta=1.0 if strict else float(own_eta(run)))


def free_at(run: Snapshot, energy: float) -> Percent:
    """Directions left free if this share of the energy were kept, mean over layers."""
    return _predicted(run, _energy(run, energy, True), "nullity")


def passed_at(run: Snapshot, energy: float, strict: bool = False) -> Percent:
    """Share of the wanted update that would pass; `strict`: with η = 1 instead of the run's own."""
    return _predicted(run, _energy(run, energy, strict), "passed")


def interference_at(run: Snapshot, energy: float, strict: bool = False) -> Percent:
    """Share of the update's effect on old features that would still pass."""
    return _predicted(run, _energy(run, energy, strict), "interference")


def passed_free(run: Snapshot, free: float) -> Percent:
    """Share of the wanted update that would pass with this share of directions left free."""
    return _predicted(run, Threshold("free", free), "passed")


def interference_free(run: Snapshot, free: float) -> Percent:
    """Share of the update's effect on old features that would then still pass."""
    return _predicted(run, Threshold("free", free), "interference")


# ---------------------------------------------------------------- weights


def _weights(run: Snapshot, task: int | None = None, name: str = "") -> list[WeightSpectrumMeasured]:
    found = [
        event
        for event in _events(run, WeightSpectrumMeasured)
        if task in (None, event.clock.task + 1) and event.name.startswith(name)
    ]
    if not found:
        raise LookupError(f"the run {run.name} holds no weight spectrum of {name or 'any matrix'} after T{task}")
    return found


def matrix_name(name: str) -> str:
    """What pages call a weight matrix."""
    return words(name)


def weight(run: Snapshot, field: str, task: int, name: str) -> Number:
    """One field of a matrix's spectrum: width, principal, null, written, promoted or rho (percent)."""
    event = _weights(run, task, name)[0]
    known = {
        "width": len(event.before),
        "principal": event.principal,
        "null": len(event.before) - event.principal,
        "written": event.written,
        "promoted": event.promoted,
    }
    if field == "rho":
        return Whole(100 * event.rho)
    if field not in known:
        raise LookupError(f"a weight matrix has no {field}; it has {', '.join([*known, 'rho'])}")
    return Number(known[field])


def _leaks(found: Sequence[WeightSpectrumMeasured]) -> list[float]:
    return [value for event in found for value in (event.leak_left, event.leak_right) if value is not None]


def largest_leak(run: Snapshot) -> Number:
    """Largest share of a change that lies in the principal space, over matrices, tasks and both sides."""
    return Number(max(_leaks(_weights(run))))


def mean_leak(run: Snapshot, task: int) -> Number:
    """The mean share of a task's changes."""
    return Number(np.mean(_leaks(_weights(run, task))))


def random_leak(run: Snapshot, task: int) -> Number:
    """The mean share that a random change would have there."""
    return Number(np.mean([event.chance for event in _weights(run, task)]))


def random_leaks(run: Snapshot, task: int) -> str:
    """0.21 to 0.33: the range of that share over matrices."""
    found = [event.chance for event in _weights(run, task)]
    return f"{min(found):.2f} to {max(found):.2f}"


def null_share(run: Snapshot, task: int, name: str = "text") -> Percent:
    """Mean share of null directions before a task, over matrices whose name begins so."""
    found = _weights(run, task, name)
    return Percent(100 * np.mean([1 - event.principal / len(event.before) for event in found]))


def fewest_written(run: Snapshot) -> int:
    """The fewest directions that any matrix offered in any task."""
    return min(event.written for event in _weights(run))


def weight_movement(run: Snapshot) -> Percent:
    """Mean change of a matrix in a task, over its norm."""
    return Percent(100 * np.mean([event.movement for event in _weights(run)]))


# ---------------------------------------------------------------- the playground's recorded frontier


def frontier(similarity: float = 0.0) -> list[dict[str, Any]]:
    """The recorded points, one for every threshold."""
    from dashboard.widgets.playground_board import recorded_points

    found = recorded_points(PlaygroundConfig(similarity=similarity))
    if not found:
        raise LookupError("the recorded frontier of the playground did not come with this copy")
    return found


def best_threshold(similarity: float = 0.0) -> str:
    """The threshold with the highest final average accuracy."""
    found = best_point(frontier(similarity))
    return str(found["text"]) if found else ""


def point_at(threshold: str, similarity: float = 0.0) -> dict[str, Any]:
    """The recorded point of a threshold."""
    found = {point["text"]: point for point in frontier(similarity)}
    if threshold not in found:
        raise LookupError(f"the recorded frontier has no threshold {threshold}; it has {', '.join(found)}")
    return found[threshold]


def played(threshold: str, measure: str, similarity: float = 0.0) -> Number:
    """final, learning or forgetting of the playground's network at a threshold, mean over seeds."""
    value = float(point_at(threshold, similarity)["after"][-1][measure])
    return Points(value) if measure == "forgetting" else Percent(value)


def played_spread(threshold: str) -> Points:
    """Standard deviation over seeds of its final average accuracy."""
    return Points(point_at(threshold)["spread"]["final"])


def played_seeds(threshold: str) -> int:
    """Seeds behind these numbers."""
    return len(point_at(threshold)["seeds"])


def played_diagonal(threshold: str, task: int) -> Percent:
    """Accuracy on a task right after learning it."""
    return Percent(point_at(threshold)["matrix"][task - 1][task - 1])


def played_free(threshold: str, layer: int, similarity: float = 0.0) -> Whole:
    """Share of a layer's directions left free at the end; layer −1 = the last."""
    return Whole(100 * point_at(threshold, similarity)["free"][-1][layer - 1 if layer > 0 else layer])


# ---------------------------------------------------------------- words that follow numbers


def change(before: float, after: float) -> str:
    """ "falls from 99.0 % to 58.0 %", "rises …", or "stays where it was, at 99.0 %"."""
    if not (math.isfinite(before) and math.isfinite(after)):
        return "was not measured at both ends"
    if abs(after - before) < ALIKE:
        return f"stays where it was, at {percent(after)}"
    return f"{'falls' if after < before else 'rises'} from {percent(before)} to {percent(after)}"


def compared(first: float, second: float) -> str:
    """ "12.3 points more", "4.0 points less" or "as much, within a point": the first against the second."""
    if abs(first - second) < ALIKE:
        return "as much, within a point"
    return f"{abs(first - second):.1f} points {'more' if first > second else 'less'}"


def alike(first: float, second: float) -> bool:
    """Whether two accuracies differ by less than a point."""
    return abs(first - second) < ALIKE


def size(value: float) -> Points:
    """A difference without its sign, in points."""
    return Points(abs(value))


def difference(first: float, second: float) -> Change:
    """−3.2 pp: the first minus the second."""
    return Change(first - second)


def ratio(first: float, second: float) -> Points:
    """The first over the second."""
    return Points(first / second)


def share(value: float) -> Whole:
    """0.9 as 90 %."""
    return Whole(100 * value)


def decimals(value: float) -> Decimals:
    """0.9 as 0.90."""
    return Decimals(value)


def floor(eta: float) -> Whole:
    """Share of the energy along a protected direction that always passes at strictness η: (1 − η)²."""
    return Whole(100 * (1 - eta) ** 2)


def layer(number: int) -> Layer:
    """ "layer 1"."""
    return Layer(number)


def listed(named: Sequence[str]) -> str:
    """a, b and c."""
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"


_HELPERS = {
    "of",
    "words",
    "percent",
    "points",
    "directions",
    "listed",
    "frontier",
    "point_at",
    "boundary_of",
    "layers_of",
    "line_of",
}
FACTS: dict[str, Callable[..., Any]] = {
    name: value
    for name, value in list(globals().items())
    if getattr(value, "__module__", "") == __name__
    and callable(value)
    and not isinstance(value, type)
    and not name.startswith("_")
    and name not in _HELPERS
}
"""By the name that a lesson's text calls them."""
