"""The bundled models: descriptions, and checking and loading of weights."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from cl_core.assets import assets_folder
from cl_core.config import ConfigError


def read_card(name: str, file: str = "config.json") -> tuple[Path, dict[str, Any]]:
    """Return the folder and description of a bundled model. Raises ConfigError."""
    folder = assets_folder() / name
    try:
        return folder, json.loads((folder / file).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"the weights of {name} are missing: cannot read {folder / file} ({error.strerror}); {hint(name)}"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{folder / file} is damaged ({error}); {hint(name)}") from error


def load_weights(model: nn.Module, file: Path, sha256: str | None, name: str) -> None:
    """Load safetensors strictly, in float32, after comparing the file's SHA-256. Raises ConfigError."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"the weights {file} cannot be read: {error.strerror}; {hint(name)}") from error
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise ConfigError(
            f"the weights {file} are damaged: their SHA-256 is not the one in their description; {hint(name)}"
        )
    try:
        model.load_state_dict({key: value.float() for key, value in load_file(file).items()}, strict=True)
    except Exception as error:  # safetensors and torch raise various exceptions
        raise ConfigError(
            f"the weights {file} do not fit the model: {str(error).splitlines()[0]}; {hint(name)}"
        ) from error


def hint(name: str) -> str:
    return f"reinstall Plastiscope or rebuild the weights with `plastiscope pretrain {name}`"


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generator within the block and restore it afterwards (model builders draw from it)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
