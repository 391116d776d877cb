"""SplitLoRA's cut against brute force."""

import pytest
import torch

from cl_core.linalg import splitting_costs, splitting_cut


def brute_force(values, tasks, alpha):
    d, total = len(values), sum(values)
    costs = [tasks * (1 - sum(values[: i + 1]) / total) - alpha * (d - i) / d for i in range(d)]
    return max(costs.index(min(costs)), 1) + 1


@pytest.mark.parametrize("tasks", [1, 3, 10])
@pytest.mark.parametrize("alpha", [0.0, 0.7, 5.0, 20.0, 100.0])
def test_the_cut_is_where_the_published_trade_off_is_smallest(tasks, alpha, seeded):
    drawn = torch.rand(17, generator=seeded(tasks), dtype=torch.float64).sort(descending=True).values
    for values in (drawn, drawn**6, torch.tensor([5.0, 1.0, 1.0, 1e-3], dtype=torch.float64)):
        assert splitting_cut(values, tasks=tasks, alpha=alpha) == brute_force(values.tolist(), tasks, alpha)


def test_known_values_of_a_falling_power():
    """λ_i ~ i^−1.5, 192 directions: the minimiser's places at one, five and ten tasks."""
    values = torch.arange(1, 193, dtype=torch.float64) ** -1.5
    for alpha, places in ((1.0, (17, 52, 83)), (5.0, (5, 17, 27)), (20.0, (1, 6, 10)), (100.0, (0, 1, 2))):
        found = [splitting_cut(values, tasks=t, alpha=alpha) for t in (1, 5, 10)]
        assert found == [max(place, 1) + 1 for place in places]


def test_protection_grows_with_tasks_and_shrinks_with_alpha(seeded):
    values = (torch.rand(40, generator=seeded(1), dtype=torch.float64) ** 3).sort(descending=True).values
    by_tasks = [splitting_cut(values, tasks=t, alpha=4.0) for t in range(1, 12)]
    by_alpha = [splitting_cut(values, tasks=3, alpha=a) for a in (0.1, 1.0, 3.0, 10.0, 50.0)]
    assert by_tasks == sorted(by_tasks) and by_tasks[0] < by_tasks[-1]
    assert by_alpha == sorted(by_alpha, reverse=True) and by_alpha[0] > by_alpha[-1]


def test_both_terms_start_and_end_where_they_must():
    values = torch.tensor([4.0, 3.0, 2.0, 1.0])
    loss, gain = splitting_costs(values, tasks=2, alpha=8.0)
    assert loss.tolist() == pytest.approx([1.2, 0.6, 0.2, 0.0]) and gain.tolist() == pytest.approx([8.0, 6.0, 4.0, 2.0])


def test_a_batch_gives_what_its_spectra_give_and_a_side_of_one_is_protected_whole():
    values = torch.tensor([[4.0, 3.0, 2.0, 1.0], [9.0, 0.1, 0.1, 0.1]])
    found = splitting_cut(values, tasks=3, alpha=2.0)
    assert found.tolist() == [splitting_cut(row, tasks=3, alpha=2.0) for row in values]
    assert splitting_cut(torch.tensor([2.0]), tasks=1, alpha=1.0) == 1


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ValueError, match="tasks must be at least 1, got 0"):
        splitting_cut(torch.ones(3), tasks=0, alpha=1.0)
    with pytest.raises(ValueError, match="alpha must be at least 0, got -1"):
        splitting_cut(torch.ones(3), tasks=1, alpha=-1.0)
