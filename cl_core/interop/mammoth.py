"""Mammoth: `data/results/SETTING/DATASET/MODEL/logs.pyd`, one printed dict per training.

    {'accmean_task1': 97.2, 'accuracy_1_task1': 97.2, 'accmean_task2': 80.1, 'accuracy_1_task2': …, 'lr': 0.03, …}

`accuracy_J_taskI` is percent on task J after training on task I, both from 1. Lines may contain non-literals
(`device(type='cuda')`, `np.float64(…)`), so values are found by pattern; nothing in a file is executed.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from cl_core.config import ConfigError
from cl_core.interop.result import (
    Asked,
    Result,
    headline_readout_of,
    in_percent,
    matrix,
    names_of,
    scenario_of,
    text_of,
)

NUMBER = r"(?:np\.float\d+\()?(?P<value>[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|nan)\)?"
ACCURACY = re.compile(rf"'accuracy_(?P<on>\d{{1,4}})_task(?P<after>\d{{1,4}})': {NUMBER}(?=[,}}])")
MEAN = re.compile(r"'accmean_task(\d+)'")
SETTING = re.compile(r"'(?P<name>model|dataset|seed|lr|n_epochs|batch_size|buffer_size|optimizer|backbone)': ")
SETTINGS = {
    "class-il": "class-incremental",
    "task-il": "task-incremental",
    "domain-il": "domain-incremental",
}
LONGEST = 200  # most characters of a value


def fits(path: Path) -> bool:
    return path.name == "logs.pyd" or (path.is_dir() and (path / "logs.pyd").is_file())


def read(path: Path, asked: Asked) -> Result:
    """Read the newest training in a logs.pyd; task-incremental results beside it become a second readout."""
    path = path / "logs.pyd" if path.is_dir() else path
    lines = [line for line in text_of(path).splitlines() if line.strip()]
    if not lines:
        raise ConfigError(f"{path} is empty")
    notes = ["Read as Mammoth writes it: accuracy on task J after task I, percent, both from 1."]
    if len(lines) > 1:
        notes.append(f"The file holds {len(lines)} trainings, a line each; the last was read.")
    cells = _cells(lines[-1], path, notes)
    setting = next((part for part in reversed(path.resolve().parts[:-1]) if part in SETTINGS), "")
    scenario = scenario_of(asked, SETTINGS.get(setting, ""), notes, "the folder" if setting else path.name)
    tasks = max(max(place) for place in cells) + 1
    percent = in_percent(cells, asked, notes, told="percent")
    rows, _ = matrix(percent, tasks, scenario, asked, notes)
    matrices = {headline_readout_of(scenario): rows}
    beside = path.parent / "task-il" / "logs.pyd"
    if not beside.is_file() and setting == "class-il":
        parts = ["task-il" if part == "class-il" else part for part in path.resolve().parts]
        beside = Path(*parts)
    if scenario == "class-incremental" and beside.is_file():
        theirs = [line for line in text_of(beside).splitlines() if line.strip()]
        if len(theirs) == len(lines):
            told: list[str] = []
            found = in_percent(_cells(theirs[-1], beside, told), asked, told, told="percent")
            matrices["task-incremental"], _ = matrix(found, tasks, "task-incremental", asked, told)
            notes.append("The task-incremental results beside it were read as a second readout.")
    settings = _settings(lines[-1])
    seed = settings.pop("seed", None)
    return Result(
        "Mammoth",
        path.name,
        scenario,
        names_of(asked, tasks, notes),
        matrices,
        method=str(settings.get("model") or path.parent.name),
        stream=str(settings.get("dataset") or path.parent.parent.name),
        seed=seed if isinstance(seed, int) and 0 <= seed < 2**32 else None,
        notes=notes,
        settings=settings,
    )


def _cells(line: str, path: Path, notes: list[str]) -> dict[tuple[int, int], float]:
    found: dict[tuple[int, int], float] = {}
    above = 0
    for match in ACCURACY.finditer(line):
        on, after = int(match["on"]) - 1, int(match["after"]) - 1
        if on > after:  # filled with zeros, measured or not
            above += 1
        elif match["value"] != "nan" and on >= 0:
            found[after, on] = float(match["value"])
    if not found:
        if MEAN.search(line):
            raise ConfigError(
                f"{path} holds means over tasks only (accmean_taskI), so there is no matrix to read, as in Mammoth's "
                "domain-il results; train with --enable_other_metrics, or write a CSV with trained,evaluated,accuracy"
            )
        raise ConfigError(f"{path} holds no accuracy_J_taskI; is it a file of Mammoth?")
    if above:
        notes.append(f"{above} accuracies of tasks not learned yet were left out: Mammoth fills them with zeros.")
    return found


def _settings(line: str) -> dict[str, object]:
    """Return the plain-valued settings in the same dict."""
    found: dict[str, object] = {}
    for match in SETTING.finditer(line):
        text = re.match(r"[^,}]*", line[match.end() : match.end() + LONGEST])
        try:
            found[match["name"]] = ast.literal_eval(text.group().strip()) if text else None
        except (ValueError, SyntaxError):
            continue
    return {name: value for name, value in found.items() if isinstance(value, (int, float, str))}
