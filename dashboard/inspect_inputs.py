"""What a process of its own says about a backbone or a stream before a run is started: this one never imports what
trains, and a hostile folder cannot take the server down with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cl_core.config import RunConfig, StreamConfig, TrainingConfig
from cl_core.store import StoreError
from dashboard.changes import changes

PATIENCE = 120.0  # seconds
SAMPLES = 6  # pictures a task
AUGMENTATION = ("auto_augment", "random_crop", "flip")  # settings of training that change what its pictures look like


class SlowAnswer(StoreError):
    """The process did not answer in time: nothing is known, nothing is refused."""


def about_backbone(config: RunConfig, texts: int | None) -> dict[str, Any]:
    """Sizes, estimated memory of the method's steps, and where the weights are or what is missing; `texts`: classes a
    task, where they are known. Raises StoreError in one sentence."""
    asked = ["backbones", config.backbone, "--json", "--batch-size", str(config.training.batch_size)]
    asked += ["--method", config.method, *(["--texts", str(texts)] if texts else [])]
    asked += [part for key, value in config.settings.items() for part in ("--set", f"{key}={_toml(value)}")]
    return _told(asked, config.backbone)


def samples_of(name: str, settings: StreamConfig, training: TrainingConfig, seed: int) -> dict[str, Any]:
    """Tasks, their classes and a few pictures of each, as they are and as training may show them, and what could not
    be used. Raises StoreError."""
    changed = {
        key: value
        for key, value in vars(settings).items()
        if key == "tasks" or value != getattr(StreamConfig, key)  # defaults need no words
    }
    told = [part for key, value in changed.items() for part in ("--set", f"stream.{key}={_toml(value)}")]
    for key in AUGMENTATION:
        if (value := getattr(training, key)) != getattr(TrainingConfig, key):
            told += ["--set", f"training.{key}={_toml(value)}"]
    return _told(["streams", name, "--json", "--samples", str(SAMPLES), "--seed", str(seed), *told], name)


def import_results(path: Path, options: Sequence[str]) -> dict[str, Any]:
    """What `plastiscope import` reads there, with these options (`--dry-run` among them: nothing is written). Raises
    StoreError."""
    return _told(["import", "--json", *options, "--", str(path)], path.name)


def or_refusal(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer, or {"refused": sentence}: what is kept for a while, so that a refusal is asked for once as well. An
    answer that does not come in time is not kept. Raises SlowAnswer."""
    try:
        return ask()
    except SlowAnswer:
        raise
    except StoreError as error:
        return {"refused": str(error)}


def settled(told: dict[str, Any]) -> dict[str, Any]:
    """The answer that was kept. Raises StoreError where it is a refusal."""
    if "refused" in told:
        raise StoreError(told["refused"])
    return told


def _toml(value: Any) -> str:
    """A setting as --set reads it: lists and texts in JSON are TOML as well."""
    return json.dumps(value, ensure_ascii=False)


@changes  # a viewer has no business in the folders and files of this machine
def _told(arguments: Sequence[str], name: str) -> dict[str, Any]:
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "cl_core", *arguments],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise SlowAnswer(f"reading {name} took longer than {PATIENCE:.0f} s; starting it may still work") from error
    except OSError as error:
        raise StoreError(f"cannot look at {name}: {error.strerror or error}") from error
    if answer.returncode:
        last = (answer.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason was given"])[-1]
        raise StoreError(last.removeprefix("plastiscope: "))
    return dict(json.loads(answer.stdout.splitlines()[-1]))
