"""The files of an export: tables, arrays, settings, and a README that explains them."""

from __future__ import annotations

import inspect
import io
import json
import re
import textwrap
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cl_core import __version__
from cl_core.config import ConfigError
from cl_core.events import Event, RunStarted
from cl_core.export.redact_paths import known_paths, redact_paths
from cl_core.export.tables import ARRAYS, Events, Table, events_of, tables
from cl_core.store import RunFolder, StoreError, effective_config, fork_of, turned, write_atomically
from cl_core.summary import MEASURES, definition, summarise
from cl_core.untrusted import read_json

MANIFEST = "export.json"  # what an export wrote: nothing else in its folder is ever overwritten

SEED = "The seed decides the order of the classes, what is initialised and drawn, and the order of batches."

CONVENTIONS = """\
CSV files are UTF-8 with commas and a decimal point; the first line names the columns. A value that was not measured is
empty, never zero; a table of something that was not measured is not there. Tasks, epochs, steps, layers, classes and
images count from 1, as in the dashboard: task 0 is before training, epoch 0 of a task before its first, layer 0 a
choice made once for the whole network. Steps count over the whole run. Accuracies and other shares marked so are in
percent, losses in nats (cross-entropy) or as the method defines them, times in seconds. An accuracy matrix has rows
"after training on" and columns "evaluated on". .npz files hold plain arrays (no pickles):

    import numpy as np, pandas as pd
    accuracy = pd.read_csv("accuracy.csv")
    spectra = np.load("spectra.npz")        # spectra.files lists the keys
"""


def leaf(folder: RunFolder) -> str:
    """The run's name as a plain file name, also where the run was named by `.`."""
    return folder.path.resolve().name


def data_files(folder: RunFolder, events: Events | None = None) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file, README.txt last. Absolute paths in settings are cut to names. `events`: those of
    the run, where they have been read already. Raises StoreError."""
    config, events = folder.config(), events_of(folder) if events is None else events
    known = known_paths(config, folder.path.resolve())
    summary = {**summarise(folder).reported(), "run": leaf(folder), "folder": leaf(folder)}
    fork, plan = fork_of(folder), (events.get(RunStarted) or [None])[-1]
    settings = {
        "config": config.to_dict(),
        "in_force": effective_config(folder).to_dict(),
        "fork": asdict(fork) if fork else None,
        "turned": [{**asdict(event.clock), **event.body()} for event in turned(folder)],
        "backbone": plan.backbone if plan else None,
        "environment": plan.environment if plan else None,
    }
    yield "summary.json", _json(redact_paths(summary, known))
    yield "settings.json", _json(redact_paths(settings, known))
    made = tables(events)
    for table in made:
        yield table.file, table.text().encode()
    stored: list[tuple[str, str]] = []
    for file, (about, arrays) in ARRAYS.items():
        if found := arrays(events):
            stored.append((file, about))
            yield file, _npz(found)
    told = {**summary, "origin": config.origin}
    yield "README.txt", _readme(leaf(folder), redact_paths(told, known), made, stored, events).encode()


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    """The arrays as `numpy.savez_compressed` packs them, with a third of its work: measured numbers hardly shrink."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    return out.getvalue()


def zipped(files: Iterable[tuple[str, bytes]], name: str) -> bytes:
    """The files below a folder `name` as one ZIP."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in files:
            archive.writestr(f"{name}/{file}", content)
    return out.getvalue()


def guard(folder: Path, run: str, files: Iterable[str]) -> None:
    """Refuse to write `files` over what an earlier export of this run did not write itself. Raises ConfigError."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; name a folder with --out")
    earlier = _earlier(folder)
    written = set(earlier["files"]) if earlier["run"] == run else set()
    foreign = [name for name in (*files, MANIFEST) if name not in written and (folder / name).exists()]
    if foreign:
        others = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise ConfigError(
            f"{folder} holds {foreign[0]}{others}, which this run's export did not write; name another folder with "
            "--out"
        )


def manifest(folder: Path, run: str, files: Iterable[str]) -> None:
    """Note what was written, with what an earlier export of this run left there."""
    record = {"plastiscope": __version__, "run": run, "files": sorted({*_earlier(folder)["files"], *files, MANIFEST})}
    try:
        write_atomically(folder / MANIFEST, _json(record))
    except OSError as error:
        raise StoreError(f"cannot write {folder / MANIFEST}: {error.strerror}") from error


def _earlier(folder: Path) -> dict[str, Any]:
    """The note of an earlier export; an empty one where there is none, or somebody else's file of that name."""
    with suppress(OSError, ValueError):
        record = read_json(folder / MANIFEST)
        if isinstance(record, dict) and isinstance(record.get("files"), list) and "run" in record:
            return record
    return {"run": None, "files": []}


def _readme(run: str, summary: dict[str, Any], made: list[Table], stored: list[tuple[str, str]], events: Events) -> str:
    listed = [*((t.file, t.about) for t in made), *stored]
    listed += [
        ("summary.json", "where the run stands, its accuracy matrix and the numbers it is judged by"),
        ("settings.json", "all settings, those in force at the end, what was turned, model and machine"),
        (MANIFEST, "what `plastiscope export` wrote here, so that writing again overwrites nothing else"),
        ("report.html", "the same to look at, one file (written by `plastiscope export` and `plastiscope report`)"),
    ]
    lines = [
        f"Plastiscope {__version__}: the run {run}",
        "",
        f"{summary['method']} on {summary['stream']} with {summary['backbone']}, seed "
        f"{'not known' if summary['seed'] is None else summary['seed']}, {summary['device']}.",
        *([f"Not trained by Plastiscope: {summary['origin']}."] if summary["origin"] else []),
        f"State when this was written: {summary['state']}"
        + ("." if summary["state"] == "finished" else "; numbers are those so far."),
        f"Written {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}.",
        *([SEED] if not summary["origin"] else []),
        "",
        "Files",
        "-----",
        *(textwrap.fill(f"{file:<26} {about}", 120, subsequent_indent=" " * 27) for file, about in listed),
        "",
        "Conventions",
        "-----------",
        CONVENTIONS,
        "Numbers read off an accuracy matrix R (rows after training on, columns evaluated on, from 0 in the formulas)",
        "-------------------------------------------------------------------------------------------------------------",
    ]
    for measure in MEASURES:
        lines += [measure, _indented(definition(measure)), ""]
    lines += ["What the columns mean", "---------------------"]
    for table in made:
        lines += [table.file, _indented(glossary(table.kind)), ""]
    return "\n".join(lines).rstrip() + "\n"


def glossary(kind: type[Event]) -> str:
    """An event's docstring and the comments on its fields (tasks, layers and epochs count from 0 in these)."""
    told = [inspect.getdoc(kind) or ""]
    with suppress(OSError):  # no source beside the program
        above: list[str] = []
        for line in inspect.getsource(kind).splitlines():
            named = re.match(r"    (\w+): [^#]*(?:#\s*(.*))?$", line)
            if comment := re.match(r"    #\s*(.*)", line):
                above.append(comment.group(1))
            elif named:
                words = " ".join([*above, named.group(2) or ""]).strip()
                told += [textwrap.fill(f"{named.group(1)}: {words}", 116, subsequent_indent="    ")] if words else []
                above = []
    return "\n".join(told)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
