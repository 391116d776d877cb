"""The result of an importer: accuracies, curves, and notes on how they were read.

Every importer is a function `read(path, asked) -> Result`; it raises ConfigError with one sentence that names a fix for
input that it cannot read. Nothing is guessed silently: what a format does not define is in `Asked` or in the notes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cl_core.config import ConfigError
from cl_core.readouts import CLASS_INCREMENTAL, TASK_INCREMENTAL

SCENARIOS = ("class-incremental", "domain-incremental", "task-incremental")
Row = list[float | None]
Cells = Mapping[tuple[int, int], float]  # (after, on), from 0; after −1: before any training → accuracy

LARGEST = 200_000_000  # bytes of one file that is read whole
MOST_TASKS = 1000


@dataclass(frozen=True)
class Asked:
    """The user's options for what files do not say."""

    scenario: str = ""
    scale: str = ""  # "percent", "share"
    transposed: bool = False  # rows are evaluated on, columns after training on
    zeros: str = ""  # "measured", "not-measured": cells that are exactly 0
    keep_future: bool = False  # cells above the diagonal also in class-incremental runs
    tasks: tuple[str, ...] = ()  # names in order
    ends: tuple[int, ...] = ()  # steps at which tasks ended, in order
    accuracy: str = ""  # pattern of a metric's name with {task}: "val_acc/task{task}"
    loss: str = ""  # name of the metric that is the training loss
    format: str = ""  # name of the importer

    def __post_init__(self) -> None:
        for name, known in (
            ("scenario", SCENARIOS),
            ("scale", ("percent", "share")),
            ("zeros", ("measured", "not-measured")),
        ):
            value = getattr(self, name)
            if value and value not in known:
                raise ConfigError(f"--{name} must be one of {', '.join(known)}, got {value!r}")
        if self.accuracy and self.accuracy.count("{task}") != 1:
            raise ConfigError(f"--accuracy takes a name with one {{task}} in it, got {self.accuracy!r}")
        if any(later <= earlier for earlier, later in zip(self.ends, self.ends[1:], strict=False)):
            raise ConfigError(f"--ends takes rising steps, got {', '.join(map(str, self.ends))}")


@dataclass(frozen=True)
class Loss:
    """One point of a training curve."""

    step: int  # over the whole run, from 0
    task: int
    value: float
    epoch: int = 0


@dataclass(frozen=True)
class Result:
    """A training of another program, as far as its files describe it."""

    program: str  # "Avalanche"
    source: str  # the file or folder read, its name only
    scenario: str
    tasks: list[str]  # names
    matrices: dict[str, list[Row]]  # readout → [T][T] percent, rows after training on
    untrained: Row | None = None  # percent before any training
    losses: list[Loss] = field(default_factory=list)
    method: str = ""
    stream: str = ""
    seed: int | None = None
    classes: list[list[str]] = field(default_factory=list)  # of each task, if known
    notes: list[str] = field(default_factory=list)  # how it was read, one sentence each
    unread: list[str] = field(default_factory=list)  # content that could not be read
    settings: dict[str, object] = field(default_factory=dict)  # as in the files


def scenario_of(asked: Asked, told: str, notes: list[str], where: str) -> str:
    """Return the user's scenario, else that of the files. Raises ConfigError if both are unknown."""
    if asked.scenario:
        if told and asked.scenario != told:
            notes.append(f"Scenario: {asked.scenario}, as asked for; {where} says {told}.")
        else:
            notes.append(f"Scenario: {asked.scenario}, as asked for.")
        return asked.scenario
    if told:
        notes.append(f"Scenario: {told}, as {where} says.")
        return told
    raise ConfigError(
        f"{where} does not say whether the model was given task ids at test time; choose --scenario "
        f"{', '.join(SCENARIOS[:-1])} or {SCENARIOS[-1]}"
    )


def headline_readout_of(scenario: str) -> str:
    return TASK_INCREMENTAL if scenario == "task-incremental" else CLASS_INCREMENTAL


def in_percent(cells: Cells, asked: Asked, notes: list[str], told: str = "") -> dict[tuple[int, int], float]:
    """Convert accuracies to percent. `told`: the known scale of the format. Raises ConfigError for invalid values."""
    values = [v for v in cells.values() if math.isfinite(v)]
    if not values:
        raise ConfigError("no accuracy was found in it")
    low, high = min(values), max(values)
    scale = asked.scale or told or ("share" if high <= 1 else "percent")
    how = "as asked for" if asked.scale else "as this format has it" if told else f"because the largest is {high:g}"
    most = 1.0 if scale == "share" else 100.0
    if low < 0 or high > most * (1 + 1e-9):
        bad = low if low < 0 else high
        raise ConfigError(
            f"accuracies read as {'shares' if scale == 'share' else 'percent'} must lie in [0, {most:g}], got {bad:g}; "
            "is it another measure? --scale percent or --scale share says how they are written"
        )
    read_as = "shares from 0 to 1" if scale == "share" else "percent"
    notes.append(f"Accuracies read as {read_as}, {how}.")
    factor = 100.0 if scale == "share" else 1.0
    return {place: min(100.0, factor * v) for place, v in cells.items() if math.isfinite(v)}


def matrix(
    cells: Mapping[tuple[int, int], float], tasks: int, scenario: str, asked: Asked, notes: list[str]
) -> tuple[list[Row], Row | None]:
    """Return the matrix [T][T] and the row before training from cells, all in percent. Cells above the diagonal of a
    class-incremental run are dropped unless requested, because the model cannot predict these classes yet."""
    if not 1 <= tasks <= MOST_TASKS:
        raise ConfigError(f"{tasks} tasks were found; at least 1 and at most {MOST_TASKS} can be read")
    rows: list[Row] = [[None] * tasks for _ in range(tasks)]
    before: Row | None = None
    future = 0
    for (after, on), value in cells.items():
        if after >= tasks or on >= tasks or on < 0:
            raise ConfigError(f"an accuracy after task {after + 1} on task {on + 1} does not fit {tasks} tasks")
        if after < 0:
            before = before or [None] * tasks
            before[on] = value
        elif on > after and scenario == CLASS_INCREMENTAL and not asked.keep_future:
            future += 1
        else:
            rows[after][on] = value
    if future:
        notes.append(
            f"{future} accuracies on tasks not learned yet were left out: a class-incremental model cannot answer with "
            "their classes (--keep-future keeps them)."
        )
    known = sum(v is not None for row in rows for v in row)
    lower = tasks * (tasks + 1) // 2
    below = sum(v is not None for i, row in enumerate(rows) for v in row[: i + 1])
    if known == 0:
        raise ConfigError("no accuracy after training was found in it")
    if below < lower:
        notes.append(f"{lower - below} of {lower} cells of tasks learned by then were not measured; they stay empty.")
    return rows, before


def names_of(asked: Asked, found: Sequence[str] | int, notes: list[str]) -> list[str]:
    """Return the names of the tasks. Raises ConfigError if the number of given names differs."""
    names = [f"T{i + 1}" for i in range(found)] if isinstance(found, int) else [str(name) for name in found]
    if asked.tasks:
        if len(asked.tasks) != len(names):
            raise ConfigError(f"--tasks names {len(asked.tasks)} tasks, the file holds {len(names)}")
        return list(asked.tasks)
    return names


def zeros_settled(
    cells: Mapping[tuple[int, int], float], asked: Asked, notes: list[str], *, false_above: bool = False
) -> dict[tuple[int, int], float]:
    """Remove zeros that mean "not measured".

    Args:
        false_above: the format writes 0 above the diagonal for what was not measured.
    """
    above = [place for place in cells if place[1] > place[0] >= 0]
    zeros = [place for place in above if cells[place] == 0]
    if asked.zeros == "not-measured":
        gone = [place for place, value in cells.items() if value == 0]
        notes.append(f"{len(gone)} cells that are exactly 0 were read as not measured, as asked for.")
        return {place: v for place, v in cells.items() if place not in set(gone)}
    if asked.zeros == "measured" or not zeros:
        return dict(cells)
    if false_above:
        notes.append(f"{len(zeros)} zeros above the diagonal were read as not measured: this format fills them in.")
        return {place: v for place, v in cells.items() if place not in set(zeros)}
    if len(zeros) == len(above) and asked.scenario != CLASS_INCREMENTAL:
        raise ConfigError(
            "every cell above the diagonal is 0, which may be measured or not; say which with --zeros measured or "
            "--zeros not-measured"
        )
    return dict(cells)


def text_of(path: Path) -> str:
    """Read a whole text file. Raises ConfigError if it is too large or not UTF-8."""
    if not path.is_file():
        raise ConfigError(f"{path} is no file that can be read" if path.exists() else f"{path} does not exist")
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise ConfigError(f"{path.name} has {size / 1e6:.0f} MB; at most {LARGEST / 1e6:.0f} MB are read")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} is no UTF-8 text (byte {error.start})") from error


def first_of(folder: Path, names: Iterable[str]) -> Path | None:
    """Return the first of these files that exists in the folder."""
    return next((folder / name for name in names if (folder / name).is_file()), None)
