"""A question: which runs decide it, and the criteria that its answer is computed by. No torch.

An answer comes from finished runs alone. A run counts if its settings are exactly those that the question asks for (its
name and group apart, so two questions share a run) and it measured at least as much, so a question whose presets have
changed asks for new runs instead of answering from old ones.
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
    """What is asked, why, the runs it needs, and how they are read."""

    name: str
    title: str  # the question itself, one sentence
    why: str  # why it is asked and how the runs decide it
    runs: tuple[tuple[str, Mapping[str, Any]], ...]  # (label, what `presets.resolve` completes)
    unwatched: tuple[str, ...] = ()  # diagnostics that the answer does not read: left out of its runs
    numbers: Callable[[RunFolder], Mapping[str, float | None]] = results_of  # of a run; "forgetting, pp" → value
    criteria: tuple[Criterion, ...] = ()  # what has to hold for a yes

    @property
    def seconds(self) -> float | None:
        """About how long all runs take together on two idle cores, from what their presets were measured to take for as
        many tasks; None where one was not measured."""
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
    """The settings of one of a question's runs. Its name is the label after the question's name, because two questions
    may share a label and both have a folder in the same place."""
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
    """What decides how a run goes: neither who asked for it first nor what was measured on the way. A digest."""
    told = replace(config, group="", diagnostics=DiagnosticsConfig()).fingerprint()
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def _went(folder: RunFolder) -> tuple[str, DiagnosticsConfig]:
    """The course of a run and what it measured. Settings stay as they are, so each file is read once. Raises
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
    """Whether everything that is wanted was measured."""
    asked = {name: value for name, value in asdict(want).items() if value is True}
    if any(getattr(have, name) is not True for name in asked):
        return False
    looks = "attention" not in asked or (have.probe_epochs, have.probe_images) == (want.probe_epochs, want.probe_images)
    return looks and (want.readout_control != "every" or have.readout_control == "every")


Courses = Mapping[str, Mapping[str, RunConfig]]  # course → fingerprint → wanted configuration


def courses_of(wanted: Iterable[RunConfig]) -> Courses:
    """What `runs_with` looks for; worth keeping where it looks often."""
    courses: dict[str, dict[str, RunConfig]] = {}
    for config in wanted:
        courses.setdefault(_course(config), {})[config.fingerprint()] = config
    return courses


def runs_with(courses: Courses, *folders: Path) -> dict[str, tuple[RunFolder, str]]:
    """Fingerprint of a wanted configuration → (run, state) of a run below the folders that went the same course and
    measured as much, in any state.

    Of several a finished one is taken, else the newest of the first folder that has one. What cannot be read is passed
    over.
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
    """Label → finished run, for the runs of the question that there are."""
    return finished_by_seed([question], *folders, seeds=[seed], device=device)[question.name][seed]


def answered(question: Question, *folders: Path, seeds: Iterable[int], device: str = "auto") -> Pooled:
    """What the finished runs of these seeds say. Raises StoreError if one of them cannot be read."""
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
    """What a question's numbers of several seeds say."""
    return pooled(question.labels, question.criteria, by_seed)
