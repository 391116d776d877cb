"""A trainer's state on disk: tensors in one safetensors file, everything else in JSON, a file `done` written last.

    checkpoints/<seq>/state.safetensors  state.json  reference-*.safetensors  done

What never changes once it is there (`state["references"]`, tables by name) is written once: later checkpoints hold hard
links to the same file where the file system has them, and copies elsewhere.

A folder without `done` was cut off in writing and is never read. `seq` is the last event that belongs to the
checkpoint: resuming takes later rows back.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
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
    state = dict(state)
    references: dict[str, dict[str, Tensor]] = state.pop("references", {})
    record = {"seq": seq, "boundary": boundary, "task": state["cursor"]["task"], "state": _flatten(state, "", tensors)}
    try:
        path.mkdir(parents=True, exist_ok=True)
        earlier = [older for older in complete(folder) if older.seq < seq]
        for name, table in references.items():
            _save_reference(path / _file_of(name), table, earlier[-1].path / _file_of(name) if earlier else None)
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
        state = _unflatten(json.loads((checkpoint.path / "state.json").read_text("utf-8"))["state"], tensors)
        files = sorted(checkpoint.path.glob(_file_of("*")))
        named = {file.name.removeprefix("reference-").removesuffix(".safetensors"): file for file in files}
        return {**state, "references": {name: load_file(file) for name, file in named.items()}}
    except Exception as error:  # safetensors raises its own kinds for damaged files
        raise damaged(checkpoint.path, error) from error


def _file_of(name: str) -> str:
    return f"reference-{name}.safetensors"


def _save_reference(file: Path, table: dict[str, Tensor], before: Path | None) -> None:
    """Link to the file of the checkpoint before, or write it where there is none."""
    file.unlink(missing_ok=True)
    if before is not None and before.exists():
        try:
            os.link(before, file)
        except OSError:  # a file system without hard links
            shutil.copyfile(before, file)
    else:
        save_file({name: value.contiguous() for name, value in table.items()}, file)


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
