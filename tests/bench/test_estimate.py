"""Estimated memory of a step beside bytes of tensors that were measured; the bounds fail when a tower, a copy,
gradients or optimiser state are forgotten, or counted twice."""

from dataclasses import replace

import pytest

from bench import estimate, ratios
from cl_core.config import DiagnosticsConfig
from cl_core.estimate import PARTS, in_words, memory_by_task, memory_needed
from cl_core.registry import METHODS, imported

STREAMS = {"vit": "synthetic", "clip": "synthetic-domains"}
SHORT = {"star_prompt": ["draws=8", "key_epochs=1", "key_replay_epochs=1", "replay_epochs=1"]}


def short(method):
    """The embedded models on drawn bars: five tasks, a few steps of 32 pictures in each."""
    usual = ["training.epochs=1", "training.batch_size=32", "training.repeats=6", "stream.tasks=5"]
    settings = [*usual, *SHORT.get(method, [])]
    config = ratios.config_of(method, "cpu", {}, settings)
    return replace(config, stream=STREAMS[METHODS[method].needs], diagnostics=DiagnosticsConfig.off())


@pytest.mark.parametrize("method", ["nsp2", "gnsp", "nusa_cl", "finetune", "star_prompt"])
def test_the_estimate_is_near_what_tensors_take(method):
    row = estimate.weighed(short(method))
    assert len(row.held) == 2 and min(row.peak) > 0
    assert 0.95 <= row.ratio <= 1.4, row.cells()
    assert 0.93 <= row.at_rest <= 1.15, row.cells()
    assert row.cells()[0] == method and len(row.cells()) == len(estimate.HEADER)


def test_every_kind_of_holding_that_a_row_names_speaks_for_its_method():
    for name, entry in METHODS.items():
        if not entry.holds:
            continue
        config = ratios.config_of(name, "cpu", {})
        _, settings = estimate.check(config)
        sizes = ratios.shared(config.backbone).describe()
        tasks = memory_by_task(sizes, 64, facts=imported(entry.holds), settings=vars(settings))
        assert tasks and all(set(parts) <= set(PARTS) and min(parts.values()) > 0 for parts in tasks), name
        assert all(parts["backbone"] == 4 * sizes["parameters"] for parts in tasks)
        assert len(in_words(tasks[0], True, str).splitlines()) == 1


def first_task(method, *settings):
    """The estimate's parts on the embedded CLIP, and the model's sizes."""
    config = ratios.config_of(method, "cpu", {}, settings)
    _, checked = estimate.check(config)
    sizes, facts = ratios.shared(config.backbone).describe(), imported(METHODS[method].holds)
    return memory_by_task(sizes, 64, facts=facts, settings=vars(checked))[0], sizes


def test_what_is_trained_is_counted_by_tower():
    (both, sizes), (image, _), (text, _) = (first_task("finetune", f"towers={t}") for t in ("both", "image", "text"))
    assert both["copied"] == 4 * sizes["parameters"] and both["training"] == 12 * sizes["parameters"]
    visual = sum(p.numel() for p in ratios.shared("micro-clip").clip.visual.parameters())
    assert image["copied"] == pytest.approx(4 * visual, rel=0.001)
    assert image["copied"] + text["copied"] == both["copied"]
    assert max(image["activations"], text["activations"]) < both["activations"]


def test_reference_pairs_count_as_pictures_and_texts_of_a_step():
    beside, _ = first_task("gnsp", "reference_batch=64")
    alone, _ = first_task("gnsp", "distillation=0", "alignment=0")
    assert beside.pop("activations") > 1.9 * alone.pop("activations")
    assert beside == alone


def test_a_method_that_says_nothing_of_itself_is_said_not_to_be_counted():
    sizes = ratios.shared("micro-vit").describe()
    said = in_words(memory_needed(sizes, 64), False, lambda size: f"{size} B")
    assert "what the method itself holds" in said and "estimate" in said and f"{4 * sizes['parameters']} B" in said
    assert "what the method itself holds" not in in_words(memory_needed(sizes, 64), True, str)
