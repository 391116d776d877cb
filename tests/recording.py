"""How tests record a run: moments of invented events, stored by the real writer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from cl_core.config import RunConfig
from cl_core.events import Event
from cl_core.store import RunFolder, RunWriter, create_run

Moment = Sequence[Event]

ENVIRONMENT = {
    "device": "cpu",
    "device_name": "a processor",
    "threads": 1,
    "torch": "2",
    "python": "3.11",
    "plastiscope": "0",
}


def recorded(runs: Path, config: RunConfig, moments: Iterable[Moment], *, until: int | None = None) -> RunFolder:
    """A run below `runs` with the first `until` of these moments (all if None), held by nobody."""
    folder = create_run(runs, config)
    append(folder, *islice(moments, until))
    folder.lock.touch()
    return folder


def append(folder: RunFolder, *moments: Moment) -> None:
    """What a run says next."""
    with closing(RunWriter(folder)) as writer:
        for moment in moments:
            writer.append(moment)
