"""What was measured on a device reaches the CPU in one copy, exactly, and leaves no tensor in an event."""

from __future__ import annotations

import numpy as np
import torch

from cl_core.events import Clock, StageEnded, UpdateByDirection, UpdateMeasured
from cl_core.observers.landing import copied, landed
from tests.training.elsewhere import DEVICE, Elsewhere


def of_all_types():
    drawn = torch.randn(5, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return [
        drawn.half()[:, 1:], drawn[0] > 0, torch.tensor(7), drawn.mT, torch.zeros(0), drawn.short(),
        torch.tensor(True), drawn[0, 0].float(), torch.tensor([torch.nan, -torch.inf, 1e-40]), drawn.requires_grad_(),
    ]  # fmt: skip


def test_tensors_of_all_types_and_shapes_come_exactly_and_in_one_copy():
    here = of_all_types()
    with Elsewhere() as device:
        there = [value.to(DEVICE) for value in here]
        found = copied([*there, here[0]])
        assert len(device.waits) == 1
    for value, expected in zip(found, [*here, here[0]], strict=True):
        assert value.device.type == "cpu" and not value.requires_grad
        assert (value.dtype, value.shape) == (expected.dtype, expected.shape)
        assert torch.equal(value.nan_to_num(9), expected.nan_to_num(9))


def test_on_the_processor_nothing_is_copied():
    here = of_all_types()
    assert [value.data_ptr() for value in copied(here)] == [value.data_ptr() for value in here]
    assert copied([]) == []


def some_events(device):
    there = lambda value: torch.tensor(value, dtype=torch.float32).to(device)
    return [
        UpdateMeasured(Clock(1), 0, there(0.1), {"affinity": there(0.25), "mixture": None}, {"affinity": 0.5}),
        UpdateByDirection(Clock(1), "affinity", [0, 1], there([[1.0, 2.0]]).half(), "steps"),
        StageEnded(Clock(1), "class keys", {"cross_entropy": [there(3.0).double(), there(2.0)]}, 1.5),
    ]


def test_events_get_arrays_and_plain_numbers_of_the_types_that_were_measured():
    with Elsewhere() as device:
        made = some_events(DEVICE)
        device.waits.clear()
        there = landed(made)
        assert len(device.waits) == 1
    for first, second, third in (there, landed(some_events("cpu"))):
        assert type(first.movement) is float and first.movement == float(np.float32(0.1))
        assert first.residual == {"affinity": 0.25, "mixture": None} and first.isotropic == {"affinity": 0.5}
        assert second.energies.dtype == np.float16 and second.energies.tolist() == [[1.0, 2.0]]
        assert second.layers == [0, 1] and second.source == "steps" and second.clock == Clock(1)
        assert third.losses == {"cross_entropy": [3.0, 2.0]}
        assert {type(value) for value in third.losses["cross_entropy"]} == {float}


def test_events_without_tensors_stay_the_same_objects():
    plain = (StageEnded(Clock(), "class keys", {"cross_entropy": [1.0]}, 0.5),)
    assert landed(plain) is plain
