"""A Recorder in Lightning: `Trainer(callbacks=[RecorderCallback(recorder)])`, one `fit` per task.

    recorder = Recorder("runs/mine", module, tasks=["cats", "dogs"])
    for task, loader in enumerate(loaders):
        Trainer(callbacks=[RecorderCallback(recorder)], …).fit(module, loader)
        recorder.end_task(task, evaluate=tests[: task + 1])

Lightning has no tasks, so the loop calls `end_task`. Works with `lightning` and `pytorch_lightning`.
"""

from __future__ import annotations

from typing import Any

import torch

from cl_core.recorder import Recorder

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError:
    from pytorch_lightning import Callback


class RecorderCallback(Callback):
    """Reports every optimiser step and epoch to a recorder, only on the first process."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._steps = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._steps = trainer.global_step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self._steps or not trainer.is_global_zero:  # gradients are still accumulated
            return
        self._steps = trainer.global_step
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        self.recorder.step(loss=loss if isinstance(loss, (torch.Tensor, float)) else None)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            self.recorder.end_epoch()
