"""A question: the runs that answer it, and the criteria of its verdict. No torch.

Answers use only finished runs. A run counts if its settings, apart from name and group, are exactly those of the
question (so questions can share runs) and it has at least the required measurements; after a preset has changed, a
question needs new runs.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cl_core.config import ConfigError, DiagnosticsConfig, RunConfig, nearest
from cl_core.presets import PRESETS, resolve
from cl_core.questions.reporting import results_of
from cl_core.questions.seeds import Criterion, Numbers, Pooled, pooled
from cl_core.store import RunFolder, RunReader, StoreError, list_runs, turned


@dataclass(frozen=True)
class Question:
    """Question, motivation, required runs, measures and criteria."""

    name: str
    title: str  # the question itself, one sentence
    why: str  # motivation, and how the runs answer it
    runs: tuple[tuple[str, Mapping[str, Any]], ...]  # (label, input of `presets.resolve`)
    unwatched: tuple[str, ...] = ()  # diagnostics not needed for the answer, disabled in its runs
    numbers: Callable[[RunFolder], Mapping[str, float | None]] = results_of  # of a run; "forgetting, pp" → value
    criteria: tuple[Criterion, ...] = ()  # criteria for a yes

    @property
    def seconds(self) -> float | None:
        """Estimated time of all runs on two idle cores, from measured times of their presets; None if one is
        unknown."""
        spent = [_seconds(record) for _, record in self.runs]
        return None if None in spent else sum(s for s in spent if s is not None)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(label for label, _ in self.runs)


def _seconds(record: Mapping[str, Any]) -> float | None:
    named = PRESETS.get(record.get("preset", ""))
    if named is None or named.seconds is None:
        return None
    asked, usual = (of.get("stream_settings", {}).get("tasks", 0) for of in (record, named.config))
    same = "stream" not in record or record["stream"] == named.config["stream"]
    return named.seconds * (asked / usual if same and asked and usual else 1)


def config_of(question: Question, label: str, *, seed: int = 0, device: str = "auto") -> RunConfig:
    """The settings of one of a question's runs. Its name consists of the question's name and the label, because
    questions may share labels and run folders."""
    records = dict(question.runs)
    if label not in records:
        raise ConfigError(nearest(label, records, f"run of question {question.name}"))
    parts = [question.name, re.sub(r"[^A-Za-z0-9.]+", "-", label).strip("-")]
    parts += [f"seed-{seed}"] if seed else []
    parts += [device] if device != "auto" else []
    return resolve(
        {
            **records[label],
            "diagnostics": {**records[label].get("diagnostics", {}), **dict.fromkeys(question.unwatched, False)},
            "seed": seed + int(records[label].get("seed", 0)),  # a question may compare seeds
            "device": device,
            "group": f"question {question.name}",
            "name": "-".join(parts),
        }
    )


def runs_of(question: Question, *, seed: int = 0, device: str = "auto") -> dict[str, RunConfig]:
    """Label → the settings of that run of the question."""
    return {label: config_of(question, label, seed=seed, device=device) for label in question.labels}


def _course(config: RunConfig) -> str:
    """A digest of all settings that affect training, without name, group and diagnostics."""
    told = replace(config, group="", diagnostics=DiagnosticsConfig()).fingerprint()
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def _went(folder: RunFolder) -> tuple[str, DiagnosticsConfig]:
    """The training digest of a run and its diagnostics. Settings never change, so each file is read once. Raises
    StoreError."""
    stamp: tuple[int, ...] = ()
    try:
        found = os.stat(folder.config_file)
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    except OSError:
        pass
    return _read_course(folder.path, stamp)


@functools.lru_cache(maxsize=20_000)
def _read_course(path: Path, _stamp: tuple[int, ...]) -> tuple[str, DiagnosticsConfig]:
    config = RunFolder(path).config()
    return _course(config), config.diagnostics


def _covers(have: DiagnosticsConfig, want: DiagnosticsConfig) -> bool:
    """Whether all required measurements were made."""
    asked = {name: value for name, value in asdict(want).items() if value is True}
    if any(getattr(have, name) is not True for name in asked):
        return False
    looks = "attention" not in asked or (have.probe_epochs, have.probe_images) == (want.probe_epochs, want.probe_images)
    return looks and (want.readout_control != "every" or have.readout_control == "every")


Courses = Mapping[str, Mapping[str, RunConfig]]  # training digest → fingerprint → required configuration


def courses_of(wanted: Iterable[RunConfig]) -> Courses:
    """Index for `runs_with`; keep it for repeated use."""
    courses: dict[str, dict[str, RunConfig]] = {}
    for config in wanted:
        courses.setdefault(_course(config), {})[config.fingerprint()] = config
    return courses


def runs_with(courses: Courses, *folders: Path) -> dict[str, tuple[RunFolder, str]]:
    """Fingerprint of a required configuration → (run, state) of a run in the folders with the same training settings
    and sufficient measurements, in any state.

    Finished runs are preferred, then the newest in the first folder. Unreadable runs are skipped.
    """
    found: dict[str, tuple[RunFolder, str]] = {}
    for folder in (run for runs in folders for run in list_runs(runs)):
        try:
            course, measured = _went(folder)
            serves = {
                key
                for key, want in courses.get(course, {}).items()
                if found.get(key, ("", ""))[1] != "finished" and _covers(measured, want.diagnostics)
            }
            if not serves or turned(folder):
                continue
            with closing(RunReader(folder)) as reader:
                state = reader.status().state
        except StoreError:
            continue
        found |= {key: (folder, state) for key in serves if key not in found or state == "finished"}
    return found


def known_runs(
    question: Question, *folders: Path, seed: int = 0, device: str = "auto"
) -> dict[str, tuple[RunFolder, str]]:
    """Label → (run, state) of the question's runs below the folders, in any state; see `runs_with`."""
    wanted = runs_of(question, seed=seed, device=device)
    keys = {label: config.fingerprint() for label, config in wanted.items()}
    found = runs_with(courses_of(wanted.values()), *folders)
    return {label: found[key] for label, key in keys.items() if key in found}


def finished_runs(question: Question, *folders: Path, seed: int = 0, device: str = "auto") -> dict[str, RunFolder]:
    """Label → finished run, for the existing runs of the question."""
    return finished_by_seed([question], *folders, seeds=[seed], device=device)[question.name][seed]


def answered(question: Question, *folders: Path, seeds: Iterable[int], device: str = "auto") -> Pooled:
    """Results of the finished runs of these seeds. Raises StoreError if one of them cannot be read."""
    found = finished_by_seed([question], *folders, seeds=seeds, device=device)[question.name]
    return pooled_from(question, {seed: numbers_of(question, runs) for seed, runs in found.items()})


def numbers_of(question: Question, runs: Mapping[str, RunFolder]) -> dict[str, dict[str, float | None]]:
    """Label → measure → value, of one seed's finished runs."""
    return {label: dict(question.numbers(runs[label])) for label in question.labels if label in runs}


def finished_by_seed(
    questions: Iterable[Question], *folders: Path, seeds: Iterable[int], device: str = "auto"
) -> dict[str, dict[int, dict[str, RunFolder]]]:
    """Question → seed → label → finished run, in one pass over the folders."""
    wanted = {(q.name, seed): runs_of(q, seed=seed, device=device) for q in questions for seed in seeds}
    found = runs_with(courses_of(config for each in wanted.values() for config in each.values()), *folders)
    finished = {key: folder for key, (folder, state) in found.items() if state == "finished"}
    by_seed: dict[str, dict[int, dict[str, RunFolder]]] = {}
    for (name, seed), each in wanted.items():
        keys = {label: config.fingerprint() for label, config in each.items()}
        by_seed.setdefault(name, {})[seed] = {label: finished[key] for label, key in keys.items() if key in finished}
    return by_seed


def pooled_from(question: Question, by_seed: Mapping[int, Numbers]) -> Pooled:
    """Summary of a question's numbers over several seeds."""
    return pooled(question.labels, question.criteria, by_seed)
