"""`plastiscope demo` and `plastiscope open`: the dashboard, on this machine only unless another address is named."""

from __future__ import annotations

import argparse
import importlib.util
import secrets
import sys

from cl_core.cli.options import add_runs, named_path
from cl_core.config import ConfigError
from cl_core.store import unpack


def configure(parser: argparse.ArgumentParser) -> None:
    command = parser.prog.rsplit(" ", 1)[-1]
    if command == "open":
        parser.add_argument(
            "folder", nargs="?", type=named_path, metavar="DIR", help="folder of runs, one run, or a recording (.zip)"
        )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument("--port", type=_port, help="default: 8501, or the next free one")
    parser.add_argument(
        "--code",
        nargs="?",
        const="",
        metavar="WORD",
        help="answer only visitors of the printed address, which contains a code; for machines that others use as "
        "well. Without WORD a random code is used, which process lists do not show",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="this machine's address to listen on, for a classroom or a second machine; without it nobody else "
        "can reach the dashboard. 0.0.0.0: all its addresses",
    )
    parser.add_argument(
        "--view-only", action="store_true", help="reject everything that would start, change or delete something here"
    )
    add_runs(parser)
    file = "recording.zip " if command == "open" else ""
    parser.epilog = f"example: plastiscope {command} {file}--port 8600 --no-browser"


def execute(arguments: argparse.Namespace) -> int:
    if importlib.util.find_spec("dashboard") is None:
        raise ConfigError("the dashboard is not installed; install Plastiscope with `pip install .` from its folder")
    from importlib import import_module

    serve = import_module("dashboard.serve").serve  # by name: cl_core itself never depends on the dashboard
    runs, start = arguments.runs, None
    if arguments.command == "open" and arguments.folder is not None:
        runs = arguments.folder
        if runs.is_file():  # a recording: it is imported as a run
            runs, start = arguments.runs, unpack(runs, arguments.runs).name
        elif not runs.exists() and runs.suffix.lower() != ".zip" and runs.absolute().parent.is_dir():
            print(f"There is no folder {runs} yet: the first run creates it.", file=sys.stderr)
        elif not runs.is_dir():
            raise ConfigError(f"there is no {runs}; name a folder of runs, or a recording made by `export`")
        elif (runs / "config.json").is_file():  # one run: open its parent folder and show the run
            runs, start = runs.resolve().parent, runs.resolve().name
    code = arguments.code
    if code == "":
        code = secrets.token_urlsafe(9)
    return int(
        serve(
            runs,
            port=arguments.port,
            browser=not arguments.no_browser,
            start=start,
            code=code or "",
            host=arguments.host,
            view_only=arguments.view_only,
        )
    )


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, got {text!r}")
    return int(text)
