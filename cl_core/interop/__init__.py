"""Interoperability: import of other programs' results, export to their tools, and runs in notebooks. No torch.

read(path, asked)      read a log of another program (`Result`) without writing anything
write(result, runs)    write the result as an ordinary run
open_run(name)         a run as data frames (`notebook.py`)

`avalanche_plugin`, `lightning_callback` and `trainer_callback` attach a `Recorder` to other programs' loops; they
import these programs on use.
"""

from cl_core.interop.reading import FORMATS, read
from cl_core.interop.result import Asked, Result
from cl_core.interop.writing import write

__all__ = ["FORMATS", "Asked", "Result", "read", "write"]
