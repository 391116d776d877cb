"""The second stage: an exact hand-over, exact resumption, a cut tokenizer, an export that open_clip itself opens."""

import gzip
import hashlib
import json

import open_clip
import pytest
import timm
import torch
from safetensors.torch import load_file

from cl_core.assets import assets_folder
from cl_core.cli.pretrain import _clip_told
from cl_core.pretraining import micro_clip
from cl_core.pretraining.micro_clip import (
    MicroClipSettings,
    contrastive_loss,
    cut_merges,
    image_tower_weights,
    pretrain,
    questions,
)
from cl_core.synthetic_world import captions, known_words, sample_scenes

TINY = MicroClipSettings(images=64, batch=16, warm_up_steps=2, text_width=32, text_heads=2, text_depth=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretraining")
    card = pretrain(TINY, folder, export_to=folder / "weights", evaluation_images=64)
    return folder, card


def test_the_hand_over_from_the_vit_is_exact():
    settings = MicroClipSettings()
    card = json.loads((assets_folder() / "micro-vit" / "config.json").read_text("utf-8"))
    vit = timm.create_model(**card["architecture"]).eval()
    vit.load_state_dict({k: v.float() for k, v in load_file(assets_folder() / "micro-vit/model.safetensors").items()})
    visual = open_clip.model.CLIP(**settings.architecture(card["architecture"])).visual.eval()
    visual.load_state_dict({**image_tower_weights(vit.state_dict()), "proj": torch.eye(192)[:, :128]})
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(visual(images), vit(images)[:, :128], atol=1e-5, rtol=1e-5)


def test_a_trunk_with_foreign_parts_is_refused():
    weights = {"pos_embed": torch.zeros(1, 2, 4), "patch_embed.proj.bias": torch.zeros(4)}
    others = ("patch_embed.proj.weight", "norm.weight", "norm.bias")
    weights |= {name: torch.zeros(4) for name in others} | {"cls_token": torch.zeros(1, 1, 4)}
    with pytest.raises(ValueError, match=r"no place for: blocks\.0\.gate\.weight"):
        image_tower_weights({**weights, "blocks.0.gate.weight": torch.zeros(4)})


def test_a_run_stopped_and_resumed_equals_the_uninterrupted_one_exactly(finished, tmp_path):
    assert pretrain(TINY, tmp_path, stop_at_step=2) is None
    pretrain(TINY, tmp_path, resume=True, evaluation_images=64)
    mine, theirs = (torch.load(f / "checkpoint.pt", weights_only=True)["average"] for f in (finished[0], tmp_path))
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_the_export_opens_in_open_clip_and_its_description_is_true(finished):
    folder, card = finished
    weights = folder / "weights"
    assert json.loads((weights / "open_clip_config.json").read_text("utf-8")) == json.loads(json.dumps(card))
    assert card["complete"] and card["images_seen"] == 64
    digest = hashlib.sha256((weights / "open_clip_model.safetensors").read_bytes()).hexdigest()
    assert card["weights_sha256"] == digest and digest in (weights / "README.md").read_text("utf-8")
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{weights}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{weights}", bpe_path=str(weights / "micro_bpe.txt.gz"))
    assert model.encode_text(tokenizer(["a red star"])).shape == (1, 128)
    assert "zero-shot kind" in _clip_told(card["accuracy_percent"])
    assert set(card["accuracy_percent"]["zero_shot"]["seen"]) == set(questions())


def test_equal_captions_share_the_target():
    image = torch.nn.functional.normalize(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    text = image[[0, 0, 2]]
    scale = torch.tensor(5.0)
    shared = contrastive_loss(image[[0, 0, 2]], text, scale, ["a star", "a star", "a heart"])
    apart = contrastive_loss(image[[0, 0, 2]], text, scale, ["a star", "stars", "a heart"])
    torch.testing.assert_close(shared, apart)  # the two rows are the same pair: sharing costs and gains nothing
    z = 5.0 * image @ image.mT
    expected = 0.5 * sum(torch.nn.functional.cross_entropy(m, torch.arange(3)) for m in (z, z.mT))
    torch.testing.assert_close(contrastive_loss(image, image, scale, ["a", "b", "c"]), expected)


def test_captions_break_into_the_pieces_of_the_full_tokenizer(finished):
    full = open_clip.tokenizer.SimpleTokenizer(context_length=20)
    cut = open_clip.tokenizer.SimpleTokenizer(str(finished[0] / "micro_bpe.txt.gz"), context_length=20)
    generator = torch.Generator().manual_seed(0)
    for text in {*captions(sample_scenes(300, generator), generator), *known_words()}:
        assert [cut.decoder[i] for i in cut.encode(text)] == [full.decoder[i] for i in full.encode(text)]
    assert cut.encode("zebra crossing") and len(cut.encoder) == 514 + len(cut_merges())
    shipped = gzip.decompress((assets_folder() / "micro-clip" / "micro_bpe.txt.gz").read_bytes())
    assert shipped == gzip.decompress((finished[0] / "micro_bpe.txt.gz").read_bytes())


def test_no_caption_outgrows_the_context():
    generator = torch.Generator().manual_seed(1)
    tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=77)
    longest = max(len(tokenizer.encode(text)) for text in captions(sample_scenes(3000, generator), generator))
    assert longest + 2 <= micro_clip.MicroClipSettings().context_length
