"""Lists models available in local caches, without network access and without importing torch.

The hub's cache holds `models--ORG--NAME/snapshots/REVISION/FILE`. Its folder is HF_HUB_CACHE, else HF_HOME/hub, else
XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub. Weights that timm downloaded by URL are in
TORCH_HOME/hub/checkpoints (else ~/.cache/torch/hub/checkpoints).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DOWNLOAD = (
    "PLASTISCOPE_DOWNLOAD"  # 1: named models and data that are missing may be downloaded; otherwise no network access
)
UNTRAINED = "random"  # instead of a weights file: the architecture as initialised
WEIGHT_FILES = (".safetensors", ".bin", ".pth", ".pt")
TIMM_FILES = ("model.safetensors", "pytorch_model.bin")
CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
CLIP_CONFIG = "open_clip_config.json"


def downloads_allowed() -> bool:
    """Whether the user allowed downloads of missing weights and data sets."""
    return os.environ.get(DOWNLOAD, "").strip().lower() in ("1", "true", "yes", "on")


@dataclass(frozen=True)
class AtHand:
    """A model with weights in a local cache: its name, file and size."""

    name: str
    file: Path
    bytes: int


def hub_folder() -> Path:
    """The cache folder of the hub's client."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]).expanduser() / "hub"
    return _cache() / "huggingface" / "hub"


def checkpoints_folder() -> Path:
    """The folder of files that torch downloaded by URL."""
    home = os.environ.get("TORCH_HOME")
    return (Path(home).expanduser() if home else _cache() / "torch") / "hub" / "checkpoints"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def cached(repository: str, files: Sequence[str]) -> Path | None:
    """The first of `files` in the newest cached revision of ORG/NAME that has one; None if not cached."""
    for snapshot in _snapshots(hub_folder() / f"models--{repository.replace('/', '--')}"):
        for name in files:
            if (snapshot / name).is_file():
                return snapshot / name
    return None


def _snapshots(folder: Path) -> list[Path]:
    """Revisions of a cached repository: the one that `refs/main` names, then the others, newest first."""
    try:
        found = [path for path in (folder / "snapshots").iterdir() if path.is_dir()]
    except OSError:
        return []
    try:
        main = (folder / "refs" / "main").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        main = ""
    return sorted(found, key=lambda path: (path.name != main, -path.stat().st_mtime))


def models_at_hand() -> list[AtHand]:
    """Every timm and open_clip model in the hub's cache, by name. Whether its architecture is supported is checked when
    it is built."""
    try:
        folders = sorted(path for path in hub_folder().iterdir() if path.name.startswith("models--"))
    except OSError:
        return []
    found = []
    for folder in folders:
        organisation, _, name = folder.name.removeprefix("models--").partition("--")
        repository = f"{organisation}/{name}"
        file = cached(repository, TIMM_FILES) if organisation == "timm" else None
        if file is not None:
            found.append(AtHand(f"timm:{name}", file, file.stat().st_size))
        file = cached(repository, CLIP_FILES) if cached(repository, (CLIP_CONFIG,)) else None
        if file is not None:
            found.append(AtHand(f"open_clip:hf-hub:{repository}", file, file.stat().st_size))
    return found
