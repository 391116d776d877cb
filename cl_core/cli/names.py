"""`plastiscope methods`, `backbones`, `streams`, `presets`: available names, one line each."""

from __future__ import annotations

import argparse
import json
from typing import Any

from cl_core.cli.options import add_json
from cl_core.config import describe
from cl_core.hf_cache import models_at_hand
from cl_core.presets import PRESETS
from cl_core.registry import BACKBONES, METHODS, SCHEMES, STREAMS, load, lookup


def configure(parser: argparse.ArgumentParser) -> None:
    command = parser.prog.rsplit(" ", 1)[-1]
    if command == "methods":
        parser.add_argument("name", nargs="?", help="list the settings of one method")
    if command in ("backbones", "streams"):
        from cl_core.cli import describe_inputs

        describe_inputs.configure(parser, command)
    add_json(parser)
    example = {"methods": " nsp2", "backbones": " timm:vit_base_patch16_224", "streams": " folder:/data/birds"}
    parser.epilog = f"example: plastiscope {command}" + example.get(command, "")


def execute(arguments: argparse.Namespace) -> int:
    if arguments.command == "methods":
        return _methods(arguments)
    if getattr(arguments, "name", None):
        from cl_core.cli import describe_inputs

        return describe_inputs.execute(arguments)
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
        schemes = SCHEMES[arguments.command.removesuffix("s")].values()
        forms = [(scheme.form.split(" or "), scheme.about) for scheme in schemes]
        rows += [{"name": form[0], "about": "; also ".join([about, *form[1:]])} for form, about in forms]
        if arguments.command == "backbones":
            rows += [{"name": m.name, "about": f"at hand, {m.bytes / 1e6:.0f} MB: {m.file}"} for m in models_at_hand()]
    _print(rows, arguments.json)
    return 0


def _methods(arguments: argparse.Namespace) -> int:
    if not arguments.name and not arguments.json:  # names and lines need no torch
        _print([{"name": name, "about": entry.about} for name, entry in METHODS.items()], False)
        return 0
    asked = [lookup(METHODS, arguments.name, "method")] if arguments.name else METHODS.items()
    rows: list[dict[str, Any]] = [
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
    for setting in rows[0]["knobs"]:
        bounds = (
            f"{setting['low']:g} …" + (f" {setting['high']:g}" if setting.get("high") is not None else "")
            if setting.get("low") is not None
            else " | ".join(map(str, setting.get("choices") or ()))
        )
        print(f"{setting['name']:<16} {setting['default']!s:<12} {bounds:<32} {setting['help']}")
    return 0


def _print(rows: list[dict], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows))
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        print(f"{row['name']:<{width}}  {row['about']}")
