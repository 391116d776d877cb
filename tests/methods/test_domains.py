"""Every prompt method on multi-domain streams: either `check` refuses it in a sentence, or it trains to its end."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cl_core.config import ConfigError
from cl_core.registry import METHODS, load
from cl_core.streams.stream import Split
from cl_core.training.factory import build, check, new_stream

PROMPTS = [name for name, entry in METHODS.items() if entry.needs == "vit"]
STREAMS = ["synthetic-domains", "micro-mtil"]
SHORT = {  # what a method does outside its steps
    "ranpac": {"units": 60, "tuning_epochs": 1},
    "slca": {"draws": 8, "align_epochs": 1},
    "nsp2pp": {"draws": 8, "refine_epochs": 1},
}


def few(split):
    """Every tenth image or so, and every class."""
    rows = torch.cat([torch.nonzero(split.labels == c)[:3, 0] for c in split.labels.unique()])
    return Split(split.pictures[rows], split.labels[rows])


@pytest.fixture(scope="module")
def streams():
    """Small streams, made once."""
    made = {}

    def give(name, settings, preparation, seed):
        if name not in made:
            whole = new_stream(name, settings, preparation, seed)
            tasks = tuple(replace(task, train=few(task.train), test=few(task.test)) for task in whole.tasks[:3])
            made[name] = replace(whole, tasks=tasks)
        return made[name]

    return give


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("method", PROMPTS)
def test_check_and_training_agree(tiny_config, streams, method, stream):
    sizes = {"tasks": 5, "training": {"epochs": 1, "batch_size": 50}}
    config = tiny_config(method, stream=stream, settings=SHORT.get(method, {}), **sizes)
    try:
        check(config)
    except ConfigError as refused:
        assert stream in str(refused) and "choose" in str(refused)
        assert not load(METHODS, method, "method").serves_known_tasks
        return
    trainer = build(config, stream_of=streams)
    events = [event for moment in trainer.run() for event in moment]
    rows = {}
    for event in events:
        if event.kind == "AccuracyMeasured":
            rows.setdefault(event.readout, []).append((event.clock.task, event.row))
    assert set(rows) == {"task-incremental"}, "no head scores a class before its task"
    for task, row in rows["task-incremental"]:
        assert [value is not None for value in row] == [j <= task for j in range(3)]
    assert not [event for event in events if event.kind == "MeasurementStopped"]


def test_folders_of_several_domains_are_known_as_such_before_they_are_read(tiny_config):
    for stream, domains in (("folder:one,two", True), ("folder:one", False)):
        config = tiny_config("star_prompt", stream=stream, settings={"companion": "random-clip"})
        if domains:
            with pytest.raises(ConfigError, match="says which task a test image belongs to"):
                check(config)
        else:
            check(config)
