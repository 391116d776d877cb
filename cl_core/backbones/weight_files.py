"""Weight files: contents, mapping of names to a model, and lookup in the hub's cache.

A file is safetensors, or readable by `torch.load(weights_only=True)`. Training scripts nest the tensors in tables,
prefix their names, and add classifiers. `Weights.notes` says, one sentence each, what was used, stripped and left out;
weights that do not fit the model raise an error with one sentence.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cl_core.config import ConfigError
from cl_core.hf_cache import DOWNLOAD, cached, downloads_allowed, hub_folder
from cl_core.untrusted import printable

# Keys under which training scripts store weights; the first one found is used, averages first.
NESTED = (
    "state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema", "state_dict", "model_state_dict", "model",
    "teacher", "student", "module", "net", "network", "params", "weights", "backbone", "encoder",
)  # fmt: skip
ADAPTER = "adapter_config.json"  # file in the folder of an adapter
NESTS = 4  # most levels of nesting
ANYWHERE = ("_orig_mod.",)  # inserted into names by torch.compile, at any place
HEADS = (
    "head", "heads", "fc", "classifier", "classifiers", "projector", "projection", "predictor", "decoder", "criterion",
)  # fmt: skip
SHOWN = 4  # most names in a sentence


@dataclass(frozen=True)
class Weights:
    """Tensors of a file by name, its path, and notes on how they were found."""

    tensors: dict[str, Tensor]
    where: str
    notes: list[str] = field(default_factory=list)


def read_weights(file: Path) -> Weights:
    """`.safetensors`, or what `torch.load(weights_only=True)` accepts, with plain settings beside the tensors. Raises
    ConfigError."""
    if not os.path.isfile(file):
        raise ConfigError(f"there is no weights file {file}; give the path of a .safetensors, .bin, .pth or .pt file")
    found: Any = load_safe(file)
    path: list[str] = []
    beside: list[str] = []
    while isinstance(found, Mapping) and len(path) < NESTS:
        nests = [key for key in NESTED if isinstance(found.get(key), Mapping) and _holds_tensors(found[key])]
        if not nests:
            break
        path.append(nests[0])
        beside += nests[1:]
        found = found[nests[0]]
    if not isinstance(found, Mapping):  # a list, a string, a single tensor
        raise ConfigError(f"the weights {file} hold a {type(found).__name__}, not tensors by name (a state_dict)")
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ConfigError(f"the weights {file} hold no tensors by name")
    notes = []
    if path and (beside or path[-1] not in ("state_dict", "model_state_dict", "model")):
        also = f" (the file also holds {_named(beside)})" if beside else ""
        notes.append(f"taken from {' / '.join(path)}{also}")
    for part in ANYWHERE:
        if any(part in name for name in tensors):
            tensors = {name.replace(part, ""): value for name, value in tensors.items()}
            notes.append(f"{part} taken out of the names")
    return Weights(tensors, str(file), notes)


def load_safe(file: Path) -> Any:
    """Return the content of a weights file, read without executing any of it. Raises ConfigError."""
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except Exception as error:  # the library raises its own exceptions
            raise ConfigError(
                f"the weights {file} cannot be read ({_first_line(error)}): the file is damaged"
            ) from error
    if is_torchscript(file):
        raise ConfigError(
            f"the weights {file} are a TorchScript program, which is not run: save its tensors with "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth') and name that file"
        )
    try:
        with torch.serialization.safe_globals(_plain_types()):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        text = str(error)
        if foreign := re.search(r"GLOBAL ([\w.]+)", text):
            why = f"they hold {printable(foreign.group(1), 80)}, which is not plain data"
        else:
            why = _first_line(error)
        raise ConfigError(
            f"the weights {file} cannot be read ({why}): only plain tensors are read; save as .safetensors, or "
            "torch.save(model.state_dict(), FILE)"
        ) from error


def is_torchscript(file: Path) -> bool:
    """Return whether a file is a TorchScript program, as written by torch.jit.save."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError):
        return False


def _plain_types() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Return the safe types that training scripts store beside tensors: settings, paths, NumPy numbers."""
    scalar: Any = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(code)) for code in "?bhilqBHILQefdU"}
    numbers = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    paths = [(pathlib.PosixPath, "pathlib.PosixPath"), (pathlib.PosixPath, "pathlib._local.PosixPath")]
    return [argparse.Namespace, np.dtype, *dtypes, *numbers, *paths]


def _first_line(error: Exception) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    return printable((plain.splitlines() or [type(error).__name__])[0], 160)


def _holds_tensors(table: Mapping[Any, Any], depth: int = NESTS) -> bool:
    return any(
        isinstance(value, Tensor) or (depth > 0 and isinstance(value, Mapping) and _holds_tensors(value, depth - 1))
        for value in table.values()
    )


def _named(names: Sequence[str]) -> str:
    """`a, b and 3 more`."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def sources(rest: str) -> tuple[str, str, str]:
    """(model, weights file or "random" or "", folder of a LoRA adapter or "") of `MODEL[@FILE][@ADAPTER]`. Raises
    ConfigError for a folder that is no adapter."""
    model, _, tail = rest.partition("@")
    file, at, folder = ("", "@", tail) if os.path.isdir(tail) else ("", "", "")
    if tail and not at:
        file = tail
        if "@" in tail and not os.path.exists(tail):
            file, _, folder = tail.rpartition("@")
    if folder and not os.path.isfile(os.path.join(folder, ADAPTER)):
        there = "is not there" if not os.path.isdir(folder) else f"has no {ADAPTER}"
        raise ConfigError(f"{folder} {there}: after the weights comes the folder of a LoRA adapter as PEFT saves it")
    return model, file, folder


# ---------------------------------------------------------------- names


def prefixes(tensors: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Return possible prefixes of the names of `wanted` in a file, "" first: those under which one of its longest names
    is found."""
    names = list(tensors)
    anchors = sorted(wanted, key=lambda name: (-name.count("."), name))[:3]
    found = [name.removesuffix(anchor) for anchor in anchors for name in names if name.endswith(anchor)]
    return ["", *dict.fromkeys(prefix for prefix in found if prefix.endswith("."))]


def without_prefix(weights: Weights, wanted: Sequence[str]) -> Weights:
    """Strip a common prefix, so that tensors have the model's names.

    Uses a prefix under which all of `wanted` are found; of several, that of the teacher or average. Names with other
    prefixes are left out. Both are noted.
    """
    known = set(wanted)
    if known <= weights.tensors.keys():
        return weights
    names = weights.tensors.keys()
    whole = [prefix for prefix in prefixes(names, wanted)[1:] if all(prefix + name in names for name in known)]
    if not whole:  # of another layout, which a library may convert
        for usual in ("module.", "model."):
            if all(name.startswith(usual) for name in names):
                rest = {name.removeprefix(usual): value for name, value in weights.tensors.items()}
                return Weights(rest, weights.where, [*weights.notes, f"{usual} taken off the names"])
        return weights
    chosen = min(
        whole, key=lambda prefix: (not re.search(r"(^|[._])(teacher|ema|encoder_q|base_encoder)", prefix), len(prefix))
    )
    kept = {name.removeprefix(chosen): value for name, value in weights.tensors.items() if name.startswith(chosen)}
    left = [name for name in names if not name.startswith(chosen)]
    notes = [*weights.notes, f"{chosen} taken off the names"]
    if left:
        notes.append(f"left out, because it stands beside: {_named(left)}")
    return Weights(kept, weights.where, notes)


def fill(model: nn.Module, weights: Weights, ignored: Sequence[str]) -> list[str]:
    """Load every parameter in the model's precision; classifiers and names that begin with one of `ignored` may remain
    unused. Returns notes, one sentence each. Raises ConfigError that names the first mismatch."""
    state, tensors, where = model.state_dict(), weights.tensors, weights.where
    missing = [name for name in state if name not in tensors]
    extra = [name for name in tensors if name not in state]
    heads = [name for name in extra if name.split(".")[0].split("_")[0] in HEADS or name.startswith(tuple(ignored))]
    extra = [name for name in extra if name not in heads]
    if missing or extra:
        what = f"{missing[0]} is missing" if missing else f"{extra[0]} has no place in it"
        raise ConfigError(
            f"the weights {where} do not fit the model: {what} ({len(missing)} missing, {len(extra)} left over)"
            f"{_foreign_form(tensors)}; name the architecture that they were made for"
        )
    for name, value in state.items():
        if value.shape != tensors[name].shape:
            raise ConfigError(
                f"the weights {where} do not fit the model: {name} is {list(tensors[name].shape)} in the file, "
                f"{list(value.shape)} in the model"
            )
    try:
        model.load_state_dict({name: tensors[name] for name in state})
    except Exception as error:  # sparse, quantised or empty
        why = printable((str(error).splitlines() or [type(error).__name__])[-1].strip(), 160)
        raise ConfigError(f"the weights {where} do not fit the model: {why}") from error
    return [*weights.notes, *([f"left out, because the backbone has no such part: {_named(heads)}"] if heads else [])]


def _foreign_form(tensors: Mapping[str, Tensor]) -> str:
    """Describe the kind of names, if known."""
    if any("lora_A" in name for name in tensors):
        return ": these are a LoRA adapter's; name its folder, with adapter_config.json, after the base's weights"
    if any(name.startswith(("text_model.", "vision_model.")) for name in tensors):
        return ": these are Hugging Face's names of a CLIP, which open_clip:ARCH@FILE reads"
    if any(".attention.attention.query.weight" in name for name in tensors):
        return ": these are Hugging Face transformers' names of a ViT, which are not converted"
    if "visual.conv1.weight" in tensors:
        return ": these are open_clip's names, which open_clip:ARCH@FILE reads"
    return ""


def from_hub(name: str, repository: str, files: Sequence[str]) -> Path:
    """Return the weights of `name` from the hub's cache, or download them if allowed. Raises ConfigError."""
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
        except Exception as error:  # no network, no such repository, no permission
            problem = error
            break
    why = (str(problem).splitlines() or [type(problem).__name__])[0]
    raise ConfigError(
        f"the weights of {name} could not be fetched from {repository} ({why[:160]}); they would be kept in "
        f"{hub_folder()}; the embedded backbones micro-vit and micro-clip need no network"
    ) from problem


def missing(name: str, repository: str) -> str:
    """Return one sentence: what is missing, where it was searched, and alternatives."""
    return (
        f"the weights of {name} are not on this machine: {repository} is not in the hub's cache {hub_folder()} "
        f"(HF_HUB_CACHE or HF_HOME move it); --download or {DOWNLOAD}=1 fetches them, {name.partition('/')[0]}@FILE "
        "takes a file you have, and micro-vit and micro-clip are embedded"
    )
