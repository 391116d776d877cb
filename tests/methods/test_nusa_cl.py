"""NuSA-CL against its card: the change stays in the null space through AdamW, merges exactly, keeps nothing."""

import pytest
import torch

from cl_core.linalg import singular_directions, weight_split
from cl_core.methods.parts.clip_weights import key
from cl_core.observers.kept import kept_bytes
from cl_core.training.factory import build


@pytest.fixture
def nusa(tiny_config):
    def make(tasks=2, **settings):
        config = tiny_config(
            "nusa_cl",
            backbone="random-clip",
            stream="synthetic-domains",
            tasks=tasks,
            settings={"rate": 0.05, "r_max": 6, **settings},
        )
        return build(config)

    return make


def until(trainer, kind, task):
    for moment in trainer.run():
        if moment[-1].kind == kind and trainer.cursor.task == task:
            return trainer
    raise AssertionError


def in_training(trainer, task=0):
    for moment in trainer.run():
        if moment[0].kind == "StepEnded" and trainer.cursor.task == task and trainer.cursor.epoch == 1:
            return trainer
    raise AssertionError


def test_before_training_the_model_is_the_pre_trained_one(nusa):
    trainer = nusa()
    next(trainer.run())
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    ours = trainer.method.features(trainer.backbone, images).pooled
    assert torch.equal(ours, trainer.backbone(images).pooled)


def test_trained_are_the_squares_of_the_used_ranks_and_nothing_else(nusa):
    trainer = nusa(rho=0.9)
    started = next(trainer.run())[0]
    splits = {
        name: weight_split(singular_directions(trainer.backbone.map_weight(name)).values, 0.9, 6)
        for name in trainer.backbone.attention_maps()
    }
    assert started.trainable_parameters == sum(split.written**2 for split in splits.values())
    assert all(m.abs().max() == 0 for m in trainer.method.middle.values())


def test_the_change_is_orthogonal_to_every_direction_that_is_not_written_to(nusa):
    """Through AdamW with weight decay; in float32."""
    trainer = in_training(nusa(weight_decay=0.1))
    method = trainer.method
    for name, branch in method.branches().items():
        directions, change = singular_directions(method.clip.map(name)), branch.update().double()
        kept = len(directions.values) - len(method.middle[key(name)])
        assert change.norm() > 1e-4
        assert (directions.left[:, :kept].mT @ change).norm() / change.norm() < 1e-5
        assert (change @ directions.right[:kept].mT).norm() / change.norm() < 1e-5


def test_merging_is_exact_and_leaves_no_adapter(nusa):
    trainer = in_training(nusa())
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    before = trainer.method.features(trainer.backbone, images).pooled
    trainer = until(trainer, "TaskEnded", 0)
    stepped = trainer.method.adaptation()
    assert not stepped.branches and not trainer.method.middle
    assert not any(name.startswith("middle") for name in trainer.method.state_dict())
    assert kept_bytes(trainer.method) == 0
    assert not torch.equal(before, trainer.method.features(trainer.backbone, images).pooled)  # trained on since


def test_merged_and_unmerged_models_agree(nusa):
    trainer = in_training(nusa())
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    unmerged = trainer.method.features(trainer.backbone, images).pooled
    trainer.method.end_task(None)
    torch.testing.assert_close(trainer.method.features(trainer.backbone, images).pooled, unmerged, atol=1e-5, rtol=1e-5)
    once = trainer.method.clip.state_dict()
    once = {name: value.clone() for name, value in once.items()}
    trainer.method.end_task(None)  # nothing is left to merge
    assert all(torch.equal(value, once[name]) for name, value in trainer.method.clip.state_dict().items())


def test_during_a_task_weights_stand_still(nusa):
    trainer = nusa()
    next(trainer.run())
    first = {name: value.clone() for name, value in trainer.method.clip.state_dict().items()}
    trainer = in_training(trainer)
    assert all(torch.equal(value, first[name]) for name, value in trainer.method.clip.state_dict().items())


def test_the_gradient_of_m_is_the_projected_gradient_of_the_weight(nusa):
    trainer = in_training(nusa(dropout=0.0))
    method, name = trainer.method, "image.1.q"
    batch = next(trainer.stream[0].batches(8, seed=0, epoch=0))
    method.zero_grad()
    method.loss(trainer.backbone, batch).parts["cross_entropy"].backward()
    found = method.middle[key(name)].grad.clone()
    place, branch = trainer.backbone.linear_map(name), method.branches()[name]
    parameter = method.clip[place.parameter].requires_grad_()
    method.loss(trainer.backbone, batch).parts["cross_entropy"].backward()
    left, right = method.bases()[name]
    expected = branch.scale * left.mT @ parameter.grad[place.rows] @ right.mT
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-7)


def test_a_weight_without_room_is_left_alone(nusa):
    trainer = nusa(rho=1.0)
    next(trainer.run())
    full = [n for n, w in trainer.method.adapted_weights(trainer.backbone).items() if n not in trainer.method.bases()]
    assert len(full) == len(trainer.backbone.attention_maps()) and not trainer.method.middle


@pytest.mark.parametrize(
    ("settings", "leaks"),
    [({}, False), ({"directions": "random"}, True), ({"persistence": "initial only"}, True)],
)
def test_what_is_measured_tells_the_method_from_its_controls(nusa, settings, leaks):
    events = [e for m in nusa(**settings).run() for e in m if e.kind == "WeightSpectrumMeasured"]
    assert events and all(e.used and e.rho == 0.95 for e in events)
    worst = max(max(e.leak_left, e.leak_right) for e in events)
    assert (worst > 1e-3) == leaks
    if not leaks:
        assert worst < 1e-5
