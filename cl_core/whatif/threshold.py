"""Thresholds: which rule cuts, at which value, how softly; and the values a slider of each rule can stand at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cl_core.config import ConfigError, nearest

MOMENTS, WEIGHTS = "moments", "weights"  # what spectra are of: second moments of what past tasks use, or weights


@dataclass(frozen=True)
class Rule:
    """A way to cut a spectrum. `says` names its value for a slider; a rule without a value has none to move."""

    name: str
    title: str
    says: str
    usual: float = math.nan  # where the slider begins if the run's own rule is another
    takes_value: bool = True


RULES = {
    "energy": Rule("energy", "energy share", "energy kept for old tasks", 0.95),
    "tail": Rule("tail", "tail energy", "less than this share of the energy is left unprotected", 0.15),
    "elbow": Rule("elbow", "knee", "", takes_value=False),
    "free": Rule("free", "share left free", "fraction of directions left free", 0.5),
}


@dataclass(frozen=True)
class Threshold:
    """A cut and what it does to an update.

    eta: softness η; a protected direction keeps the factor 1 − η (1 strict, 0 off).
    scale: "plain": a free direction keeps all; "frobenius": η/√R + 1 − η, R directions left free.
    most: at most so many directions are written to (r_max of weights); None: as many as are free.
    """

    rule: str
    value: float = math.nan
    eta: float = 1.0
    scale: str = "plain"
    most: int | None = None

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ConfigError(nearest(self.rule, RULES, "rule"))
        if RULES[self.rule].takes_value and not 0 <= self.value <= 1:
            raise ConfigError(f"{RULES[self.rule].says}: the value must lie in [0, 1], got {self.value:g}")
        if not 0 <= self.eta <= 1:
            raise ConfigError(f"eta must lie in [0, 1], got {self.eta:g}; 1 projects strictly, 0 not at all")
        if self.most is not None and self.most < 1:
            raise ConfigError(f"r_max must be at least 1, got {self.most}")

    def text(self) -> str:
        """energy 0.95, η 0.5."""
        said = self.rule if self.rule != "elbow" else "knee"
        if RULES[self.rule].takes_value:
            said += f" {self.value:g}"
        if self.most is not None:
            said += f", r_max {self.most}"
        return said + (f", η {self.eta:g}" if self.eta != 1 else "")


def rules_for(kind: str) -> list[str]:
    """Names of the rules that spectra of this kind can be cut by; the common axis last."""
    return ["energy", "free"] if kind == WEIGHTS else ["elbow", "energy", "tail", "free"]


def positions(rule: str, own: float | None = None) -> list[float]:
    """Values a slider can stand at, rising, with the run's own among them: closer together where little remains of the
    spectrum. Empty for a rule without a value."""
    if not RULES[rule].takes_value:
        return []
    if rule == "free":
        values = np.arange(101) / 100
    else:
        little = np.concatenate(
            [np.arange(10) / 1e4, np.arange(2, 20) / 2e3, np.arange(5, 50) / 500, np.arange(10, 101) / 100]
        )
        values = little if rule == "tail" else 1 - little
    found = {round(float(v), 4) for v in values}
    if own is not None and math.isfinite(own):
        found = {v for v in found if abs(v - own) > 1e-9} | {own}
    return sorted(found)
