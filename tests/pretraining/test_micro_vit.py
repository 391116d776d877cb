"""Pre-training repeats exactly, resumes exactly, shows no digit, and exports a genuine timm model."""

import argparse
import hashlib
import itertools
import json
import sys

import pytest
import timm
import torch
from safetensors.torch import load_file

from cl_core.cli import pretrain as command
from cl_core.pretraining import micro_vit
from cl_core.pretraining.micro_vit import MicroVitSettings, pretrain
from cl_core.pretraining.trainer import learning_rate_share
from cl_core.synthetic_world import DIGIT_KINDS, atlas

TINY = MicroVitSettings(images=96, batch=16, width=24, heads=2, depth=1, warm_up_steps=2)


def final_weights(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in ("model", "average"):
        for key, value in first[name].items():
            assert torch.equal(value, second[name][key]), key
    assert torch.equal(first["generator"], second["generator"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretraining")
    card = pretrain(TINY, folder, export_to=folder / "weights", evaluation_images=64)
    return folder, card


def test_a_run_stopped_and_resumed_equals_the_uninterrupted_one_exactly(finished, tmp_path):
    assert pretrain(TINY, tmp_path, stop_at_step=3) is None
    assert final_weights(tmp_path)["step"] == 3
    pretrain(TINY, tmp_path, resume=True, evaluation_images=64)
    assert_same(final_weights(finished[0]), final_weights(tmp_path))


def test_evaluating_in_between_changes_nothing(finished, tmp_path):
    pretrain(TINY, tmp_path, evaluate_every=48, evaluation_images=64)
    assert_same(final_weights(finished[0]), final_weights(tmp_path))


def test_another_seed_gives_other_weights(finished, tmp_path):
    pretrain(MicroVitSettings(**{**vars(TINY), "seed": 1}), tmp_path, evaluation_images=64)
    first, other = final_weights(finished[0])["average"], final_weights(tmp_path)["average"]
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_no_digit_is_ever_shown(monkeypatch, tmp_path):
    shown = set()
    original = micro_vit.draw

    def watched(scenes, generator):
        shown.update(scenes.kind.tolist())
        return original(scenes, generator)

    monkeypatch.setattr(micro_vit, "draw", watched)
    pretrain(TINY, tmp_path, evaluation_images=64)
    assert shown and not shown & set(DIGIT_KINDS)


def test_the_export_loads_strictly_into_timm_and_its_description_is_true(finished):
    folder, card = finished
    weights = folder / "weights" / "model.safetensors"
    described = json.loads((folder / "weights" / "config.json").read_text(encoding="utf-8"))
    assert described == json.loads(json.dumps(card))
    assert described["complete"] and described["images_seen"] == 96
    assert described["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    model = timm.create_model(**described["architecture"])
    model.load_state_dict(load_file(weights), strict=True)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, TINY.width)
    assert described["weights_sha256"] in (folder / "weights" / "README.md").read_text(encoding="utf-8")


def test_resuming_with_other_settings_or_without_a_checkpoint_says_what_is_wrong(finished, tmp_path):
    with pytest.raises(ValueError, match="other settings \\(learning_rate\\)"):
        pretrain(MicroVitSettings(**{**vars(TINY), "learning_rate": 1e-4}), finished[0], resume=True)
    with pytest.raises(FileNotFoundError, match="no checkpoint to resume from"):
        pretrain(TINY, tmp_path, resume=True)


def test_the_learning_rate_rises_stays_and_falls():
    settings = MicroVitSettings(images=192_000)
    shares = [learning_rate_share(step, settings) for step in range(settings.steps)]
    assert shares[0] == pytest.approx(1 / 200) and shares[200] == shares[599] == 1.0
    assert all(later <= earlier for earlier, later in itertools.pairwise(shares[200:]))
    assert shares[-1] == pytest.approx(settings.final_rate, abs=0.01)


def test_the_command_writes_weights_and_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(micro_vit, "MicroVitSettings", lambda **chosen: MicroVitSettings(**{**vars(TINY), **chosen}))
    original = micro_vit.pretrain
    monkeypatch.setattr(micro_vit, "pretrain", lambda *a, **k: original(*a, **k, evaluation_images=64))
    parser = argparse.ArgumentParser()
    command.configure(parser)
    arguments = parser.parse_args(["micro-vit", "--images", "64", "--folder", str(tmp_path), "--device", "cpu"])
    assert command.execute(arguments) == 0
    assert "images/s" in (output := capsys.readouterr().out) and "wrote" in output
    assert (tmp_path / "model.safetensors").exists()


def test_the_command_answers_a_missing_checkpoint_with_one_sentence(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.configure(parser)
    arguments = parser.parse_args(["micro-vit", "--folder", str(tmp_path), "--resume", "--device", "cpu"])
    assert command.execute(arguments) == 1
    assert capsys.readouterr().err.strip().count("\n") == 0


def test_a_missing_matplotlib_is_answered_with_one_sentence_naming_the_way_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    atlas.load_atlas.cache_clear()
    parser = argparse.ArgumentParser()
    command.configure(parser)
    arguments = parser.parse_args(["micro-vit", "--images", "192", "--folder", str(tmp_path), "--device", "cpu"])
    assert command.execute(arguments) == 1
    message = capsys.readouterr().err.strip()
    assert message.endswith("reinstall Plastiscope, which brings it") and message.count("\n") == 0
