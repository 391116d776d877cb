"""The command line interface. Exit status 0, 1 (failed, with a one-sentence message) or 2 (bad usage)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from cl_core import __version__
from cl_core.untrusted import printable

# command → (module with configure(parser) and execute(arguments) -> int, one line)
COMMANDS = {
    "demo": ("cl_core.cli.pages", "open the dashboard on the bundled recording; a live run is one click away"),
    "open": ("cl_core.cli.pages", "open the dashboard on a folder of runs"),
    "playground": ("cl_core.cli.playground", "train small networks on whole task streams in seconds"),
    "run": ("cl_core.cli.run", "train in this process, with a progress bar"),
    "ask": ("cl_core.cli.ask", "answer a question: train the required runs, then compute the answer"),
    "sweep": ("cl_core.cli.sweep", "train a grid of settings × methods × seeds with several workers"),
    "list": ("cl_core.cli.runs", "list runs"),
    "show": ("cl_core.cli.runs", "show one run: settings, state, accuracy matrix, measures"),
    "resume": ("cl_core.cli.runs", "continue a stopped, failed or killed run"),
    "stop": ("cl_core.cli.runs", "save a running run and end it"),
    "pause": ("cl_core.cli.runs", "ask a running run to hold"),
    "turn": ("cl_core.cli.changes", "change a live setting of a running run, from its next step on"),
    "fork": ("cl_core.cli.changes", "continue a run from a task boundary with other settings, as a new run"),
    "whatif": ("cl_core.cli.whatif", "predict the effect of another threshold, without training"),
    "why": ("cl_core.cli.why", "why a task was forgotten: its fall split into parts that add up"),
    "import": ("cl_core.cli.import_", "import results of another program as an ordinary run"),
    "report": ("cl_core.cli.export", "a run as one HTML file: figures, numbers, settings"),
    "export": ("cl_core.cli.export", "a run's numbers as CSV and arrays, its report, its figures; or as a recording"),
    "methods": ("cl_core.cli.names", "list methods and their settings"),
    "backbones": ("cl_core.cli.names", "list backbones"),
    "streams": ("cl_core.cli.names", "list task streams"),
    "presets": ("cl_core.cli.names", "list named settings"),
    "check-plugin": ("cl_core.cli.check_plugin", "load a plug-in and check it against the contract"),
    "pretrain": ("cl_core.cli.pretrain", "rebuild the embedded weights"),
    "work": ("cl_core.cli.runs", ""),  # started by the dashboard; not for direct use
}

TRAINING_PACKAGES = ("torch", "torchvision", "timm", "open_clip", "safetensors", "sklearn")  # not needed by the viewer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Only the named command's module is imported."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="plastiscope",
        description="Watch a model learn one task after another, and see why it forgets.",
        epilog="example: plastiscope run --method nsp2 --stream split-digits --seed 0\n"
        "every command takes --plugin FILE.py (or PLASTISCOPE_PLUGINS): methods, streams, backbones, observers and\n"
        "figures of your own",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"plastiscope {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    arguments, plugins = _plugins(arguments)
    named = next((a for a in arguments if not a.startswith("-")), None)
    if named is not None and named not in COMMANDS:
        from cl_core.config import nearest

        known = [name for name, (_, about) in COMMANDS.items() if about]
        print(f"plastiscope: {printable(nearest(named, known, 'command'), 4000)}", file=sys.stderr)
        return 2
    chosen = parser
    for name, (module, about) in COMMANDS.items():
        described: dict[str, Any] = {"help": about} if about else {}
        child = commands.add_parser(
            name, description=about, formatter_class=argparse.RawDescriptionHelpFormatter, **described
        )
        if name == named:
            import_module(module).configure(child)
            chosen = child
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        chosen.error(f"unrecognized arguments: {' '.join(unknown)}")  # with the usage of the command itself
    from cl_core.config import ConfigError
    from cl_core.store import StoreError

    try:
        _load_plugins(plugins, parsed.command)
        return int(import_module(COMMANDS[parsed.command][0]).execute(parsed))
    except (ConfigError, StoreError) as error:
        print(f"plastiscope: {printable(error, 4000)}", file=sys.stderr)  # names in it may come from elsewhere
        return 2 if isinstance(error, ConfigError) else 1
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in TRAINING_PACKAGES:
            raise
        print(
            f"plastiscope: training needs the package {error.name}, which is not installed; "
            "`pip install .` in Plastiscope's folder installs everything",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("plastiscope: interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:  # broken pipe, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a deleted folder
        where = f": {error.filename}" if error.filename else ""
        print(f"plastiscope: {printable(f'{error.strerror or error}{where}')}", file=sys.stderr)
        return 1


def _plugins(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The arguments without --plugin, which every command accepts, and the named plug-ins."""
    rest, found, taken = [], [], iter(arguments)
    for argument in taken:
        if argument == "--plugin":
            found.append(next(taken, ""))
        elif argument.startswith("--plugin="):
            found.append(argument.removeprefix("--plugin="))
        else:
            rest.append(argument)
    return rest, found


def _load_plugins(names: list[str], command: str) -> None:
    """Load the named plug-ins; a server only registers their names. Raises ConfigError."""
    if not names and not os.environ.get("PLASTISCOPE_PLUGINS"):
        return
    from cl_core import plugins
    from cl_core.config import ConfigError

    if "" in names:
        raise ConfigError("--plugin takes a file ending in .py, or the name of an installed plug-in")
    plugins.name_also(names)
    if command in ("open", "demo"):
        plugins.announce()
    elif command != "check-plugin":
        plugins.load_named()
