"""A run's folder: paths, locking, and listing, opening and naming runs.

config.json               what the run is, written once
events.db, arrays/        what happened (writer.py, reader.py); the worker alone writes here
analysis/                 what was measured of it later, on request (cl_core.analysis)
checkpoints/000123/       everything needed to go on; a file `done` is written last
fork.json                 only in a fork: its parent, where it left it, and what changed (fork.py)
inbox/                    commands for the worker (inbox.py)
worker.lock, worker.log   a record lock the kernel drops when the worker dies; the worker's output
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from cl_core.config import MOST_NAME, ConfigError, RunConfig
from cl_core.method_defaults import as_first_written
from cl_core.registry import plugins_of
from cl_core.untrusted import printable, read_json

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

_HELD: dict[str, int] = {}  # lock file → pid: closing any descriptor of it in its owner would drop the lock
_FLOCK = "hhqqi4x"  # struct flock on 64-bit Linux: type, whence, start, length, pid


class StoreError(Exception):
    """A run folder that cannot be read, written or held; the message is one sentence for a person."""


@dataclass(frozen=True)
class RunFolder:
    """Names of the files below one run's folder. Nothing is opened here."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def database(self) -> Path:
        return self.path / "events.db"

    @property
    def arrays(self) -> Path:
        return self.path / "arrays"

    @property
    def analysis(self) -> Path:
        return self.path / "analysis"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def fork_file(self) -> Path:
        return self.path / "fork.json"

    @property
    def inbox(self) -> Path:
        return self.path / "inbox"

    @property
    def lock(self) -> Path:
        return self.path / "worker.lock"

    @property
    def log(self) -> Path:
        return self.path / "worker.log"

    def config(self) -> RunConfig:
        """The run's settings. Raises StoreError if they are missing, damaged or newer than this program."""
        try:
            record = read_json(self.config_file)
            if not isinstance(record, dict):
                raise ConfigError("it does not hold an object")
            return RunConfig.from_dict(as_first_written(record))
        except FileNotFoundError as error:
            raise StoreError(f"{self.path} is not a run: it has no config.json") from error
        except OSError as error:
            raise StoreError(f"cannot read {self.config_file}: {error.strerror}") from error
        except ConfigError as error:
            raise StoreError(f"cannot open run {self.name}: {error}") from error
        except ValueError as error:
            raise StoreError(f"{self.config_file} is damaged ({error}); the events beside it are untouched") from error

    def size(self) -> int:
        """Bytes on disk."""
        return sum(f.stat().st_size for f in self.path.rglob("*") if f.is_file())


def create_run(runs: Path, config: RunConfig) -> RunFolder:
    """A fresh folder below `runs` holding `config`, every setting written out; its name is time, method and four random
    characters."""
    name = config.name or f"{time.strftime('%Y%m%d-%H%M%S')}-{config.method}-{secrets.token_hex(2)}"
    if name in (".", "..") or any(c in name for c in "/\\\0") or name.startswith("."):
        raise StoreError(
            f"a run's name cannot begin with a dot or contain '/' or '\\', got {printable(name, 80)!r}; leave these out"
        )
    if len(os.fsencode(name)) > MOST_NAME:
        raise StoreError(f"a run's name has at most {MOST_NAME} bytes, got {len(os.fsencode(name))}")
    if not config.trained_elsewhere and (brought := plugins_of(config.method, config.stream, config.backbone)):
        config = replace(config, plugins=brought)
    folder = RunFolder(Path(runs) / name)
    try:
        folder.path.mkdir(parents=True)
    except FileExistsError as error:
        raise StoreError(f"{folder.path} is taken; choose another --name or leave it out") from error
    except OSError as error:
        raise _unwritable(runs, error) from error
    try:
        folder.inbox.mkdir()
        folder.checkpoints.mkdir()
        write_atomically(folder.config_file, json.dumps(config.completed().to_dict(), indent=1).encode())
    except OSError as error:
        shutil.rmtree(folder.path, ignore_errors=True)  # without settings it would be no run
        raise _unwritable(runs, error) from error
    return folder


def _unwritable(runs: Path, error: OSError) -> StoreError:
    return StoreError(f"cannot write runs into {runs}: {error.strerror}; choose a writable folder with --runs")


def list_runs(runs: Path) -> list[RunFolder]:
    """Run folders directly below `runs`, the one created last first."""
    found = []
    try:
        for path in Path(runs).iterdir():
            with contextlib.suppress(OSError):  # no run, deleted while we look, or a link that leads nowhere or back
                found.append(((path / "config.json").stat().st_mtime_ns, path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"cannot list runs in {runs}: {error.strerror}") from error
    return [RunFolder(path) for _, path in sorted(found, reverse=True)]


def find_run(runs: Path, name: str, recordings: Path | None = None) -> RunFolder:
    """The run called `name` below `runs`: its full name, an unambiguous beginning or end, or a path to a run folder.

    `recordings`: a folder where a full name counts as well, for commands that only read.
    """
    direct = Path(name)
    with contextlib.suppress(OSError, ValueError):  # longer than a file's name may be
        if (direct / "config.json").is_file():
            return RunFolder(direct)
    known = list_runs(runs)
    exact = [f for f in known if f.name == name]
    matches = exact or [f for f in known if name and (f.name.startswith(name) or f.name.endswith(name))]
    if len(matches) == 1:
        return matches[0]
    if matches:
        some = ", ".join(f.name for f in matches[:5])
        raise StoreError(f"{printable(name, 80)!r} fits {len(matches)} runs: {some}; write more of the name")
    if recordings is not None and name in (recorded := {f.name: f for f in list_runs(recordings)}):
        return recorded[name]
    listed = ", ".join(f.name for f in known[:5])
    raise StoreError(
        f"no run {printable(name, 80)!r} in {runs}; " + (f"newest: {listed}" if known else "there are no runs yet")
    )


def write_atomically(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a whole file at once, as `replacing` does. Raises OSError."""
    with replacing(path, durable=durable) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[IO[bytes]]:
    """A file written under another name in the same folder, then renamed: readers see the old file or the new one,
    never half. Where writing fails nothing is left behind.

    `durable`: it is there after a loss of power, too.
    """
    temporary = path.with_name(f"{path.name[:MOST_NAME]}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            flush(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def flush(path: Path) -> None:
    """Wait until the disk holds a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def hold(folder: RunFolder) -> Iterator[None]:
    """Hold the run for this process until the block ends. Raises StoreError if another process holds it.

    A record lock (`lockf`, not `flock`) is dropped by the kernel however its owner dies, and is not inherited by
    children. The lock file must not be opened and closed again inside the owner: that would drop the lock.
    """
    if fcntl is None:
        raise StoreError("training needs a POSIX system (Linux, macOS, WSL); recordings open everywhere")
    if _held_here(folder):
        raise StoreError(f"run {folder.name} is already being worked on by this process")
    try:
        descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreError(f"cannot write {folder.lock}: {error.strerror}") from error
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(f"run {folder.name} is already being worked on by another process") from error
        with contextlib.suppress(OSError):  # a full disk: the number is for people, the lock holds without it
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        _HELD[_lock_name(folder)] = os.getpid()
        try:
            yield
        finally:
            del _HELD[_lock_name(folder)]
    finally:
        os.close(descriptor)


def lock_owner(folder: RunFolder) -> int | None:
    """The process that works on this run now, or None."""
    if fcntl is None:
        return None
    if _held_here(folder):
        return os.getpid()
    try:
        descriptor = os.open(folder.lock, os.O_RDWR)
    except OSError:  # no lock file, or a read-only place: nobody works there
        return None
    try:
        if sys.platform == "linux":
            question = struct.pack(_FLOCK, fcntl.F_WRLCK, 0, 0, 0, 0)
            kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
            return None if kind == fcntl.F_UNLCK else pid
        try:  # elsewhere the layout differs: try to take it for an instant
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        except OSError:
            text = os.pread(descriptor, 32, 0).decode(errors="ignore").strip()
            return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)


def _held_here(folder: RunFolder) -> bool:
    return _HELD.get(_lock_name(folder)) == os.getpid()


def _lock_name(folder: RunFolder) -> str:
    return os.path.realpath(folder.lock)
