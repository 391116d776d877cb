"""Export of a run's measurements as tables and arrays, with descriptions. From the store only, no torch."""

from cl_core.export.files import data_files, guard, leaf, manifest, zipped
from cl_core.export.redact_paths import known_paths, redact_paths
from cl_core.export.tables import LISTINGS, Table, events_of, tables

__all__ = [
    "LISTINGS",
    "Table",
    "data_files",
    "events_of",
    "guard",
    "known_paths",
    "leaf",
    "manifest",
    "redact_paths",
    "tables",
    "zipped",
]
