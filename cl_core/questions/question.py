"""A question: which runs decide it, and how its answer is computed from them. No torch.

An answer comes from finished runs alone. A run counts if its settings are exactly those that the question asks for (its
name and group apart, so two questions share a run), so a question whose presets have changed asks for new runs instead
of answering from old ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cl_core.config import ConfigError, RunConfig, nearest
from cl_core.presets import resolve
from cl_core.store import RunFolder, RunReader, StoreError, list_runs, turned


@dataclass(frozen=True)
class Question:
    """What is asked, why, the runs it needs, and how they are read."""

    name: str
    title: str  # the question itself, one sentence
    why: str  # why it is asked and how the runs decide it
    runs: tuple[tuple[str, Mapping[str, Any]], ...]  # (label, what `presets.resolve` completes)
    answer: Callable[[Mapping[str, RunFolder]], str]  # finished runs by label, at least one → one paragraph
    seconds: float | None = None  # of all runs together, on two idle cores; None: not measured

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(label for label, _ in self.runs)


@dataclass(frozen=True)
class Answer:
    """What the finished runs say, and the labels of the runs that are not finished."""

    text: str
    missing: tuple[str, ...]


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
            "seed": seed + int(records[label].get("seed", 0)),  # a question may compare seeds
            "device": device,
            "group": f"question {question.name}",
            "name": "-".join(parts),
        }
    )


def settings_of(question: Question, *, seed: int = 0, device: str = "auto") -> dict[str, str]:
    """Label → the settings that a run needs to count as that run of the question."""
    return {label: _settings(config_of(question, label, seed=seed, device=device)) for label in question.labels}


def _settings(config: RunConfig) -> str:
    """What an answer depends on. Who asked for the run first is not among it, nor how often the control of the readout
    was measured."""
    watched = replace(config.diagnostics, readout_control="last")
    return replace(config, group="", diagnostics=watched).fingerprint()


def runs_with(wanted: Container[str], *folders: Path) -> dict[str, tuple[RunFolder, str]]:
    """Settings → (run, state) of the runs below the folders that have wanted settings, in any state.

    Of several with the same settings a finished one is taken, else the newest of the first folder that has one. What
    cannot be read is passed over.
    """
    found: dict[str, tuple[RunFolder, str]] = {}
    for folder in (run for runs in folders for run in list_runs(runs)):
        try:
            settings = _settings(folder.config())
            if settings not in wanted or found.get(settings, ("", ""))[1] == "finished" or turned(folder):
                continue
            with closing(RunReader(folder)) as reader:
                state = reader.status().state
        except StoreError:
            continue
        if settings not in found or state == "finished":
            found[settings] = folder, state
    return found


def known_runs(
    question: Question, *folders: Path, seed: int = 0, device: str = "auto"
) -> dict[str, tuple[RunFolder, str]]:
    """Label → (run, state) of the question's runs below the folders, in any state; see `runs_with`."""
    wanted = settings_of(question, seed=seed, device=device)
    found = runs_with(set(wanted.values()), *folders)
    return {label: found[settings] for label, settings in wanted.items() if settings in found}


def finished_runs(question: Question, *folders: Path, seed: int = 0, device: str = "auto") -> dict[str, RunFolder]:
    """Label → finished run, for the runs of the question that there are."""
    known = known_runs(question, *folders, seed=seed, device=device)
    return {label: folder for label, (folder, state) in known.items() if state == "finished"}


def answered(question: Question, *folders: Path, seed: int = 0, device: str = "auto") -> Answer:
    """The answer as far as the finished runs give one. Raises StoreError if one of them cannot be read."""
    return answer_from(question, finished_runs(question, *folders, seed=seed, device=device))


def answer_from(question: Question, runs: Mapping[str, RunFolder]) -> Answer:
    """The answer that these finished runs give; it ends with what is missing."""
    missing = tuple(label for label in question.labels if label not in runs)
    if not runs:
        return Answer(
            f"Not answered yet: none of the {len(missing)} runs is finished ({', '.join(missing)}); "
            f"`plastiscope ask {question.name}` trains them.",
            missing,
        )
    text = question.answer({label: runs[label] for label in question.labels if label in runs})
    if missing:
        text += (
            f" This is a part of the answer: {len(missing)} of {len(question.labels)} runs are missing "
            f"({', '.join(missing)}); `plastiscope ask {question.name}` trains them."
        )
    return Answer(text, missing)
