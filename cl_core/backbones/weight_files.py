"""Weights from files: safetensors, or torch files of plain tensors; and finding them without, or with, the network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cl_core.config import ConfigError
from cl_core.hf_cache import DOWNLOAD, cached, downloads_allowed, hub_folder
from cl_core.untrusted import printable

NESTED = ("state_dict", "model_state_dict", "model")  # where training scripts put the weights within a file


def read_weights(file: Path) -> dict[str, Tensor]:
    """Name → tensor. `.safetensors`, or what `torch.load(weights_only=True)` accepts. Raises ConfigError."""
    if not os.path.isfile(file):
        raise ConfigError(f"there is no weights file {file}; give the path of a .safetensors, .bin, .pth or .pt file")
    try:
        if file.suffix == ".safetensors":
            found: Any = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # both libraries raise kinds of their own
        why = printable((str(error).splitlines() or [type(error).__name__])[0], 160)
        advice = (
            "the file is damaged"
            if file.suffix == ".safetensors"
            else "only plain tensors are read; save as .safetensors"
        )
        raise ConfigError(f"the weights {file} cannot be read ({why}): {advice}") from error
    for key in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping):  # a list, a text, one tensor
        raise ConfigError(f"the weights {file} hold a {type(found).__name__}, not tensors by name (a state_dict)")
    tensors = {str(name).removeprefix("module."): value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ConfigError(f"the weights {file} hold no tensors by name")
    return tensors


def fill(model: nn.Module, tensors: Mapping[str, Tensor], ignored: Sequence[str], where: str) -> None:
    """Load every parameter, in the model's precision; names that begin with one of `ignored` may be left over. Raises
    ConfigError that names the first thing that does not fit."""
    state = model.state_dict()
    missing = [name for name in state if name not in tensors]
    extra = [name for name in tensors if name not in state and not name.startswith(tuple(ignored))]
    if missing or extra:
        what = f"{missing[0]} is missing" if missing else f"{extra[0]} has no place in it"
        raise ConfigError(
            f"the weights {where} do not fit the model: {what} ({len(missing)} missing, {len(extra)} left over); "
            "name the architecture that they were made for"
        )
    for name, value in state.items():
        if value.shape != tensors[name].shape:
            raise ConfigError(
                f"the weights {where} do not fit the model: {name} is {list(tensors[name].shape)} in the file, "
                f"{list(value.shape)} in the model"
            )
    try:
        model.load_state_dict({name: tensors[name] for name in state})
    except Exception as error:  # sparse, quantised or without content
        why = printable((str(error).splitlines() or [type(error).__name__])[-1].strip(), 160)
        raise ConfigError(f"the weights {where} do not fit the model: {why}") from error


def from_hub(name: str, repository: str, files: Sequence[str]) -> Path:
    """The weights of `name` from the hub's cache, or fetched where that is allowed. Raises ConfigError."""
    found = cached(repository, files)
    if found is not None:
        return found
    if not downloads_allowed():
        raise ConfigError(missing(name, repository))
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    problem: Exception | None = None
    for file in files:
        try:
            return Path(hf_hub_download(repository, file, cache_dir=hub_folder()))
        except EntryNotFoundError as error:
            problem = error
        except Exception as error:  # no network, no such repository, no right to read it
            problem = error
            break
    why = (str(problem).splitlines() or [type(problem).__name__])[0]
    raise ConfigError(
        f"the weights of {name} could not be fetched from {repository} ({why[:160]}); they would be kept in "
        f"{hub_folder()}; the embedded backbones micro-vit and micro-clip need no network"
    ) from problem


def missing(name: str, repository: str) -> str:
    """One sentence: what is missing, where it was looked for, what works instead."""
    return (
        f"the weights of {name} are not on this machine: {repository} is not in the hub's cache {hub_folder()} "
        f"(HF_HUB_CACHE or HF_HOME move it); --download or {DOWNLOAD}=1 fetches them, {name.partition('/')[0]}@FILE "
        "takes a file you have, and micro-vit and micro-clip are embedded"
    )
