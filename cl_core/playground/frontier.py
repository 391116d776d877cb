"""Frontiers: summaries of networks over strengths and seeds, for the slider and for recordings.

A point is plain values, so that it can be stored, sent to a browser and drawn there:

    text      the strength as the slider spells it, "0.95"
    seeds     [n]
    matrix    [T][≤ T] mean accuracy over seeds, percent, row i with tasks 0 … i
    free      [T][L] mean share of directions left free after each task
    after     [T] {"final", "learning", "forgetting"} after each task: mean over seeds of each network's own value
    spread    the same at the end: sample standard deviation over seeds, null for one
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cl_core import metrics
from cl_core.playground.settings import PlaygroundConfig, at_strength, slider_of, strength_of
from cl_core.playground.training import Outcome
from cl_core.untrusted import read_json

MEASURES = {
    "final": metrics.final_average_accuracy,
    "learning": metrics.learning_accuracy,
    "forgetting": metrics.forgetting,
}
FORMAT = 1


def point(outcomes: Sequence[Outcome], text: str) -> dict[str, Any]:
    """One strength: networks that differ in the seed alone, equally far."""
    done = min(len(outcome.tasks) for outcome in outcomes)
    matrices = [outcome.matrix()[:done, :done] for outcome in outcomes]
    after = [{name: [_value(measure, m[:k, :k]) for m in matrices] for name, measure in MEASURES.items()}
             for k in range(1, done + 1)]  # fmt: skip
    mean = np.mean(matrices, axis=0) if done else np.zeros((0, 0))
    free = np.mean([[t.free for t in outcome.tasks[:done]] for outcome in outcomes], axis=0)
    return {
        "text": text,
        "seeds": [outcome.config.seed for outcome in outcomes],
        "matrix": [[round(float(v), 2) for v in row[: i + 1]] for i, row in enumerate(mean)],
        "free": [[round(float(v), 4) for v in row] for row in free],
        "after": [{name: _mean(values) for name, values in step.items()} for step in after],
        "spread": {name: _spread(values) for name, values in after[-1].items()} if after else {},
    }


def _value(measure: Any, matrix: np.ndarray) -> float:
    return float(measure(matrix)) if len(matrix) > 1 or measure is not metrics.forgetting else 0.0


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), 3)


def _spread(values: Sequence[float]) -> float | None:
    return round(float(np.std(values, ddof=1)), 3) if len(values) > 1 else None


def points(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    """Points of one frontier, in the order of their strengths."""
    groups: dict[float, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(strength_of(outcome.config) or 0.0, []).append(outcome)
    return [point(group, text_of(group[0].config)) for _, group in sorted(groups.items())]


def text_of(config: PlaygroundConfig) -> str:
    """The strength as the slider, the URL and the tables spell it: "0.95", "0.9, 0.95, 0.99" by layer, or the rule."""
    slider = slider_of(config)
    if slider is None:
        return config.rule
    value = getattr(config, slider.setting)
    return ", ".join(map(slider.text, value)) if isinstance(value, tuple) else slider.text(value)


def row_of(config: PlaygroundConfig, seeds: Sequence[int] = (0, 1, 2)) -> list[PlaygroundConfig]:
    """The networks of a whole frontier: the rule's row of strengths, each with every seed. Empty for a rule without a
    strength."""
    slider = slider_of(config)
    values = slider.frontier if slider else ()
    return [dataclasses.replace(at_strength(config, value), seed=seed) for value in values for seed in seeds]


def neutral(config: PlaygroundConfig) -> dict[str, Any]:
    """The settings that all points of a frontier share: everything but strength and seed."""
    slider = slider_of(config)
    left_out = {"seed", *([slider.setting] if slider else [])}
    return {key: value for key, value in config.settings().items() if key not in left_out}


def best(found: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The point with the highest mean final average accuracy."""
    return max(found, key=lambda p: p["after"][-1]["final"], default=None)


def stored(path: Path) -> dict[str, Any] | None:
    """A recorded frontier: {"format", "settings", "points"}; None if the file is missing or of another format."""
    try:
        record = read_json(path)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("format") == FORMAT else None


def recorded(config: PlaygroundConfig, outcomes: Iterable[Outcome]) -> dict[str, Any]:
    return {"format": FORMAT, "settings": neutral(config), "points": points(outcomes)}
