"""What the algebra asks of values: at once on the CPU, on a device together, and never not at all."""

from __future__ import annotations

import pytest
import torch

from cl_core.linalg import effective_rank, eigenbasis, protected_energy, spectrum
from cl_core.linalg.validation import asked_together
from tests.training.elsewhere import DEVICE, Elsewhere

MOMENT = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
RISING = torch.tensor([1.0, 2.0])


def test_on_a_device_all_values_are_asked_once_and_results_are_the_same():
    with Elsewhere() as device:
        moment = MOMENT.to(DEVICE)
        device.waits.clear()
        with asked_together():
            values = spectrum(moment)
            found = [effective_rank(values), protected_energy(values, 1)]
            assert device.waits == []
        assert len(device.waits) == 1
        there = [value.cpu() for value in found]
    assert there == [effective_rank(spectrum(MOMENT)), protected_energy(spectrum(MOMENT), 1)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda to: spectrum((MOMENT * torch.nan).to(to)), "moment must be finite"),
        (lambda to: spectrum(MOMENT.cumsum(0).to(to)), "moment must be symmetric, but it differs"),
        (lambda to: protected_energy(RISING.to(to), 1), "spectrum must descend, but it rises by 1"),
        (lambda to: protected_energy(RISING.flip(0).to(to), 3), r"nullity must lie in \[0, 2\], got 3"),
    ],
)
@pytest.mark.parametrize("name", ["cpu", DEVICE])
@pytest.mark.parametrize("together", [True, False])
def test_what_is_wrong_is_said_in_the_same_words_everywhere(wrong, said, name, together):
    with Elsewhere(), pytest.raises(ValueError, match=said):
        if together:
            with asked_together():
                wrong(name)
        else:
            wrong(name)


def test_the_first_complaint_is_the_one_that_is_raised_and_nothing_is_left_for_the_next_block():
    with Elsewhere():
        with pytest.raises(ValueError, match="descend"), asked_together():
            protected_energy(RISING.to(DEVICE), 1)
            spectrum(MOMENT.cumsum(0).to(DEVICE))
        with asked_together():
            spectrum(MOMENT.to(DEVICE))


def test_a_decomposition_that_fails_is_explained_by_the_values_it_was_given(monkeypatch):
    def eigh(matrix):
        raise torch.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(torch.linalg, "eigh", eigh)
    with Elsewhere():
        with pytest.raises(ValueError, match="must be finite"), asked_together():
            eigenbasis((MOMENT * torch.nan).to(DEVICE))
        with pytest.raises(torch.linalg.LinAlgError), asked_together():
            eigenbasis(MOMENT.to(DEVICE))
