"""Probes compare a network with its own past: nothing moved means zero, and a layer answers for its own prompts."""

import numpy as np
import pytest
import torch

from cl_core.events import Clock
from cl_core.observers import probe as probes
from cl_core.observers.landing import landed
from cl_core.observers.probe import Probe

PROBES = 6


def trained(tiny_trainer, **others):
    """A trainer that has learned two tasks; its probes remember both."""
    trainer = tiny_trainer("sequential", settings={"prompt_rate": 0.05, "temperature": 1.0}, tasks=5, **others)
    for _ in trainer.run():
        if (trainer.cursor.task, trainer.cursor.stage) == (2, "begin"):
            return trainer
    raise AssertionError


@pytest.fixture
def trainer(tiny_trainer):
    return trained(tiny_trainer, diagnostics={"probe_images": PROBES})


def look(trainer, tasks=(0, 1)):
    """(compared, predicted) by evaluated task, as things stand."""
    probe = trainer.observers.find(Probe)
    looked = probe.compare(trainer.method, trainer.backbone, list(tasks), Clock(2, 0, 7), lambda task: range(4))
    events = landed(looked)
    compared = {e.probe_task: e for e in events if e.kind == "AttentionCompared"}
    predicted = {e.evaluated: e for e in events if e.kind == "PredictionsMade"}
    assert set(compared) == set(predicted) == set(tasks)
    return compared, predicted


def test_the_first_look_is_the_reference_and_compares_to_itself_as_zero(tiny_trainer):
    seen = 0
    for moment in tiny_trainer("sequential", settings={"prompt_rate": 0.05}, tasks=5).run():
        for event in moment:
            if event.kind == "AttentionCompared" and event.probe_task == event.clock.task:
                seen += 1
                for zero in (event.total_variation, event.total_variation_local, event.output_drift):
                    np.testing.assert_allclose(zero, 0, atol=1e-6)
                assert abs(event.feature_drift) < 1e-5
    assert seen == 5


def test_an_old_task_moved_while_a_new_one_was_learned(trainer):
    compared, _ = look(trainer)
    assert (compared[0].total_variation > 1e-4).all() and compared[0].feature_drift > 1e-5
    np.testing.assert_allclose(compared[1].total_variation, 0, atol=1e-6)


def test_local_variation_is_zero_where_only_upstream_prompts_changed(trainer):
    with torch.no_grad():
        trainer.method.tuning.prompts[0] += torch.randn(4, 48, generator=torch.Generator().manual_seed(1))
    compared, _ = look(trainer, [1])
    assert compared[1].total_variation_local[0] > 1e-3
    np.testing.assert_allclose(compared[1].total_variation_local[1], 0, atol=1e-6)
    assert compared[1].total_variation[1] > 1e-5, "upstream drift must reach the second block end to end"
    np.testing.assert_allclose(compared[1].total_variation[0], compared[1].total_variation_local[0], atol=1e-6)


def test_total_variation_follows_its_formula(trainer):
    with torch.no_grad():
        trainer.method.tuning.prompts += torch.randn(2, 4, 48, generator=torch.Generator().manual_seed(1))
    compared, _ = look(trainer, [1])
    images = trainer.stream[1].probes(PROBES)
    now = trainer.method.features(
        trainer.backbone, trainer.stream[1].prepare(images.pictures), [("attention", 0), ("attention", 1)]
    ).taps
    for layer in range(2):
        then = trainer.observers.find(Probe).reference(1)["attention"][layer]
        variation = 0.5 * (now["attention", layer] - then).abs().sum(dim=-1).mean()
        assert compared[1].total_variation[layer] == pytest.approx(variation.item(), rel=1e-4)
        mass = now["attention", layer][..., 5:].sum(dim=-1).mean()
        assert compared[1].prompt_mass[layer] == pytest.approx(mass.item(), rel=1e-4)
    assert ((compared[1].total_variation > 0) & (compared[1].total_variation <= 1)).all()


def test_looking_at_several_tasks_at_once_gives_what_looking_at_each_alone_gives(trainer):
    together, predicted = look(trainer)
    for task in (0, 1):
        alone, answered = look(trainer, [task])
        np.testing.assert_allclose(together[task].total_variation, alone[task].total_variation, atol=1e-6)
        np.testing.assert_allclose(together[task].output_drift, alone[task].output_drift, atol=1e-5)
        np.testing.assert_array_equal(predicted[task].predicted, answered[task].predicted)


def test_events_have_the_shapes_their_glossary_promises(trainer):
    compared, predicted = look(trainer)
    for task in (0, 1):
        event = compared[task]
        for per_layer in (event.total_variation, event.total_variation_local, event.output_drift, event.prompt_mass):
            assert per_layer.shape == (2,) and per_layer.dtype == np.float32
        assert event.class_attention.shape == (PROBES, 2, 3, 5 + 4) and event.class_attention.dtype == np.float16
        np.testing.assert_allclose(event.class_attention.astype(float).sum(axis=-1), 1, atol=5e-3)
        assert isinstance(event.feature_drift, float)
        answers = predicted[task]
        assert answers.predicted.shape == answers.margin.shape == (PROBES,)
        assert answers.predicted.dtype == np.int16 and answers.margin.dtype == np.float32


def test_a_positive_margin_is_a_right_prediction(trainer):
    _, predicted = look(trainer)
    labels = {task: trainer.stream[task].probes(PROBES).labels.numpy() for task in (0, 1)}
    answers = [(predicted[t].predicted == labels[t], predicted[t].margin > 0) for t in (0, 1)]
    right, positive = (np.concatenate(values) for values in zip(*answers, strict=True))
    np.testing.assert_array_equal(right, positive)
    assert right.any() and not right.all(), "both outcomes must occur for this to say anything"


def test_probe_images_are_told_as_they_look(tiny_trainer):
    trainer = tiny_trainer(tasks=5, diagnostics={"probe_images": PROBES})
    told = {e.clock.task: e for e in next(trainer.run()) if e.kind == "ProbesChosen"}
    assert sorted(told) == [0, 1, 2, 3, 4]
    for task, event in told.items():
        probes = trainer.stream[task].probes(PROBES)
        assert event.images.shape == (PROBES, 16, 16, 3) and event.images.dtype == np.uint8
        np.testing.assert_allclose(event.images / 255, probes.pictures.permute(0, 2, 3, 1).numpy(), atol=0.5 / 255)
        assert event.names == [trainer.stream.class_names[c] for c in probes.labels.tolist()]


def test_a_probe_taken_up_from_saved_references_compares_with_the_same_past(trainer, tiny_trainer):
    fresh = tiny_trainer(tasks=5, diagnostics={"probe_images": PROBES})
    assert isinstance(fresh.observers.find(Probe), Probe) and fresh.observers.find(Probe).measured() == []
    fresh.observers.find(Probe).load_references(trainer.observers.find(Probe).references())
    assert fresh.observers.find(Probe).measured() == trainer.observers.find(Probe).measured() == [0, 1]
    mine, theirs = (
        probe.compare(trainer.method, trainer.backbone, [0], Clock(), lambda task: range(4))[0]
        for probe in (fresh.observers.find(Probe), trainer.observers.find(Probe))
    )
    np.testing.assert_array_equal(mine.total_variation, theirs.total_variation)


def test_a_large_model_keeps_less_of_every_task_and_measures_the_same(tiny_trainer, monkeypatch):
    whole = trained(tiny_trainer, diagnostics={"probe_images": PROBES})
    monkeypatch.setattr(probes, "LEAN", 0)
    monkeypatch.setattr(probes, "QUERIES", 3)
    lean = trained(tiny_trainer, diagnostics={"probe_images": PROBES})
    kept = [trainer.observers.find(Probe)._then[0].values() for trainer in (whole, lean)]
    sizes = [sum(value.numel() * value.element_size() for value in values) for values in kept]
    assert sizes[1] < 0.5 * sizes[0]
    assert lean.observers.find(Probe).reference(0)["attention"].shape[-2:] == (3, 9)
    (exact, _), (near, _) = look(whole), look(lean)
    np.testing.assert_allclose(near[0].output_drift, exact[0].output_drift, atol=2e-3)
    np.testing.assert_allclose(near[0].feature_drift, exact[0].feature_drift, atol=1e-6)
    assert (np.abs(near[0].total_variation / exact[0].total_variation - 1) < 0.3).all(), "of three queries in five"
    for zero in (near[1].total_variation, near[1].output_drift):
        np.testing.assert_allclose(zero, 0, atol=1e-6)
    np.testing.assert_allclose(near[1].total_variation_local, 0, atol=2e-3)


def test_values_too_large_for_sixteen_bits_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(probes, "LEAN", 0)
    tokens = torch.full((2, 1, 4, 3), 1e5)
    kept = probes._kept(
        {"input": tokens, "attention": torch.ones(2, 1, 1, 4, 4), "output": tokens, "pooled": torch.ones(1, 3)}
    )
    assert kept["input"].dtype == torch.float32 and kept["attention"].dtype == torch.float16


def test_tasks_are_looked_at_in_portions_that_do_not_grow_with_their_number(trainer, monkeypatch):
    together, predicted = look(trainer)
    seen, features = [], trainer.backbone.features
    monkeypatch.setattr(probes, "AT_ONCE", 1)
    monkeypatch.setattr(
        trainer.backbone, "features", lambda images, *rest: seen.append(len(images)) or features(images, *rest)
    )
    apart, answered = look(trainer)
    assert seen == [PROBES, PROBES]
    for task in (0, 1):
        np.testing.assert_allclose(apart[task].total_variation, together[task].total_variation, atol=1e-6)
        np.testing.assert_array_equal(answered[task].predicted, predicted[task].predicted)
