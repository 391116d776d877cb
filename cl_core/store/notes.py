"""What a reader says of a run, kept beside it, and runs that are put aside until they are deleted for good.

A run's folder keeps its name: forks, links and commands find it by that. `note.json` in it holds a title, a note and
tags. A run put aside lies in `.deleted` below the runs folder, where no listing looks, and can be brought back.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cl_core.store.run import RunFolder, StoreError, lock_owner, write_atomically
from cl_core.untrusted import read_json

ASIDE = ".deleted"
MOST = {"title": 120, "text": 4000, "tags": 20}  # characters, characters, number


@dataclass(frozen=True)
class Note:
    """What a reader says of a run; all of it may be empty."""

    title: str = ""
    text: str = ""
    tags: tuple[str, ...] = ()


def note_of(folder: RunFolder) -> Note:
    """The note beside a run; an empty one where there is none or it cannot be read."""
    try:
        record = read_json(folder.path / "note.json")
    except (OSError, ValueError):
        return Note()
    if not isinstance(record, dict):
        return Note()
    tags = record.get("tags")
    return Note(
        str(record.get("title", ""))[: MOST["title"]],
        str(record.get("text", ""))[: MOST["text"]],
        tuple(str(tag) for tag in tags[: MOST["tags"]]) if isinstance(tags, list) else (),
    )


def annotate(folder: RunFolder, note: Note) -> None:
    """Write the note beside a run. Raises StoreError if it is too long or cannot be written."""
    for name, length in (("title", len(note.title)), ("text", len(note.text)), ("tags", len(note.tags))):
        if length > MOST[name]:
            unit = "tags" if name == "tags" else "characters"
            raise StoreError(f"a run's {name} may have at most {MOST[name]} {unit}, got {length}")
    try:
        write_atomically(folder.path / "note.json", json.dumps(asdict(note), indent=1).encode())
    except OSError as error:
        raise StoreError(f"cannot write a note into {folder.path}: {error.strerror}") from error


def entitle(folder: RunFolder, name: str) -> RunFolder:
    """Title a run by the name that its user gave it, if any; without a title it is called by what it trains. Returns
    the folder. Raises StoreError as `annotate` does."""
    if name:
        annotate(folder, replace(note_of(folder), title=name[: MOST["title"]]))
    return folder


def put_aside(folder: RunFolder) -> Path:
    """Take a run out of its folder of runs; `bring_back` undoes it. Returns where it lies.

    Raises:
        StoreError: a process works on it, or it cannot be moved.
    """
    if (pid := lock_owner(folder)) is not None:
        raise StoreError(f"process {pid} works on {folder.name}: stop it first")
    aside = folder.path.parent / ASIDE
    target = next(path for n in range(10_000) if not (path := aside / f"{n or ''}{folder.name}").exists())
    try:
        aside.mkdir(exist_ok=True)
        os.rename(folder.path, target)
    except OSError as error:
        raise StoreError(f"cannot delete {folder.name}: {error.strerror}") from error
    return target


def bring_back(aside: Path, name: str) -> RunFolder:
    """Bring the run that lies at `aside` back under its name. Raises StoreError if that is taken or it is gone."""
    target = aside.parent.parent / name
    if target.exists():
        raise StoreError(f"{name} is taken by another run by now")
    try:
        os.rename(aside, target)
    except OSError as error:
        raise StoreError(f"cannot bring {name} back: {error.strerror}") from error
    return RunFolder(target)


def aside(runs: Path) -> list[Path]:
    """Where the runs lie that were put aside."""
    try:
        return sorted(path for path in (Path(runs) / ASIDE).iterdir() if (path / "config.json").is_file())
    except OSError:
        return []


def delete_for_good(runs: Path) -> None:
    """Remove the runs that were put aside. Raises StoreError if something cannot be removed."""
    try:
        shutil.rmtree(Path(runs) / ASIDE)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"cannot remove the deleted runs below {runs}: {error.strerror}") from error
