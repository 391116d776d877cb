"""A Recorder in Avalanche: `Naive(…, plugins=[RecorderPlugin("runs/mine", scenario="class-incremental")])`.

Losses are those of every optimiser step; accuracies are Avalanche's own (`accuracy_metrics(experience=True)` in its
EvaluationPlugin), read after each evaluation that follows a training experience. An evaluation before training becomes
the row before training. Needs avalanche-lib.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avalanche.core import SupervisedPlugin

from cl_core.interop.avalanche import NAME
from cl_core.recorder import Recorder


class RecorderPlugin(SupervisedPlugin):
    """Records a strategy's training.

    Args:
        folder: the run's folder, which must not exist. scenario, options: as for `Recorder`; `tasks` default to the
            experiences of the training stream.
    """

    def __init__(self, folder: str | Path, *, scenario: str, **options: Any) -> None:
        super().__init__()
        self.folder, self.options = folder, {"scenario": scenario, **options}
        self.recorder: Recorder | None = None
        self._learned = False  # the current task has ended but has no accuracies yet
        self._evaluated: set[int] = set()

    def before_training_exp(self, strategy: Any, **_: Any) -> None:
        self._end()  # the previous task was not evaluated
        self._opened(strategy).begin_task()

    def after_update(self, strategy: Any, **_: Any) -> None:
        self._opened(strategy).step(loss=strategy.loss)

    def after_training_epoch(self, strategy: Any, **_: Any) -> None:
        self._opened(strategy).end_epoch()

    def after_training_exp(self, strategy: Any, **_: Any) -> None:
        self._learned = True

    def before_eval(self, strategy: Any, **_: Any) -> None:
        self._evaluated = set()

    def after_eval_exp(self, strategy: Any, **_: Any) -> None:
        if strategy.experience.origin_stream.name == "test":
            self._evaluated.add(int(strategy.experience.current_experience))

    def after_eval(self, strategy: Any, **_: Any) -> None:
        row = {}
        for name, value in strategy.evaluator.get_last_metrics().items():
            found = NAME.fullmatch(name)
            if found and found["stream"] == "test" and int(found["exp"]) in self._evaluated:
                row[int(found["exp"])] = float(value)
        if self._learned:
            self._end(row)
        elif self.recorder is None and row:
            self._opened(strategy).untrained(accuracies=row, scale="share")

    def close(self) -> None:
        """End the recording, if the strategy does not evaluate after its last experience."""
        self._end()
        if self.recorder is not None:
            self.recorder.close()

    def _end(self, row: dict[int, float] | None = None) -> None:
        if self._learned and self.recorder is not None:
            self.recorder.end_task(accuracies=row or {}, scale="share")
            self._learned = False

    def _opened(self, strategy: Any) -> Recorder:
        if self.recorder is None:
            count = len(strategy.experience.origin_stream)
            options = {"tasks": count, "method": type(strategy).__name__, **self.options}
            self.recorder = Recorder(self.folder, strategy.model, optimizer=strategy.optimizer, **options)
        return self.recorder
