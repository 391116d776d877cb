"""Recorder: records any training loop as an ordinary run.

    recorder = Recorder("runs/mine", model, tasks=["cats", "dogs"])
    recorder.step(loss=loss)                                # after every optimizer.step()
    recorder.end_task(0, evaluate={"cats": loader})         # or accuracies={"cats": 93.1}, in percent

Measurements do not affect training: hooks only read, and evaluation restores modes and the random state. Only `project`
changes steps.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from cl_core.config import ConfigError, RunConfig, StreamConfig
from cl_core.events import (
    AccuracyMeasured,
    AttentionCompared,
    Clock,
    CommandRefused,
    EpochEnded,
    Event,
    FeaturesCompared,
    ProbesChosen,
    RunFailed,
    RunStarted,
    StateChanged,
    StepEnded,
    TaskEnded,
    TaskStarted,
)
from cl_core.observers.landing import copied, landed
from cl_core.observers.weights import WeightWatch
from cl_core.readouts import CLASS_INCREMENTAL, TASK_INCREMENTAL, ZERO_SHOT
from cl_core.recorder.attention import AttentionWatch, as_pictures, grid_of
from cl_core.recorder.evaluation import Answer, accuracy, device_of, logits_and_labels, untouched
from cl_core.recorder.modules import Inputs, Watch
from cl_core.store import RunFolder, RunWriter, StoreError, create_run, entitle, hold, take
from cl_core.training.environment import environment

SCENARIOS = ("class-incremental", "domain-incremental", "task-incremental")
FLUSH = 0.5  # seconds after which buffered steps are written
MOST_BUFFERED = 500  # steps
REFUSAL = "this run is recorded from a custom training loop; stop it, pause it and change its settings there"

Scores = Mapping[Any, Any] | Sequence[Any]


class Recorder:
    """Records a training loop into a run folder.

    Args:
        folder: the run's folder, new: "runs/mine" is the run "mine" below "runs".
        model: any module, already on its device. Attach before torch.compile.
        tasks: tasks in training order: names, or dicts with "name", "classes" (names), "train" and "test" (numbers of
            examples); an integer gives their number, and they are named T1, T2, ….
        scenario: "class-incremental" (the task is unknown at test time), "domain-incremental" (same classes, task
            unknown) or "task-incremental" (the task is known at test time).
        modules: names (as in `model.named_modules()`) of the Linear, Conv2d or MultiheadAttention modules whose inputs
            are watched; None = at most 16 that are at most 1024 wide, evenly spaced in depth; () = none.
        energy: share of the inputs' energy that counts as used; the other directions are free.
        every: inputs are sampled in one of `every` training steps.
        rows: about the largest number of rows of a forward pass that are added to a moment.
        weights: also record singular values of the watched weights, before and after each task.
        probes: task → a batch of inputs; the drift of their features is measured after every later task.
        attention: also record the attention of the model's attention modules on the probes (timm's, open_clip's blocks,
            `nn.MultiheadAttention`); needs `probes`. The watched modules are then their query, key and value weights,
            so that layers agree on all pages.
        features: name of the module whose input is the feature of a probe; None = the last watched module.
        answer: (model, batch) → logits [n, classes], labels [n]; None = batches are (inputs, labels).
        optimizer: its learning rates are recorded.
        keep_future: keep accuracies on tasks not learned yet also in a class-incremental run, whose model cannot
            predict their classes; otherwise they are neither evaluated nor stored.
        total_steps: steps of all tasks together, if known; the page then shows progress.
        method, stream, backbone, seed, settings: shown as the run's properties. `settings` are plain values.

    Raises:
        ValueError: for invalid tasks, modules, or scenario.
        StoreError: if the folder exists or cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        model: nn.Module,
        *,
        tasks: Sequence[str | Mapping[str, Any]] | int,
        scenario: str = "class-incremental",
        modules: Sequence[str] | None = None,
        energy: float = 0.95,
        every: int = 32,
        rows: int = 1024,
        weights: bool = False,
        probes: Mapping[Any, Any] | None = None,
        attention: bool = False,
        features: str | None = None,
        answer: Answer | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        keep_future: bool = False,
        total_steps: int = 0,
        method: str = "recorded",
        stream: str = "own data",
        backbone: str | None = None,
        seed: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if scenario not in SCENARIOS:
            raise ValueError(f"scenario must be one of {', '.join(SCENARIOS)}, got {scenario!r}")
        if not 0 <= energy <= 1:
            raise ValueError(f"energy must lie in [0, 1], got {energy:g}")
        for name, value in (("every", every), ("rows", rows)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.tasks = _tasks(tasks)
        self.model, self.energy, self.every, self.scenario = model, energy, every, scenario
        self._future = keep_future or scenario != "class-incremental"
        self.seconds = 0.0  # spent in the recorder so far, evaluation not counted
        self.evaluation_seconds = 0.0
        self._answer = answer or logits_and_labels
        self._optimizer = optimizer
        self._projected: list[Inputs] = []
        self._projecting: tuple[Any, ...] = ()
        self._task, self._step, self._epoch = -1, -1, 0
        self._newest_epoch = 0  # epoch of the newest step; `_epoch` is one larger after the end of an epoch
        self._ended = 0
        self._closed = self._warned = False
        self._buffer: list[StepEnded] = []
        self._totals: dict[str, tuple[float, int]] = {}  # sum and count of each loss in this epoch
        self._norms: dict[str, tuple[Tensor, Tensor]] = {}  # of the current step
        self._flushed = self._stepped = self._begun = time.perf_counter()
        if attention and (not probes or modules is not None):
            raise ValueError(
                "attention=True is measured on probes={task: inputs}, and chooses the watched modules itself"
            )
        self._attention = AttentionWatch(model) if attention else None
        self._watch = Watch(model, self._attention.watched() if self._attention else modules, rows)
        self._weights = _Weights(self._watch.modules) if weights else None
        self._probes = {self._index(task): inputs for task, inputs in (probes or {}).items()}
        self._features_of = self._feature_module(features) if self._probes else None
        self._references: dict[int, Tensor] = {}
        seen = self._first_look()
        self.folder = _create(Path(folder), self._config(method, stream, backbone, seed, settings or {}))
        self._held = contextlib.ExitStack()
        self._held.enter_context(hold(self.folder))
        self._writer = RunWriter(self.folder)
        self._finalizer = weakref.finalize(self, _abandoned, self._writer, self._held, os.getpid())
        self._write(
            RunStarted(
                Clock(),
                self.tasks,
                scenario,
                len(self.tasks),
                total_steps,
                sum(p.numel() for p in model.parameters() if p.requires_grad),
                {
                    "name": backbone or type(model).__name__,
                    "depth": len(self._watch.modules),
                    "parameters": sum(p.numel() for p in model.parameters()),
                    "layers": [f"{watched.name} ({watched.width} inputs)" for watched in self._watch.modules],
                    **seen,
                },
                environment(device_of(model), next((p.dtype for p in model.parameters()), torch.float32)),
            ),
            StateChanged(Clock(), "running"),
            *self._probe_images(),
        )
        self._sample()

    # ------------------------------------------------------------ called by the loop

    def step(
        self,
        loss: Tensor | float | None = None,
        *,
        losses: Mapping[str, Tensor | float] | None = None,
        batch_accuracy: float | None = None,
        epoch: int | None = None,
    ) -> None:
        """Record one optimiser step. Tensors are not read here, so this does not wait for a GPU.

        Args:
            loss: the total loss. losses: its named parts; "total" is their sum if `loss` is not given.
            batch_accuracy: accuracy on the batch in percent.
            epoch: from 0 within the task; None = as counted by `end_epoch`.
        """
        started, before = time.perf_counter(), self._stepped
        self._check_open()
        if self._task < self._ended:
            self.begin_task()
            self._begun = before
        if epoch is not None and epoch != self._epoch:
            self._flush()
            self._say_epoch()
            self._epoch = epoch
        self._step += 1
        self._newest_epoch = self._epoch
        parts = {name: _scalar(value) for name, value in (losses or {}).items()}
        if loss is not None:
            parts["total"] = _scalar(loss)
        elif parts and "total" not in parts:
            parts["total"] = sum(parts.values())
        rates = {}
        if self._optimizer is not None:
            rates = {f"group {i + 1}": float(g["lr"]) for i, g in enumerate(self._optimizer.param_groups)}
        proposed = {name: cast(float, sizes[0]) for name, sizes in self._norms.items()}
        applied = {name: cast(float, sizes[1]) for name, sizes in self._norms.items()}
        self._norms = {}
        clock = Clock(self._task, self._epoch, self._step)
        shown = math.nan if batch_accuracy is None else float(batch_accuracy)
        self._buffer.append(StepEnded(clock, parts, rates, proposed, applied, shown, started - before))
        self._sample()
        if started - self._flushed > FLUSH or len(self._buffer) >= MOST_BUFFERED:
            self._flush()
        self._stepped = time.perf_counter()
        self.seconds += self._stepped - started

    def begin_task(self, task: Any = None, *, steps: int = 0) -> None:
        """Begin the next task; `step` calls this if the loop does not. `steps`: number of steps it will take."""
        self._check_open()
        if self._task >= self._ended:
            raise ValueError(f"task {self._name(self._task)!r} is in training; end it with end_task first")
        if self._ended >= len(self.tasks):
            raise ValueError(f"all {len(self.tasks)} tasks have ended; name more with tasks=[…]")
        self._expect(task)
        self._task, self._epoch, self._newest_epoch, self._totals = self._ended, 0, 0, {}
        self._begun = self._stepped = time.perf_counter()
        self._write(TaskStarted(self._clock(-1), list(self.tasks[self._task].get("classes", [])), steps))
        self._sample()

    def end_epoch(self) -> None:
        """Record the end of one pass over the task's data."""
        self._check_open()
        self._flush()
        self._say_epoch()
        self._epoch += 1

    def end_task(
        self,
        task: Any = None,
        *,
        accuracies: Scores | None = None,
        evaluate: Scores | None = None,
        readouts: Mapping[str, Scores] | None = None,
        observe: Iterable[Any] | None = None,
        scale: str | None = None,
    ) -> dict[str, float]:
        """End a task: measure the changes it made, then the accuracies.

        Args:
            task: its number from 0 or name, as a check; None = the one in training.
            accuracies: task → percent, computed elsewhere. evaluate: task → loader, to be evaluated here. Either may be
                a sequence in the order of tasks. A task in neither counts as not measured.
            readouts: further rows in percent by readout: {"task-incremental": {"cats": 97.0}}.
            observe: a loader of the task's training data, whose inputs replace those sampled during training.
            scale: "percent" or "share" (0 to 1) for `accuracies`; None = percent, and an error if all look like shares.

        Returns:
            The row of the accuracy matrix, task name → percent.
        """
        self._check_open()
        if self._task < self._ended:
            self.begin_task(task)
        self._expect(task)
        trained = time.perf_counter() - self._begun
        row = self._row(accuracies, evaluate, scale)
        more = {name: self._row(scores, None, scale) for name, scores in (readouts or {}).items()}
        started = time.perf_counter()
        self._flush()
        self._say_epoch()
        clock = self._clock(self._newest_epoch)
        if observe is not None:
            self._observe(observe)
        if (thin := self._watch.thin()) and not self._warned:
            self._warned = True
            named = ", ".join(f"{watched.name} ({watched.seen} rows, {watched.width} directions)" for watched in thin)
            warnings.warn(
                f"{self._name(self._task)}: fewer rows of inputs were seen than there are directions, so some look "
                f"free that are not: {named}; pass end_task(observe=loader) or Recorder(every=1). Warned once",
                stacklevel=2,
            )
        events = list(self._watch.end_task(clock, self.energy, bool(self._projected)))
        if self._weights is not None:
            events += self._weights.measure(clock)
        kept = self._watch.bytes() if self._projected else 0
        self._write(TaskEnded(clock, trained, kept), *events, *self._drift(clock))
        self._ended += 1
        self.seconds += time.perf_counter() - started
        for name, scores in {self._readout(): row, **more}.items():
            self._say_row(clock, name, scores)
        if self._ended == len(self.tasks):
            self._end("finished", self._cost_in_words())
        self._sample()
        self._stepped = time.perf_counter()
        return {self._name(j): value for j, value in enumerate(row) if value is not None}

    def untrained(
        self, *, accuracies: Scores | None = None, evaluate: Scores | None = None, scale: str | None = None
    ) -> None:
        """Record the accuracies before any training, in the form of `end_task`. Call it before the first step."""
        self._check_open()
        if self._task >= 0:
            raise ValueError("untrained() comes before the first step; training has begun")
        self._say_row(Clock(), ZERO_SHOT, self._row(accuracies, evaluate, scale))

    def project(self, optimizer: torch.optim.Optimizer, energy: float | None = None) -> list[str]:
        """Project every step of `optimizer`, from the second task on, away from the inputs of earlier tasks.

            ΔW ← ΔW (I − V_k V_kᵀ),   k = fewest directions that hold `energy` of the inputs' energy of all tasks so far

        Acts on the step (including weight decay) of the watched modules only; biases, norms and other modules are not
        restricted. Call it before the second task.

        Returns:
            Names of the parameters of `optimizer` that are not protected.

        Raises:
            ValueError: if none of the watched modules is trained by `optimizer`, or it is called twice.
        """
        self._check_open()
        if self._projecting:
            raise ValueError("project() was called before; a recorder projects the steps of one optimizer")
        if energy is not None:
            if not 0 <= energy <= 1:
                raise ValueError(f"energy must lie in [0, 1], got {energy:g}")
            self.energy = energy
            for watched in self._watch.modules:
                watched.cut(energy)
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self._projected = [watched for watched in self._watch.modules if id(watched.parameter) in trained]
        if not self._projected:
            raise ValueError("the optimizer trains none of the watched modules; name them with Recorder(modules=[…])")
        self._optimizer = self._optimizer or optimizer
        self._projecting = (
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        )
        covered = {id(watched.parameter) for watched in self._projected}
        return [name for name, p in self.model.named_parameters() if id(p) in trained and id(p) not in covered]

    def cost(self) -> dict[str, float]:
        """Return the seconds spent in the recorder and in its evaluations so far, and its memory in bytes."""
        return {
            "seconds": self.seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "bytes": float(self._watch.bytes()),
        }

    def _cost_in_words(self) -> str:
        return (
            f"the recorder took {self.seconds:.2f} s and {self._watch.bytes() / 1e6:.1f} MB, its evaluations "
            f"{self.evaluation_seconds:.2f} s"
        )

    def close(self, reason: str = "the loop ended before its last task") -> None:
        """End the recording. It ends by itself with the last task; if closed earlier, the run counts as stopped."""
        if not self._closed:
            self._flush()
            self._end("stopped", reason)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._closed or kind is None or issubclass(kind, (KeyboardInterrupt, GeneratorExit)):
            self.close()
            return
        self._flush()
        reason = f"{kind.__name__}: {error}" if str(error) else kind.__name__
        self._write(RunFailed(self._clock(), reason))
        self._end("failed", reason)

    # ------------------------------------------------------------ internals

    def _config(
        self, method: str, stream: str, backbone: str | None, seed: int | None, settings: Mapping[str, Any]
    ) -> RunConfig:
        try:
            return RunConfig(
                method=method,
                backbone=backbone or type(self.model).__name__,
                stream=stream,
                seed=seed,
                origin="recorded from a custom training loop (cl_core.recorder)",
                settings={str(key): _plain(value) for key, value in settings.items()},
                stream_settings=StreamConfig(tasks=len(self.tasks)),
            )
        except ConfigError as error:
            raise ValueError(str(error)) from error

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"the run {self.folder.name} has ended; record another training into another folder")

    def _clock(self, epoch: int | None = None) -> Clock:
        return Clock(self._task, self._epoch if epoch is None else epoch, self._step)

    def _name(self, task: int) -> str:
        return str(self.tasks[task]["name"])

    def _index(self, task: Any) -> int:
        """Return the index of a task given by number from 0 or by name."""
        names = [self._name(i) for i in range(len(self.tasks))]
        if isinstance(task, int) and not isinstance(task, bool) and 0 <= task < len(names):
            return task
        if task in names:
            return names.index(task)
        raise ValueError(f"no task {task!r}; tasks are 0 to {len(names) - 1}: {', '.join(names[:12])}")

    def _expect(self, task: Any) -> None:
        if task is not None and self._index(task) != self._ended:
            raise ValueError(
                f"task {self._name(self._index(task))!r} is not the one whose turn it is: {self._name(self._ended)!r} "
                "is; tasks are trained in the order of Recorder(tasks=[…])"
            )

    def _readout(self) -> str:
        return TASK_INCREMENTAL if self.scenario == "task-incremental" else CLASS_INCREMENTAL

    def _row(self, accuracies: Scores | None, evaluate: Scores | None, scale: str | None) -> list[float | None]:
        """Return the row [T] in percent, evaluating the loaders in `evaluate`."""
        row: list[float | None] = [None] * len(self.tasks)
        given = {self._index(task): float(value) for task, value in _items(accuracies) if value is not None}
        learned = len(self.tasks) if self._future or self._task < 0 else self._task + 1
        for task, value in _in_percent(given, scale).items():
            row[task] = value if task < learned else None
        started = time.perf_counter()
        for task, loader in _items(evaluate):
            if (place := self._index(task)) < learned:
                row[place] = accuracy(self.model, loader, self._answer)
        self.evaluation_seconds += time.perf_counter() - started
        return row

    def _say_row(self, clock: Clock, readout: str, row: list[float | None]) -> None:
        if any(value is not None for value in row):
            self._write(AccuracyMeasured(clock, readout, row))

    def _say_epoch(self) -> None:
        """Write the means over the steps of the epoch; nothing if there were none."""
        if self._totals:
            means = {name: total / count for name, (total, count) in self._totals.items()}
            self._write(EpochEnded(self._clock(), means, math.nan))
        self._totals = {}

    def _sample(self) -> None:
        """Decide whether the forward passes until the next step are sampled."""
        self._watch.sampling = not self._closed and (self._step + 1) % self.every == 0

    def _observe(self, loader: Iterable[Any]) -> None:
        for watched in self._watch.modules:
            watched.sum, watched.seen = None, 0
        self._watch.observing, batches = True, 0
        try:
            with untouched(self.model):
                for batch in loader:
                    self._answer(self.model, batch)
                    batches += 1
        finally:
            self._watch.observing = False
        if not batches:
            raise ValueError("the loader to observe gave no batch")

    def _before_step(self, *_: Any) -> None:
        for watched in self._projected:
            watched.remember()

    def _after_step(self, *_: Any) -> None:
        for watched in self._projected:
            if (sizes := watched.project()) is not None:
                self._norms[watched.name] = sizes

    def _feature_module(self, name: str | None) -> nn.Module:
        known = dict(self.model.named_modules())
        if name is not None:
            if name not in known:
                raise ValueError(f"the model has no module {name!r} to take features from")
            return known[name]
        if not self._watch.modules:
            raise ValueError("name the module whose input is the feature of a probe: Recorder(features='head')")
        return self._watch.modules[-1].module

    def _first_look(self) -> dict[str, Any]:
        """Return the shape of the model's attention, from one pass over the first probe."""
        if self._attention is None:
            return {}
        (first, *_) = self._attention.look(lambda: self._run_probe(next(iter(self._probes))))
        heads, tokens = first.attention.shape[1:3]
        grid = grid_of(self.model, tokens)
        return {"heads": heads, "tokens": tokens, **({"patch_grid": list(grid)} if grid else {})}

    def _probe_images(self) -> Iterator[ProbesChosen]:
        """Yield the probes as images, for drawing attention over them."""
        for task, probe in self._probes.items() if self._attention is not None else ():
            inputs, labels = probe[:2] if isinstance(probe, (tuple, list)) and len(probe) > 1 else (probe, None)
            pictures = as_pictures(inputs[0] if isinstance(inputs, (tuple, list)) else inputs)
            if pictures is not None:
                told = np.zeros(len(pictures), np.int16) if labels is None else np.asarray(labels, dtype=np.int16)
                yield ProbesChosen(Clock(task), pictures, told, [self._name(task)] * len(pictures))

    def _run_probe(self, task: int) -> None:
        probe = self._probes[task]
        inputs = probe[0] if isinstance(probe, (tuple, list)) else probe
        with untouched(self.model):
            self.model(inputs.to(device_of(self.model)) if isinstance(inputs, Tensor) else inputs)

    def _drift(self, clock: Clock) -> Iterator[FeaturesCompared | AttentionCompared]:
        """Yield the drift of probe features of learned tasks since their task had been learned."""
        for task in sorted(task for task in self._probes if task <= self._task):
            now = self._probe_features(task)
            then = self._references.setdefault(task, now)
            cosine = nn.functional.cosine_similarity(now, then, dim=-1, eps=1e-12)
            moved = (now - then).norm() / then.norm().clamp_min(1e-12)
            if self._attention is not None:
                yield self._attention.compare(task, functools.partial(self._run_probe, task), now, clock)
            yield FeaturesCompared(clock, task, float((1 - cosine).clamp(min=0).mean()), float(moved))

    def _probe_features(self, task: int) -> Tensor:
        found: list[Tensor] = []
        hook = self._features_of.register_forward_pre_hook(  # type: ignore[union-attr]
            lambda _module, given: found.append(given[0].detach().float().flatten(1).clone())
        )
        try:
            self._run_probe(task)
        finally:
            hook.remove()
        if not found:
            raise ValueError("the module that features are taken from was not reached; name another with features=…")
        return found[-1]

    def _flush(self) -> None:
        """Write buffered steps and answer commands from a page."""
        if self._buffer:
            steps, self._buffer = self._buffer, []
            _read(steps)
            for step in steps:
                for name, value in step.losses.items():
                    total, count = self._totals.get(name, (0.0, 0))
                    self._totals[name] = total + value, count + 1
            self._writer.append(steps)
        for command in take(self.folder):
            self._write(CommandRefused(self._clock(), command if isinstance(command, str) else command.word, REFUSAL))
        self._flushed = time.perf_counter()

    def _write(self, *events: Event) -> None:
        self._writer.append(landed(events))

    def _end(self, state: str, reason: str = "") -> None:
        self._write(StateChanged(self._clock(), state, reason))
        self._closed = True
        self._watch.remove()
        for hook in self._projecting:
            hook.remove()
        self._finalizer.detach()
        self._writer.close()
        self._held.close()


class _Weights:
    """Adapter that gives `WeightWatch` the watched weights. Names include d = min(out, in)."""

    def __init__(self, modules: Sequence[Inputs]) -> None:
        self.modules = {f"model.{w.layer}.w{min(w.matrix().shape)}": w for w in modules}
        self.first = {name: watched.matrix().clone() for name, watched in self.modules.items()}
        self.watch = WeightWatch()

    def measure(self, clock: Clock) -> list[Event]:
        return self.watch.measure(self, self, clock)

    def adapted_weights(self, _: Any) -> dict[str, Tensor]:
        return {name: watched.matrix() for name, watched in self.modules.items()}

    def map_weight(self, name: str) -> Tensor:
        return self.first[name]


def _create(path: Path, config: RunConfig) -> RunFolder:
    if not path.name or path.name in (".", ".."):
        raise ValueError(f"a run's folder needs a name of its own, got {str(path)!r}; write runs/mine")
    if path.exists():
        raise StoreError(f"{path} exists already; record into another folder, or remove it first")
    return entitle(create_run(path.parent, replace(config, name=path.name)), path.name)


def _abandoned(writer: RunWriter, held: contextlib.ExitStack, owner: int) -> None:
    """Mark the run as stopped: the recorder was dropped, or the process ends, before the last task ended."""
    if os.getpid() != owner:  # a forked child, such as a data loader's worker
        return
    with contextlib.suppress(StoreError):
        writer.append([StateChanged(Clock(), "stopped", "the loop ended before its last task")])
        writer.close()
    held.close()


def _tasks(tasks: Sequence[str | Mapping[str, Any]] | int) -> list[dict[str, Any]]:
    if isinstance(tasks, int):
        tasks = [f"T{i + 1}" for i in range(tasks)]
    if isinstance(tasks, str) or not tasks:
        raise ValueError(f"tasks are a list of names in order of training, got {tasks!r}")
    found: list[dict[str, Any]] = []
    for i, task in enumerate(tasks):
        record: dict[str, Any] = dict(task) if isinstance(task, Mapping) else {"name": str(task)}
        record.setdefault("name", f"T{i + 1}")
        record["classes"] = [str(name) for name in record.get("classes", [])]
        found.append(record)
    names = [task["name"] for task in found]
    if len(set(names)) < len(names):
        raise ValueError(f"every task needs a name of its own, got {names}")
    return found


def _items(scores: Scores | None) -> list[tuple[Any, Any]]:
    if scores is None:
        return []
    return list(scores.items()) if isinstance(scores, Mapping) else list(enumerate(scores))


def _in_percent(row: dict[int, float], scale: str | None) -> dict[int, float]:
    """Convert to percent. Raises ValueError for invalid accuracies, or values that look like undeclared shares."""
    if scale not in (None, "percent", "share"):
        raise ValueError(f"scale must be percent or share, got {scale!r}")
    known = [value for value in row.values() if math.isfinite(value)]
    if scale is None and known and 0 < max(known) <= 1:
        raise ValueError(
            f"the accuracies look like shares (largest: {max(known):g}); give percent, or say scale='share' (or "
            "scale='percent' if they are that low)"
        )
    factor, most = (100.0, 1.0) if scale == "share" else (1.0, 100.0)
    for value in known:
        if not 0 <= value <= most:
            raise ValueError(f"an accuracy must lie in [0, {most:g}], got {value:g}")
    return {task: factor * value for task, value in row.items() if math.isfinite(value)}


def _read(steps: Sequence[StepEnded]) -> None:
    """Replace the tensors in these steps by plain numbers, fetched in one copy."""
    found = [
        (values, name)
        for step in steps
        for values in (step.losses, step.proposed_norm, step.applied_norm)
        for name, value in values.items()
        if isinstance(value, Tensor)
    ]
    tensors = [cast(Tensor, values[name]) for values, name in found]
    for (values, name), value in zip(found, copied(tensors), strict=True):
        values[name] = value.item()


def _scalar(value: Tensor | float) -> Any:
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(f"a loss is one number, got a tensor of shape {list(value.shape)}")
        return value.detach() if value.ndim == 0 else value.detach().reshape(())
    return float(value)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else str(value)
