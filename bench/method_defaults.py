"""Write the defaults and the descriptions of every setting, which `cl_core.method_defaults` reads without torch.

    python -m bench.method_defaults

Run it after adding a setting or changing a default. Entries of earlier versions stay as they are.
"""

from __future__ import annotations

import json
from typing import Any

from cl_core import __version__
from cl_core.config import RunConfig, describe
from cl_core.method_defaults import DESCRIBED, FILE
from cl_core.registry import METHODS, load
from cl_core.store import write_atomically


def current() -> dict[str, Any]:
    """The entry of this version as the code has it; imports every method."""
    run = RunConfig("any").to_dict()
    for name in ("format", "method", "settings"):
        del run[name]
    methods = {name: {row["name"]: row["default"] for row in rows} for name, rows in descriptions().items()}
    return {"run": run, "methods": methods}


def descriptions() -> dict[str, list[dict[str, Any]]]:
    """Method → its settings in words, as the code has them; imports every method."""
    ours = [name for name, entry in METHODS.items() if not entry.origin]  # a plug-in's come and go
    return {name: describe(load(METHODS, name, "method").Config) for name in ours}


def main() -> None:
    known = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    write_atomically(FILE, (json.dumps({**known, __version__: current()}, indent=1) + "\n").encode())
    write_atomically(DESCRIBED, (json.dumps(descriptions(), indent=1, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main()
