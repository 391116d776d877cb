"""Bundled answers: numbers of runs whose folders are not bundled. No torch.

A number counts only if its run's settings are still those of the question, see `seeds.settings_mark`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cl_core.assets import assets_folder
from cl_core.questions.question import Question, config_of
from cl_core.questions.seeds import BySeed, settings_mark


def answers_file() -> Path:
    return assets_folder() / "answers.json"


def read_answers(file: Path | None = None) -> dict[str, Any]:
    """Question → seed → label → {"settings": mark, "numbers": {measure: value}}; empty where there is no file."""
    file = file or answers_file()
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def stored_numbers(question: Question, answers: Mapping[str, Any]) -> dict[int, dict[str, dict[str, float | None]]]:
    """Seed → label → numbers, of runs whose settings are still those of the question."""
    found: dict[int, dict[str, dict[str, float | None]]] = {}
    marks = {label: settings_mark(config_of(question, label)) for label in question.labels}
    for seed, runs in answers.get(question.name, {}).items():
        for label, run in runs.items():
            if marks.get(label) == run["settings"]:
                found.setdefault(int(seed), {})[label] = run["numbers"]
    return found


def with_stored(measured: BySeed, stored: BySeed) -> dict[int, dict[str, Mapping[str, float | None]]]:
    """Local results, completed with bundled ones."""
    seeds = sorted({*measured, *stored})
    return {seed: {**stored.get(seed, {}), **measured.get(seed, {})} for seed in seeds}


def merged(answers: Mapping[str, Any], question: Question, measured: BySeed) -> dict[str, Any]:
    """`answers` updated with local results of a question, without outdated numbers."""
    numbers = with_stored(measured, stored_numbers(question, answers))
    marks = {label: settings_mark(config_of(question, label)) for label in question.labels}
    record = {
        str(seed): {
            label: {"settings": marks[label], "numbers": dict(runs[label])}
            for label in question.labels
            if label in runs
        }
        for seed, runs in numbers.items()
        if runs
    }
    others = {name: value for name, value in answers.items() if name != question.name}
    return {**others, question.name: record} if record else others
