"""A run's folder: paths, locking, and listing, opening and naming runs.

config.json               settings of the run, written once
events.db, arrays/        events (writer.py, reader.py); written only by the worker
analysis/                 measurements made later, on request (cl_core.analysis)
checkpoints/000123/       everything needed to resume; a file `done` is written last
fork.json                 only in a fork: its parent, the task boundary, and the changed settings (fork.py)
inbox/                    commands for the worker (command_queue.py)
worker.lock, worker.log   a record lock that the kernel releases when the worker dies; the worker's output
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
    """A run folder that cannot be read, written or locked; the message is one sentence for the user."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of the files in a run's folder. Nothing is opened here."""

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
        """Return the run's settings. Raises StoreError if they are missing, damaged or newer than this program."""
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
    """Create a folder below `runs` with all settings of `config`; its default name is time, method and four random
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
        shutil.rmtree(folder.path, ignore_errors=True)  # without settings it is not a run
        raise _unwritable(runs, error) from error
    return folder


def _unwritable(runs: Path, error: OSError) -> StoreError:
    return StoreError(f"cannot write runs into {runs}: {error.strerror}; choose a writable folder with --runs")


def list_runs(runs: Path) -> list[RunFolder]:
    """Return run folders directly below `runs`, the newest first."""
    found = []
    try:
        for path in Path(runs).iterdir():
            with contextlib.suppress(OSError):  # not a run, deleted meanwhile, or a broken or circular link
                found.append(((path / "config.json").stat().st_mtime_ns, path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"cannot list runs in {runs}: {error.strerror}") from error
    return [RunFolder(path) for _, path in sorted(found, reverse=True)]


def find_run(runs: Path, name: str, recordings: Path | None = None) -> RunFolder:
    """Find the run `name` below `runs`: its full name, an unambiguous prefix or suffix, or a path to a run folder.

    `recordings`: a further folder that is searched by full name, for commands that only read.
    """
    direct = Path(name)
    with contextlib.suppress(OSError, ValueError):  # too long for a file name
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
    """Write a file atomically, as `replacing` does. Raises OSError."""
    with replacing(path, durable=durable) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[IO[bytes]]:
    """Open a temporary file in the same folder and rename it to `path` at the end: readers see the old file or the new
    one, never a partial one. If writing fails, nothing is left behind.

    `durable`: the file survives a power failure.
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
    """Wait until a file, or the entries of a folder, are on disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def hold(folder: RunFolder) -> Iterator[None]:
    """Lock the run for this process until the block ends. Raises StoreError if another process holds the lock.

    The kernel releases a record lock (`lockf`, not `flock`) however its owner dies, and child processes do not inherit
    it. The owner must not open and close the lock file again: that would release the lock.
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
        with contextlib.suppress(OSError):  # a full disk; the pid is only informative, the lock works without it
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
    """Return the pid of the process that holds this run's lock, or None."""
    if fcntl is None:
        return None
    if _held_here(folder):
        return os.getpid()
    try:
        descriptor = os.open(folder.lock, os.O_RDWR)
    except OSError:  # no lock file, or a read-only folder: no worker
        return None
    try:
        if sys.platform == "linux":
            question = struct.pack(_FLOCK, fcntl.F_WRLCK, 0, 0, 0, 0)
            kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
            return None if kind == fcntl.F_UNLCK else pid
        try:  # elsewhere the layout differs: try to take the lock for a moment
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
