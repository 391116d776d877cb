"""Where the files that travel with the program lie: beside the packages in a checkout, inside `cl_core` in an installed
wheel."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def assets_folder() -> Path:
    """The folder of embedded weights, images and recordings. It may lack any of them: callers ask whether a file is
    there."""
    installed = _HERE / "_assets"
    return installed if installed.is_dir() else _HERE.parent / "assets"


def recordings_folder() -> Path:
    """The folder whose sub-folders are recorded runs."""
    return assets_folder() / "recordings"
