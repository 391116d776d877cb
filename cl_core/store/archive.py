"""Packing a recording into one ZIP, and safe unpacking of untrusted ones.

Only the files of a recording are accepted (config.json, events.db, fork.json, arrays/*.npy and analysis/*.json below
one folder): no links, no paths outside that folder, at most `MOST_BYTES`. The database must hold the events table and
no triggers or views. Nothing in a recording is a pickle.
"""

from __future__ import annotations

import lzma
import re
import shutil
import sqlite3
import tempfile
import zipfile
import zlib
from contextlib import closing
from pathlib import Path
from typing import IO

from cl_core.store.record import record
from cl_core.store.run import RunFolder, StoreError
from cl_core.untrusted import printable

MOST_BYTES = 4_000_000_000
MOST_FILES = 200_000
_INSIDE = re.compile(
    r"(?P<run>[^/\\\0]+)/(?P<file>config\.json|events\.db|fork\.json|arrays/\d{8}-\w+\.npy"
    r"|analysis/[\w-]+\.json)"
)
_CHUNK = 1 << 20
DAMAGED = (  # exceptions of zipfile and its decompressors
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)


def pack(folder: RunFolder, target: Path | IO[bytes]) -> None:
    """Write the recording of a run, without checkpoints, log or lock, as a ZIP. Raises StoreError while a worker holds
    the run."""
    name = folder.path.resolve().name
    with tempfile.TemporaryDirectory() as place:
        made = record(folder, Path(place) / name)
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(made.path.rglob("*")):
                if file.is_file():
                    archive.write(file, f"{name}/{file.relative_to(made.path).as_posix()}")


def unpack(source: Path | IO[bytes], runs: Path) -> RunFolder:
    """Unpack the recording in a ZIP as a run below `runs`; if the same run exists, return it. Raises StoreError."""
    called = source.name if isinstance(source, Path) else "this file"
    try:
        with zipfile.ZipFile(source) as archive:
            name = _checked(archive, called)
            runs.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=runs, prefix=".unpacking-") as place:
                made = RunFolder(Path(place) / name)
                _extract(archive, Path(place))
                made.config()  # raises for damaged settings or a newer format
                _check_database(made, called)
                there = RunFolder(runs / name)
                if there.path.exists():
                    if _same(made, there):
                        return there
                    raise StoreError(
                        f"there is another run called {name} in {runs}; rename that folder, or open the file with "
                        "another --runs"
                    )
                shutil.move(made.path, there.path)
                return there
    except (*DAMAGED, ValueError) as error:
        raise StoreError(f"{called} is not a ZIP of a recording ({printable(error)})") from error
    except OSError as error:
        raise StoreError(f"cannot unpack {called}: {error.strerror or error}") from error


def _checked(archive: zipfile.ZipFile, called: str) -> str:
    """Return the run's name if the archive holds a recording and nothing else. Raises StoreError."""
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise StoreError(
            f"{called} would unpack to {len(entries)} files of {sum(e.file_size for e in entries) / 1e9:.1f} GB; at "
            f"most {MOST_FILES} files and {MOST_BYTES / 1e9:.0f} GB are allowed"
        )
    found, names = set(), set()
    for entry in entries:
        inside = _INSIDE.fullmatch(entry.filename)
        kind = entry.external_attr >> 28  # file type, if packed on Unix: 8 = file, 10 = link
        if inside is None or inside["run"].startswith(".") or kind not in (0, 8) or entry.flag_bits & 1:
            raise StoreError(
                f"{called} is not a recording: {entry.filename[:80]!r} does not belong in one; make recordings with "
                "`plastiscope export RUN --recording`"
            )
        if entry.filename in names:
            raise StoreError(f"{called} is damaged: it holds {entry.filename[:80]!r} twice")
        names.add(entry.filename)
        found.add(inside["run"])
    if len(found) != 1 or not {f"{run}/{file}" for run in found for file in ("config.json", "events.db")} <= names:
        raise StoreError(f"{called} is not a recording: it must hold one run's config.json and events.db")
    return found.pop()


def _extract(archive: zipfile.ZipFile, place: Path) -> None:
    """Copy each file up to its declared size, which a ZIP may state wrongly."""
    for entry in archive.infolist():
        if entry.is_dir():
            continue
        target = place / entry.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        left = entry.file_size
        with archive.open(entry) as packed, target.open("xb") as file:
            while chunk := packed.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise zipfile.BadZipFile(f"{entry.filename[:80]!r} is longer than declared")
                file.write(chunk)


def _check_database(made: RunFolder, called: str) -> None:
    try:
        with closing(sqlite3.connect(f"{made.database.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            held = set(
                database.execute(
                    "SELECT type, tbl_name FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
                )
            )
            sound = database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    except sqlite3.Error as error:
        raise StoreError(f"events.db in {called} is damaged ({error})") from error
    if not sound or ("table", "events") not in held or not held <= {("table", "events"), ("index", "events")}:
        raise StoreError(f"events.db in {called} is damaged, or holds more than a run's events")


def _same(first: RunFolder, second: RunFolder) -> bool:
    files = [f.relative_to(first.path) for f in first.path.rglob("*") if f.is_file()]
    return all(
        (second.path / file).is_file() and (second.path / file).read_bytes() == (first.path / file).read_bytes()
        for file in files
    )
