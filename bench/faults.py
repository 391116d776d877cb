"""What a release is judged by: kills, damage, full disks and hostile input, replayed; `make faults`.

Each attempt must end in one of two ways: as if nothing had happened (a run that goes on measures exactly what an
uninterrupted one does), or refused in one sentence, with nothing left behind and nothing else affected. Anything else
fell: a traceback, another number, a hang, a file that escaped. Kills and overwritten places are drawn anew each time;
`--seed` repeats them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pickle
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from cl_core.cli import main as cli
from cl_core.store import RunFolder, RunReader, StoreError, find_run, list_runs

TINY = [
    "--method", "nsp2", "--backbone", "random-vit", "--stream", "synthetic", "--device", "cpu",
    "--set", "stream.tasks=2", "--set", "epochs=4", "--set", "batch_size=25",
]  # fmt: skip
MEASURED = ("StepEnded", "EpochEnded", "AccuracyMeasured", "SpectrumMeasured", "AttentionCompared", "UpdateMeasured")
TIMES = ("seconds",)  # differ from run to run
LONGEST = 120.0  # seconds that one attempt may take
DEEP = "[" * 100_000


class Fell(Exception):
    """What happened instead of what should."""


# ---------------------------------------------------------------- asking the program


def say(*arguments: object) -> tuple[int, str]:
    """Exit status and what was printed on standard error of one command in this process. A traceback is an exception
    here."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli([str(argument) for argument in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
    return status, err.getvalue()


def refused(status: int, err: str) -> None:
    """Raises Fell unless the command was refused in a sentence."""
    lines = [line for line in err.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("plastiscope: ", "plastiscope ")) or "error:" in line]
    if status not in (1, 2) or not told or "Traceback" in err:
        raise Fell(f"status {status}: {err[-200:]!r}")
    if len(told[-1]) > 1500 or "\x1b" in err:
        raise Fell(f"not a sentence: {told[-1][:80]!r}…")


def measured(folder: RunFolder) -> list[object]:
    """All that a run measured, without wall time."""
    found = []
    with contextlib.closing(RunReader(folder)) as reader:
        for stored in reader.since(kinds=MEASURED):
            body = {k: getattr(v, "tolist", lambda v=v: v)() for k, v in stored.event.body().items() if k not in TIMES}
            found.append((stored.event.kind, stored.event.clock, repr(body)))
    return found


def goes_on(folder: RunFolder, whole: list[object]) -> None:
    """Resume to the end, which must be that of an uninterrupted run. Raises Fell."""
    status, err = say("resume", folder.name, "--runs", folder.path.parent)
    if status:
        refused(status, err)
        raise Fell(f"not resumed: {err.strip()[:200]}")
    if measured(folder) != whole:
        raise Fell("resumed to other numbers")


def process(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "cl_core", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def copied(folder: RunFolder, runs: Path, name: str = "copy") -> RunFolder:
    return RunFolder(Path(shutil.copytree(folder.path, runs / name, symlinks=True)))


@contextlib.contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """A disk that is full for every file once it has this many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# ---------------------------------------------------------------- what is tried

Attempt = Callable[[Path], None]  # in an empty folder; raises Fell


def kills(count: int, whole: list[object], seconds: float, draw: random.Random) -> Iterator[tuple[str, Attempt]]:
    """SIGKILL at random moments of a run, and of its resumes."""

    def attempt(place: Path, moments: list[float]) -> None:
        child = process("run", *TINY, "--name", "killed", "--runs", place)
        for moment in moments:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(moment)
            child.send_signal(signal.SIGKILL)
            child.communicate()
            if not (place / "killed" / "config.json").is_file():
                return  # it had not begun
            child = process("resume", "killed", "--runs", place)
        _, err = child.communicate(timeout=LONGEST)
        folder = RunFolder(place / "killed")
        if b"Traceback" in err:
            raise Fell(err.decode()[-300:])
        if b"is finished" not in err and child.returncode:
            raise Fell(f"status {child.returncode}: {err.decode()[-200:]}")
        if measured(folder) != whole:
            raise Fell("other numbers than an uninterrupted run")

    for _ in range(count):
        moments = [draw.uniform(0.2, seconds) for _ in range(draw.choice((1, 1, 2, 3)))]
        told = ", ".join(f"{m:.2f} s" for m in moments)
        yield f"killed after {told}", lambda place, moments=moments: attempt(place, moments)


def _remove(file: Path, draw: random.Random) -> None:
    file.unlink()


def _empty(file: Path, draw: random.Random) -> None:
    file.write_bytes(b"")


def _cut(file: Path, draw: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: draw.randrange(max(1, file.stat().st_size))])


def _overwrite(file: Path, draw: random.Random) -> None:
    content = bytearray(file.read_bytes())
    start = draw.randrange(max(1, len(content) - 64))
    content[start : start + 64] = draw.randbytes(min(64, len(content) - start))
    file.write_bytes(content)


def damage(killed: RunFolder, whole: list[object], draw: random.Random) -> Iterator[tuple[str, Attempt]]:
    """Each file of a killed run removed, emptied, cut and overwritten: the run goes on exactly, or is refused; reading
    it and the other runs beside it never fails."""

    def attempt(place: Path, file: str, how: Callable[[Path, random.Random], None]) -> None:
        folder = copied(killed, place)
        copied(killed, place, "sound")
        how(folder.path / file, draw)
        status, err = say("list", "--runs", place)
        if status or "Traceback" in err:
            raise Fell(f"list: {err[-200:]}")
        for command in ("show", "export"):
            extra = ("--out", place.parent / f"{place.name}-export", "--figures", "none") if command == "export" else ()
            status, err = say(command, "copy", "--runs", place, *extra)
            if status:
                refused(status, err)
        status, err = say("resume", "copy", "--runs", place)
        if status:
            refused(status, err)
            if "--after-task" in err:  # the way out that it names must lead on
                after = err.split("--after-task ")[1].split("`")[0]
                status, err = say("resume", "copy", "--after-task", after, "--runs", place)
                if status:
                    refused(status, err)
        if not status and measured(folder) != whole:
            raise Fell("trained on to other numbers, in silence")

    for path in sorted(killed.path.rglob("*")):
        if path.is_file() and not path.name.endswith("-shm"):
            name = path.relative_to(killed.path).as_posix()
            for how in (_remove, _empty, _cut, _overwrite):
                yield f"{name} {how.__name__.strip('_')}", lambda place, n=name, h=how: attempt(place, n, h)


def full_disks(killed: RunFolder, whole: list[object]) -> Iterator[tuple[str, Attempt]]:
    """Commands on a disk that fills up: one sentence, nothing left, and the run goes on when there is room."""

    def attempt(place: Path, size: int, command: tuple[str, ...]) -> None:
        runs = place / "runs"
        folder = copied(killed, runs, "killed")
        with no_file_larger_than(size):
            status, err = say(command[0], *[str(place / part[1:]) if part[:1] == "@" else part for part in command[1:]])
        if status:
            refused(status, err)
            left = [path.name for path in place.rglob("*") if path.name.endswith(".part") or path.suffix == ".zip"]
            bare = [path.name for path in runs.iterdir() if not (path / "config.json").is_file()]
            if left or bare:
                raise Fell(f"left behind: {[*left, *bare]}")
        if command[0] != "resume" or status:
            goes_on(folder, whole)

    commands: dict[str, tuple[str, ...]] = {
        "resume": ("resume", "killed", "--runs", "@runs"),
        "run": ("run", *TINY, "--name", "new", "--runs", "@runs"),
        "fork": ("fork", "killed", "--after-task", "1", "--runs", "@runs"),
        "recording": ("export", "killed", "--recording", "--out", "@out.zip", "--runs", "@runs"),
        "export": ("export", "killed", "--figures", "none", "--out", "@out", "--runs", "@runs"),
        "report": ("report", "killed", "--out", "@out.html", "--runs", "@runs"),
    }
    for name, command in commands.items():
        for size in (0, 1_000, 20_000, 60_000, 200_000):
            yield f"{name} with {size:,} bytes a file", lambda place, s=size, c=command: attempt(place, s, c)


def deletions(draw: random.Random) -> Iterator[tuple[str, Attempt]]:
    """The folder deleted while its run trains: it stops, says so, and nothing comes back."""

    def attempt(place: Path, after: int) -> None:
        from cl_core.training import worker

        append, count = worker.RunWriter.append, 0

        def then_gone(writer: worker.RunWriter, moment: object) -> int:
            nonlocal count
            seq, count = append(writer, moment), count + 1  # type: ignore[arg-type]
            if count == after:
                shutil.rmtree(writer.folder.path)
            return seq

        worker.RunWriter.append = then_gone  # type: ignore[method-assign,assignment]
        try:
            status, err = say("run", *TINY, "--name", "gone", "--runs", place)
        finally:
            worker.RunWriter.append = append  # type: ignore[method-assign]
        refused(status, err)
        if (place / "gone").exists():
            raise Fell("the folder came back")

    for _ in range(4):
        after = draw.randrange(2, 25)
        yield f"folder deleted after {after} moments", lambda place, a=after: attempt(place, a)


def _accuracy(folder: RunFolder, body: str) -> None:
    with contextlib.closing(sqlite3.connect(folder.database)) as database:
        database.execute("UPDATE events SET body = ? WHERE kind = 'AccuracyMeasured'", (body,))
        database.commit()


def _bomb(folder: RunFolder) -> None:
    packed = zlib.compress(bytes(256 << 20), 9)
    place = {"$array": ["<f4", [2, 2, 2], 0, len(packed)]}
    body = json.dumps({"prompts": place, "means": place, "deviations": place})
    with contextlib.closing(sqlite3.connect(folder.database)) as database:
        database.execute("UPDATE events SET body = ?, blob = ? WHERE kind = 'PromptsDrifted'", (body, packed))
        database.commit()


def _view(folder: RunFolder) -> None:
    with contextlib.closing(sqlite3.connect(folder.database)) as database:
        database.execute("ALTER TABLE events RENAME TO others")
        database.execute(
            "CREATE VIEW events AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS seq, "
            "1.0 AS time, 'StepEnded' AS kind, 0 AS task, 0 AS epoch, 0 AS step, '{}' AS body, NULL AS blob FROM n"
        )
        database.commit()


def _pipe(folder: RunFolder) -> None:
    folder.config_file.unlink()
    os.mkfifo(folder.config_file)


HOSTILE: dict[str, Callable[[RunFolder], object]] = {
    "settings nested 100,000 deep": lambda f: f.config_file.write_text(DEEP),
    "settings nested 300 deep": lambda f: f.config_file.write_text('{"method": ' + DEEP[:300] + "]" * 300 + "}"),
    "settings of 100 MB": lambda f: f.config_file.write_bytes(b" " * 100_000_000),
    "settings that are a list": lambda f: f.config_file.write_text("[]"),
    "settings that are a pipe": _pipe,
    "settings that lead to /dev/zero": lambda f: (f.config_file.unlink(), f.config_file.symlink_to("/dev/zero")),
    "settings of an unknown format": lambda f: f.config_file.write_text('{"method": "nsp2", "format": [1]}'),
    "a parent above its folder": lambda f: f.fork_file.write_text(
        '{"parent": "../../x", "after_task": "1", "seq": -1, "changed": []}'
    ),
    "a note of a fork nested deep": lambda f: f.fork_file.write_text(DEEP),
    "accuracies that are a text": lambda f: _accuracy(f, '{"readout": "class-incremental", "row": "abc"}'),
    "accuracies that are tables": lambda f: _accuracy(f, '{"readout": [1], "row": {"a": [1]}}'),
    "accuracies of 5,000 tasks": lambda f: _accuracy(f, json.dumps({"readout": "x", "row": [1.0] * 5000})),
    "accuracies nested deep": lambda f: _accuracy(f, DEEP),
    "an array of 256 MB in 260 kB": _bomb,
    "events that are an endless view": _view,
    "events that are a folder": lambda f: (f.database.unlink(), f.database.mkdir()),
    "orders nested deep": lambda f: (f.inbox.mkdir(exist_ok=True), (f.inbox / "1-a.json").write_text(DEEP)),
}


def hostile_runs(killed: RunFolder, whole: list[object]) -> Iterator[tuple[str, Attempt]]:
    """A run that somebody prepared, in a folder and as a recording: it is named or shown, the others are untouched, and
    memory stays bounded."""

    def attempt(place: Path, change: Callable[[RunFolder], object]) -> None:
        runs = place / "runs"
        bad = copied(killed, runs, "bad")
        good = copied(killed, runs, "good")
        for file in ("events.db-wal", "events.db-shm"):  # as a recording has it
            with contextlib.suppress(FileNotFoundError), contextlib.closing(sqlite3.connect(bad.database)) as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                (bad.path / file).unlink()
        change(bad)
        for command in (("list",), ("show", "bad"), ("export", "bad", "--figures", "none", "--out", place / "out")):
            status, err = say(*command, "--runs", runs)
            if status:
                refused(status, err)
            elif "Traceback" in err:
                raise Fell(err[-200:])
        archive = place / "bad.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in ("config.json", "events.db", "fork.json"):
                if (bad.path / file).is_file() and (bad.path / file).stat().st_size < 1e8:
                    packed.write(bad.path / file, f"theirs/{file}")
        with contextlib.suppress(StoreError):
            from cl_core.store import unpack

            unpack(archive, place / "unpacked")
        status, err = say("list", "--runs", place / "unpacked")
        if status:
            refused(status, err)
        goes_on(good, whole)

    for name, change in HOSTILE.items():
        yield name, lambda place, c=change: attempt(place, c)


class _Calls:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def recordings() -> Iterator[tuple[str, Attempt]]:
    """Archives that are no recordings: refused, nothing unpacked, nothing written elsewhere."""

    def attempt(place: Path, entries: dict[str, bytes]) -> None:
        from cl_core.store import unpack

        archive = place / "theirs.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in entries.items():
                packed.writestr(name, content)
        before = sorted(path for path in place.rglob("*"))
        try:
            unpack(archive, place / "runs")
        except StoreError as error:
            if "\n" in str(error):
                raise Fell("not a sentence") from error
        else:
            raise Fell("unpacked")
        left = [p for p in place.rglob("*") if p not in before and p != place / "runs"]
        if left or (place.parent / "escaped").exists():
            raise Fell(f"left behind: {left}")

    config = b'{"method": "nsp2"}'
    sound = {"a/config.json": config, "a/events.db": b""}
    cases = {
        "a path above its folder": {**sound, "../escaped": b"x"},
        "an absolute path": {**sound, "/escaped": b"x"},
        "a program beside it": {**sound, "a/run.py": b"x"},
        "a pickle beside it": {**sound, "a/arrays/00000001-a.pkl": pickle.dumps(_Calls(Path("/escaped")))},
        "two runs": {**sound, "b/config.json": config},
        "no events": {"a/config.json": config},
        "events that are text": {**sound, "a/events.db": b"hello" * 100},
        "settings nested deep": {**sound, "a/config.json": DEEP.encode()},
        "nothing": {},
    }
    for name, entries in cases.items():
        yield name, lambda place, e=entries: attempt(place, e)


def weights() -> Iterator[tuple[str, Attempt]]:
    """Weight files that are none: refused in a sentence, and no pickle runs."""

    def attempt(place: Path, make: Callable[[Path], object], suffix: str) -> None:
        file = place / f"weights{suffix}"
        make(file)
        name = f"timm:vit_tiny_patch16_224@{file}"
        status, err = say("run", *TINY, "--backbone", name, "--name", "never", "--runs", place / "runs")
        refused(status, err)
        if (place / "ran").exists() or (place / "runs").exists():
            raise Fell("something ran, or was left behind")

    def saved(content: object) -> Callable[[Path], object]:
        def make(file: Path) -> None:
            import torch

            torch.save(content, file)

        return make

    import torch

    length = (1 << 62).to_bytes(8, "little")
    cases: dict[str, tuple[Callable[[Path], object], str]] = {
        "a list": (saved([1, 2]), ".pt"),
        "a text": (saved("text"), ".pt"),
        "one tensor": (saved(torch.zeros(3)), ".pt"),
        "nothing": (saved(None), ".pth"),
        "tensors of other names": (saved({"a": torch.zeros(3)}), ".pt"),
        "a pickle that calls": (lambda f: f.write_bytes(pickle.dumps(_Calls(f.parent / "ran"))), ".pt"),
        "an archive with such a pickle": (lambda f: saved(_Calls(f.parent / "ran"))(f), ".pt"),
        "random bytes": (lambda f: f.write_bytes(os.urandom(5000)), ".bin"),
        "an empty file": (lambda f: f.write_bytes(b""), ".safetensors"),
        "a header of 4 EB": (lambda f: f.write_bytes(length + b"{}"), ".safetensors"),
        "a header nested deep": (
            lambda f: f.write_bytes(len(DEEP).to_bytes(8, "little") + DEEP.encode()),
            ".safetensors",
        ),
        "a folder": (lambda f: f.mkdir(), ".pt"),
        "a file that is not there": (lambda f: None, ".pt"),
    }
    for name, (make, suffix) in cases.items():
        yield name, lambda place, m=make, s=suffix: attempt(place, m, s)


def configurations() -> Iterator[tuple[str, Attempt]]:
    """Settings that cannot be meant, of every method: exit status 2 and one sentence, nothing left."""
    from cl_core.config import ConfigError, RunConfig, describe
    from cl_core.registry import METHODS, load
    from cl_core.training.factory import check

    def each(place: Path, method: str) -> None:
        for row in describe(load(METHODS, method, "method").Config):
            for value in (-1, 0, 1e308, float("nan"), float("inf"), "x", "", [], [[1]], {"a": 1}, None, True, 10**30):
                try:
                    check(RunConfig(method, backbone="micro-vit", settings={row["name"]: value}))
                except ConfigError as error:
                    if "\n" in str(error):
                        raise Fell(f"{row['name']}={value!r}: not a sentence") from error

    def toml(place: Path, text: str) -> None:
        file = place / "settings.toml"
        file.write_text(text)
        status, err = say("run", file, "--runs", place / "runs")
        if status != 2:
            raise Fell(f"status {status}")
        refused(status, err)
        if (place / "runs").exists():
            raise Fell("a folder was left behind")

    for method in METHODS:
        yield f"every setting of {method}", lambda place, m=method: each(place, m)
    base = 'method = "nsp2"\nbackbone = "random-vit"\nstream = "synthetic"\n'
    for text in (
        "format = -5", 'parent = "../../x"', "fork_task = -3", 'group = "../../x"', "settings = " + DEEP[:5000],
        "training = 3", "training = {epochs = [1]}", 'seed = "x"', "seed = -1", "seed = 1e400", "colour = 1",
        f'group = "{"x" * 5000}"', "= 1", "stream_settings = {classes = [[[1]]]}",
    ):  # fmt: skip
        yield f"{text[:40]}", lambda place, t=text: toml(place, base + t)
    for arguments in (
        ("list", "--runs", ""),
        ("rnu",),
        ("run", "--methd", "x"),
        ("show", "x" * 5000),
        ("open", "--port", "0"),
    ):
        yield " ".join(arguments)[:40] or "nothing", lambda place, a=arguments: refused(*say(*a))


# ---------------------------------------------------------------- telling


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="runs that are killed (default: 20)")
    parser.add_argument("--seed", type=int, default=None, help="of what is drawn; printed")
    parser.add_argument("--only", default="", metavar="WORD", help="only kinds whose name has this word")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    draw = random.Random(seed)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        return replay(Path(place), options.kills, options.only, draw, seed)


def replay(place: Path, count: int, only: str, draw: random.Random, seed: int) -> int:
    """Try everything; a line a kind, and one for whatever fell. Returns an exit status."""
    started = time.monotonic()
    child = process("run", *TINY, "--name", "whole", "--runs", place / "first")
    child.communicate()
    seconds = time.monotonic() - started
    whole = measured(find_run(place / "first", "whole"))
    killed = _killed(place / "first", draw)
    kinds: dict[str, Callable[[], Iterator[tuple[str, Attempt]]]] = {
        "killed at random moments": lambda: kills(count, whole, seconds, draw),
        "damage to each file of a run": lambda: damage(killed, whole, draw),
        "a full disk": lambda: full_disks(killed, whole),
        "the folder deleted": lambda: deletions(draw),
        "hostile runs": lambda: hostile_runs(killed, whole),
        "hostile recordings": recordings,
        "hostile weights": weights,
        "impossible configurations": configurations,
    }
    print(f"seed {seed}; a run takes {seconds:.1f} s here\n\n{'kind':<32} {'tried':>6} {'held':>6}")
    tried = held = 0
    for kind, attempts in kinds.items():
        if only not in kind:
            continue
        results = [_try(name, attempt, place) for name, attempt in attempts()]
        good = sum(reason == "" for _, reason in results)
        tried, held = tried + len(results), held + good
        print(f"{kind:<32} {len(results):>6} {good:>6}", flush=True)
        for name, reason in results:
            if reason:
                print(f"    fell: {name}: {reason}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{'together':<32} {tried:>6} {held:>6}\n\n{time.monotonic() - started:.0f} s, at most {peak:.0f} MB of memory"
    )
    return 0 if held == tried else 1


def _killed(runs: Path, draw: random.Random) -> RunFolder:
    """A run killed within its second task, with its write-ahead log."""
    child = process("run", *TINY, "--set", "epochs=4", "--name", "killed", "--runs", runs)
    folder = RunFolder(runs / "killed")
    while child.poll() is None:
        with contextlib.suppress(StoreError), contextlib.closing(RunReader(folder)) as reader:
            found = reader.latest("StepEnded")
            if found is not None and found.event.clock.task == 1:
                break
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    if len(list_runs(runs)) != 2 or not list(folder.checkpoints.glob("*/done")):
        raise SystemExit("could not kill a run within its second task")
    return folder


def _try(name: str, attempt: Attempt, place: Path) -> tuple[str, str]:
    """(name, "" or what happened)."""
    with tempfile.TemporaryDirectory(dir=place) as room:
        try:
            attempt(Path(room))
        except Fell as error:
            return name, str(error)
        except Exception:
            return name, f"traceback: {traceback.format_exc().strip().splitlines()[-1][:200]}"
    return name, ""


if __name__ == "__main__":
    sys.exit(main())
