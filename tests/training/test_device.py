"""Devices and precision: what is chosen, what is computed in which type, and that nothing is left on another device.

Where torch finds a GPU the runs here are trained on it as well; elsewhere `elsewhere.py` stands in for one.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from cl_core.backbones.vit import random_vit
from cl_core.config import ConfigError, RunConfig
from cl_core.events import Clock
from cl_core.observers.gap import ModalityGap
from cl_core.observers.landing import landed
from cl_core.observers.probe import Probe
from cl_core.registry import METHODS
from cl_core.training import factory as build_module
from cl_core.training.device import choose_precision, use_granted_cores
from cl_core.training.factory import build
from cl_core.training.train_step import numbers

from .elsewhere import DEVICE, Elsewhere

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
CLIP = {"backbone": "random-clip", "stream": "synthetic-domains", "training": {"batch_size": 50, "epochs": 1}}
VIT = {"training": {"batch_size": 50, "epochs": 1}}
SHORT = {
    "star_prompt": {
        "companion": "random-clip", "draws": 16, "key_epochs": 1, "key_replay_epochs": 1, "replay_epochs": 1,
        "replay_growth": 0,
    },
    "mg_clip": {"epoch_rule": "fixed"},
    "ranpac": {"units": 60, "tuning_epochs": 1},
    "slca": {"draws": 8, "align_epochs": 1},
    "nsp2pp": {"draws": 8, "refine_epochs": 1},
    "clip_refine": {"refine_pairs": 40, "refine_batch": 20},
}  # fmt: skip


@pytest.fixture(scope="session")
def small(tiny_config):
    """Two tasks of two steps of any method."""

    def make(method, **others):
        sizes = CLIP if METHODS[method].needs == "clip" else VIT
        return tiny_config(method, tasks=2, settings=SHORT.get(method, {}), **{**sizes, **others})

    return make


# ---------------------------------------------------------------- precision


def test_precision_is_narrow_by_itself_only_on_a_gpu_that_has_it(monkeypatch):
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert choose_precision("auto", gpu) == torch.bfloat16 and choose_precision("float32", gpu) == torch.float32
    assert choose_precision("auto", cpu) == torch.float32 and choose_precision("bf16", cpu) == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr("cl_core.training.device.title", lambda device: "cuda:0 (old)")
    assert choose_precision("auto", gpu) == torch.float32
    with pytest.raises(ConfigError, match=r"cuda:0 \(old\) has no bfloat16; use --precision float32"):
        choose_precision("bf16", gpu)


def test_the_setting_is_checked_and_at_its_default_leaves_a_runs_text_as_it_was():
    with pytest.raises(ConfigError, match="precision must be one of auto, float32, bf16, got 'half'"):
        RunConfig("nsp2", precision="half")
    assert "precision" not in RunConfig("nsp2").fingerprint()
    assert RunConfig("nsp2", precision="bf16").fingerprint() != RunConfig("nsp2").fingerprint()
    earlier = RunConfig("nsp2").to_dict()
    del earlier["precision"]
    assert RunConfig.from_dict(earlier) == RunConfig("nsp2")


@pytest.mark.parametrize("name", DEVICES)
def test_only_the_inside_of_the_backbone_is_narrow(name, seeded):
    backbone = random_vit().to(name)
    images = torch.randn(4, 3, 16, 16, generator=seeded(0)).to(name)
    seen = []
    backbone.vit.blocks[0].mlp.fc1.register_forward_hook(lambda module, inputs, out: seen.append(out.dtype))
    taps = (("q", 0), ("output", 1))
    whole = backbone(images, taps=taps)
    with backbone.computing_in(torch.bfloat16):
        narrow = backbone(images, taps=taps)
        product = narrow.pooled @ narrow.pooled.mT
        with backbone.computing_in(torch.float32):
            again = backbone(images, taps=taps)
    assert seen == [torch.float32, torch.bfloat16, torch.float32]
    assert {narrow.pooled.dtype, product.dtype, *(value.dtype for value in narrow.taps.values())} == {torch.float32}
    assert torch.equal(again.pooled, whole.pooled) and not torch.equal(narrow.pooled, whole.pooled)
    torch.testing.assert_close(narrow.pooled, whole.pooled, atol=0.05, rtol=0.05)
    assert torch.equal(backbone(images, taps=taps).pooled, whole.pooled), "after the block all is as before"


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("method", ["nsp2", "l2p", "split_lora", "star_prompt", "nusa_cl"])
def test_a_run_in_bfloat16_learns_with_weights_moments_and_state_in_full_precision(method, name, small):
    config = small(method, device=name, precision="bf16")
    trainer, exact = build(config), build(small(method, device=name, precision="float32"))
    losses = [[e.losses["total"] for m in t.run() for e in m if e.kind == "StepEnded"] for t in (trainer, exact)]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.1)
    kinds = Counter(value.dtype for value in trainer.state()["method"].values() if value.is_floating_point())
    assert set(kinds) <= {torch.float32, torch.float64} and kinds == Counter(
        value.dtype for value in exact.state()["method"].values() if value.is_floating_point()
    )


def test_a_run_says_what_it_was_computed_in(small):
    for precision, said in (("auto", "float32"), ("bf16", "bfloat16")):
        started = next(build(small("sequential", precision=precision)).run())[0]
        assert started.environment["precision"] == said


# ---------------------------------------------------------------- one copy a step


def test_numbers_are_exact_and_come_in_one_copy():
    tables = [{"a": torch.tensor(0.1), "b": torch.tensor(2.0, dtype=torch.float64)}, {}, {"c": torch.tensor(1 / 3)}]
    assert numbers(*tables) == [{k: float(v) for k, v in table.items()} for table in tables]
    with Elsewhere() as device:
        there = [{name: value.to(DEVICE) for name, value in table.items()} for table in tables]
        assert numbers(*there) == numbers(*tables) and len(device.waits) == 1


@pytest.fixture
def abroad(monkeypatch):
    """Runs are trained on the device that is not there."""
    monkeypatch.setattr(build_module, "choose_device", lambda name: DEVICE)
    monkeypatch.setattr(build_module, "choose_precision", lambda name, device: torch.float32)


def stage(moment):
    """What a moment is the end of."""
    kinds, told = {event.kind for event in moment}, {"TaskEnded": "survey", "AccuracyMeasured": "measure"}
    told |= {"EpochEnded": "epoch", "StepEnded": "step"}
    return next((name for kind, name in told.items() if kind in kinds), "other")


def inside(value):
    """A value and all that it holds."""
    yield value
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from inside(part)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "joint"])
def test_a_whole_run_mixes_no_devices_waits_as_rarely_as_it_can_and_says_no_tensor(method, small, abroad):
    config, waited = small(method), []
    with Elsewhere() as device:
        for moment in build(config).run():
            waited.append((stage(moment), len(device.waits)))
            assert not [event for event in moment for x in inside(event.body()) if isinstance(x, torch.Tensor)]
            device.waits.clear()
    often = {"replay": 12, "gnsp": 12, "mg_clip": 8}  # which draw on the CPU, or derive much in a first step
    allowed = {"step": often.get(method, 4), "epoch": often.get(method, 4)}
    # An end of task asks for the rank of every cut (KeepLoRA: of 16 maps), STAR-Prompt for mixtures, fitted on the CPU.
    allowed |= {"survey": {"star_prompt": 180, "keeplora": 70}.get(method, 50), "measure": 24}
    assert [found for found in waited if found[1] > allowed.get(found[0], 90)] == []


def test_a_look_at_probe_images_a_survey_with_spectra_and_the_gap_are_read_together(small, abroad):
    with Elsewhere() as device:
        trainer, surveyed = build(small("nsp2")), []
        for moment in trainer.run():
            if any(event.kind == "SpectrumMeasured" for event in moment):
                surveyed.append(len(device.waits))
            device.waits.clear()
        assert len(surveyed) == 2 and max(surveyed) <= 11
        probe = trainer.observers.find(Probe)
        looked = probe.compare(trainer.method, trainer.backbone, [0, 1], Clock(), lambda task: range(10))
        assert device.waits == [] and len(looked) == 4
        assert len(landed(looked)) == 4 and len(device.waits) == 1

        clip = build(small("finetune"))
        gap, waits = clip.observers.find(ModalityGap), []
        for _ in range(2):
            device.waits.clear()
            assert len(gap.measure(clip.method, clip.backbone, Clock())) == 1 + len(clip.stream)
            waits.append(len(device.waits))
        # What the weights contain, two passes of the text tower (sentences, classes), and everything together; only the
        # first where no weight moved.
        assert waits == [4, 1]


def test_what_a_run_on_the_device_measures_is_what_one_on_the_processor_does(small, abroad, monkeypatch):
    config = small("nsp2")
    with Elsewhere():
        there = [event for moment in build(config).run() for event in moment]
    monkeypatch.undo()
    here = [event for moment in build(config).run() for event in moment]
    assert [event.kind for event in there] == [event.kind for event in here]
    for one, other in zip(there, here, strict=True):
        if one.kind == "StepEnded":
            assert one.losses == pytest.approx(other.losses, rel=1e-4)
        if one.kind == "AccuracyMeasured":
            assert one.row == pytest.approx(other.row, abs=4.1)  # two of fifty images


@pytest.mark.parametrize(
    ("given", "found"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 8), ("1600000 100000", 8)]
)
def test_a_container_is_not_crowded_with_more_threads_than_it_has_cores(given, found, tmp_path, monkeypatch):
    limits, kept = tmp_path / "cpu.max", [8]
    limits.write_text(given + "\n")
    monkeypatch.setattr(torch, "get_num_threads", lambda: kept[-1])
    monkeypatch.setattr(torch, "set_num_threads", kept.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert use_granted_cores(limits) == 8 and kept == [8], "what was said stays"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert use_granted_cores(limits) == found == kept[-1]
    assert use_granted_cores(tmp_path / "none") == found


def test_statistics_read_features_of_the_precision_they_were_taken_in(small):
    """In bfloat16 the trained heads see what training saw; readouts by stored statistics see float32 features."""
    trainer, seen = build(small("sequential", precision="bf16")), {}
    readouts = {
        name: lambda pooled, rivals, name=name: seen.setdefault(name, pooled)[:, : len(rivals)]
        for name in ("class-incremental", "stored statistics")
    }
    next(trainer.run())
    trainer.evaluation._right(0, readouts, trainer.stream[0].classes)
    batch = next(trainer.feed.ordered(trainer.stream[0], "test", trainer.evaluation.batch))
    exact = trainer.evaluation.features(batch).pooled
    assert torch.equal(seen["stored statistics"], exact) and not torch.equal(seen["class-incremental"], exact)
