"""The command line: arguments in, one clear sentence out. Exit status 0, 1 (failed) or 2 (bad usage)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from cl_core import __version__

# command → (module with configure(parser) and execute(arguments) -> int, one line)
COMMANDS = {
    "demo": ("cl_core.cli.pages", "open the dashboard on the bundled recording; a live run is one click away"),
    "open": ("cl_core.cli.pages", "open the dashboard on a folder of runs"),
    "playground": ("cl_core.cli.playground", "train small networks on whole task streams in seconds"),
    "run": ("cl_core.cli.run", "train in this process, with a progress bar"),
    "ask": ("cl_core.cli.ask", "answer a question: train the runs it needs, then compute what they say"),
    "sweep": ("cl_core.cli.sweep", "train a grid of settings × methods × seeds with several workers"),
    "list": ("cl_core.cli.runs", "list runs"),
    "show": ("cl_core.cli.runs", "show one run: settings, state, accuracy matrix, measures"),
    "resume": ("cl_core.cli.runs", "go on with a stopped, failed or killed run"),
    "stop": ("cl_core.cli.runs", "ask a running run to save itself and end"),
    "pause": ("cl_core.cli.runs", "ask a running run to hold"),
    "turn": ("cl_core.cli.changes", "turn a live knob of a running run, from its next step on"),
    "fork": ("cl_core.cli.changes", "go on from between two tasks of a run with other settings, as a new run"),
    "whatif": ("cl_core.cli.whatif", "what another threshold would have left free and let through, without training"),
    "report": ("cl_core.cli.export", "a run as one HTML file: figures, numbers, settings"),
    "export": ("cl_core.cli.export", "a run's numbers as CSV and arrays, its report, its figures; or as a recording"),
    "methods": ("cl_core.cli.names", "list methods and their settings"),
    "backbones": ("cl_core.cli.names", "list backbones"),
    "streams": ("cl_core.cli.names", "list task streams"),
    "presets": ("cl_core.cli.names", "list named settings"),
    "pretrain": ("cl_core.cli.pretrain", "rebuild the embedded weights"),
    "work": ("cl_core.cli.runs", ""),  # what the dashboard starts; not for people
}

TRAINING_PACKAGES = ("torch", "torchvision", "timm", "open_clip", "safetensors", "sklearn")  # the viewer does without


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Only the named command's module is imported."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="plastiscope",
        description="Watch a model learn task after task, and see why it forgets.",
        epilog="example: plastiscope run --method nsp2 --stream split-digits --seed 0",
    )
    parser.add_argument("--version", action="version", version=f"plastiscope {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    named = next((a for a in arguments if not a.startswith("-")), None)
    for name, (module, about) in COMMANDS.items():
        described = {"help": about} if about else {}
        child = commands.add_parser(
            name, description=about, formatter_class=argparse.RawDescriptionHelpFormatter, **described
        )
        if name == named:
            import_module(module).configure(child)
    parsed = parser.parse_args(arguments)
    from cl_core.config import ConfigError
    from cl_core.store import StoreError

    try:
        return int(import_module(COMMANDS[parsed.command][0]).execute(parsed))
    except ConfigError as error:
        print(f"plastiscope: {error}", file=sys.stderr)
        return 2
    except StoreError as error:
        print(f"plastiscope: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in TRAINING_PACKAGES:
            raise
        print(
            f"plastiscope: training needs the package {error.name}, which is not installed; "
            "`pip install .` in Plastiscope's folder brings everything",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("plastiscope: interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
