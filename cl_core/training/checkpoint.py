"""A trainer's state on disk: tensors in one safetensors file, everything else in JSON, a file `done` written last.

    checkpoints/<seq>/state.safetensors  state.json  reference-*.safetensors  done

For symmetric matrices (moments, scatters, conceptors) only the upper triangle is written: half the bytes, and
bit-identical when read.

Constant tables (`state["references"]`, by name) are written once: later checkpoints contain hard links to the same file
if the file system supports them, and copies otherwise.

`done` contains the SHA-256 of state.json, which contains that of the tensors. A folder without `done` is incomplete and
is never read. `seq` is the last event covered by the checkpoint: resuming removes later rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cl_core.store import RunFolder, StoreError, write_atomically
from cl_core.store.checkpoints import Checkpoint, complete, damaged
from cl_core.store.run import flush
from cl_core.untrusted import read_json

__all__ = ["Checkpoint", "complete", "load", "random_state", "restore_random_state", "save"]


def save(folder: RunFolder, state: dict[str, Any], seq: int, *, boundary: bool, rows: int | None = None) -> Checkpoint:
    """Write a checkpoint covering events up to `seq`, `rows` of them stored by now; non-boundary ones before it are
    removed. Raises StoreError with nothing left of it."""
    path = folder.checkpoints / f"{seq:08d}"
    tensors: dict[str, Tensor] = {}
    references: dict[str, dict[str, Tensor]] = state.get("references", {})
    flat = _flatten({name: value for name, value in state.items() if name != "references"}, "", tensors)
    if not folder.config_file.is_file():  # else the folder would come to be again, as something that is no run
        raise StoreError(f"cannot write checkpoint {path}: the folder of run {folder.name} is gone")
    try:
        path.mkdir(parents=True, exist_ok=True)
        sums = _save_references(folder, path, seq, references)
        weights = path / "state.safetensors"
        save_file(tensors, weights)
        flush(weights)
        task, total = state["cursor"]["task"], _sum(weights)
        record = {"seq": seq, "boundary": boundary, "task": task, "rows": rows, "tensors": total}
        record |= {"references": sums, "state": flat}
        text = json.dumps(record).encode()
        write_atomically(path / "state.json", text, durable=True)
        write_atomically(path / "done", f"{hashlib.sha256(text).hexdigest()}\n".encode(), durable=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(path, ignore_errors=True)
        said = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise StoreError(f"cannot write checkpoint {path}: {said}; earlier checkpoints are safe") from error
    for older in complete(folder, readable=True):
        if not older.boundary and older.seq < seq:
            shutil.rmtree(older.path, ignore_errors=True)
    return Checkpoint(path, seq, boundary, task, rows, total)


def load(checkpoint: Checkpoint) -> dict[str, Any]:
    """The saved state. Raises StoreError if a file is damaged."""
    try:
        weights = checkpoint.path / "state.safetensors"
        if checkpoint.tensors and checkpoint.tensors != _sum(weights):
            raise ValueError("state.safetensors has changed since it was written")
        record, references = read_json(checkpoint.path / "state.json"), {}
        for name, total in record.get("references", {}).items():
            file = checkpoint.path / _file_of(name)
            if total != _sum(file):
                raise ValueError(f"{file.name} has changed since it was written")
            references[name] = load_file(file)
        state = _unflatten(record["state"], load_file(weights))
        return {**state, "references": references} if references else state
    except Exception as error:  # safetensors raises its own kinds for damaged files
        raise damaged(checkpoint.path, error) from error


def _file_of(name: str) -> str:
    return f"reference-{name}.safetensors"


def _save_references(
    folder: RunFolder, path: Path, seq: int, references: dict[str, dict[str, Tensor]]
) -> dict[str, str]:
    """Link to the files of the checkpoint before `seq`, write those that it has not: name → SHA-256."""
    earlier = [older for older in complete(folder, readable=True) if older.seq < seq] if references else []
    known: dict[str, str] = read_json(earlier[-1].path / "state.json").get("references", {}) if earlier else {}
    sums = {}
    for name, table in references.items():
        file = path / _file_of(name)
        file.unlink(missing_ok=True)
        if name in known and (before := earlier[-1].path / file.name).exists():
            try:
                os.link(before, file)
            except OSError:  # a file system without hard links
                shutil.copyfile(before, file)
            sums[name] = known[name]
        else:
            save_file({kind: value.contiguous() for kind, value in table.items()}, file)
            flush(file)
            sums[name] = _sum(file)
    return sums


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of the device's random number generator (used by dropout); empty for the CPU, whose state the trainer
    saves."""
    return {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}


def restore_random_state(device: torch.device, state: dict[str, Tensor]) -> None:
    """Restore the device's random state. A run resumed on another device draws different numbers."""
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def _sum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


SYMMETRIC_FROM = 64  # width below which a whole matrix is as well


def _is_symmetric(value: Tensor) -> bool:
    """Whether [..., d, d] equals its transpose to the bit."""
    square = value.ndim >= 2 and value.shape[-1] == value.shape[-2] >= SYMMETRIC_FROM
    return square and value.is_floating_point() and torch.equal(value, value.mT)


def _triangle(value: Tensor) -> Tensor:
    """[..., d, d] → its upper triangle, row by row: [..., d (d + 1) / 2]."""
    rows, columns = torch.triu_indices(value.shape[-1], value.shape[-1])
    return value[..., rows, columns]


def _whole(triangle: Tensor, width: int) -> Tensor:
    """Inverse of `_triangle`."""
    rows, columns = torch.triu_indices(width, width)
    value = triangle.new_empty(*triangle.shape[:-1], width, width)
    value[..., rows, columns] = triangle
    value[..., columns, rows] = triangle
    return value


def _flatten(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as plain JSON; tensors are moved to `tensors`, named by their path."""
    if isinstance(value, Tensor):
        kept = value.detach().cpu()
        if _is_symmetric(kept):
            tensors[place] = _triangle(kept)
            return {"$symmetric": place, "width": kept.shape[-1]}
        tensors[place] = kept.contiguous().clone()
        return {"$tensor": place}
    if isinstance(value, dict):
        return {"$items": [[key, _flatten(v, f"{place}/{key}", tensors)] for key, v in value.items()]}
    if isinstance(value, tuple):
        return {"$tuple": [_flatten(v, f"{place}/{i}", tensors) for i, v in enumerate(value)]}
    if isinstance(value, list):
        return [_flatten(v, f"{place}/{i}", tensors) for i, v in enumerate(value)]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"state at {place or 'the top'} holds a {type(value).__name__}; keep tensors and plain values only")


def _unflatten(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_unflatten(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        return tensors[value["$tensor"]]
    if "$symmetric" in value:
        return _whole(tensors[value["$symmetric"]], value["width"])
    if "$tuple" in value:
        return tuple(_unflatten(v, tensors) for v in value["$tuple"])
    return {key: _unflatten(v, tensors) for key, v in value["$items"]}
