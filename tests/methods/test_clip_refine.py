"""CLIP-Refine's losses against the card, and its place before a stream."""

import numpy as np
import pytest
import torch

from cl_core.config import ConfigError
from cl_core.methods.clip_refine import feature_alignment, hybrid_distillation, hybrid_targets, noise_scale
from cl_core.training.factory import build


def double(rows):
    return torch.tensor(rows, dtype=torch.float64)


TEACHER = double([[2, 1, 0], [0, 1, 0], [1, 1, 3]])
STUDENT = double([[1, 1, 0], [0, 2, 0], [0, 1, 2]])


@pytest.fixture
def refine(tiny_config):
    def make(method="clip_refine", stream="synthetic-domains", **settings):
        usual = {"rate": 1e-3, **settings}
        return build(tiny_config(method, backbone="random-clip", stream=stream, tasks=2, settings=usual))

    return make


def test_targets_mix_the_pairs_with_what_the_teacher_says():
    expected = [[0.83262, 0.122364, 0.045015], [0.105971, 0.788058, 0.105971], [0.053253, 0.053253, 0.893493]]
    np.testing.assert_allclose(hybrid_targets(TEACHER, 0.5, 1.0).numpy(), expected, atol=1e-6)


def test_the_distillation_is_the_mean_of_both_ways():
    assert hybrid_distillation(STUDENT, TEACHER, 0.5, 1.0).item() == pytest.approx(0.135580, abs=1e-6)
    assert hybrid_distillation(STUDENT.mT, TEACHER.mT, 0.5, 1.0).item() == pytest.approx(0.135580, abs=1e-6)
    assert hybrid_distillation(TEACHER, TEACHER, 0.5, 1.0).item() == pytest.approx(0.087881, abs=1e-6)
    assert hybrid_distillation(TEACHER, TEACHER, 0.0, 1.0).item() == pytest.approx(0, abs=1e-12)


def test_with_the_pairs_alone_it_is_the_contrastive_loss():
    targets = torch.arange(3)
    plain = sum(torch.nn.functional.cross_entropy(z, targets) for z in (STUDENT, STUDENT.mT)) / 2
    assert hybrid_distillation(STUDENT, TEACHER, 1.0, 1.0).item() == pytest.approx(plain.item())


def test_alignment_pulls_both_to_the_same_vector():
    v, t, z = double([[1, 0], [0, 2]]), double([[0, 0], [1, 1]]), double([[1, 1], [0, 0]])
    assert feature_alignment(v, t, z).item() == 2.25
    paper = 0.5 * ((v - z).square() + (t - z).square()).sum(dim=1).mean()
    assert paper.item() == pytest.approx(feature_alignment(v, t, z).item() * v.shape[1] / 2)


def test_noise_as_long_as_features_are(seeded):
    v = torch.randn(50, 8, generator=seeded(0))
    scale = noise_scale("features", v, v)
    z = scale * torch.randn(4000, 8, generator=seeded(1))
    assert z.square().sum(dim=1).mean().sqrt().item() == pytest.approx(v.norm(dim=1).mean().item(), rel=0.03)
    assert noise_scale("unit", v, v) == 1.0


def test_the_gap_narrows_before_the_first_task_and_the_teacher_stands_still(refine):
    gaps = {}
    for weight in (0.0, 50.0):
        trainer = refine(
            refine_pairs=60, refine_batch=30, refine_epochs=15, refine_rate=1e-3, alignment=weight, noise="features"
        )
        before = {name: value.clone() for name, value in trainer.backbone.state_dict().items()}
        said = next(trainer.run())
        gaps[weight] = next(e.length for e in said if e.kind == "ModalityGapMeasured")
        stage = next(e for e in said if e.kind == "StageEnded")
        assert stage.stage == "refinement" and [len(v) for v in stage.losses.values()] == [15, 15]
        assert all(torch.equal(value, before[name]) for name, value in trainer.backbone.state_dict().items())
    plain = next(e.length for e in next(refine(refine_epochs=0).run()) if e.kind == "ModalityGapMeasured")
    assert gaps[50.0] < 0.9 * plain and gaps[50.0] < gaps[0.0]


def test_without_the_preparation_it_is_finetune_bit_for_bit(refine):
    ends = []
    for method, settings in (("clip_refine", {"refine_epochs": 0}), ("finetune", {})):
        trainer = refine(method, **settings)
        for _ in trainer.run():
            pass
        ends.append({name: value.detach() for name, value in trainer.method.clip.named_parameters()})
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_a_stream_without_pairs_is_refused_unless_nothing_is_prepared(refine):
    with pytest.raises(ConfigError, match="has no pairs of the pre-training world; choose micro-mtil, or set refine"):
        refine(stream="split-digits")
