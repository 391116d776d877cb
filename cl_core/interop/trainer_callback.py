"""A Recorder in Hugging Face's Trainer: `Trainer(callbacks=[RecorderCallback(recorder)])`, one `train` per task.

    recorder = Recorder("runs/mine", model, tasks=["cats", "dogs"], answer=answer)
    for task, data in enumerate(parts):
        Trainer(model, args, train_dataset=data, callbacks=[RecorderCallback(recorder)]).train()
        recorder.end_task(task, evaluate=tests[: task + 1])

The Trainer reports its loss only when it logs (`logging_steps`); other steps are recorded without a loss. Needs
transformers.
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from cl_core.recorder import Recorder


class RecorderCallback(TrainerCallback):
    """Reports every optimiser step and epoch to a recorder, only on the first process."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._waiting = False  # a step whose loss may still be logged
        self._loss: float | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._say()
        self._waiting = bool(state.is_world_process_zero)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if self._waiting and logs and "loss" in logs:
            self._loss = float(logs["loss"])

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._say()
        if state.is_world_process_zero:
            self.recorder.end_epoch()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._say()

    def _say(self) -> None:
        if self._waiting:
            self.recorder.step(loss=self._loss)
        self._waiting, self._loss = False, None
