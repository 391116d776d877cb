"""Answers over several seeds: results of each run as mean ± sd, and verdicts beyond the spread. No torch.

A question provides numbers of a run and criteria on them; this module is independent of specific questions.

    v_s      value of a criterion in the runs of seed s, usually a difference between two of them "yes"    mean(v) −
    sd(v) ≥ bound,   "no"  mean(v) + sd(v) < bound,   else "undecided"   (≥ 3 seeds, sample sd)

For criteria with an upper bound the inequalities are reversed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import fmean, stdev
from typing import Any

from cl_core.config import RunConfig, StreamConfig, TrainingConfig

LEAST = 3  # seeds required for a verdict
CLEAR = 1.0  # percentage points
YES, NO, PARTLY, UNDECIDED = "yes", "no", "partly", "undecided"

Numbers = Mapping[str, Mapping[str, float | None]]  # run's label → measure → value, of one seed
BySeed = Mapping[int, Numbers]


@dataclass(frozen=True)
class Spread:
    """Values of several seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def sd(self) -> float | None:
        """Sample standard deviation; None for one value."""
        return stdev(self.values) if len(self.values) > 1 else None

    def told(self, unit: str = "", *, signed: bool = False) -> str:
        """ "81.3 ± 0.4 %"; a single value without spread."""
        decimals = unit in ("%", "pp")
        write = (lambda v: f"{round(v, 1) + 0.0:.1f}") if decimals else (lambda v: f"{v:.3g}")
        text = ("+" if signed and self.mean > 0 else "") + write(self.mean)
        text += "" if self.sd is None else f" ± {write(self.sd)}"
        return (f"{text} {unit}" if unit else text).replace("-", "−")


@dataclass(frozen=True)
class Criterion:
    """A condition for a yes: `value` computed from the runs of a seed reaches `bound`, or stays at or below it."""

    says: str  # "forgets less than sequential"
    value: Callable[[Numbers], float | None]
    bound: float = CLEAR
    unit: str = "pp"
    below: bool = False
    measure: str = ""  # the measure used, "" for several

    def word(self, spread: Spread | None) -> str:
        """ "yes", "no" or "undecided" of these values."""
        if spread is None or len(spread.values) < LEAST or spread.sd is None:
            return UNDECIDED
        low, high = spread.mean - spread.sd, spread.mean + spread.sd
        if self.below:
            return YES if high <= self.bound else NO if low > self.bound else UNDECIDED
        return YES if low >= self.bound else NO if high < self.bound else UNDECIDED

    @property
    def rule(self) -> str:
        """ "at least 1 pp"."""
        bound, unit = f"{self.bound:g}".replace("-", "−"), self.unit
        unit = unit.removesuffix("s") if self.bound == 1 else unit  # one map, not one maps
        return f"at {'most' if self.below else 'least'} {bound} {unit}".rstrip()


@dataclass(frozen=True)
class Finding:
    """A criterion over seeds."""

    criterion: Criterion
    spread: Spread | None  # None: no seed has all required runs

    @property
    def word(self) -> str:
        return self.criterion.word(self.spread)

    def told(self) -> str:
        if self.spread is None:
            return f"{self.criterion.says}: not measured"
        value = self.spread.told(self.criterion.unit, signed=self.criterion.unit == "pp")
        word = "" if len(self.spread.values) == 1 else f"{self.word}, "  # a single value has no spread
        return f"{self.criterion.says}: {word}{value} (asked for {self.criterion.rule})"


@dataclass(frozen=True)
class Pooled:
    """Results of a question's finished runs over seeds."""

    seeds: tuple[int, ...]  # with a run
    missing: dict[int, tuple[str, ...]]  # seed → labels without a finished run
    arms: dict[str, dict[str, Spread]]  # label → measure → values
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        """Yes if every criterion holds, no if none does, partly if some do; undecided if an undecided one makes the
        difference."""
        words = {finding.word for finding in self.findings}
        if not words or UNDECIDED in words:
            return UNDECIDED
        return words.pop() if len(words) == 1 else PARTLY

    @property
    def short(self) -> str:
        """Why there is no verdict yet; "" if there is one."""
        if len(self.seeds) < LEAST:
            return f"{len(self.seeds)} of {LEAST} seeds"
        if any(self.missing.values()):
            return f"{sum(map(len, self.missing.values()))} runs missing"
        return ""

    def measures(self) -> list[str]:
        """All measures of the runs, in their order."""
        return list(dict.fromkeys(name for found in self.arms.values() for name in found))

    def leading(self) -> str:
        """The measure of the first criterion, else the first available; "" if none."""
        names = self.measures()
        read = [f.criterion.measure for f in self.findings if f.criterion.measure in names]
        return next(iter([*read, *names]), "")

    def headline(self) -> str:
        """The verdict, or the reason why there is none yet."""
        return f"No verdict yet ({self.short})" if self.short else self.verdict.capitalize()

    def seeds_named(self) -> str:
        """ "Seeds 0, 1, 2; mean ± sd", "Seed 0"."""
        named = ", ".join(map(str, self.seeds))
        return f"Seeds {named}; mean ± sd" if len(self.seeds) > 1 else f"Seed {named}"

    def sentence(self) -> str:
        """ "Partly, over 3 seeds: raises Transfer: no; raises Last: yes."; below `LEAST` seeds, or while runs are
        missing, the value of each criterion, with a note that this is no verdict."""
        if not self.short:
            each = "; ".join(f"{finding.criterion.says}: {finding.word}" for finding in self.findings)
            return f"{self.verdict.capitalize()}, over {len(self.seeds)} seeds: {each}."
        found = [finding.told() for finding in self.findings if finding.spread is not None]
        each = "; ".join(found) or "no criterion has all of its runs"
        named = f"seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}"
        return f"No verdict yet, {named}: {each}." if self.seeds else "Not answered yet: no run is finished."

    def text(self) -> str:
        """Verdict, criteria and a table of the runs for a terminal."""
        if not self.arms:
            return self.sentence()
        lines = [f"{self.headline()}. {self.seeds_named()}.", ""]
        lines += [f"- {finding.told()}" for finding in self.findings]
        head, rows = table(self)
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines += [
            "",
            *("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)),
        ]
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """The output of `plastiscope ask --json`."""
        return {
            "seeds": list(self.seeds),
            "verdict": self.verdict,
            "criteria": [
                {
                    "says": f.criterion.says,
                    "asks": f.criterion.rule,
                    "verdict": f.word,
                    "values": list(f.spread.values) if f.spread else [],
                }
                for f in self.findings
            ],
            "numbers": {
                arm: {name: {"mean": s.mean, "sd": s.sd, "values": list(s.values)} for name, s in found.items()}
                for arm, found in self.arms.items()
            },
        }


def pooled(labels: Sequence[str], criteria: Sequence[Criterion], by_seed: BySeed) -> Pooled:
    """Summary of numbers over several seeds. A criterion uses the seeds that have all its numbers."""
    by_seed = {seed: by_seed[seed] for seed in sorted(by_seed) if by_seed[seed]}
    arms: dict[str, dict[str, Spread]] = {}
    for label in labels:
        mine = [numbers[label] for numbers in by_seed.values() if label in numbers]
        found = {name: [m.get(name) for m in mine] for name in dict.fromkeys(name for m in mine for name in m)}
        spreads = {name: spread for name, values in found.items() if (spread := spread_of(values)) is not None}
        if mine:
            arms[label] = spreads
    findings = [Finding(c, spread_of([_read(c, numbers) for numbers in by_seed.values()])) for c in criteria]
    missing = {seed: tuple(label for label in labels if label not in numbers) for seed, numbers in by_seed.items()}
    return Pooled(tuple(by_seed), missing, arms, tuple(findings))


def _read(criterion: Criterion, numbers: Numbers) -> float | None:
    try:
        return criterion.value(numbers)
    except KeyError:
        return None  # a run or measure is missing


def spread_of(values: Sequence[float | None]) -> Spread | None:
    known = tuple(float(v) for v in values if v is not None and math.isfinite(v))
    return Spread(known) if known else None


def table(found: Pooled) -> tuple[list[str], list[list[str]]]:
    """Header (with units) and rows of the runs' results."""
    names = found.measures()
    rows = [
        [
            arm,
            *(
                spreads[name].told(unit_of(name)).removesuffix(f" {unit_of(name)}") if name in spreads else "–"
                for name in names
            ),
        ]
        for arm, spreads in found.arms.items()
    ]
    return ["run", *names], rows


def criteria_table(found: Pooled) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the criteria and their results."""
    rows = [
        [
            f.criterion.says,
            f.criterion.rule,
            "–" if f.spread is None else f.spread.told(f.criterion.unit, signed=f.criterion.unit == "pp"),
            f.word if f.spread is not None and len(f.spread.values) >= LEAST else "–",
        ]
        for f in found.findings
    ]
    return ["criterion", "asked for", "found", "verdict"], rows


def unit_of(measure: str) -> str:
    """ "pp" of "forgetting, pp"; "" without one."""
    return measure.rpartition(", ")[2] if ", " in measure else ""


# ---------------------------------------------------------------- reading criteria


def more(says: str, measure: str, mine: str, other: str, bound: float = CLEAR, unit: str = "pp") -> Criterion:
    """`mine` has at least `bound` more of the measure than `other`."""
    return Criterion(says, partial(_difference, measure, mine, other), bound, unit, measure=measure)


def less(says: str, measure: str, mine: str, other: str, bound: float = CLEAR, unit: str = "pp") -> Criterion:
    """`mine` has at least `bound` less of the measure than `other`."""
    return Criterion(says, partial(_difference, measure, other, mine), bound, unit, measure=measure)


def reaches(says: str, measure: str, mine: str, bound: float) -> Criterion:
    """The measure of one run is at least `bound`."""
    return Criterion(says, partial(_of, measure, mine), bound, unit_of(measure), measure=measure)


def stays_below(says: str, measure: str, mine: str, bound: float) -> Criterion:
    """The measure of one run is at most `bound`."""
    return Criterion(says, partial(_of, measure, mine), bound, unit_of(measure), below=True, measure=measure)


def differs(says: str, measure: str, labels: Sequence[str], bound: float = CLEAR, unit: str = "pp") -> Criterion:
    """The largest and the smallest of several runs are at least `bound` apart."""
    return Criterion(says, partial(_range, measure, tuple(labels)), bound, unit, measure=measure)


def _of(measure: str, label: str, numbers: Numbers) -> float | None:
    return numbers[label][measure]


def _difference(measure: str, mine: str, other: str, numbers: Numbers) -> float | None:
    first, second = numbers[mine][measure], numbers[other][measure]
    return None if first is None or second is None else first - second


def _range(measure: str, labels: Sequence[str], numbers: Numbers) -> float | None:
    values = [numbers[label][measure] for label in labels]
    known = [v for v in values if v is not None]
    return max(known) - min(known) if len(known) == len(values) else None


# ---------------------------------------------------------------- stored answers


def settings_mark(config: RunConfig) -> str:
    """An eight-letter digest of all non-default settings that affect training, without seed, name and diagnostics. New
    settings at their defaults do not change it."""
    parts: dict[str, Any] = {"method": config.method, "backbone": config.backbone, "stream": config.stream}
    parts["settings"] = config.own_settings()
    for name, usual in (("stream_settings", StreamConfig()), ("training", TrainingConfig())):
        mine, plain = asdict(getattr(config, name)), asdict(usual)
        parts[name] = {key: value for key, value in mine.items() if value != plain[key]}
    text = json.dumps(parts, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
