"""The course of a pre-training: steps, checkpoints, evaluations in between, weights and card at the end.

What is trained is a `Course`; `follow` takes it from its step to the last one. Stopped after any checkpoint and
resumed, a course on a CPU ends in the same bits as one that was never stopped.
"""

from __future__ import annotations

import abc
import importlib.metadata
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

CHECKPOINT = "checkpoint.pt"


class Settings(Protocol):
    """What every recipe has; dataclasses in the modules beside this one."""

    images: int
    batch: int
    seed: int
    learning_rate: float
    warm_up_steps: int
    flat: float  # share of the run at the full learning rate; then linearly down
    final_rate: float  # share of the learning rate left at the end
    average: float  # decay of the running average of the weights, which is what gets exported
    clip: float  # largest gradient norm

    @property
    def steps(self) -> int: ...


@dataclass(frozen=True)
class Progress:
    """Where a pre-training stands; handed to `on_progress` after every step."""

    step: int
    steps: int
    images: int
    loss: float | None  # read only now and then, so that a GPU is not made to wait
    images_per_second: float
    seconds_left: float
    summary: str | None = None  # the newest evaluation in words, when this step made one


def learning_rate_share(step: int, settings: Settings) -> float:
    """Share of the full learning rate at a step: up over the warm-up, flat, then linearly down."""
    if step < settings.warm_up_steps:
        return (step + 1) / settings.warm_up_steps
    done = step / settings.steps
    if done < settings.flat:
        return 1.0
    fall = (done - settings.flat) / (1 - settings.flat)
    return 1.0 - (1.0 - settings.final_rate) * fall


class Course(abc.ABC):
    """Everything that changes while training: weights, their running average, optimiser, source of chance."""

    def __init__(self, settings: Any, device: str) -> None:
        self.settings, self.device = settings, torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.model = self.build().to(self.device)
        with torch.random.fork_rng(devices=[]):
            self.average = self.build().to(self.device).requires_grad_(False).eval()
        self.average.load_state_dict(self.model.state_dict())
        trained = [p for p in self.model.parameters() if p.requires_grad]
        decayed = [p for p in trained if p.ndim >= 2 and p.shape[0] > 1]
        others = [p for p in trained if p.ndim < 2 or p.shape[0] == 1]  # biases, norms, single tokens
        groups = [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)
        self.generator = torch.Generator(device=self.device).manual_seed(settings.seed)
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self.wall_seconds = self.cpu_seconds = 0.0

    @abc.abstractmethod
    def build(self) -> nn.Module:
        """A fresh model, drawn from the global generator."""

    @abc.abstractmethod
    def batch_loss(self) -> Tensor:
        """The loss of one freshly drawn batch."""

    @abc.abstractmethod
    def evaluate(self, count: int) -> dict[str, Any]:
        """What the running average can do, on `count` images of each sort."""

    @abc.abstractmethod
    def summary(self, measured: dict[str, Any]) -> str:
        """One line of an evaluation."""

    @abc.abstractmethod
    def presentable(self, measured: dict[str, Any]) -> bool:
        """Whether an interim export is worth having."""

    @abc.abstractmethod
    def export(self, folder: Path, measured: dict[str, Any], *, complete: bool) -> dict[str, Any]:
        """Write weights and card; return the card."""

    def last_measures(self) -> dict[str, Any]:
        """What is measured once, at the end, for comparison."""
        return {}

    def train_step(self) -> Tensor:
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_share(self.step, settings)
        loss = self.batch_loss()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        self.optimizer.step()
        self.step += 1
        # A young average would remember the random start: let it forget faster at first.
        keep = min(settings.average, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - keep)
        return loss.detach()

    def save(self, path: Path) -> None:
        contents = {
            "settings": plain(asdict(self.settings)),
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "history": self.history,
            "wall_seconds": self.wall_seconds,
            "cpu_seconds": self.cpu_seconds,
        }
        temporary = path.with_suffix(".partial")
        torch.save(contents, temporary)
        os.replace(temporary, path)

    def load(self, path: Path) -> None:
        if not path.exists():
            raise FileNotFoundError(f"no checkpoint to resume from at {path}; leave out --resume to start anew")
        contents = torch.load(path, map_location=self.device, weights_only=True)
        wanted = plain(asdict(self.settings))
        if contents["settings"] != wanted:
            different = sorted(name for name in wanted if contents["settings"].get(name) != wanted[name])
            raise ValueError(f"{path} was made with other settings ({', '.join(different)}); resume with the same ones")
        self.model.load_state_dict(contents["model"])
        self.average.load_state_dict(contents["average"])
        self.optimizer.load_state_dict(contents["optimizer"])
        self.generator.set_state(contents["generator"].cpu())
        self.step, self.history = contents["step"], contents["history"]
        self.wall_seconds, self.cpu_seconds = contents["wall_seconds"], contents["cpu_seconds"]

    def made_how(self, libraries: Iterable[str]) -> dict[str, Any]:
        """The part of a card that says how the weights came to be."""
        return {
            "images_seen": self.step * self.settings.batch,
            "seed": self.settings.seed,
            "recipe": plain(asdict(self.settings)),
            "history": self.history,
            "wall_seconds": round(self.wall_seconds),
            "cpu_seconds": round(self.cpu_seconds),
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "precision": "bfloat16 autocast" if self.device.type == "cuda" else "float32",
            "versions": {"python": platform.python_version()}
            | {name: importlib.metadata.version(name) for name in libraries},
        }


def follow(
    course: Course,
    folder: Path,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    export_to: Path | None = None,
    resume: bool = False,
    checkpoint_every: float = 120.0,
    evaluate_every: int = 100_000,
    evaluation_images: int = 8192,
    interim_images: int = 1536,
    stop_at_step: int | None = None,
) -> dict[str, Any] | None:
    """Train, measure, export.

    Args:
        course: what is trained, fresh.
        folder: where the checkpoint lives while this runs.
        on_progress: told after every step.
        export_to: where the weights and their card go: an interim version once it is presentable, the final one at
            the end.
        resume: go on from the folder's checkpoint; the result equals the uninterrupted run's exactly (CPU).
        checkpoint_every: seconds between checkpoints.
        evaluate_every: images between evaluations.
        evaluation_images, interim_images: images of each sort in the last evaluation, and in those before.
        stop_at_step: write a checkpoint after this step and return None.

    Returns:
        the card's contents (without `export_to`: the measures), or None if stopped early.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = course.settings
    if resume:
        course.load(folder / CHECKPOINT)
    started, cpu_started = time.perf_counter(), time.process_time()
    wall_before, cpu_before, images_before = course.wall_seconds, course.cpu_seconds, course.step * settings.batch
    last_checkpoint = started

    def read_clocks() -> None:
        course.wall_seconds = wall_before + time.perf_counter() - started
        course.cpu_seconds = cpu_before + time.process_time() - cpu_started

    while course.step < settings.steps:
        loss = course.train_step()
        images, before = course.step * settings.batch, (course.step - 1) * settings.batch
        summary = None
        finished = course.step == settings.steps
        if not finished and images // evaluate_every > before // evaluate_every:
            measured = {"images": images, **course.evaluate(interim_images)}
            course.history.append(measured)
            summary = course.summary(measured)
            read_clocks()
            if export_to is not None and course.presentable(measured):
                course.export(export_to, measured, complete=False)
        shown = float(loss) if course.step % 20 == 0 else None
        if shown is not None and not math.isfinite(shown):
            raise FloatingPointError(f"the loss became {shown} at step {course.step} of {settings.steps}")
        rate = (images - images_before) / (time.perf_counter() - started)
        left = (settings.steps * settings.batch - images) / rate
        on_progress(Progress(course.step, settings.steps, images, shown, rate, left, summary))
        stop = stop_at_step is not None and course.step >= stop_at_step and not finished
        if stop or finished or time.perf_counter() - last_checkpoint >= checkpoint_every:
            read_clocks()
            course.save(folder / CHECKPOINT)
            last_checkpoint = time.perf_counter()
        if stop:
            return None

    measured = {"images": settings.steps * settings.batch, **course.evaluate(evaluation_images)}
    measured |= course.last_measures()
    return course.export(export_to, measured, complete=True) if export_to is not None else measured


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Tuples as lists, as JSON and checkpoints hold them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def write_text(path: Path, text: str) -> None:
    """Replace a file in one move."""
    temporary = path.with_suffix(".partial")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_card(folder: Path, card: dict[str, Any], readme: str, name: str = "config.json") -> None:
    """The card as JSON and as a README."""
    write_text(folder / name, json.dumps(card, indent=2) + "\n")
    write_text(folder / "README.md", readme)
