"""PILOT and PyCIL: the log of a class-incremental training.

    … [trainer.py] => CNN: {'total': 61.28, '00-19': 60.96, …, 'old': 61.41, 'new': 60.1}

One such line per task, in percent; the groups of classes, in order, are the columns. The matrix that these programs
print at the end is not used: it goes only to the terminal, is transposed, and has zeros for unmeasured cells.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from cl_core.config import ConfigError
from cl_core.interop.result import Asked, Result, in_percent, matrix, names_of, scenario_of, text_of
from cl_core.readouts import CLASS_INCREMENTAL

LINE = re.compile(r"=> (?P<head>CNN|NME): (?P<record>\{.*\})\s*$")
SETTING = re.compile(r"=> (?P<name>\w+): (?P<value>.{1,200})$")
GROUP = re.compile(r"(\d+)-(\d+)")
LONGEST = 20_000  # most characters of a parsed line
WANTED = ("dataset", "convnet_type", "backbone_type", "model_name", "init_cls", "increment", "prefix")


def fits(path: Path) -> bool:
    if path.is_dir() or path.suffix not in (".log", ".txt"):
        return False
    try:
        with path.open("rb") as file:
            return any(LINE.search(line.decode("utf-8", "replace")) for _, line in zip(range(200_000), file))
    except OSError:
        return False


def read(path: Path, asked: Asked) -> Result:
    """Read one log file. NME lines (nearest mean of exemplars) become a separate readout."""
    runs: list[dict[str, list[dict[str, float]]]] = []
    settings: dict[str, object] = {}
    seed, last = None, 0
    for line in text_of(path).splitlines():
        if found := LINE.search(line):
            record = _record(found["record"], path)
            groups = sum(bool(GROUP.fullmatch(name)) for name in record)
            if found["head"] == "CNN":
                if not runs or groups <= last:
                    runs.append({})
                last = groups
            if runs:
                runs[-1].setdefault(found["head"], []).append(record)
        elif found := SETTING.search(line):
            if found["name"] in WANTED:
                settings[found["name"]] = found["value"].strip()
            if found["name"] == "seed" and found["value"].strip().isdigit():
                seed = int(found["value"])
    if not runs:
        raise ConfigError(f"{path.name} holds no line `CNN: {{…}}` of PILOT or PyCIL")
    notes = ["Read as PILOT and PyCIL log it: groups of classes are the columns, percent."]
    if len(runs) > 1:
        notes.append(f"The file holds {len(runs)} trainings (several seeds share one); the last of them was read.")
        seed = None if seed is None else seed
    names = list(dict.fromkeys(g for record in runs[-1]["CNN"] for g in record if GROUP.fullmatch(g)))
    scenario = scenario_of(asked, "class-incremental", notes, path.name)
    matrices = {}
    for head, records in runs[-1].items():
        cells = {
            (after, names.index(group)): value
            for after, record in enumerate(records)
            for group, value in record.items()
            if group in names
        }
        told: list[str] = []
        cells = in_percent(cells, asked, told, told="percent")
        rows, _ = matrix(cells, max(len(names), len(records)), scenario, asked, told)
        matrices[CLASS_INCREMENTAL if head == "CNN" else "nearest class mean (NME)"] = rows
        notes += [sentence for sentence in told if sentence not in notes]
    if len(names) < len(runs[-1]["CNN"]):
        notes.append("A last group of one class is not among the program's groups: its column is empty.")
        names += [f"T{i + 1}" for i in range(len(names), len(runs[-1]["CNN"]))]
    return Result(
        "PILOT or PyCIL",
        path.name,
        scenario,
        names_of(asked, names, notes),
        matrices,
        method=str(settings.get("model_name", "")),
        stream=str(settings.get("dataset", "")),
        seed=seed,
        notes=notes,
        settings=settings,
    )


def _record(text: str, path: Path) -> dict[str, float]:
    """Parse a printed dict of names and numbers without executing it."""
    text = re.sub(r"np\.float\d+\(([-+.\deE]+)\)", r"\1", text)
    try:
        if len(text) > LONGEST:
            raise ValueError(f"{len(text)} signs")
        record = ast.literal_eval(text)
        return {str(name): float(value) for name, value in record.items()}
    except (ValueError, SyntaxError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{path.name} holds a line of accuracies that cannot be read: {text[:60]}…") from error
