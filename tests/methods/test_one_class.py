"""Tasks of a single class: every method trains on them and measures, or says why it does not."""

import math

import pytest

from cl_core.config import ConfigError, RunConfig, StreamConfig, TrainingConfig
from cl_core.events import AccuracyMeasured, MeasurementStopped, StepEnded
from cl_core.factory import build
from cl_core.registry import METHODS


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_task_of_one_class_is_learned_and_measured_or_refused_with_a_reason(method):
    config = RunConfig(
        method,
        backbone="random-clip" if METHODS[method].needs == "clip" else "random-vit",
        stream="synthetic",
        device="cpu",
        stream_settings=StreamConfig(tasks=3, first_task=8),
        training=TrainingConfig(epochs=1, batch_size=50),
    )
    try:
        events = [event for moment in build(config).run() for event in moment]
    except ConfigError as error:
        assert "class" in str(error)
        return
    assert not [event for event in events if isinstance(event, MeasurementStopped)]
    losses = [value for event in events if isinstance(event, StepEnded) for value in event.losses.values()]
    assert all(map(math.isfinite, losses))
    last = [event for event in events if isinstance(event, AccuracyMeasured)][-1]
    assert last.clock.task == 2 and all(value is None or 0 <= value <= 100 for value in last.row)
