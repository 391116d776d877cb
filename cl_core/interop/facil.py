"""FACIL: `results/acc_tag-DATE.txt` (task unknown) and `acc_taw-DATE.txt` (task known).

Tab-separated shares from 0 to 1, one row after each task; cells above the diagonal are zeros and were not measured.
"""

from __future__ import annotations

import re
from pathlib import Path

from cl_core.config import ConfigError
from cl_core.interop.result import Asked, Result, Row, in_percent, matrix, names_of, scenario_of, text_of, zeros_settled

FILE = re.compile(r"acc_(?P<kind>tag|taw)-(?P<date>.+)\.txt")


def fits(path: Path) -> bool:
    return bool(FILE.fullmatch(path.name)) or (path.is_dir() and _folder(path) is not None)


def read(path: Path, asked: Asked) -> Result:
    """Read a results folder, its parent, or one of the files; the other file of the same date is a second readout."""
    folder = _folder(path) if path.is_dir() else path.parent
    files = sorted(folder.iterdir()) if path.is_dir() and folder is not None else [path]
    files = [file for file in files if FILE.fullmatch(file.name)]
    if folder is None or not files:
        raise ConfigError(f"{path} is not named as FACIL names results: acc_tag-….txt, acc_taw-….txt, or their folder")
    date = FILE.fullmatch(files[-1].name)["date"]  # type: ignore[index]
    notes = ["Read as FACIL writes it: shares, rows after training on."]
    dates = {FILE.fullmatch(f.name)["date"] for f in files}  # type: ignore[index]
    if len(dates) > 1:
        notes.append(f"The folder holds {len(dates)} trainings; the newest, {date}, was read.")
    chosen = {kind: folder / f"acc_{kind}-{date}.txt" for kind in ("tag", "taw")}
    there = {kind: file for kind, file in chosen.items() if file.is_file()}
    scenario = scenario_of(
        asked, "class-incremental" if "tag" in there else "task-incremental", notes, f"acc_{'/'.join(there)}"
    )
    matrices: dict[str, list[Row]] = {}
    for kind, file in there.items():
        told: list[str] = []
        cells, tasks = _cells(file)
        cells = in_percent(zeros_settled(cells, asked, told, false_above=True), asked, told, told="share")
        readout = "class-incremental" if kind == "tag" else "task-incremental"
        rows, _ = matrix(cells, tasks, readout, asked, told)
        matrices[readout] = rows
        notes += [sentence for sentence in told if sentence not in notes]
    return Result(
        "FACIL",
        path.name,
        scenario,
        names_of(asked, len(next(iter(matrices.values()))), notes),
        matrices,
        notes=notes,
    )


def _folder(path: Path) -> Path | None:
    for folder in (path, path / "results"):
        if folder.is_dir() and any(FILE.fullmatch(file.name) for file in folder.iterdir()):
            return folder
    return None


def _cells(file: Path) -> tuple[dict[tuple[int, int], float], int]:
    rows = [line.split() for line in text_of(file).splitlines() if line.strip()]
    cells: dict[tuple[int, int], float] = {}
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            try:
                cells[i, j] = float(cell)
            except ValueError:
                raise ConfigError(f"row {i + 1} of {file.name} holds {cell!r}, which is no accuracy") from None
    if not rows or len(rows) > max(map(len, rows)):
        raise ConfigError(f"{file.name} has {len(rows)} rows and is no accuracy matrix of FACIL")
    return cells, max(map(len, rows))
