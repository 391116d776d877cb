"""A trainer's state on disk: tensors in one safetensors file, everything else in JSON, a file `done` written last.

    checkpoints/<seq>/state.safetensors  state.json  done

A folder without `done` was cut off in writing and is never read. `seq` is the last event that belongs to the
checkpoint: resuming takes later rows back.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cl_core.store import RunFolder, StoreError, write_atomically
from cl_core.store.checkpoints import Checkpoint, complete, damaged

__all__ = ["Checkpoint", "complete", "load", "save"]


def save(folder: RunFolder, state: dict[str, Any], seq: int, *, boundary: bool) -> Checkpoint:
    """Write a checkpoint covering events up to `seq`; non-boundary ones before it are removed. Raises StoreError."""
    path = folder.checkpoints / f"{seq:08d}"
    tensors: dict[str, Tensor] = {}
    record = {"seq": seq, "boundary": boundary, "task": state["cursor"]["task"], "state": _flatten(state, "", tensors)}
    try:
        path.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path / "state.safetensors")
        write_atomically(path / "state.json", json.dumps(record).encode())
        write_atomically(path / "done", b"")
        for older in complete(folder):
            if not older.boundary and older.seq < seq:
                shutil.rmtree(older.path, ignore_errors=True)
    except OSError as error:
        raise StoreError(
            f"cannot write checkpoint {path}: {error.strerror or error}; earlier checkpoints are safe"
        ) from error
    return Checkpoint(path, seq, boundary, record["task"])


def load(checkpoint: Checkpoint) -> dict[str, Any]:
    """The state that `save` was given. Raises StoreError if a file is damaged."""
    try:
        tensors = load_file(checkpoint.path / "state.safetensors")
        return _unflatten(json.loads((checkpoint.path / "state.json").read_text("utf-8"))["state"], tensors)
    except Exception as error:  # safetensors raises its own kinds for damaged files
        raise damaged(checkpoint.path, error) from error


def _flatten(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Plain JSON in place of `value`; tensors go into `tensors` under their place."""
    if isinstance(value, Tensor):
        tensors[place] = value.detach().cpu().contiguous().clone()
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
    if "$tuple" in value:
        return tuple(_unflatten(v, tensors) for v in value["$tuple"])
    return {key: _unflatten(v, tensors) for key, v in value["$items"]}
