"""From a threshold to the settings of a run that would obey it, and back.

By the vocabulary that methods share (`rule`, `energy_<space>`, `eta_<space>`, `rho`, `r_max`), not by method: whether a
run takes them is read from what its own events say of its rule.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from cl_core.config import ConfigError, nearest
from cl_core.whatif.task_boundary import Boundary, own_threshold
from cl_core.whatif.threshold import WEIGHTS, Threshold


def takes(boundary: Boundary) -> tuple[str, ...]:
    """Settings by which the run's own rule can be moved; none where training obeys no cut."""
    rule = boundary.rule.partition(" ")[0]
    if not boundary.used:
        return ()
    if boundary.kind == WEIGHTS:
        return ("rho", "r_max")
    if rule == "tail":
        return ("rho",)
    if rule in ("elbow", "energy"):
        return ("rule", f"energy_{boundary.space}", f"eta_{boundary.space}")
    return ()


def settings_of(boundary: Boundary, threshold: Threshold) -> dict[str, Any]:
    """What to set in a new run. Raises ConfigError with the reason where the method cannot be set so."""
    known = takes(boundary)
    if not known:
        raise ConfigError("training in this run obeys no threshold: there is nothing to set")
    settings: dict[str, Any] = {}
    if threshold.rule == "elbow" and "rule" in known:
        settings["rule"] = "elbow"
    elif threshold.rule == "energy" and "rule" in known:
        settings |= {"rule": "energy", f"energy_{boundary.space}": threshold.value}
    elif threshold.rule == ("energy" if boundary.kind == WEIGHTS else "tail") and "rho" in known:
        settings["rho"] = threshold.value
    else:
        rule = boundary.rule.partition(" ")[0]
        raise ConfigError(
            f"the method of this run cannot be set to the rule {threshold.rule}; its own is {rule}: choose that to try "
            "it in training"
        )
    own = own_threshold(boundary)
    if f"eta_{boundary.space}" in known and (own is None or own.eta != threshold.eta):
        settings[f"eta_{boundary.space}"] = threshold.eta
    if "r_max" in known and threshold.most is not None and (own is None or own.most != threshold.most):
        settings["r_max"] = threshold.most
    return settings


def threshold_from(boundary: Boundary, settings: Mapping[str, Any], *, elsewhere: Collection[str] = ()) -> Threshold:
    """The run's own threshold with `settings` changed; those in `elsewhere` belong to other spaces and change nothing
    here. An energy share brings the rule that reads it. Raises ConfigError for settings that move no threshold."""
    known = takes(boundary)
    if not known:
        raise ConfigError("training in this run obeys no threshold; give one with --energy, --tail, --free or --knee")
    own = own_threshold(boundary)
    for name in settings:
        if name not in known and name not in elsewhere:
            raise ConfigError(nearest(name, {*known, *elsewhere}, "threshold setting of this run"))
    mine = {name: value for name, value in settings.items() if name in known}
    value = next((mine[k] for k in (f"energy_{boundary.space}", "rho") if k in mine), None)
    rule = str(mine.get("rule", own.rule if own else boundary.rule.partition(" ")[0]))
    rule = "energy" if rule == "rho" or ("rule" not in mine and f"energy_{boundary.space}" in mine) else rule
    if value is None:
        value = own.value if own is not None and own.rule == rule else None
    if value is None and rule != "elbow":
        name = next(k for k in known if k.startswith(("energy", "rho")))
        raise ConfigError(f"the rule {rule} needs a value; set {name} as well")
    start = own or Threshold("elbow")
    return replace(
        start,
        rule=rule,
        value=float(value) if value is not None else float("nan"),
        eta=float(mine.get(f"eta_{boundary.space}", start.eta)),
        most=int(mine["r_max"]) if "r_max" in mine else start.most,
    )
