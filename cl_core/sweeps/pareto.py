"""The stability-plasticity plane: learning accuracy against forgetting, one point per setting, averaged over seeds.

    plasticity = learning accuracy, mean_j R[j, j]            percent, more is better
    instability = forgetting, mean_{j<n} (best R[·, j] − R[n, j])   percentage points, less is better

Means and sample standard deviations are over seeds. A point is dominated if another learns at least as much and
forgets at most as much, one of the two strictly; the others are the frontier. This uses means; the spread is shown
beside them. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cl_core.config import RunConfig
from cl_core.method_defaults import method_defaults
from cl_core.summary import Summary, measures

OWN = "default"  # a setting that the run does not name: its method's default
FORK = "fork of"  # only of forks
_NAMES = ("method", "backbone", "stream")


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds; the deviation is None for one seed."""

    mean: float
    sd: float | None

    def __str__(self) -> str:
        mean = round(self.mean, 1) + 0.0  # −0.04 reads 0.0
        return (f"{mean:.1f}" + (f" ± {self.sd:.1f}" if self.sd is not None else "")).replace("-", "−")


def spread(values: Sequence[float]) -> Spread:
    mean = sum(values) / len(values)
    sd = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else None
    return Spread(mean, sd)


@dataclass(frozen=True)
class ParetoPoint:
    """One setting in the plane. Percent and percentage points, one value per run."""

    label: str  # what distinguishes it from the others: "eta_affinity 0.5"
    line: str  # points of one line differ only in the swept setting
    value: str  # of the swept setting
    runs: tuple[str, ...]
    seeds: tuple[int | None, ...]  # None: unknown, of a run trained by another program
    learning: tuple[float, ...]
    forgetting: tuple[float, ...]
    final: tuple[float, ...]  # final average accuracy
    setting: str = ""  # name of the swept setting; several changed together are joined by +

    @property
    def plasticity(self) -> Spread:
        return spread(self.learning)

    @property
    def instability(self) -> Spread:
        return spread(self.forgetting)

    def dominates(self, other: ParetoPoint) -> bool:
        mine, theirs = ((spot.plasticity.mean, -spot.instability.mean) for spot in (self, other))
        return mine != theirs and mine[0] >= theirs[0] and mine[1] >= theirs[1]


def frontier(spots: Iterable[ParetoPoint]) -> list[ParetoPoint]:
    """The points that no other dominates, in the given order."""
    spots = list(spots)
    return [spot for spot in spots if not any(other.dominates(spot) for other in spots)]


def best_within(spots: Iterable[ParetoPoint], budget: float) -> ParetoPoint | None:
    """The point that learns most among those whose mean forgetting is at most `budget` percentage points; None without
    one. Ties: the higher final average accuracy."""
    within = [spot for spot in spots if spot.instability.mean <= budget]
    return max(within, key=lambda spot: (spot.plasticity.mean, spread(spot.final).mean), default=None)


# ---------------------------------------------------------------- from runs to spots


def spots(runs: Sequence[tuple[RunConfig, Summary]], readout: str = "") -> list[ParetoPoint]:
    """One point for each setting among `runs`; runs that differ only in their seed are its seeds.

    Runs whose forgetting or learning accuracy is undefined under `readout` are left out. Points are ordered by
    line, and within a line by the swept setting: the one with most values.

    Args:
        runs: settings and summaries, finished or not.
        readout: whose accuracies ("stored statistics", …); "" = each run's default.
    """
    flat = [settings_of(config) for config, _ in runs]
    varying = [name for name in differing(flat) if name == "method" or _differs_within_a_method(flat, name)]
    swept = _swept(flat, varying)
    found: dict[tuple[tuple[str, str], ...], list[tuple[Summary, dict[str, Any], dict[str, float | None]]]] = {}
    for (_, summary), settings in zip(runs, flat, strict=True):
        numbers = measures_of(summary, readout)
        if numbers.get("learning_accuracy") is None or numbers.get("forgetting") is None:
            continue
        key = tuple((name, said(settings.get(name, OWN))) for name in varying)
        found.setdefault(key, []).append((summary, settings, numbers))
    made = []
    for key, members in found.items():
        line = _told([(n, v) for n, v in key if n not in swept])
        value = said(members[0][1][swept[0]]) if swept and swept[0] in members[0][1] else ""
        along = f"{_short('+'.join(swept))} {value}" if value else ""
        place = _order(members[0][1].get(swept[0], OWN)) if swept else (0, 0.0, "")
        learning, forgetting, final = (
            tuple(float(numbers[name]) for *_, numbers in members)  # type: ignore[arg-type]
            for name in ("learning_accuracy", "forgetting", "final_average_accuracy")
        )
        label = ", ".join(filter(None, (line, along))) or members[0][0].method
        names, seeds = tuple(summary.run for summary, *_ in members), tuple(summary.seed for summary, *_ in members)
        setting = _short("+".join(swept))
        made.append((line, place, ParetoPoint(label, line, value, names, seeds, learning, forgetting, final, setting)))
    return [spot for *_, spot in sorted(made, key=lambda entry: entry[:2])]


def measures_of(summary: Summary, readout: str = "") -> dict[str, float | None]:
    """The measures of one readout of a run ("" = its default); empty if it was not measured."""
    matrix = summary.matrix(readout)
    return measures(matrix) if any(value is not None for row in matrix for value in row) else {}


def settings_of(config: RunConfig, *, everything: bool = False) -> dict[str, Any]:
    """Settings that distinguish runs, by name: method, backbone, stream, the method's settings, training and stream;
    for a fork also its parent and task.

    Without name, group and preset; `everything`: with seed, device, precision and diagnostics, which change no result
    on purpose.
    """
    record = config.to_dict()
    found: dict[str, Any] = {name: record[name] for name in _NAMES} | config.completed().settings
    sections = ["training", "stream_settings"] + ["diagnostics"] * everything
    for section in sections:
        found |= {f"{section.removesuffix('_settings')}.{name}": value for name, value in record[section].items()}
    if config.parent:
        found[FORK] = f"{config.parent} after T{config.fork_task}"
    return found | ({"seed": config.seed, "device": config.device, "precision": config.precision} if everything else {})


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names whose values are not the same in all of `settings`. A name that one lacks, as another method has it, counts
    where that one does not have its default."""
    names = dict.fromkeys(name for one in settings for name in one)
    return [name for name in names if _differs(settings, name)]


def _differs(settings: Sequence[Mapping[str, Any]], name: str) -> bool:
    having = [one for one in settings if name in one]
    if len({said(one[name]) for one in having}) > 1:
        return True
    return len(having) < len(settings) and any(
        one[name] != method_defaults(str(one.get("method"))).get(name) for one in having
    )


def said(value: Any) -> str:
    """A setting's value as text: 0.5, true, 3, 4."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(said, value)) if isinstance(value, (list, tuple)) else str(value)


def _differs_within_a_method(settings: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether a setting differs between runs of one method; those that depend on the method are implied by its name."""
    kinds: dict[Any, set[str]] = {}
    for one in settings:
        kinds.setdefault(one["method"], set()).add(said(one.get(name, OWN)))
    return any(len(values) > 1 for values in kinds.values())


def _swept(settings: Sequence[Mapping[str, Any]], varying: Sequence[str]) -> list[str]:
    """The setting with most values besides method, backbone and stream, with those that change together with it."""
    columns = {
        name: tuple(said(one.get(name, OWN)) for one in settings)
        for name in varying
        if name not in (*_NAMES, FORK) and any(name in one for one in settings)
    }
    if not columns:
        return []
    most = max(columns, key=lambda name: len(set(columns[name])))
    return [name for name, column in columns.items() if column == columns[most]]


def _order(value: Any) -> tuple[int, float, str]:
    """Sort key: numbers by size, then texts."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return 0, float(value), ""
    return 1, 0.0, said(value)


def _told(pairs: Sequence[tuple[str, str]]) -> str:
    def one(name: str, value: str) -> str:
        return "no fork" if (name, value) == (FORK, OWN) else f"{_short(name)} {value}"

    return ", ".join(value if name in _NAMES else one(name, value) for name, value in pairs)


def _short(name: str) -> str:
    return name.removeprefix("training.")
