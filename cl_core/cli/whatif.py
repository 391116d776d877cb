"""`plastiscope whatif`: apply another threshold to a run's stored spectra, without training."""

from __future__ import annotations

import argparse
import json
import math
from contextlib import closing
from typing import Any

import numpy as np

from cl_core.assets import recordings_folder
from cl_core.cli.options import add_json, add_runs
from cl_core.config import ConfigError, parse_value
from cl_core.events import Event
from cl_core.store import RunFolder, RunReader, find_run
from cl_core.whatif import (
    Boundary,
    Threshold,
    best,
    boundaries,
    own_threshold,
    predict,
    settings_of,
    takes,
    threshold_from,
)

EXAMPLE = """examples:
  plastiscope whatif nsp2-split-digits --energy 0.99
  plastiscope whatif RUN --task 2 --set energy_affinity=0.99 --json
  plastiscope whatif RUN --free 0.5                     # the common axis: half of all directions, whatever the method

--task K is the boundary after task K: its spectrum, and the update of task K + 1. Without it: the newest one after
which a task was learned. Computed from stored spectra, not retrained."""
NOTE = "computed from stored spectra and updates, not retrained"
_SHARES = ("passed", "interference", "residual")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="name of the run, or an unambiguous beginning or end of it")
    add_runs(parser)
    parser.add_argument("--task", type=int, metavar="K", help="after task K (from 1; 0: before the first)")
    parser.add_argument("--space", help="one space only, such as affinity; default: all measured spaces")
    parser.add_argument("--layer", type=int, metavar="N", help="one layer only (from 1)")
    rule = parser.add_mutually_exclusive_group()
    rule.add_argument("--energy", type=float, metavar="SHARE", help="energy kept for old tasks, 0 to 1")
    rule.add_argument("--tail", type=float, metavar="SHARE", help="less than this share of the energy is left free")
    rule.add_argument("--free", type=float, metavar="SHARE", help="fraction of directions left free, 0 to 1")
    rule.add_argument("--knee", action="store_true", help="cut at the knee of the spectrum")
    parser.add_argument("--eta", type=float, help="strictness: a protected direction keeps 1 - eta (1 strict, 0 off)")
    parser.add_argument("--r-max", type=int, metavar="N", help="weights: maximum number of updated directions")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="the run's own threshold settings, changed"
    )
    add_json(parser)
    parser.epilog = EXAMPLE


def execute(arguments: argparse.Namespace) -> int:
    folder = find_run(arguments.runs, arguments.run, recordings_folder())
    found = stored(folder)
    if not found:
        raise ConfigError(
            f"run {folder.name} has no spectra; they are measured at the end of every task with "
            "--set diagnostics.spectra=true (moments) or --set diagnostics.weights=true (weights)"
        )
    spaces = list(dict.fromkeys(boundary.space for boundary in found))
    if arguments.space is not None and arguments.space not in spaces:
        raise ConfigError(f"run {folder.name} has no space {arguments.space!r}; it has {', '.join(spaces)}")
    tables, known = [], {name for boundary in found for name in takes(boundary)}
    for space in spaces if arguments.space is None else [arguments.space]:
        boundary = _boundary(found, space, arguments.task)
        if boundary is not None:
            tables.append(_table(boundary, _threshold(boundary, arguments, known), arguments.layer))
    if not tables:
        there = ", ".join(f"T{k}" for k in sorted({b.task + 1 for b in found}))
        raise ConfigError(f"nothing was measured after T{arguments.task}; known: {there}")
    if arguments.json:
        print(json.dumps({"run": folder.name, "note": NOTE, "spaces": tables}))
    else:
        print(f"{folder.name}: {NOTE}")
        for table in tables:
            _print(table)
    return 0


def stored(folder: RunFolder) -> list[Boundary]:
    """All boundaries of a run, from its events. Raises StoreError if it cannot be read."""
    kinds = ("SpectrumMeasured", "WeightSpectrumMeasured", "UpdateByDirection")
    events: dict[str, list[Event]] = {kind: [] for kind in kinds}
    with closing(RunReader(folder)) as reader:
        for told in reader.since(kinds=kinds):
            events[told.event.kind].append(told.event)
    return boundaries(*events.values())  # type: ignore[arg-type]


def _boundary(found: list[Boundary], space: str, task: int | None) -> Boundary | None:
    return best(found, space, None if task is None else task - 1)


def _threshold(boundary: Boundary, arguments: argparse.Namespace, known: set[str]) -> Threshold:
    """The threshold: from options, then --set, else the run's own."""
    given = [(rule, getattr(arguments, rule)) for rule in ("energy", "tail", "free")]
    rule, value = next(((r, v) for r, v in given if v is not None), ("", math.nan))
    if arguments.knee:
        rule = "elbow"
    if arguments.set and (rule or arguments.eta is not None or arguments.r_max is not None):
        raise ConfigError("--set and the threshold options both set the threshold; give one of them")
    if arguments.set:
        pairs = [text.partition("=") for text in arguments.set]
        if any(not sign for _, sign, _ in pairs):
            raise ConfigError("--set takes key=value")
        settings = {key.strip().replace("-", "_"): parse_value(text.strip()) for key, _, text in pairs}
        return threshold_from(boundary, settings, elsewhere=known)
    own = own_threshold(boundary)
    if not rule:
        if own is None:
            raise ConfigError(f"this run's rule {boundary.rule!r} does not say its value; give one with --energy")
        rule, value = own.rule, own.value
    start = own or Threshold("elbow")
    return Threshold(
        rule,
        value,
        start.eta if arguments.eta is None else arguments.eta,
        start.scale,
        start.most if arguments.r_max is None else arguments.r_max,
    )


def _table(boundary: Boundary, threshold: Threshold, layer: int | None) -> dict[str, Any]:
    """One space as plain values; shares in 0..1, None where no update is known."""
    if layer is not None and layer - 1 not in boundary.layers:
        known = ", ".join(str(index + 1) for index in boundary.layers)
        raise ConfigError(f"space {boundary.space} has no layer {layer}; it has {known}")
    predicted = predict(boundary, threshold)
    rows = [
        {
            "layer": index + 1,
            "nullity": int(predicted.nullity[row]),
            "protected_rank": boundary.width - int(predicted.nullity[row]),
            "recorded_nullity": int(boundary.recorded[row]),
            "protected_energy": _plain(predicted.protected_energy[row]),
            "gain": _plain(predicted.gain[row]),
            **{name: _plain(getattr(predicted, name)[row]) for name in _SHARES},
        }
        for row, index in enumerate(boundary.layers)
        if layer in (None, index + 1)
    ]
    own = own_threshold(boundary)
    return {
        "space": boundary.space,
        "after_task": boundary.task + 1,
        "directions": boundary.width,
        "threshold": threshold.text(),
        "recorded_threshold": own.text() if own else boundary.rule,
        "obeyed": boundary.used,
        "settings": _settings(boundary, threshold),
        "update": boundary.source or None,
        "layers": rows,
    }


def _settings(boundary: Boundary, threshold: Threshold) -> dict[str, Any] | None:
    """The arguments for `plastiscope fork --set`; None if the method has no such setting."""
    try:
        return settings_of(boundary, threshold)
    except ConfigError:
        return None


def _plain(value: float) -> float | None:
    return float(np.round(value, 9)) if math.isfinite(value) else None


def _print(table: dict[str, Any]) -> None:
    after = table["after_task"]
    where = f"after T{after}" if after else "before T1"
    what = {
        "steps": f"sum of the steps that T{after + 1} proposed",
        "gradients": f"sum of the gradients of T{after + 1} before projection",
        "net change": f"net change of T{after + 1}",
        None: "no update is stored: no task was learned afterwards, or the run is older than this measurement",
    }[table["update"]]
    obeyed = "" if table["obeyed"] else ", which training did not obey"
    print(
        f"\n{table['space']}, {table['directions']} directions, {where}: {table['threshold']} instead of "
        f"{table['recorded_threshold']}{obeyed}\nupdate: {what}"
    )
    print(f"{'layer':>5} {'free':>6} {'recorded':>9} {'protected energy':>17} {'passed':>8} {'interference':>13}")
    for row in table["layers"]:
        shares = [row["protected_energy"], row["passed"], row["interference"]]
        held, passed, felt = ("–" if v is None else f"{100 * v:.1f} %" for v in shares)
        print(f"{row['layer']:>5} {row['nullity']:>6} {row['recorded_nullity']:>9} {held:>17} {passed:>8} {felt:>13}")
