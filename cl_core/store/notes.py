"""User notes on runs, and deletion of runs with undo.

`note.json` in a run's folder holds a title, a note and tags. The folder itself is never renamed, because forks, links
and commands find the run by its name. A deleted run is moved to `.deleted` below the runs folder, which listings skip,
and can be restored until it is deleted for good.
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
    """A user's title, text and tags for a run; all may be empty."""

    title: str = ""
    text: str = ""
    tags: tuple[str, ...] = ()


def note_of(folder: RunFolder) -> Note:
    """Return a run's note; an empty one if there is none or it cannot be read."""
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
    """Write a run's note. Raises StoreError if it is too long or cannot be written."""
    for name, length in (("title", len(note.title)), ("text", len(note.text)), ("tags", len(note.tags))):
        if length > MOST[name]:
            unit = "tags" if name == "tags" else "characters"
            raise StoreError(f"a run's {name} may have at most {MOST[name]} {unit}, got {length}")
    try:
        write_atomically(folder.path / "note.json", json.dumps(asdict(note), indent=1).encode())
    except OSError as error:
        raise StoreError(f"cannot write a note into {folder.path}: {error.strerror}") from error


def entitle(folder: RunFolder, name: str) -> RunFolder:
    """Set a run's title to the name that its user gave it, if any, and return the folder. Without a title, a run is
    called by what it trains. Raises StoreError as `annotate` does."""
    if name:
        annotate(folder, replace(note_of(folder), title=name[: MOST["title"]]))
    return folder


def put_aside(folder: RunFolder) -> Path:
    """Move a run to `.deleted`; `bring_back` undoes this. Returns the new path.

    Raises:
        StoreError: if a process works on it, or it cannot be moved.
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
    """Restore the deleted run at `aside` as `name`. Raises StoreError if the name is taken or the run is gone."""
    target = aside.parent.parent / name
    if target.exists():
        raise StoreError(f"{name} is now taken by another run")
    try:
        os.rename(aside, target)
    except OSError as error:
        raise StoreError(f"cannot bring {name} back: {error.strerror}") from error
    return RunFolder(target)


def aside(runs: Path) -> list[Path]:
    """Return the paths of deleted runs."""
    try:
        return sorted(path for path in (Path(runs) / ASIDE).iterdir() if (path / "config.json").is_file())
    except OSError:
        return []


def delete_for_good(runs: Path) -> None:
    """Remove the deleted runs from disk. Raises StoreError if something cannot be removed."""
    try:
        shutil.rmtree(Path(runs) / ASIDE)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"cannot remove the deleted runs below {runs}: {error.strerror}") from error
