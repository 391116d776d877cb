"""`plastiscope methods`, `backbones`, `streams`, `presets`: what can be named, one line each."""

from __future__ import annotations

import argparse
import json

from cl_core.cli.options import add_json
from cl_core.config import describe
from cl_core.presets import PRESETS
from cl_core.registry import BACKBONES, METHODS, STREAMS, load, lookup


def configure(parser: argparse.ArgumentParser) -> None:
    command = parser.prog.rsplit(" ", 1)[-1]
    if command == "methods":
        parser.add_argument("name", nargs="?", help="list the settings of one method")
    add_json(parser)
    parser.epilog = f"example: plastiscope {command}" + (" nsp2" if command == "methods" else "")


def execute(arguments: argparse.Namespace) -> int:
    if arguments.command == "methods":
        return _methods(arguments)
    if arguments.command == "presets":
        rows = [
            {
                "name": p.name,
                "about": p.about,
                "title": p.title,
                "config": p.config,
                "seconds": p.seconds,
                "needs": p.needs,
            }
            for p in PRESETS.values()
        ]
    else:
        table = {"backbones": BACKBONES, "streams": STREAMS}[arguments.command]
        rows = [{"name": name, "about": entry.about} for name, entry in table.items()]
    _print(rows, arguments.json)
    return 0


def _methods(arguments: argparse.Namespace) -> int:
    if not arguments.name and not arguments.json:  # names and lines need no torch
        _print([{"name": name, "about": entry.about} for name, entry in METHODS.items()], False)
        return 0
    asked = [lookup(METHODS, arguments.name, "method")] if arguments.name else METHODS.items()
    rows = [
        {
            "name": name,
            "about": entry.about,
            "needs": entry.needs,
            "knobs": describe(load(METHODS, name, "method").Config),
        }
        for name, entry in asked
    ]
    if arguments.json:
        print(json.dumps(rows))
        return 0
    for knob in rows[0]["knobs"]:
        bounds = (
            f"{knob['low']:g} …" + (f" {knob['high']:g}" if knob.get("high") is not None else "")
            if knob.get("low") is not None
            else " | ".join(map(str, knob.get("choices") or ()))
        )
        print(f"{knob['name']:<16} {knob['default']!s:<12} {bounds:<32} {knob['help']}")
    return 0


def _print(rows: list[dict], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows))
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        print(f"{row['name']:<{width}}  {row['about']}")
