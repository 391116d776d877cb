"""Interoperability: import of other programs' results, export to their tools, and runs in notebooks. No torch.

read(path, asked)      what a log of another program says (`Result`), without writing anything
write(result, runs)    the same as an ordinary run
open_run(name)         a run as data frames (`notebook.py`)

Wrappers that attach a `Recorder` to other programs' loops: `avalanche_plugin`, `lightning_callback`,
`trainer_callback`; they import those programs when they are used.
"""

from cl_core.interop.reading import FORMATS, read
from cl_core.interop.result import Asked, Result
from cl_core.interop.writing import write

__all__ = ["FORMATS", "Asked", "Result", "read", "write"]
