"""Answers for every test image, from the pass that counts accuracies, and the readout fitted anew."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from cl_core.observers.image_answers import followed, margins


def events(trainer, kind):
    return [event for moment in trainer.run() for event in moment if event.kind == kind]


def told(trainer):
    found = {}
    for moment in trainer.run():
        for event in moment:
            found.setdefault(event.kind, []).append(event)
    return found


@pytest.mark.parametrize("control", ["last", "every"])
def test_answers_for_images_add_up_to_every_accuracy(tiny_trainer, control):
    found = told(tiny_trainer("sequential", tasks=5, diagnostics={"readout_control": control}))
    rows = {(e.readout, e.clock.task): e.row for e in found["AccuracyMeasured"]}
    rows |= {("refitted head", e.clock.task): e.row for e in found["RefitMeasured"]}
    labels = {e.clock.task: e.labels for e in found["ImagesStored"]}
    counted = set()
    for event in found["ImagesClassified"]:
        assert event.predicted.dtype == np.int16 and event.margins.dtype == np.float16
        for readout, predicted, kept in zip(event.readouts, event.predicted, event.margins, strict=True):
            right = predicted == labels[event.evaluated]
            assert 100 * right.mean() == pytest.approx(rows[readout, event.clock.task][event.evaluated])
            assert ((kept > 0) <= right).all() and ((kept < 0) <= ~right).all()
            counted.add((readout, event.clock.task, event.evaluated))
    measured = {(readout, task, j) for (readout, task), row in rows.items() for j, v in enumerate(row) if v is not None}
    assert counted == measured
    refitted = [e.row for e in found["RefitMeasured"]]
    known = [[value is not None for value in row] for row in refitted]
    lower = [[j <= i for j in range(5)] for i in range(5)]
    only_new = [[j == i or i == 4 for j in range(5)] for i in range(5)]
    assert known == (lower if control == "every" else only_new)


def test_images_are_stored_as_they_are_classified(tiny_trainer):
    trainer = tiny_trainer("sequential", tasks=2)
    stored = events(trainer, "ImagesStored")
    assert [e.clock.task for e in stored] == [0, 1]
    for event in stored:
        test = trainer.stream[event.clock.task].test
        assert event.total == len(test) and event.rows.tolist() == list(range(len(test)))
        assert event.labels.tolist() == test.labels.tolist()
        assert event.images.dtype == np.uint8 and max(event.images.shape[1:3]) <= 32


def test_of_many_images_evenly_spaced_ones_are_followed_and_none_if_none_are_wanted(tiny_trainer):
    trainer = tiny_trainer("sequential", tasks=2, diagnostics={"images": 10})
    found = told(trainer)
    assert sum(len(e.rows) for e in found["ImagesStored"]) <= 10
    for event in found["ImagesStored"]:
        assert (np.diff(event.rows) == event.total // len(event.rows)).all()
        assert len(set(event.labels.tolist())) == len(trainer.stream[event.clock.task].classes)
    for event in found["ImagesClassified"]:
        assert event.predicted.shape == event.margins.shape == (len(event.readouts), 5)
    assert not {"ImagesStored", "ImagesClassified"} & set(told(tiny_trainer(tasks=2, diagnostics={"images": 0})))


def test_places_lie_in_each_task_in_proportion(tiny_trainer):
    stream = tiny_trainer(tasks=2).stream
    assert {task: len(rows) for task, rows in followed(stream, 7).items()} == {0: 3, 1: 3}
    assert followed(stream, 0) == {}


def test_the_margin_is_that_to_the_best_other():
    scores = torch.tensor([[3.0, 1.0, 2.5], [0.0, 4.0, -1.0]])
    assert margins(scores, torch.tensor([0, 2])).tolist() == [0.5, -5.0]


def test_a_run_that_goes_on_between_survey_and_measurement_refits_the_same(tiny_trainer):
    whole = [e.row for e in events(tiny_trainer(tasks=2), "RefitMeasured")]
    first, found = tiny_trainer(tasks=2), []
    for _ in first.run():
        if first.cursor.stage == "measure":
            break
    second = tiny_trainer(tasks=2)
    second.restore(first.state())
    found = [e.row for e in events(second, "RefitMeasured")]
    assert found == whole and found[0][0] is not None


def test_before_training_images_are_classified_where_classes_are_read(tiny_config):
    from cl_core.training.factory import build

    config = tiny_config("zero_shot", backbone="micro-clip", stream="micro-mtil", tasks=6)
    trainer = build(config)
    moment = next(trainer.run())
    found = [e for e in moment if e.kind == "ImagesClassified"]
    assert [e.evaluated for e in found] == list(range(6)) and found[0].readouts == ["zero-shot"]
