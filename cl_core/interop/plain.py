"""Plain tables: a square matrix (rows after training on), one line per cell (trained, evaluated, accuracy), or
accuracy.csv of a Plastiscope export with all its readouts."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from cl_core.config import ConfigError
from cl_core.interop.result import (
    Asked,
    Result,
    Row,
    headline_readout_of,
    in_percent,
    matrix,
    names_of,
    scenario_of,
    text_of,
    zeros_settled,
)
from cl_core.readouts import ZERO_SHOT
from cl_core.summary import own_head

LONG = ("trained", "evaluated", "accuracy")
EXPORTED = "accuracy.csv"  # in the folder of an export
OWN = ("readout", "after_task", "evaluated_task", "percent")  # its columns
EMPTY = {"", "nan", "none", "null", "na", "n/a", "-", "–", "—"}
Cells = dict[tuple[int, int], float]


def read(path: Path, asked: Asked) -> Result:
    """Read a CSV, TSV or semicolon-separated file. Raises ConfigError that names the invalid line."""
    path = path / EXPORTED if path.is_dir() else path
    lines = _lines(path)
    head = [cell.strip().lower() for cell in lines[0]]
    notes: list[str] = []
    if set(OWN) <= set(head):
        return _own(lines, head, path.name, asked, notes)
    if set(LONG) <= set(head):
        cells, names = _long(lines, head, path.name)
        notes.append("Read as one line a cell: trained, evaluated, accuracy.")
    else:
        cells, names = _square(lines, path.name)
        notes.append(
            "Read as a matrix: rows after training on, columns evaluated on"
            + (" (turned, as asked for)." if asked.transposed else "; --transposed turns it.")
        )
        if asked.transposed:
            cells = {(on, after): value for (after, on), value in cells.items()}
        _check_side(cells, len(names), path.name)
    scenario = scenario_of(asked, "", notes, path.name)
    cells = in_percent(zeros_settled(cells, asked, notes), asked, notes)
    rows, before = matrix(cells, len(names), scenario, asked, notes)
    return Result(
        "a table", path.name, scenario, names_of(asked, names, notes), {headline_readout_of(scenario): rows}, before,
        notes=notes,
    )  # fmt: skip


def _lines(path: Path) -> list[list[str]]:
    text = text_of(path)
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise ConfigError(f"{path.name} is empty")
    mark = max(",\t;", key=lines[0].count)
    if not lines[0].count(mark):
        mark = " "
    try:
        found = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=mark, skipinitialspace=mark == " "))
    except csv.Error as error:
        raise ConfigError(f"{path.name} is no table: {error}") from error
    if mark == ";" and any("," in cell for line in found for cell in line):
        found = [[cell.replace(",", ".") for cell in line] for line in found]
    return found


def _number(cell: str, where: str) -> float | None:
    text = cell.strip().rstrip("%").strip()
    if text.lower() in EMPTY:
        return None
    try:
        value = float(text)
    except ValueError:
        raise ConfigError(f"{where} holds {cell.strip()!r}, which is no accuracy") from None
    return value if math.isfinite(value) else None


def _is_number(cell: str) -> bool:
    try:
        float(cell.strip().rstrip("%"))
    except ValueError:
        return cell.strip().lower() in EMPTY
    return True


def _long(lines: list[list[str]], head: list[str], name: str) -> tuple[Cells, list[str]]:
    """Return cells and task names. Tasks are numbers (from 0 or 1) or names, in order of their first training."""
    columns = [head.index(key) for key in LONG]
    told: list[tuple[str, str, float, int]] = []
    for number, line in enumerate(lines[1:], 2):
        if len(line) <= max(columns):
            raise ConfigError(f"line {number} of {name} has {len(line)} cells; {', '.join(LONG)} are needed")
        trained, evaluated, accuracy = (line[column].strip() for column in columns)
        if (value := _number(accuracy, f"line {number} of {name}")) is not None:
            told.append((trained, evaluated, value, number))
    if not told:
        raise ConfigError(f"{name} holds no accuracy")
    before = EMPTY | {"before", "-1"}
    named = [t for t, *_ in told if t.lower() not in before] + [e for _, e, *_ in told]
    if all(_is_whole(text) for text in named):
        numbers = sorted({int(text) for text in named})
        first = 0 if numbers[0] == 0 else 1
        order = [str(k) for k in range(first, numbers[-1] + 1)]
        names = [f"T{k + 1}" for k in range(len(order))]
    else:
        order = names = list(dict.fromkeys(named))
    cells: Cells = {}
    for trained, evaluated, value, number in told:
        place = (-1 if trained.lower() in before else order.index(trained), order.index(evaluated))
        if cells.setdefault(place, value) != value:
            raise ConfigError(f"line {number} of {name} gives another accuracy for a cell that was there before")
    return cells, names


def _own(lines: list[list[str]], head: list[str], name: str, asked: Asked, notes: list[str]) -> Result:
    """Return all readouts of an exported run; tasks count from 1, and 0 is before training."""
    columns = [head.index(key) for key in OWN]
    called = head.index("evaluated_name") if "evaluated_name" in head else -1
    found: dict[str, Cells] = {}
    names: dict[int, str] = {}
    for number, line in enumerate(lines[1:], 2):
        where = f"line {number} of {name}"
        if len(line) < len(head):
            raise ConfigError(f"{where} has {len(line)} cells, and the first line {len(head)}")
        readout, after, on, percent = (line[column].strip() for column in columns)
        if not (_is_whole(after) and _is_whole(on) and on != "0"):
            raise ConfigError(
                f"{where} names the tasks {after!r} and {on!r}; they count from 1, and 0 is before training"
            )
        if (value := _number(percent, where)) is not None:
            found.setdefault(readout, {})[int(after) - 1, int(on) - 1] = value
            names[int(on) - 1] = line[called].strip() if called >= 0 else ""
    if not found:
        raise ConfigError(f"{name} holds no accuracy")
    headline = own_head(found)
    if headline not in found:
        raise ConfigError(f"{name} holds no accuracies of {headline}, only of {', '.join(found)}")
    notes.append(f"Read as the accuracies of an exported run of Plastiscope: {', '.join(found)}.")
    scenario = scenario_of(asked, headline, notes, name)
    count = max(on for cells in found.values() for _, on in cells) + 1
    before: Row | None = None
    matrices: dict[str, list[Row]] = {}
    found[headline] |= found.pop(ZERO_SHOT, {})
    for readout in sorted(found, key=lambda readout: readout != headline):
        own = notes if readout == headline else []
        rows, untrained = matrix(in_percent(found[readout], asked, own, "percent"), count, scenario, asked, own)
        matrices[headline_readout_of(scenario) if readout == headline else readout] = rows
        before = untrained if readout == headline else before
    told = [names.get(task) or f"T{task + 1}" for task in range(count)]
    return Result("Plastiscope", name, scenario, names_of(asked, told, notes), matrices, before, notes=notes)


def _is_whole(text: str) -> bool:
    return text.isdigit()


def _square(lines: list[list[str]], name: str) -> tuple[Cells, list[str]]:
    """Return cells and task names of a matrix with or without a row and column of names."""
    headed = not all(_is_number(cell) for cell in lines[0][1:]) or not _is_number(lines[0][0])
    body = lines[1:] if headed else lines
    if not body:
        raise ConfigError(f"{name} has one line, so it is no matrix; {', '.join(LONG)} or a square matrix is read")
    labelled = any(not _is_number(line[0]) for line in body if line) or (
        headed and len(lines[0]) == len(body) + 1 and max(map(len, body)) == len(body) + 1
    )
    rows = [line[1:] if labelled else line for line in body]
    width = max(len(row) for row in rows)
    if len(rows) > width or width < 2:
        raise ConfigError(
            f"{name} has {len(rows)} rows and {width} columns of numbers; a matrix (a column a task, at most "
            f"as many rows), or a table with the columns {', '.join(LONG)} is read"
        )
    head = lines[0][1:] if labelled or len(lines[0]) == width + 1 else lines[0]
    names = [cell.strip() or f"T{i + 1}" for i, cell in enumerate(head)] if headed else []
    if len(set(names)) != width:
        names = [f"T{i + 1}" for i in range(width)]
    cells: Cells = {}
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            if (value := _number(cell, f"row {i + 1}, column {j + 1} of {name}")) is not None:
                cells[i, j] = value
    return cells, names


def _check_side(cells: Cells, tasks: int, name: str) -> None:
    """Raise ConfigError for a matrix that is empty below the diagonal, which suggests that it is transposed."""
    below = [value for (after, on), value in cells.items() if on < after]
    above = [value for (after, on), value in cells.items() if on > after]
    if tasks > 1 and any(above) and not any(below):
        raise ConfigError(
            f"{name} is empty below its diagonal and not above it: its rows seem to be what was evaluated; "
            "--transposed turns it"
        )
