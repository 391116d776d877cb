"""The page's training process: requests as JSON lines in, results as JSON lines out, one request at a time.

In   {"id": 1, "configs": [{…}, …]}
     {"id": 2, "config": {…}, "keep": {"runs": "DIR", "name": ""}}
Out  {"id": 1, "place": 0, "task": 0, "rows": {…}, "free": […], "spectra": [[…], …]}     one a network and task
     {"id": 1, "done": 0.52}                                                          seconds
     {"id": 2, "done": 0.9, "run": "NAME"}
     {"id": 1, "error": "one sentence"}

It ends when its input does, so it never outlives the server that started it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cl_core.config import ConfigError
from cl_core.playground import PlaygroundConfig, TaskOutcome, train, train_bank
from cl_core.store import StoreError


def answers(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Everything that is said to one request."""
    started, asked = time.perf_counter(), request["id"]
    try:
        if "keep" in request:
            from cl_core.playground.recording import keep

            folder = keep(
                PlaygroundConfig.of(request["config"]), Path(request["keep"]["runs"]), request["keep"]["name"]
            )
            yield {"id": asked, "done": time.perf_counter() - started, "run": folder.name}
            return
        for place, outcome in train_bank([PlaygroundConfig.of(settings) for settings in request["configs"]]):
            yield {"id": asked, "place": place, **plain(outcome)}
        yield {"id": asked, "done": time.perf_counter() - started}
    except (ConfigError, StoreError) as error:
        yield {"id": asked, "error": str(error)}
    except Exception as error:  # whatever it is, the page is waiting and the next request is somebody else's
        yield {"id": asked, "error": f"training failed ({type(error).__name__}: {error})"}


def plain(outcome: TaskOutcome) -> dict[str, Any]:
    return {
        "task": outcome.task,
        "rows": {readout: [round(value, 2) for value in row] for readout, row in outcome.rows.items()},
        "free": outcome.free,
        "spectra": [[float(f"{value:.5g}") for value in spectrum] for spectrum in outcome.spectra],
    }


def main() -> None:
    train([PlaygroundConfig(tasks=2, epochs=1)])  # what the first request would otherwise wait for: digits, libraries
    for line in sys.stdin:
        for answer in answers(json.loads(line)):
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
