"""NESS: which directions are free, and that nothing is written along the others."""

import pytest
import torch

from cl_core.methods.ness import tiny
from tests.stopped import until

SETTINGS = {"rate": 0.1, "head_rate": 0.1, "epsilon": 0.01, "momentum": 0.0}


@pytest.mark.parametrize(("epsilon", "free"), [(1e-3, 1), (1e-2, 2), (0.0, 0), (1.0, 4)])
def test_a_single_singular_value_is_compared_with_the_sum_of_all(epsilon, free):
    sizes = torch.tensor([9, 1, 1e-4, 1e-6], dtype=torch.float64).sqrt()
    assert tiny(sizes, epsilon).tolist() == [False] * (4 - free) + [True] * free


def test_the_first_task_writes_anywhere_and_later_ones_in_the_free_span_alone(tiny_trainer):
    trainer = tiny_trainer("ness", settings=SETTINGS, tasks=2)
    until(trainer, 0, "measure")
    assert torch.linalg.matrix_rank(trainer.method.merged[0, 0]) > 10
    until(trainer, 1)
    method, before = trainer.method, trainer.method.merged.clone()
    kept = [method._kept(layer).double() for layer in range(len(before))]
    values = torch.linalg.eigvalsh(method.gram).flip(-1).clamp(min=0).sqrt()
    assert [basis.shape[1] for basis in kept] == (~tiny(values, 0.01)).sum(dim=1).tolist()
    assert all(0 < basis.shape[1] < 48 for basis in kept)
    said = [event for moment in trainer.run() for event in moment]
    change = (method.merged - before).double()
    for own, basis in zip(change, kept, strict=True):
        assert own.norm() > 1e-6 and (own @ basis).norm() < 1e-5 * own.norm()
    updates = [e for e in said if e.kind == "UpdateMeasured"]
    assert updates and all(e.leak["kv"] < 1e-4 for e in updates)


def test_a_new_task_begins_with_the_outputs_the_last_one_ended_with(tiny_trainer):
    trainer = until(tiny_trainer("ness", settings=SETTINGS, tasks=2), 0, "measure")
    images = next(trainer.stream[0].ordered("test", 10)).images
    before = trainer.method.features(trainer.backbone, images).pooled.detach()
    method = until(trainer, 1).method
    assert not method.update.any()
    assert torch.equal(method.features(trainer.backbone, images).pooled, before)


def test_the_gram_is_the_sum_over_the_tokens_of_all_tasks(tiny_trainer):
    trainer, expected = tiny_trainer("ness", settings=SETTINGS, tasks=5), 0
    for task in range(2):
        until(trainer, task, "measure")
        batch = next(trainer.stream[task].ordered("train", 10_000))
        with torch.no_grad():
            x = trainer.method.features(trainer.backbone, batch.images, [("normed", 1)]).taps["normed", 1]
        rows = x.flatten(0, 1).double()
        expected = expected + rows.mT @ rows
    torch.testing.assert_close(trainer.method.gram[1], expected, rtol=1e-4, atol=1e-4 * float(expected.max()))


def test_with_nothing_free_keys_and_values_stand_still(tiny_trainer):
    trainer = until(tiny_trainer("ness", settings={**SETTINGS, "epsilon": 0.0}, tasks=2), 1)
    before = trainer.method.merged.clone()
    for _ in trainer.run():
        pass
    assert torch.equal(trainer.method.merged, before)
