"""What lies below a method's first edit is computed once an image: in bounded memory, with the same numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cl_core.backbones.answer_cache import KeptAnswers
from cl_core.backbones.io_types import NO_EDIT, BlockIntervention, ModelEdit, PrependedTokens
from cl_core.backbones.vit import random_vit
from cl_core.config import ConfigError, DiagnosticsConfig
from cl_core.methods.method import EditsFrom
from cl_core.registry import METHODS
from cl_core.training import frozen_prefix
from cl_core.training.factory import build
from cl_core.training.frozen_prefix import FrozenPrefix

LAST = {"prompt_length": 3, "prompt_blocks": 1}
DEEP = ["sequential", "joint", "nsp2", "lwf", "ewc", "replay"]


def events_of(trainer):
    return [event for moment in trainer.run() for event in moment]


def numbers_of(events):
    """Losses of all steps, and all accuracies."""
    losses = [value for e in events if e.kind == "StepEnded" for value in e.losses.values()]
    rows = [value for e in events if e.kind == "AccuracyMeasured" for value in e.row if value is not None]
    return torch.tensor(losses), torch.tensor(rows)


CASES = [
    *((name, LAST) for name in DEEP),
    ("nsp2pp", {**LAST, "refine_epochs": 1, "draws": 8}),
    ("sequential", {"prompt_length": 0}),
    ("fwd_prompt", {"prompt_length": 2, "site": 1, "pretrained_space": "weights"}),
    ("star_prompt", {"companion": "none", "replay_epochs": 1, "draws": 16}),
    ("fecam", {}),
    ("ranpac", {"units": 40, "first_session": "none"}),
]


@pytest.mark.parametrize(("method", "settings"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_with_and_without_the_cache_the_numbers_are_the_same(tiny_config, monkeypatch, method, settings):
    config = tiny_config(method, tasks=2, settings=settings, training={"batch_size": 30, "epochs": 2})
    kept = build(config)
    assert kept.prefix is not None
    with_cache = events_of(kept)
    assert kept.prefix.asked > 0 or method == "replay"
    monkeypatch.setattr(frozen_prefix, "LIMIT", 0)
    computed = build(config)
    assert computed.prefix is None
    without = events_of(computed)
    for one, other in zip(numbers_of(with_cache), numbers_of(without), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    for name, value in kept.method.state_dict().items():
        if value.is_floating_point() and value.numel():
            other = computed.method.state_dict()[name]
            torch.testing.assert_close(value, other, atol=1e-4 * float(other.abs().max()) + 1e-6, rtol=1e-4)


def test_each_image_passes_the_frozen_blocks_once_however_often_it_is_asked_for(tiny_config):
    trainer = build(tiny_config("sequential", tasks=2, settings=LAST, training={"epochs": 3, "batch_size": 20}))
    events = events_of(trainer)
    images = sum(len(task.train) + len(task.test) for task in trainer.stream)
    assert trainer.prefix.asked == images
    (said,) = [event for event in events if event.kind == "AnswersKept"]
    assert said.model == "random-vit, block 1" and said.bytes <= frozen_prefix.LIMIT
    assert said.images * 4 * trainer.backbone.width * trainer.backbone.tokens == said.bytes


def test_images_that_are_changed_each_time_are_not_kept(tiny_config):
    training = {"epochs": 1, "batch_size": 20, "flip": True}
    config = tiny_config("sequential", tasks=2, settings=LAST, training=training)
    trainer = build(config.with_overrides(["diagnostics.readout=false", "diagnostics.spectra=false"]))
    events_of(trainer)
    assert trainer.prefix.asked == sum(len(task.test) for task in trainer.stream)


def test_memory_is_bounded_and_a_task_larger_than_it_keeps_its_share(tiny_config, monkeypatch):
    trainer = build(tiny_config("sequential", tasks=2, settings=LAST))
    each = trainer.prefix.each
    monkeypatch.setattr(frozen_prefix, "LIMIT", 30 * each)
    small = build(tiny_config("sequential", tasks=2, settings=LAST, training={"epochs": 2, "batch_size": 20}))
    events = events_of(small)
    assert len(small.prefix._answers) <= 30 and small.prefix.images == 30
    assert not [event for event in events if event.kind == "MeasurementStopped"]


def test_answers_of_this_turn_stay_and_older_ones_make_room():
    answers, model = KeptAnswers(4, keep_current=True), lambda x: x.flatten(1)[:, :1]
    ask = lambda *ids: answers(model, torch.tensor(ids).float().view(-1, 1, 1, 1), torch.tensor(ids), 3)
    for _ in range(2):  # four images in a cycle, room for three: the first three are found again
        before = answers.asked
        assert ask(0, 1, 2, 3).flatten().tolist() == [0, 1, 2, 3]
    assert answers.asked - before == 1
    answers.new_turn()
    ask(4, 5)
    assert len(answers) == 3
    before = answers.asked
    ask(4, 5)
    assert answers.asked == before, "what is needed now took the room of what was not asked for again"


def test_an_untouched_clip_looks_at_each_test_image_once_and_answers_the_same(tiny_config, monkeypatch):
    config = tiny_config("zero_shot", backbone="random-clip", stream="micro-mtil", tasks=2)
    config = replace(config, diagnostics=DiagnosticsConfig.off())
    trainer = build(config)
    kept = events_of(trainer)
    assert trainer.prefix.asked == sum(len(task.test) for task in trainer.stream)
    assert [e.model for e in kept if e.kind == "AnswersKept"] == ["random-clip, all blocks"]
    monkeypatch.setattr(frozen_prefix, "LIMIT", 0)
    for one, other in zip(numbers_of(kept), numbers_of(events_of(build(config))), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("method", [name for name, entry in METHODS.items() if entry.needs == "vit"])
def test_no_edit_begins_below_the_block_that_a_method_names(tiny_trainer, method):
    quick = {"companion": "random-clip", "key_epochs": 1, "key_replay_epochs": 1, "draws": 8, "replay_epochs": 1}
    trainer = tiny_trainer(method, tasks=2, settings=quick if method == "star_prompt" else {})
    next(trainer.run())
    edit = trainer.method.edit(trainer.backbone, next(trainer.stream[0].ordered("test", 2)).images)
    named = trainer.method.edits_from(trainer.backbone) if isinstance(trainer.method, EditsFrom) else 0
    first = trainer.backbone.depth if edit.first_block is None else edit.first_block
    assert named <= first


@pytest.mark.parametrize(
    "edit",
    [
        NO_EDIT,
        ModelEdit({1: BlockIntervention(prompts=torch.ones(2, 48))}),
        ModelEdit(joined=PrependedTokens(torch.ones(1, 2, 48), 1)),
        ModelEdit(joined=PrependedTokens(torch.ones(1, 2, 48), 1, pooled=True)),
    ],
    ids=["none", "prompts", "joined", "joined and pooled"],
)
@pytest.mark.parametrize("taps", [(), (("attention", 1),), (("input", 0),)], ids=["no taps", "above", "below"])
def test_a_model_with_a_cache_computes_what_the_model_computes(edit, taps):
    plain = random_vit()
    first = plain.depth if edit.first_block is None else edit.first_block
    cached = plain.with_prefix(FrozenPrefix(plain, first))
    assert cached.vit is plain.vit and plain.prefix is None
    images, ids = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(5)
    expected = plain.features(images, edit, taps)
    for _ in range(2):
        found = cached.features(images, edit, taps, ids)
        torch.testing.assert_close(found.pooled, expected.pooled, atol=1e-5, rtol=1e-5)
        assert set(found.taps) == set(expected.taps)
        for tap, value in expected.taps.items():
            torch.testing.assert_close(found.taps[tap], value, atol=1e-5, rtol=1e-5)


def test_prompts_in_the_last_blocks_are_those_of_a_run_with_prompts_in_all(tiny_trainer):
    every, last = (tiny_trainer("nsp2", settings={"prompt_length": 3, "prompt_blocks": k}) for k in (0, 1))
    assert torch.equal(last.method.deep_prompts, every.method.deep_prompts[1:])
    assert last.method.prompted_blocks == range(1, 2) and every.method.prompted_blocks == range(2)


def test_figures_of_prompts_name_the_blocks_that_have_them(tiny_trainer):
    events = events_of(tiny_trainer("nsp2", tasks=2, settings=LAST))
    assert {e.layer for e in events if e.kind in ("SpectrumMeasured", "UpdateMeasured")} == {1}
    assert {tuple(e.layers) for e in events if e.kind == "UpdateByDirection"} == {(1,)}
    drifted = next(e for e in events if e.kind == "PromptsDrifted")
    assert drifted.prompts.shape == (2, 3, 48) and not drifted.prompts[0].any() and drifted.prompts[1].any()
    assert torch.tensor(drifted.means[0]).isnan().all() and not torch.tensor(drifted.means[1]).isnan().any()
    assert not [event for event in events if event.kind == "MeasurementStopped"]


def test_more_blocks_than_there_are_is_refused(tiny_trainer):
    with pytest.raises(ConfigError, match="prompt_blocks must be at most 2"):
        tiny_trainer("sequential", settings={"prompt_blocks": 3})
