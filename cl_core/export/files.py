"""Files of an export: tables, arrays, settings, and a README that explains them."""

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

MANIFEST = "export.json"  # lists the files of an export; no other file in its folder is overwritten

SEED = "The seed determines the class order, initial values, random draws, and the order of batches."

CONVENTIONS = """\
CSV files are UTF-8 with commas and decimal points; the first line names the columns. A value that was not measured is
empty, never zero; tables without measurements are left out. Tasks, epochs, steps, layers, classes and images count from
1, as in the dashboard: task 0 is before training, epoch 0 of a task is before its first epoch, layer 0 is the whole
network. Steps count over the whole run. Accuracies and other shares marked so are in percent, losses in nats
(cross-entropy) or as the method defines them, times in seconds. An accuracy matrix has rows "after training on" and
columns "evaluated on". .npz files contain plain arrays (no pickles):

    import numpy as np, pandas as pd
    accuracy = pd.read_csv("accuracy.csv")
    spectra = np.load("spectra.npz")        # spectra.files lists the keys
"""


def leaf(folder: RunFolder) -> str:
    """Return the run's name as a plain file name, even if the run was given as `.`."""
    return folder.path.resolve().name


def data_files(folder: RunFolder, events: Events | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every file, README.txt last. Absolute paths in settings are reduced to their last part.
    `events`: those of the run, if already read. Raises StoreError."""
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
    """Pack arrays like `numpy.savez_compressed`, at a third of the cost: measured numbers hardly compress."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    return out.getvalue()


def zipped(files: Iterable[tuple[str, bytes]], name: str) -> bytes:
    """Pack the files into a ZIP, below a folder `name`."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in files:
            archive.writestr(f"{name}/{file}", content)
    return out.getvalue()


def guard(folder: Path, run: str, files: Iterable[str]) -> None:
    """Raise ConfigError if `files` would overwrite anything but an earlier export of this run."""
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
    """Record the written files, together with those of an earlier export of this run."""
    record = {"plastiscope": __version__, "run": run, "files": sorted({*_earlier(folder)["files"], *files, MANIFEST})}
    try:
        write_atomically(folder / MANIFEST, _json(record))
    except OSError as error:
        raise StoreError(f"cannot write {folder / MANIFEST}: {error.strerror}") from error


def _earlier(folder: Path) -> dict[str, Any]:
    """Return the record of an earlier export; empty if there is none, or the file is not ours."""
    with suppress(OSError, ValueError):
        record = read_json(folder / MANIFEST)
        if isinstance(record, dict) and isinstance(record.get("files"), list) and "run" in record:
            return record
    return {"run": None, "files": []}


def _readme(run: str, summary: dict[str, Any], made: list[Table], stored: list[tuple[str, str]], events: Events) -> str:
    listed = [*((t.file, t.about) for t in made), *stored]
    listed += [
        ("summary.json", "state of the run, its accuracy matrix and summary measures"),
        ("settings.json", "all settings, their values at the end, changes during the run, model and machine"),
        (MANIFEST, "files written by `plastiscope export`, so that a new export overwrites nothing else"),
        ("report.html", "the report, one file (written by `plastiscope export` and `plastiscope report`)"),
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
    """Return an event's docstring and the comments on its fields (tasks, layers and epochs count from 0 in these)."""
    told = [inspect.getdoc(kind) or ""]
    with suppress(OSError):  # the source is not installed
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
