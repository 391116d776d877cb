"""Selection counts by hand."""

import numpy as np
import pytest
import torch

from cl_core.config import DiagnosticsConfig
from cl_core.events import Clock
from cl_core.methods.parts.selection import Selection
from cl_core.observers.landing import landed
from cl_core.observers.selection import SelectionTally, own_share

TASK_OF = [0, 0, 1, 1]


def one_hot(*entries, of):
    return torch.eye(of)[list(entries)]


def test_counts_are_shares_of_each_classs_images_and_accuracy_is_of_all_images():
    tally = SelectionTally(TASK_OF)
    tally.add([Selection(-1, "task", [0, 1], one_hot(0, 1, 1, of=2))], torch.tensor([0, 0, 2]))
    tally.add([Selection(-1, "task", [0, 1], one_hot(0, of=2))], torch.tensor([2]))
    (event,) = landed(tally.events(Clock(1, 0, 9)))
    np.testing.assert_allclose(event.counts, [[0.5, 0.5], [np.nan] * 2, [0.5, 0.5], [np.nan] * 2])
    assert event.counts.dtype == np.float32
    assert (event.layer, event.of, event.owners, event.accuracy) == (-1, "task", [0, 1], 50.0)


def test_entries_of_classes_are_compared_with_the_class():
    tally = SelectionTally(TASK_OF)
    tally.add([Selection(2, "class", [3, 2, 0], one_hot(0, 1, 1, of=3))], torch.tensor([3, 2, 3]))
    (event,) = landed(tally.events(Clock()))
    assert event.accuracy == pytest.approx(200 / 3) and event.layer == 2


def test_entries_that_belong_to_nobody_have_counts_but_no_accuracy():
    tally = SelectionTally(TASK_OF)
    tally.add([Selection(-1, "", [-1] * 3, torch.tensor([[1.0, 1, 0], [0, 1, 1]]))], torch.tensor([1, 1]))
    (event,) = landed(tally.events(Clock()))
    assert event.accuracy is None
    np.testing.assert_allclose(event.counts[1], [0.5, 1, 0.5])


def test_each_layer_has_its_event_in_order():
    tally = SelectionTally(TASK_OF)
    for labels in (torch.tensor([0]), torch.tensor([2])):
        tally.add([Selection(layer, "task", [0, 1], one_hot(layer, of=2)) for layer in (1, 0)], labels)
    assert [(e.layer, e.accuracy) for e in landed(tally.events(Clock()))] == [(0, 50.0), (1, 50.0)]


def test_a_mixture_goes_to_the_owner_with_the_largest_sum_not_the_largest_entry():
    weights = torch.tensor([[0.4, 0.0, 0.3, 0.3], [0.25, 0.25, 0.25, 0.25], [0.0, 0.9, 0.1, 0.0]])
    owners = [0, 0, 1, 1]
    assert own_share(weights, owners, torch.tensor([1, 0, 0])).tolist() == [True, False, True]
    assert own_share(weights, owners, torch.tensor([5, 5, 5])).tolist() == [False] * 3
    assert own_share(weights, [-1] * 4, torch.tensor([0, 0, 0])).tolist() == [False] * 3
    assert own_share(weights[:, :1], [0], torch.tensor([0, 0, 0])).tolist() == [True, True, True], "the only owner"


def test_a_run_tells_after_every_task_what_all_test_images_so_far_took(tiny_trainer):
    trainer = tiny_trainer("dualprompt", tasks=2)
    events = [e for moment in trainer.run() for e in moment if e.kind == "SelectionMeasured"]
    assert [e.clock.task for e in events] == [0, 1]
    assert events[0].accuracy == 100 and events[0].owners == [0], "one entry: nothing to be confused with"
    last = events[1]
    own = [last.counts[c, 0 if c < 5 else 1] for c in range(10)]
    assert np.isfinite(last.counts).all() and last.counts.sum(axis=1) == pytest.approx(np.ones(10))
    assert last.accuracy == pytest.approx(100 * np.mean(own)), "as many test images in each class"


def test_it_can_be_switched_off_and_is_silent_for_a_method_without_a_pool(tiny_trainer):
    for method, switched in (("dualprompt", False), ("sequential", True)):
        trainer = tiny_trainer(method, tasks=2, diagnostics={"selection": switched})
        assert not [e for moment in trainer.run() for e in moment if e.kind == "SelectionMeasured"]
    assert not DiagnosticsConfig.off().selection
