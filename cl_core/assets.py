"""Location of the bundled files: next to the packages in a checkout, inside `cl_core` in an installed wheel."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def assets_folder() -> Path:
    """The folder of bundled weights, images and recordings. Any of them may be missing; callers check for files."""
    installed = _HERE / "_assets"
    return installed if installed.is_dir() else _HERE.parent / "assets"


def recordings_folder() -> Path:
    """The folder of recorded runs, one subfolder each."""
    return assets_folder() / "recordings"
