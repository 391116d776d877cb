"""Recorded runs of a CLIP method, written by the real writer: invented numbers, real shapes.

finished(runs)      three domains, the gap growing and zero-shot accuracy falling
begun(runs)         measured before training, no task learned yet
unsaid(runs)        the stream has no general set: similarities of its own tasks alone
written(runs)       a method that writes into null directions: singular values of its weights
protected(runs)     a method that protects features: their spectra and updates, and weights that it does not watch over
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cl_core.config import DiagnosticsConfig, RunConfig, StreamConfig
from cl_core.events import (
    AccuracyMeasured,
    Clock,
    Event,
    ModalityGapMeasured,
    RunStarted,
    SimilaritiesMeasured,
    SpectrumMeasured,
    StateChanged,
    StepEnded,
    TaskEnded,
    TaskStarted,
    UpdateMeasured,
    WeightSpectrumMeasured,
)
from cl_core.store import RunFolder
from tests.recording import ENVIRONMENT, recorded

DOMAINS = ("Digits", "Letters", "Shapes", "Textures", "Colours", "Counts")


@dataclass(frozen=True)
class ClipPlan:
    """Sizes of an invented run."""

    method: str = "finetune"
    tasks: int = 3
    pairs: int = 24
    width: int = 8
    general: bool = True
    gap: bool = True  # whether the joint space is measured at all
    weights: str = ""  # bound of the split: "rho", "r_max", "none"; "" = no weights are measured
    features: bool = False  # whether moments of features are kept

    @property
    def config(self) -> RunConfig:
        return RunConfig(
            method=self.method,
            backbone="micro-clip",
            stream="micro-mtil",
            stream_settings=StreamConfig(tasks=self.tasks),
            diagnostics=DiagnosticsConfig() if self.gap else DiagnosticsConfig.off(),
        )


def moments(plan: ClipPlan) -> Iterator[tuple[Event, ...]]:
    """From RunStarted, with what is measured before training, to StateChanged("finished")."""
    yield (
        _started(plan),
        StateChanged(Clock(), "running"),
        AccuracyMeasured(Clock(), "zero-shot", _row(plan, -1)),
        *_joint_space(plan, -1),
    )
    for task in range(plan.tasks):
        clock = Clock(task, 1, 4 * task + 3)
        yield (TaskStarted(Clock(task, -1, 4 * task), [f"{DOMAINS[task]} {c}" for c in "ab"], 4),)
        if plan.features:
            yield tuple(_step(task, step) for step in range(4))
        yield (TaskEnded(clock, 1.0, 1000), *_features(plan, task), *_weights(plan, task))
        yield (AccuracyMeasured(clock, "task-incremental", _row(plan, task)), *_joint_space(plan, task))
    yield (StateChanged(Clock(plan.tasks - 1, 1, 4 * plan.tasks - 1), "finished"),)


def record(runs: Path, name: str, plan: ClipPlan | None = None, *, until: int | None = None) -> RunFolder:
    """A run `name` below `runs` holding the first `until` moments of `plan` (all if None)."""
    plan = plan or ClipPlan()
    return recorded(runs, replace(plan.config, name=name), moments(plan), until=until)


def finished(runs: Path, name: str = "clip") -> RunFolder:
    return record(runs, name)


def begun(runs: Path, name: str = "clip-begun") -> RunFolder:
    return record(runs, name, until=2)


def unsaid(runs: Path, name: str = "clip-unsaid") -> RunFolder:
    return record(runs, name, ClipPlan(general=False))


def written(runs: Path, name: str = "clip-written") -> RunFolder:
    return record(runs, name, ClipPlan(method="nusa_cl", weights="r_max"))


def protected(runs: Path, name: str = "clip-protected") -> RunFolder:
    return record(runs, name, ClipPlan(method="gnsp", weights="none", features=True))


def _started(plan: ClipPlan) -> RunStarted:
    tasks = [
        {"name": DOMAINS[t], "classes": [f"{DOMAINS[t]} {c}" for c in "ab"], "train": 20, "test": 10}
        for t in range(plan.tasks)
    ]
    backbone = {
        "name": "micro-clip",
        "depth": 3,
        "width": 16,
        "heads": 2,
        "tokens": 17,
        "patch_grid": [4, 4],
        "parameters": 1000,
        "joint_width": 8,
    }
    return RunStarted(
        Clock(),
        tasks,
        "multi-domain task-incremental",
        plan.tasks,
        4 * plan.tasks,
        1000,
        backbone,
        ENVIRONMENT,
    )


def _row(plan: ClipPlan, task: int) -> list[float | None]:
    """50 % before training; 90 % when learned; 10 points lost by each later task, 5 by each earlier one."""
    return [50.0 - 5 * (task + 1) if j > task else 90.0 - 10 * (task - j) for j in range(plan.tasks)]


def _joint_space(plan: ClipPlan, task: int) -> list[Event]:
    if not plan.gap:
        return []
    rng, clock, moved = np.random.default_rng(0), Clock(task, 1, 4 * task + 3) if task >= 0 else Clock(), task + 1
    x = rng.normal(0, 0.2, (plan.pairs, 2))
    t = x + rng.normal(0, 0.05, x.shape) + [0.3 + 0.1 * moved, 0.0]
    edges = np.linspace(-1, 1, 101)
    positive, _ = np.histogram(rng.normal(0.7 - 0.1 * moved, 0.1, 500).clip(-1, 1), edges)
    negative, _ = np.histogram(rng.normal(0.1, 0.15, 500).clip(-1, 1), edges)
    said: list[Event] = []
    if plan.general:
        said.append(
            ModalityGapMeasured(
                clock,
                length=0.3 + 0.1 * moved,
                direction=1 - 0.1 * moved,
                image_mean=0.4,
                text_mean=0.5,
                paired_distance=0.8,
                edges=edges.astype(np.float32),
                positive=(positive / 500).astype(np.float32),
                negative=(negative / 500).astype(np.float32),
                positive_mean=0.7 - 0.1 * moved,
                negative_mean=0.1,
                separation=4.0 - moved,
                auc=0.99 - 0.05 * moved,
                linear_probe=95.0,
                image_to_text={"1": 80.0 - 10 * moved, "5": 95.0},
                text_to_image={"1": 70.0 - 10 * moved, "5": 90.0},
                pairs=plan.pairs,
                general_accuracy=90.0 - 6 * moved,
                images=x.astype(np.float16),
                texts=t.astype(np.float16),
            )
        )
    return said + [
        SimilaritiesMeasured(clock, j, 0.5 - 0.05 * moved + 0.2 * (j == task), 0.2 + 0.01 * moved, 0.6)
        for j in range(plan.tasks)
    ]


MAPS = tuple(
    f"{tower}.{block}.{part}"
    for tower, depth in (("image", 3), ("text", 2))
    for block in range(depth)
    for part in "qkvo"
)


def _weights(plan: ClipPlan, task: int) -> list[Event]:
    """Sixteen directions; one more is principal after every task; four are written to; the tail rises."""
    if not plan.weights:
        return []
    clock, said = Clock(task, 1, 4 * task + 3), []
    for row, name in enumerate(MAPS):
        before = (2.0 * 0.7 ** np.arange(16)).astype(np.float32)
        tail = 4 if plan.weights == "r_max" else 8 - task
        after = before.copy()
        after[-tail:] *= 1.5 + task
        still = plan.weights == "none" and task > 0
        said.append(
            WeightSpectrumMeasured(
                clock,
                name,
                before,
                np.sort(before if still else after)[::-1].copy(),
                rho=0.95,
                principal=8 + task,
                written=tail,
                bound=plan.weights,
                used=plan.weights != "none",
                effective_rank=10.5 + task,
                effective_rank_before=9.5 + task,
                leak_left=None if still else (0.8 if plan.weights == "none" else 2e-7),
                leak_right=None if still else (0.6 if plan.weights == "none" else 3e-7),
                chance=((8 + task) / 16) ** 0.5,
                drift=1e-7 * 10.0**task,
                overlap=1 - 0.1 * task,
                movement=0.0 if still else 0.01 * (row + 1),
                promoted=0 if still else task,
                seconds=0.1,
            )
        )
    return said


WIDTHS = {"c_fc": 8, "c_proj": 32, "proj": 8}


def _features(plan: ClipPlan, task: int) -> list[Event]:
    """Three layers, of which the last has the image projection as well; two more directions are protected a task."""
    if not plan.features:
        return []
    clock, said = Clock(task, 1, 4 * task + 3), []
    for layer in range(3):
        spaces = ["c_fc", "c_proj"] + ["proj"] * (layer == 2)
        past = dict.fromkeys(spaces) if task == 0 else None
        said.append(
            UpdateMeasured(
                clock,
                layer,
                0.1,
                past or dict.fromkeys(spaces, 0.05),
                past or dict.fromkeys(spaces, 0.2),
                past or {space: 0.1 * (task + layer) for space in spaces},
            )
        )
        for space in spaces:
            values = (0.5 ** np.arange(WIDTHS[space])).astype(np.float32)
            kept = min(2 * (task + 1), WIDTHS[space])
            share = float(values[:kept].sum() / values.sum())
            said.append(
                SpectrumMeasured(
                    clock, layer, space, values, len(values) - kept, "tail 0.15", True, share, 2.0, 1.0, 0.0
                )
            )
    return said


def _step(task: int, step: int) -> Event:
    """After the first task, three quarters of one gradient's norm and a quarter of the other's get through."""
    proposed = {"clip.a": 2.0, "clip.b": 4.0} if task else {}
    applied = {"clip.a": 1.5, "clip.b": 1.0} if task else {}
    clock = Clock(task, step // 2, 4 * task + step)
    return StepEnded(clock, {"total": 1.0}, {"weights": 1e-4}, proposed, applied, 50.0, 0.01)
