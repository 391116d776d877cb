"""Plug-ins: user-defined methods, streams, backbones, observers and figures in a file or an installed package.

    # my_method.py
    from cl_core.plugins import method

    @method("my_method", about="one line about it", needs="vit")
    class MyMethod(Method):
        …

    plastiscope run --plugin my_method.py --method my_method

A plug-in is code. It is loaded only if named with `--plugin` or in PLASTISCOPE_PLUGINS: a file, or the name of an entry
point of an installed package (group "plastiscope.plugins"). Recordings, runs and URLs never load one. Child processes
inherit the names.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from cl_core.config import ConfigError, nearest
from cl_core.events import KINDS
from cl_core.registry import BACKBONES, FIGURES, METHODS, OBSERVERS, STREAMS, Entry

VARIABLE = "PLASTISCOPE_PLUGINS"  # files and entry points, separated as PATH is
GROUP = "plastiscope.plugins"
PATIENCE = 120.0  # timeout in seconds for listing plug-ins in a subprocess
TABLES: dict[str, dict[str, Entry]] = {
    "method": METHODS,
    "stream": STREAMS,
    "backbone": BACKBONES,
    "observer": OBSERVERS,
    "figure": FIGURES,
}

Thing = TypeVar("Thing", bound=Callable[..., Any])


@dataclass(frozen=True)
class Brought:
    """An object registered by a plug-in."""

    kind: str  # a key of TABLES
    name: str
    about: str
    needs: str
    target: str  # "module:object"
    origin: str = ""
    plugin: str = ""  # the plug-in's name as given


@dataclass(frozen=True)
class Drawing:
    """Metadata of a plug-in's figure; the dashboard makes a catalogue entry from it."""

    draw: Callable[..., Any]
    title: str
    needs: tuple[str, ...]  # required kinds of events
    also: tuple[str, ...]  # optional kinds of events
    controls: Mapping[str, Callable[[Any], Sequence[Any]]]
    when: Callable[[Any], bool]


_COLLECTING: list[Brought] | None = None  # while a plug-in is being loaded
_LOADED: dict[str, list[Brought]] = {}  # by name as it was given


def method(name: str, *, about: str, needs: str = "") -> Callable[[Thing], Thing]:
    """Register a subclass of `cl_core.methods.method.Method`; `needs`: "vit" or "clip" if it requires such a
    backbone."""
    return _registers("method", name, about, needs)


def stream(name: str, *, about: str) -> Callable[[Thing], Thing]:
    """Register a function (settings, preparation, seed) → TaskStream."""
    return _registers("stream", name, about, "")


def backbone(name: str, *, about: str, needs: str) -> Callable[[Thing], Thing]:
    """Register a function without arguments that returns a backbone; `needs`: its family, "vit" or "clip"."""
    return _registers("backbone", name, about, needs)


def observer(name: str, *, about: str) -> Callable[[Thing], Thing]:
    """Register a subclass of `cl_core.observers.observer.Observer`, constructed without arguments. It observes every
    run trained by this process and returns `cl_core.events.PluginMeasured`."""
    return _registers("observer", name, about, "")


def figure(
    name: str,
    *,
    about: str,
    needs: Sequence[str],
    also: Sequence[str] = (),
    title: str = "",
    controls: Mapping[str, Callable[[Any], Sequence[Any]]] | None = None,
    when: Callable[[Any], bool] | None = None,
) -> Callable[[Thing], Thing]:
    """Register a function (run, **controls) → Plotly figure, drawn by the page *All measurements*, the report and
    `dashboard.figures.figure`.

    Args:
        name: id of the figure, "dead-units".
        about: the question that it answers.
        needs: required kinds of events, ["PluginMeasured"].
        also: optional kinds of events; `run.events` raises an error for all others.
        title: above the figure; "": derived from the name.
        controls: name → function of the run that returns the values to choose from; the first is the default.
        when: whether a run with the required events has anything to draw.

    Raises:
        ConfigError: for an unknown kind of event.
    """
    for kind in (*needs, *also):
        if kind not in KINDS:
            raise ConfigError(nearest(kind, KINDS, "kind of event"))

    def note(thing: Thing) -> Thing:
        thing.drawing = Drawing(  # type: ignore[attr-defined]
            thing,
            title or re.sub(r"[-_]+", " ", name).capitalize(),
            tuple(needs),
            tuple(also),
            dict(controls or {}),
            when or (lambda run: True),
        )
        return _registers("figure", name, about, ", ".join(needs))(thing)

    return note


def _registers(kind: str, name: str, about: str, needs: str) -> Callable[[Thing], Thing]:
    def note(thing: Thing) -> Thing:
        if _COLLECTING is not None:
            target = f"{thing.__module__}:{thing.__qualname__}"
            _COLLECTING.append(
                Brought(kind, name.replace("-", "_") if kind == "method" else name, about, needs, target)
            )
        return thing

    return note


def named() -> list[str]:
    """Plug-ins named for this process."""
    return [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name.strip()]


def name_also(names: Sequence[str]) -> None:
    """Add plug-ins for this process and its children; files with absolute paths."""
    whole = [str(Path(name).resolve()) if name.endswith(".py") or os.sep in name else name for name in names]
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*named(), *whole]))


def load_named() -> list[Brought]:
    """Load all named plug-ins and register their contents. Raises ConfigError."""
    return [thing for name in named() for thing in load(name)]


def load(name: str) -> list[Brought]:
    """Run one plug-in once and add its objects to the registry.

    Raises:
        ConfigError: if it is missing, fails, registers nothing, or uses a name that is taken.
    """
    global _COLLECTING
    if name in _LOADED:
        return _LOADED[name]
    before, _COLLECTING = _COLLECTING, []
    try:
        origin = _run(name)
        found = [replace(thing, origin=origin, plugin=name) for thing in _COLLECTING]
    finally:
        _COLLECTING = before
    if not found:
        raise ConfigError(
            f"plug-in {name} registers nothing; put @method, @stream, @backbone, @observer or @figure of "
            "cl_core.plugins before its things"
        )
    enter(found)
    _LOADED[name] = found
    return found


def enter(found: Sequence[Brought]) -> None:
    """Add objects to the registry. Raises ConfigError for a name that is taken."""
    for thing in found:
        if not re.fullmatch(r"[A-Za-z][\w.-]{0,60}", thing.name):
            raise ConfigError(f"a {thing.kind} is called by letters, digits, -, _ and ., got {thing.name!r}")
        taken = TABLES[thing.kind].get(thing.name)
        if taken is not None and taken.target != thing.target:
            raise ConfigError(
                f"plug-in {thing.origin} brings a {thing.kind} {thing.name}, and there is one of that name; call it "
                "something else"
            )
    for thing in found:
        TABLES[thing.kind][thing.name] = Entry(thing.target, thing.about, thing.needs, origin=thing.origin)


def announce() -> None:
    """Register the names of plug-ins, listed by a subprocess, because the server must not import torch. Only plug-ins
    with figures also run in the server, which draws them. Raises ConfigError if one does not load."""
    if not named():
        return
    package = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "cl_core", "check-plugin", "--list", "--json"],
            capture_output=True,
            timeout=PATIENCE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"plug-ins could not be asked what they bring: {error}") from error
    if answer.returncode:
        raise ConfigError(answer.stderr.strip().removeprefix("plastiscope: ") or "a plug-in does not load")
    told = [Brought(**row) for row in json.loads(answer.stdout)]
    enter(told)
    for name in dict.fromkeys(thing.plugin for thing in told if thing.kind == "figure"):
        load(name)


def _run(name: str) -> str:
    """Run a plug-in and return a description of its origin."""
    if name.endswith(".py") or os.sep in name:
        return _run_file(Path(name))
    points = importlib.metadata.entry_points(group=GROUP, name=name)
    if not points:
        known = sorted(point.name for point in importlib.metadata.entry_points(group=GROUP))
        there = f"; installed: {', '.join(known)}" if known else ""
        raise ConfigError(f"no plug-in {name!r}: give a file ending in .py, or the name of an installed one{there}")
    point = next(iter(points))
    try:
        point.load()
    except Exception as error:
        raise ConfigError(f"plug-in {name} does not load: {type(error).__name__}: {error}") from error
    made_by = f"{point.dist.name} {point.dist.version}" if point.dist else "an installed package"
    return f"{name} of {made_by}"


def _run_file(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read plug-in {file}: {error.strerror}") from error
    mark = hashlib.sha256(content).hexdigest()[:12]
    module_name = f"plastiscope_plugin_{re.sub(r'[^A-Za-z0-9]+', '_', file.stem)}_{mark}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"plug-in {file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise ConfigError(f"plug-in {file.name} does not load: {type(error).__name__}: {error}") from error
    return f"{file.name} (sha256 {mark})"
