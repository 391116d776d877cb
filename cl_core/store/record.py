"""Recordings: a finished run reduced to settings and events, without checkpoints, log or lock."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from cl_core.store.run import RunFolder, StoreError, lock_owner


def record(folder: RunFolder, target: Path) -> RunFolder:
    """Copy the files of a run that readers need to the new folder `target`.

    The database is rewritten without its write-ahead log, so that the recording opens from a read-only folder. Raises
    StoreError if a worker still holds the run, or `target` exists.
    """
    if lock_owner(folder) is not None:
        raise StoreError(f"run {folder.name} is being worked on; stop it or let it finish before recording it")
    if target.exists():
        raise StoreError(f"{target} exists already; remove it or choose another name")
    folder.config()  # raises for damaged settings or a newer format
    made = RunFolder(target)
    try:
        target.mkdir(parents=True)
        shutil.copyfile(folder.config_file, made.config_file)
        if folder.fork_file.is_file():
            shutil.copyfile(folder.fork_file, made.fork_file)
        with closing(sqlite3.connect(f"{folder.database.resolve().as_uri()}?mode=ro", uri=True)) as database:
            database.execute("VACUUM INTO ?", (str(made.database),))
        if folder.arrays.is_dir():
            shutil.copytree(folder.arrays, made.arrays)
        for file in sorted(folder.analysis.glob("*.json")):
            made.analysis.mkdir(exist_ok=True)
            shutil.copyfile(file, made.analysis / file.name)
    except (sqlite3.Error, OSError) as error:
        shutil.rmtree(target, ignore_errors=True)
        said = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise StoreError(f"cannot record {folder.name} into {target}: {said}") from error
    return made
