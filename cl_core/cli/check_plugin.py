"""`plastiscope check-plugin`: load a plug-in and check it against the engine's contract.

A method is trained on two tasks of drawn bars with an untrained backbone, and again with a stop in the middle: both
must end in the same state. A stream must have tasks, a backbone must describe its sizes. A figure is drawn twice from a
recording that has its events, or from a tiny run with the plug-in's observers.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from cl_core.assets import recordings_folder
from cl_core.cli.options import add_json
from cl_core.config import ConfigError, Preprocessing, RunConfig, StreamConfig, TrainingConfig, describe
from cl_core.plugins import Brought, load_named, name_also
from cl_core.registry import BACKBONES, METHODS, OBSERVERS, STREAMS, load
from cl_core.store import RunFolder, create_run

SIDE = 32  # pixels
TINY = RunConfig(  # trained in seconds
    "sequential",
    backbone="random-vit",
    stream="synthetic",
    device="cpu",
    stream_settings=StreamConfig(tasks=2),
    training=TrainingConfig(epochs=2, batch_size=25),
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plugin", nargs="*", help="a file, or the name of an installed plug-in")
    parser.add_argument("--list", action="store_true", help="only say what it brings")
    add_json(parser)
    parser.epilog = "example: plastiscope check-plugin my_method.py"


def execute(arguments: argparse.Namespace) -> int:
    name_also(arguments.plugin)
    brought = load_named()
    if not brought:
        raise ConfigError("no plug-in is named; give a file: plastiscope check-plugin my_method.py")
    if arguments.list:
        rows = [asdict(thing) for thing in brought]
        print(json.dumps(rows) if arguments.json else "\n".join(f"{r['kind']} {r['name']}: {r['about']}" for r in rows))
        return 0
    results = [_checked(thing) for thing in brought]
    if arguments.json:
        print(json.dumps(results))
    else:
        for row in results:
            print(f"{row['kind']} {row['name']}: " + ("ok, " + ", ".join(row["did"]) if row["ok"] else row["trouble"]))
    return 0 if all(row["ok"] for row in results) else 1


def _checked(thing: Brought) -> dict[str, Any]:
    did: list[str] = []
    trouble = ""
    try:
        did.extend(CHECKS[thing.kind](thing))
    except ConfigError as error:
        trouble = str(error)
    except Exception as error:  # a plug-in may raise anything; its author needs the traceback
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        at = f" (line {place.tb_lineno} of {place.tb_frame.f_code.co_filename})" if place is not None else ""
        trouble = f"{type(error).__name__}: {error}{at}"
    return {"kind": thing.kind, "name": thing.name, "ok": not trouble, "did": did, "trouble": trouble}


def _method(thing: Brought) -> Iterator[str]:
    import torch

    from cl_core.methods.method import Method
    from cl_core.training.factory import build

    kind = load(METHODS, thing.name, "method")
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise ConfigError(f"{thing.name} is no subclass of cl_core.methods.method.Method")
    yield f"{len(describe(kind.Config))} settings described"
    clip = METHODS[thing.name].needs == "clip"
    config = replace(TINY, method=thing.name)
    if clip:
        config = replace(config, backbone="random-clip", stream="synthetic-domains")
    whole = build(config)
    moments = sum(1 for _ in whole.run())
    yield f"two tasks trained ({moments} moments)"
    first = build(config)
    for _ in itertools.islice(first.run(), moments // 2):
        pass
    state = first.state()
    second = build(config)
    second.restore(state)
    for _ in second.run():
        pass
    wanted, found = whole.method.state_dict(), second.method.state_dict()
    differing = [n for n in wanted if n not in found or not torch.equal(wanted[n], found[n])]
    if differing or set(found) - set(wanted):
        raise ConfigError(
            f"a run stopped in the middle and resumed ends elsewhere: {', '.join(differing[:5])} differ; keep all that "
            "training depends on in parameters and buffers, and draw from (seed, task) only"
        )
    yield "stopped and resumed without a difference"


def _stream(thing: Brought) -> Iterator[str]:
    made = load(STREAMS, thing.name, "stream")(StreamConfig(tasks=2), Preprocessing(SIDE, (0.5,) * 3, (0.5,) * 3), 0)
    tasks = list(made)
    if not tasks or any(not len(task.train) or not len(task.test) for task in tasks):
        raise ConfigError("it has no task, or one without training or test images")
    yield f"{len(tasks)} tasks, {sum(len(task.train) for task in tasks)} training images"


def _backbone(thing: Brought) -> Iterator[str]:
    sizes = load(BACKBONES, thing.name, "backbone")().describe()
    missing = {"depth", "width", "tokens", "parameters"} - set(sizes)
    if missing:
        raise ConfigError(f"describe() lacks {', '.join(sorted(missing))}")
    yield f"{sizes['depth']} blocks of width {sizes['width']}"


def _observer(thing: Brought) -> Iterator[str]:
    """Observe two tiny tasks: it must not fail, and training must be the same as without it."""
    import torch

    from cl_core.events import MeasurementStopped, PluginMeasured
    from cl_core.training.factory import build

    watched = build(TINY)
    events = [event for moment in watched.run() for event in moment]
    name = f"plug-in {thing.name}"
    for event in events:
        if isinstance(event, MeasurementStopped) and event.measurement == name:
            raise ConfigError(f"it failed and was disabled: {event.reason}")
    said = sum(isinstance(event, PluginMeasured) for event in events)
    if not said:
        raise ConfigError(
            "it returned no event in two tasks; return [PluginMeasured(view.clock, name, values)] somewhere"
        )
    yield f"two tasks watched, {said} measurements"
    entry = OBSERVERS.pop(thing.name)
    try:
        alone = build(TINY)
        for _ in alone.run():
            pass
    finally:
        OBSERVERS[thing.name] = entry
    wanted, found = alone.method.state_dict(), watched.method.state_dict()
    if any(not torch.equal(wanted[key], found[key]) for key in wanted):
        raise ConfigError("it changes training: observers must only read, and draw no random numbers from torch")
    yield "training is the same with and without it"
    state = watched.observers.state()
    build(TINY).observers.restore(state, {})
    yield "what it remembers can be given back"


def _figure(thing: Brought) -> Iterator[str]:
    """It must draw something, and the same twice."""
    if importlib.util.find_spec("dashboard") is None or importlib.util.find_spec("plotly") is None:
        raise ConfigError("figures are drawn by the dashboard, which is not installed")
    notebook = import_module("dashboard.notebook")  # by name: cl_core itself never depends on the dashboard
    with tempfile.TemporaryDirectory() as place:
        for folder in _runs_at_hand(Path(place)):
            if thing.name in notebook.figures(folder):
                first, second = (notebook.figure(folder, thing.name).to_json() for _ in range(2))
                if first != second:
                    raise ConfigError(f"drawn twice from {folder.name} it differs; it must depend only on the run")
                yield f"drawn from {folder.name}, twice the same"
                return
    raise ConfigError(f"neither a bundled recording nor a tiny run has the required events ({thing.needs})")


def _runs_at_hand(place: Path) -> Iterator[RunFolder]:
    """The bundled recordings, then a tiny run in `place` that the plug-in's observers watch."""
    if recordings_folder().is_dir():
        yield from (RunFolder(path) for path in sorted(recordings_folder().iterdir()) if path.is_dir())
    from cl_core.training.worker import drive

    folder = create_run(place, replace(TINY, name="a-tiny-run"))
    drive(folder)
    yield folder


CHECKS: dict[str, Callable[[Brought], Iterator[str]]] = {
    "method": _method,
    "stream": _stream,
    "backbone": _backbone,
    "observer": _observer,
    "figure": _figure,
}
