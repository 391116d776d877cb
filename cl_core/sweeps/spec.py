"""A sweep: one grid of settings × methods × seeds. No torch.

    Sweep("softness", ({"method": "nsp2"},), axes=(axis("eta_affinity=0.5,0.9,1.0"),), seeds=(0, 1, 2))

Its runs are ordinary runs with the group `sweep NAME`. A run belongs to a point if its settings are exactly those of
the point (apart from the name), so starting the same sweep again trains only missing runs, and a larger grid keeps the
finished ones.

runs/.sweeps/NAME/sweep.json     the grid, written when it starts
                  worker.lock    held by the process that runs it
                  stop           present: save what is in training and end
                  output.log     output of the dashboard's worker
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cl_core.config import ConfigError, RunConfig
from cl_core.presets import resolve
from cl_core.store import RunFolder, StoreError, lock_owner, write_atomically
from cl_core.untrusted import read_json

FORMAT = 1


@dataclass(frozen=True)
class Axis:
    """One axis of a grid: one or more settings that take the same value."""

    keys: tuple[str, ...]
    values: tuple[str, ...]  # as written on a command line

    @property
    def name(self) -> str:
        return "+".join(self.keys)


def axis(text: str) -> Axis:
    """Parse an axis `key=a,b,c`; `first+second=a,b` changes two settings together. Commas inside brackets belong to the
    value. Raises ConfigError."""
    names, sign, values = text.partition("=")
    keys = tuple(key.strip().replace("-", "_") for key in names.split("+"))
    found = tuple(dict.fromkeys(v.strip() for v in re.split(r",(?![^\[]*\])", values)))
    if not sign or not all(keys) or not all(found):
        raise ConfigError(f"--grid takes key=a,b,c (or first+second=a,b,c), got {text!r}")
    return Axis(keys, found)


@dataclass(frozen=True)
class Point:
    """One run of a sweep: the axes' values, and all its settings."""

    values: tuple[str, ...]  # one per axis, as written
    config: RunConfig

    @property
    def fingerprint(self) -> str:
        return self.config.fingerprint()


@dataclass(frozen=True)
class Sweep:
    """A grid of runs. `bases` are records for `presets.resolve`: one per method or preset."""

    name: str
    bases: tuple[Mapping[str, Any], ...]
    settings: tuple[str, ...] = ()  # key=value, for every run
    axes: tuple[Axis, ...] = ()
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ConfigError(f"a sweep's name is made of letters, digits, dots and hyphens, got {self.name!r}")
        if not self.bases or not self.seeds:
            raise ConfigError("a sweep needs at least one method (or preset) and one seed")
        keys = [key for axis in self.axes for key in axis.keys]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise ConfigError(f"{', '.join(twice)} stands in two --grid options; give all its values in one")

    @property
    def group(self) -> str:
        """The `RunConfig.group` of its runs."""
        return f"sweep {self.name}"

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """All runs, seed by seed, so that the grid is complete once before it is repeated. Raises ConfigError."""
        found: dict[str, Point] = {}
        for seed, base, values in itertools.product(
            self.seeds, self.bases, itertools.product(*(axis.values for axis in self.axes))
        ):
            pairs = [f"{key}={v}" for axis, v in zip(self.axes, values, strict=True) for key in axis.keys]
            config = resolve({**base, "seed": seed, "group": self.group}).with_overrides([*self.settings, *pairs])
            point = Point(values, replace(config, name=self._run_name(config, values)))
            found.setdefault(point.fingerprint, point)  # 1 and 1.0 are the same setting
        return tuple(found.values())

    def _run_name(self, config: RunConfig, values: tuple[str, ...]) -> str:
        parts = [self.name] + [config.preset or config.method] * (len(self.bases) > 1)
        parts += [f"{axis.keys[0].rpartition('.')[2]}-{v}" for axis, v in zip(self.axes, values, strict=True)]
        return "-".join(re.sub(r"[^A-Za-z0-9._]+", "-", part).strip("-") for part in [*parts, f"seed-{config.seed}"])

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "name": self.name,
            "bases": [dict(base) for base in self.bases],
            "settings": list(self.settings),
            "axes": [{"keys": list(a.keys), "values": list(a.values)} for a in self.axes],
            "seeds": list(self.seeds),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Sweep:
        """Read a record. Raises ConfigError if it was written by a newer program or is damaged."""
        try:
            if record["format"] > FORMAT:
                raise ConfigError(
                    f"sweep {record['name']} was written by a newer Plastiscope; update Plastiscope to open it"
                )
            return cls(
                record["name"],
                tuple(record["bases"]),
                tuple(record["settings"]),
                tuple(Axis(tuple(a["keys"]), tuple(a["values"])) for a in record["axes"]),
                tuple(record["seeds"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"a sweep's record is damaged ({type(error).__name__}: {error})") from error


# ---------------------------------------------------------------- its folder


def sweep_folder(runs: Path, name: str) -> RunFolder:
    """Folder of the record and lock of the sweep `name`: beside the runs, but not a run."""
    return RunFolder(Path(runs) / ".sweeps" / name)


def output_of(runs: Path, name: str) -> Path:
    """Log file of a sweep started by the dashboard."""
    return sweep_folder(runs, name).path / "output.log"


def save(sweep: Sweep, runs: Path) -> None:
    """Write the record. Raises StoreError if the folder cannot be written, ConfigError if the name belongs to a sweep
    of other settings: their runs would be drawn as one."""
    known = load(runs, sweep.name)
    if known is not None and _kind(known) != _kind(sweep):
        raise ConfigError(
            f"sweep {sweep.name} in {runs} has other methods or settings; choose another --name, or the same settings "
            "(values of a setting and seeds may be added)"
        )
    folder = sweep_folder(runs, sweep.name).path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "sweep.json", json.dumps(sweep.to_dict(), indent=1).encode())
    except OSError as error:
        raise StoreError(
            f"cannot write runs into {runs}: {error.strerror}; choose a writable folder with --runs"
        ) from error


def load(runs: Path, name: str) -> Sweep | None:
    """The sweep called `name`, or None. Raises StoreError if its record cannot be read."""
    path = sweep_folder(runs, name).path / "sweep.json"
    try:
        return Sweep.from_dict(read_json(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # ConfigError is a ValueError
        raise StoreError(f"cannot read {path}: {error}") from error


def known_sweeps(runs: Path) -> list[str]:
    """Names of the sweeps below `runs`, the most recently started or continued first."""
    found = []
    for path in (Path(runs) / ".sweeps").glob("*/sweep.json"):
        try:
            found.append((path.stat().st_mtime_ns, path.parent.name))
        except OSError:  # removed meanwhile
            continue
    return [name for _, name in sorted(found, reverse=True)]


def _kind(sweep: Sweep) -> tuple[Any, ...]:
    return sweep.bases, sweep.settings, tuple(axis.keys for axis in sweep.axes)


# ---------------------------------------------------------------- stopping


def ask_to_stop(runs: Path, name: str) -> None:
    """Tell the process that runs the sweep to save runs in training and end. Raises StoreError."""
    try:
        (sweep_folder(runs, name).path / "stop").touch()
    except OSError as error:
        raise StoreError(f"cannot stop sweep {name}: {error.strerror}") from error


def stop_file(runs: Path, name: str) -> Path:
    return sweep_folder(runs, name).path / "stop"


def conducted_by(runs: Path, name: str) -> int | None:
    """The process that runs the sweep, or None."""
    return lock_owner(sweep_folder(runs, name))
