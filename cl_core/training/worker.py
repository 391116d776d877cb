"""Worker: trains a run folder to its end, stores each group of events and handles commands.

`drive` is used both by the worker process of the dashboard and by `plastiscope run`. A paused worker simply does not
request the next moment from the trainer.
"""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cl_core.commands import ChangeSetting, Command, Pause, Resume, Step, Stop
from cl_core.config import ConfigError
from cl_core.events import CheckpointSaved, Clock, CommandRefused, Event, RunFailed, RunForked, StateChanged
from cl_core.store import (
    Checkpoint,
    RunFolder,
    RunReader,
    RunWriter,
    StoreError,
    boundaries,
    discard,
    discard_after,
    effective_config,
    fork_of,
    hold,
    starting_point,
    take,
    turned,
)
from cl_core.training import checkpoint as checkpoints
from cl_core.training.device import OUT_OF_MEMORY, GpuLock, choose_device, use_granted_cores
from cl_core.training.factory import build
from cl_core.training.live_settings import settings_after, turn
from cl_core.training.oom import OutOfMemory
from cl_core.training.train_step import NonFiniteLoss
from cl_core.training.trainer import Moment, Trainer

STOPPED = "stopped on request; resume goes on from exactly here"
LISTEN = 0.1  # seconds between checks for commands while paused
# Seconds within a task after which everything is saved; the one before is removed then. A tenth of it is enough where a
# task has been trained and its survey, which needs more memory, comes next.
SAVE_EVERY = 600.0


@dataclass(frozen=True)
class Ended:
    """How a run ended: "finished", "stopped" or "failed", and why; `details` is the traceback of a failure."""

    state: str
    reason: str = ""
    details: str = ""


class RunController:
    """One run, one writer, one trainer, one inbox. `built`: a trainer at the beginning of this run, not yet begun;
    `start`: the checkpoint to go on from, None: the beginning."""

    def __init__(
        self,
        folder: RunFolder,
        writer: RunWriter,
        on_moment: Callable[[Moment, Trainer], None] | None = None,
        asked_to_stop: Callable[[], bool] = lambda: False,
        on_wait: Callable[[str], None] = lambda reason: None,
        built: Trainer | None = None,
        turn: GpuLock | None = None,
        sharing: int = 1,
        start: Checkpoint | None = None,
    ) -> None:
        self.folder, self.writer, self.on_moment, self.asked_to_stop = folder, writer, on_moment, asked_to_stop
        self.on_wait, self.built, self.turn, self.sharing = on_wait, built, turn, sharing
        self.start, self.saved_at = start, time.monotonic()
        self.clock = Clock()
        self.paused, self.allowance = False, 0  # moments to let through although paused

    def to_the_end(self) -> Ended:
        """Wait for the device, build or restore the trainer and go on until the run is finished, stopped or fails."""
        try:
            with self.turn or GpuLock(choose_device(self.folder.config().device), self.sharing) as turn:
                return self._train() if self._wait(turn) else self._end_as_stopped("it had not come to its turn")
        except Exception as error:
            reason, details, fits = in_one_sentence(error), traceback.format_exc(), 0
            if isinstance(error, OutOfMemory):
                reason, fits = f"{reason}; {self._way_out(error)}", error.fits or 0
            with contextlib.suppress(OSError), self.folder.log.open("a", encoding="utf-8") as log:
                log.write(details)
            with contextlib.suppress(StoreError):  # the disk may be what failed
                failed = RunFailed(self.clock, reason, details, fits)
                self.writer.append([failed, StateChanged(self.clock, "failed", reason)])
            return Ended("failed", reason, details)

    def _wait(self, turn: GpuLock) -> bool:
        """Stand in line where another run trains on the device. False: told to stop meanwhile."""
        if turn.take(self.folder.name):
            return True
        reason = turn.reason()
        self._emit(StateChanged(self.clock, "queued", reason))
        self._tell(lambda: self.on_wait(reason))
        while not turn.take(self.folder.name):
            for command in take(self.folder):
                if isinstance(command, Stop):
                    return False
                word = "?" if isinstance(command, str) else command.word
                self._emit(CommandRefused(self.clock, word, "the run waits for its device; it can only be stopped"))
            if self.asked_to_stop():
                return False
            time.sleep(LISTEN)
        return True

    def _train(self) -> Ended:
        use_granted_cores()
        trainer, before = self._trainer()
        self.writer.append([StateChanged(self.clock, "running"), *before])
        for moment in trainer.run():
            self._store(moment, trainer)
            if self._handle_commands(trainer):
                return self._stop(trainer)
        self._emit(StateChanged(self.clock, "finished"))
        return Ended("finished")

    def _way_out(self, error: OutOfMemory) -> str:
        """What can be done about it, and what is kept. The batch size is fixed within a run and free in a fork."""
        done = max(boundaries(self.folder), default=0)
        kept = f"T{done} is finished and kept" if done else "no task was finished"
        if not error.fits:
            found = "not even one image fitted then; " if error.fits == 0 else ""
            return f"{found}{kept}, and resume goes on from the last checkpoint when more memory is free"
        found = f"loss and gradients of {error.fits} images were tried then and fitted; {kept}"
        setting = f"--set batch_size={error.fits}"
        if done:
            return f"{found}: `plastiscope fork {self.folder.name} --after-task {done} {setting}` goes on from there"
        return f"{found}: start anew with {setting}"

    def _trainer(self) -> tuple[Trainer, list[Event]]:
        """Built, or put where the newest checkpoint was taken; and what is to be said before the first moment: that
        this is a fork, and orders that outlive the steps that are repeated."""
        trainer = self.built or build(effective_config(self.folder))
        start = self.start
        state = checkpoints.load(start) if start else None  # before rows are taken back: it may be damaged
        reached = start.seq if start else 0
        ordered = turned(self.folder)[len(turned(self.folder, reached)) :]  # after the checkpoint that precedes a turn
        discard_after(self.folder, reached)
        if self.writer.seq:
            self.writer.rewind(reached)
        if start is not None and state is not None:
            restored(trainer, state)
            self.clock = Clock(start.task, -1, trainer.cursor.step)
        fork = fork_of(self.folder)
        if fork is None or fork.seq != reached:
            return trainer, [*ordered]
        parted = RunForked(self.clock, fork.parent, fork.after_task, fork.changed, trainer.total_steps)
        return trainer, [parted, *ordered]

    def _store(self, moment: Moment, trainer: Trainer) -> None:
        self.writer.append(moment)
        self.clock = moment[0].clock
        if trainer.cursor.stage in ("begin", "end") and trainer.cursor.task:
            self._save(trainer, boundary=True)
            self.writer.settle()
        elif self._save_is_due(trainer.cursor.stage):
            self._save(trainer, boundary=False)
        if self.on_moment is not None:
            self._tell(lambda: self.on_moment and self.on_moment(moment, trainer))

    def _save_is_due(self, stage: str) -> bool:
        passed = time.monotonic() - self.saved_at
        return stage != "start" and passed >= (SAVE_EVERY / 10 if stage == "survey" else SAVE_EVERY)

    def _tell(self, say: Callable[[], None]) -> None:
        """Call the progress callback. Its errors (such as a closed terminal) must not end the training."""
        try:
            say()
        except Exception as error:
            self.on_moment, self.on_wait = None, lambda reason: None
            with contextlib.suppress(Exception):
                print(f"progress is not shown any longer ({in_one_sentence(error)}); training goes on", file=sys.stderr)

    def _save(self, trainer: Trainer, *, boundary: bool) -> None:
        self.writer.refuse_if_gone()
        self.writer.flush()
        state = {**trainer.state(), "device_random": checkpoints.random_state(trainer.device)}
        seq, rows = self.writer.seq + 1, self.writer.count()
        saved = checkpoints.save(self.folder, state, seq, boundary=boundary, rows=rows)
        self.saved_at = time.monotonic()
        self._emit(CheckpointSaved(self.clock, saved.path.name, boundary))

    def _handle_commands(self, trainer: Trainer) -> bool:
        """Process commands, and wait while paused. True: stop now."""
        if self.paused and self.allowance:
            self.allowance -= 1
        while True:
            for command in take(self.folder):
                if isinstance(command, Stop):
                    return True
                self._follow(command, trainer)
            if self.asked_to_stop():
                return True
            if not self.paused or self.allowance:
                return False
            time.sleep(LISTEN)

    def _follow(self, command: Command | str, trainer: Trainer) -> None:
        match command:
            case ChangeSetting(name=name, value=value):
                self._turn(trainer, name, value)
            case Pause() if not self.paused:
                self.paused = True
                self._emit(StateChanged(self.clock, "paused"))
            case Resume() if self.paused:
                self.paused, self.allowance = False, 0
                self._emit(StateChanged(self.clock, "running"))
            case Step(moments=count):
                if not self.paused:
                    self.paused = True
                    self._emit(StateChanged(self.clock, "paused"))
                self.allowance += count
            case Pause() | Resume():
                self._emit(
                    CommandRefused(
                        self.clock, command.word, f"the run is {'paused' if self.paused else 'running'} already"
                    )
                )
            case _:
                self._emit(CommandRefused(self.clock, "?", str(command)))

    def _turn(self, trainer: Trainer, name: str, value: Any) -> None:
        """Save, then change a live setting; or say why it cannot be changed."""
        try:
            settings_after(trainer, name, value)
        except ConfigError as error:
            self._emit(CommandRefused(self.clock, ChangeSetting.word, str(error)))
            return
        between = trainer.cursor.stage == "begin" and trainer.cursor.task > 0  # then a boundary is saved already
        if not between:
            self._save(trainer, boundary=False)
        self._emit(turn(trainer, name, value))

    def _stop(self, trainer: Trainer) -> Ended:
        if trainer.cursor.stage != "start":
            self._save(trainer, boundary=False)
        return self._end_as_stopped()

    def _end_as_stopped(self, why: str = "") -> Ended:
        reason = f"stopped on request, {why}; resume asks for it again" if why else STOPPED
        self._emit(StateChanged(self.clock, "stopped", reason))
        return Ended("stopped", reason)

    def _emit(self, event: Event) -> None:
        self.writer.append([event])


def drive(
    folder: RunFolder,
    on_moment: Callable[[Moment, Trainer], None] | None = None,
    asked_to_stop: Callable[[], bool] = lambda: False,
    orders_since: float | None = None,
    on_wait: Callable[[str], None] = lambda reason: None,
    built: Trainer | None = None,
    turn: GpuLock | None = None,
    sharing: int = 1,
    after_task: int | None = None,
) -> Ended:
    """Hold `folder` and train it to its end.

    Args:
        on_moment: called with each stored moment.
        asked_to_stop: looked at after each moment, and while the run waits.
        orders_since: orders sent before (default: now) were for an earlier worker.
        on_wait: called with the reason if the run has to wait for its device.
        built: a trainer of these settings at its beginning, so that it need not be built again; for a new run.
        turn: the device's, where it is held already; given back at the end.
        sharing: runs that may train on one GPU at a time; the others wait.
        after_task: go on from the checkpoint after so many tasks instead of the newest; what came later is forgotten.

    Raises:
        StoreError: if it is held already, cannot be written, is finished, was trained elsewhere, or events that its
            checkpoint covers are missing; nothing is changed then.
    """
    config = folder.config()  # a damaged or newer run is refused before anything is touched
    if config.trained_elsewhere:
        raise StoreError(config.why_it_ends_here(folder.name))
    with hold(folder):
        finished = False
        with contextlib.closing(RunReader(folder)) as reader, contextlib.suppress(StoreError):  # damaged: said below
            finished = reader.status().state == "finished"
        if finished:
            raise StoreError(f"run {folder.name} is finished; there is nothing left to train")
        start = starting_point(folder, after_task)
        if after_task == 0:  # a damaged database cannot be rewound
            for file in folder.path.glob("events.db*"):
                file.unlink()
        with contextlib.closing(RunWriter(folder)) as writer:
            discard(folder, time.time() if orders_since is None else orders_since)
            return RunController(
                folder, writer, on_moment, asked_to_stop, on_wait, built, turn, sharing, start
            ).to_the_end()


def restored(trainer: Trainer, state: dict[str, Any]) -> None:
    """Restore a new trainer from `state`. Raises ConfigError if its settings give other shapes."""
    try:
        trainer.restore(state)
        checkpoints.restore_random_state(trainer.device, state.get("device_random", {}))
    except (RuntimeError, ValueError, KeyError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(
            f"the checkpoint does not fit these settings of {trainer.config.method} ({said[:300]}); a setting that "
            "sets sizes cannot change within a run: start a new one"
        ) from error


def in_one_sentence(error: Exception) -> str:
    """The error message for the user."""
    if isinstance(error, (ConfigError, StoreError, NonFiniteLoss, OutOfMemory)):
        return str(error)
    if isinstance(error, OUT_OF_MEMORY):  # before the run itself, or after it
        return "out of memory while the model or the stream was loaded; a smaller one, or more free memory, is needed"
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first} (details in the run's log)"
