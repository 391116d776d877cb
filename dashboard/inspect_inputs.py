"""Inspection of a backbone or stream in a separate process before a run: this process never imports training code,
and a hostile folder cannot crash the server."""

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
SAMPLES = 6  # images per task
AUGMENTATION = ("auto_augment", "random_crop", "flip")  # training settings that change the look of its images


class SlowAnswer(StoreError):
    """The process did not answer in time, so it is unknown whether the input can be used."""


def about_backbone(config: RunConfig, texts: int | None) -> dict[str, Any]:
    """Return sizes, estimated memory of the method's steps, and where the weights are or what is missing; `texts`:
    classes per task, if known. Raises StoreError with one sentence."""
    asked = ["backbones", config.backbone, "--json", "--batch-size", str(config.training.batch_size)]
    asked += ["--method", config.method, *(["--texts", str(texts)] if texts else [])]
    asked += [part for key, value in config.settings.items() for part in ("--set", f"{key}={_toml(value)}")]
    return _told(asked, config.backbone)


def samples_of(name: str, settings: StreamConfig, training: TrainingConfig, seed: int) -> dict[str, Any]:
    """Return tasks, their classes and a few images of each, original and augmented, and unusable files. Raises
    StoreError."""
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
    """Return what `plastiscope import` reads there with these options, which include `--dry-run`. Raises StoreError."""
    return _told(["import", "--json", *options, "--", str(path)], path.name)


def or_refusal(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the answer, or {"refused": sentence}, so that callers can cache refusals as well. A late answer is not
    cached: raises SlowAnswer."""
    try:
        return ask()
    except SlowAnswer:
        raise
    except StoreError as error:
        return {"refused": str(error)}


def settled(told: dict[str, Any]) -> dict[str, Any]:
    """Return a cached answer. Raises StoreError if it is a refusal."""
    if "refused" in told:
        raise StoreError(told["refused"])
    return told


def _toml(value: Any) -> str:
    """Format a setting for --set; lists and strings in JSON are also valid TOML."""
    return json.dumps(value, ensure_ascii=False)


@changes  # viewers must not read the folders and files of this machine
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
