"""Tasks of a single class: every method trains on them and measures, or says why it does not."""

import math

import pytest

from cl_core.config import ConfigError, RunConfig, StreamConfig, TrainingConfig
from cl_core.events import AccuracyMeasured, MeasurementStopped, StepEnded
from cl_core.registry import METHODS
from cl_core.training.factory import build

SETTINGS = {
    "gnsp": {"distillation": 0.0, "alignment": 0.0},  # their pairs of the pre-training world are not in this stream
    "clip_refine": {"refine_epochs": 0},  # nor are these
    "ranpac": {"units": 64, "tuning_epochs": 2},  # small
    "star_prompt": {  # short
        "companion": "random-clip", "draws": 16, "key_epochs": 3, "key_replay_epochs": 2, "replay_epochs": 2,
        "replay_growth": 1,
    },
}  # fmt: skip


def run_of(method, **stream):
    return RunConfig(
        method,
        backbone="random-clip" if METHODS[method].needs == "clip" else "random-vit",
        stream="synthetic",
        device="cpu",
        settings=SETTINGS.get(method, {}),
        stream_settings=StreamConfig(**stream),
        training=TrainingConfig(epochs=1, batch_size=50),
    )


@pytest.mark.parametrize("method", sorted(METHODS))
def test_tasks_of_one_class_after_a_larger_one_are_learned_and_measured(method):
    events = [event for moment in build(run_of(method, tasks=3, first_task=8)).run() for event in moment]
    assert not [event for event in events if isinstance(event, MeasurementStopped)]
    losses = [value for event in events if isinstance(event, StepEnded) for value in event.losses.values()]
    assert all(map(math.isfinite, losses))
    last = [event for event in events if isinstance(event, AccuracyMeasured)][-1]
    assert last.clock.task == 2 and all(value is None or 0 <= value <= 100 for value in last.row)


def test_what_needs_two_classes_in_the_first_task_says_so():
    with pytest.raises(ConfigError, match="two classes in the first task"):
        build(run_of("mg_clip", tasks=10))
