"""timm: and open_clip: models: real architectures without weights, small checkpoints loaded back, refusals."""

import pickle

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file

from cl_core import hf_cache
from cl_core.backbones import open_clip_models, timm_models, weight_files
from cl_core.backbones.vit import ViTBackbone
from cl_core.config import ConfigError, Preprocessing
from cl_core.estimate import ON_THE_WAY, PROMPTED, memory_needed
from cl_core.hf_cache import models_at_hand
from cl_core.registry import BACKBONES, load, lookup


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """No weights at hand, and no network: a connection would fail the test."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv(hf_cache.DOWNLOAD, raising=False)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("something went over the network"))
    return tmp_path / "hub"


def refused(name):
    with pytest.raises(ConfigError) as caught:
        load(BACKBONES, name, "backbone")()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- timm


@pytest.mark.parametrize(
    ("name", "tokens", "prefix", "width", "side"),
    [
        ("vit_base_patch16_224", 197, 1, 768, 224),
        ("vit_tiny_patch16_384", 577, 1, 192, 384),
        ("vit_large_patch14_clip_224", 257, 1, 1024, 224),
        ("vit_small_patch14_reg4_dinov2", 1374, 5, 384, 518),
        ("vit_medium_patch16_gap_256", 256, 0, 512, 256),
        ("deit3_small_patch16_224", 197, 1, 384, 224),
    ],
)
def test_sizes_of_plain_vits_are_known_without_weights(name, tokens, prefix, width, side):
    told = timm_models.plan(name)
    assert (told["tokens"], told["prefix_tokens"], told["width"], told["image_size"]) == (tokens, prefix, width, side)
    assert told["missing"] and not told["file"]
    assert all(p.device.type == "meta" for p in timm_models.timm_vit(name, weights=False).parameters())


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "vit_wee_patch16_reg1_gap_256", "vit_xsmall_patch16_clip_224"]
)
def test_an_untrained_architecture_computes_what_timm_computes(name):
    backbone = load(BACKBONES, f"timm:{name}@random", "backbone")()
    images = torch.randn(1, 3, backbone.preparation.size, backbone.preparation.size)
    with torch.no_grad():
        pooled = backbone(images).pooled
        prompted = backbone(images, prompts=torch.randn(2, 3, backbone.width)).pooled
        expected = backbone.vit(images)
    torch.testing.assert_close(pooled, expected, atol=1e-4, rtol=1e-4)
    assert pooled.shape == (1, backbone.pooled_width) and not torch.equal(pooled, prompted)
    again = load(BACKBONES, f"timm:{name}@random", "backbone")()
    assert torch.equal(again.vit.blocks[0].attn.qkv.weight, backbone.vit.blocks[0].attn.qkv.weight)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("deit_tiny_distilled_patch16_224", "distillation token"),
        ("vit_tiny_r_s16_p8_224", "a hybrid"),
        ("vit_base_patch16_rpn_224", "ResPostBlock, which normalises after its branches"),
        ("vit_base_patch16_siglip_224", "pools by map"),
        ("vit_srelpos_small_patch16_224", "VisionTransformerRelPos"),
        ("swin_tiny_patch4_window7_224", "SwinTransformer"),
        ("resnet18", "ResNet"),
    ],
)
def test_what_is_no_plain_vit_is_refused_with_the_reason(name, reason):
    with pytest.raises(ConfigError, match=f"timm:{name} is not a plain Vision Transformer: .*{reason}"):
        timm_models.plan(name)


@pytest.mark.parametrize("block", ["ParallelScalingBlock", "ParallelThingsBlock", "DiffParallelScalingBlock"])
def test_parallel_blocks_are_refused(block):
    vit = timm.models.VisionTransformer(
        img_size=16, patch_size=8, embed_dim=32, depth=1, num_heads=2, num_classes=0,
        block_fn=getattr(timm.models.vision_transformer, block),
    )  # fmt: skip
    with pytest.raises(ConfigError, match=f"block 0 is a {block}, with parallel branches"):
        ViTBackbone(vit, "mine", Preprocessing(16, (0.5,) * 3, (0.5,) * 3))


def test_gated_attention_and_other_norms_are_refused():
    small = {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2, "num_classes": 0}
    gated = timm.models.VisionTransformer(**small)
    gated.blocks[0].attn.gate = torch.nn.Linear(32, 32)
    other = timm.models.VisionTransformer(**small, norm_layer="rmsnorm")
    for vit, reason in ((gated, "block 0 gates its attention"), (other, "normalises by RmsNorm")):
        with pytest.raises(ConfigError, match=reason):
            ViTBackbone(vit, "mine", Preprocessing(16, (0.5,) * 3, (0.5,) * 3))


@pytest.fixture(scope="module")
def tiny():
    """A real timm architecture with weights that nobody else has, classifier included."""
    vit = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=7)
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(value.shape, generator=generator) * 0.05 for name, value in vit.state_dict().items()}


@pytest.mark.parametrize("file", ["w.safetensors", "w.pth", "nested.bin"])
def test_weights_come_back_from_a_file(tmp_path, tiny, file):
    if file.endswith(".safetensors"):
        save_file(tiny, tmp_path / file)
    else:
        torch.save(
            {"state_dict": {f"module.{n}": v for n, v in tiny.items()}} if "nested" in file else tiny, tmp_path / file
        )
    backbone = load(BACKBONES, f"timm:vit_tiny_patch16_224@{tmp_path / file}", "backbone")()
    state = backbone.vit.state_dict()
    assert all(torch.equal(state[name], tiny[name]) for name in state) and "head.weight" not in state
    assert timm_models.plan(f"vit_tiny_patch16_224@{tmp_path / file}")["bytes"] == (tmp_path / file).stat().st_size


def test_weights_come_from_the_hubs_cache(empty_cache, tiny):
    name = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    snapshot = empty_cache / f"models--timm--{name}" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    save_file(tiny, snapshot / "model.safetensors")
    for asked in (name, "vit_tiny_patch16_224"):
        state = load(BACKBONES, f"timm:{asked}", "backbone")().vit.state_dict()
        assert torch.equal(state["blocks.3.mlp.fc1.weight"], tiny["blocks.3.mlp.fc1.weight"])
    (found,) = models_at_hand()
    assert (found.name, found.file) == (f"timm:{name}", snapshot / "model.safetensors")
    assert found.bytes == found.file.stat().st_size


def test_weights_of_another_architecture_are_refused(tmp_path, tiny):
    save_file(tiny, tmp_path / "w.safetensors")
    assert "do not fit" in refused(f"timm:vit_small_patch16_224@{tmp_path / 'w.safetensors'}")
    less = {name: value for name, value in tiny.items() if name != "blocks.5.norm1.weight"}
    save_file(less, tmp_path / "less.safetensors")
    assert "blocks.5.norm1.weight is missing" in refused(f"timm:vit_tiny_patch16_224@{tmp_path / 'less.safetensors'}")


class Trap:
    """A pickle that would run code when it is read."""

    def __reduce__(self):
        return (pytest.fail, ("code of a weights file was run",))


def test_files_that_hold_code_or_nothing_are_refused_in_a_sentence(tmp_path):
    (tmp_path / "trap.bin").write_bytes(pickle.dumps(Trap()))
    torch.save({"model": Trap()}, tmp_path / "trap.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    for file, reason in (
        ("trap.bin", "save as .safetensors"),
        ("trap.pth", "save as .safetensors"),
        ("cut.safetensors", "damaged"),
        ("none.pth", "no tensors"),
        ("absent.pth", "there is no weights file"),
    ):
        assert reason in refused(f"timm:vit_tiny_patch16_224@{tmp_path / file}")


def test_without_the_weights_one_sentence_says_what_where_and_what_else(empty_cache):
    for name, repository, file in (
        (
            "timm:vit_base_patch16_224",
            "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
            "timm:vit_base_patch16_224@FILE",
        ),
        ("open_clip:ViT-B-16/openai", "timm/vit_base_patch16_clip_224.openai", "open_clip:ViT-B-16@FILE"),
    ):
        sentence = refused(name)
        for part in (repository, str(empty_cache), hf_cache.DOWNLOAD, file, "micro-vit"):
            assert part in sentence


def test_only_the_switch_lets_something_be_fetched(monkeypatch, empty_cache, tmp_path):
    asked = []

    def fetch(repository, file, cache_dir):
        asked.append((repository, file, cache_dir))
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    refused("timm:vit_tiny_patch16_224")
    assert asked == []
    monkeypatch.setenv(hf_cache.DOWNLOAD, "1")
    sentence = refused("timm:vit_tiny_patch16_224")
    assert "could not be fetched" in sentence and "no route to host" in sentence and str(empty_cache) in sentence
    assert asked == [("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", "model.safetensors", empty_cache)]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("timm:vit_bas_patch16_224", "builds no model 'vit_bas_patch16_224'; did you mean .*vit_base_patch16_224"),
        ("timm:vit_base_patch16_224.nope", "no weights 'nope' for vit_base_patch16_224; known: .*augreg_in21k"),
        ("open_clip:ViT-B-61/openai", "builds no model 'ViT-B-61'; did you mean .*ViT-B-16"),
        ("open_clip:ViT-B-16/nope", "no weights 'nope' for ViT-B-16; known: openai"),
        ("open_clip:ViT-B-16", "names no weights; write open_clip:ViT-B-16/TAG with one of openai"),
        ("tim:vit_base_patch16_224", "unknown backbone .*Did you mean timm:vit_base_patch16_224?"),
        ("timm:", "says nothing after the colon; write timm:NAME"),
    ],
)
def test_names_that_do_not_exist_are_refused_with_the_nearest(name, sentence):
    import re

    assert re.search(sentence, refused(name))


def test_names_are_canonical_and_their_files_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for written, meant in (
        ("open-clip:ViT-B-16/openai", "open_clip:ViT-B-16/openai"),
        ("open_clip:ViT-B-16/w.safetensors", f"open_clip:ViT-B-16@{tmp_path}/w.safetensors"),
        ("open_clip:ViT-B-16//w/x.pt", "open_clip:ViT-B-16@/w/x.pt"),
        ("timm:vit_tiny_patch16_224@w.bin", f"timm:vit_tiny_patch16_224@{tmp_path}/w.bin"),
        ("timm:vit_tiny_patch16_224@random", "timm:vit_tiny_patch16_224@random"),
    ):
        name, entry = lookup(BACKBONES, written, "backbone")
        assert name == meant == lookup(BACKBONES, name, "backbone")[0] and entry.needs in ("vit", "clip")


# ---------------------------------------------------------------- open_clip


def test_sizes_of_open_clip_models_are_known_without_weights():
    told = open_clip_models.plan("ViT-B-16/openai")
    assert (told["tokens"], told["width"], told["joint_width"], told["text_depth"]) == (197, 768, 512, 12)
    assert told["missing"] and open_clip_models.plan("ViT-L-14@random")["width"] == 1024


def test_open_ais_weights_get_their_own_activation():
    assert open_clip_models._source("ViT-B-16/openai").model["quick_gelu"]
    assert not open_clip_models._source("ViT-B-16/laion2b_s34b_b88k").model.get("quick_gelu")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("RN50/openai", "ResNet"),
        ("coca_ViT-B-32/laion2b_s13b_b90k", "writes captions"),
        ("ViT-B-16-SigLIP/webli", "not a plain CLIP"),
        ("roberta-ViT-B-32/laion2b_s12b_b32k", "another library's"),
        ("convnext_base/laion400m_s13b_b51k", "timm's"),
    ],
)
def test_what_is_no_plain_clip_is_refused_with_the_reason(name, reason):
    with pytest.raises(ConfigError, match=reason):
        open_clip_models.plan(name)


SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "layers": 1, "width": 64},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def test_a_clip_checkpoint_comes_back_from_the_cache_and_from_a_file(empty_cache, tmp_path, monkeypatch):
    import json

    torch.manual_seed(0)
    clip = open_clip.model.CLIP(**SMALL).eval()
    snapshot = empty_cache / "models--me--small" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    save_file(clip.state_dict(), snapshot / "open_clip_model.safetensors")
    described = {"model_cfg": SMALL, "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]}}
    (snapshot / "open_clip_config.json").write_text(json.dumps(described))
    (found,) = models_at_hand()
    assert found.name == "open_clip:hf-hub:me/small"
    backbone = load(BACKBONES, found.name, "backbone")()
    assert backbone.preparation == Preprocessing(16, (0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    images, tokens = torch.randn(2, 3, 16, 16), backbone.tokenize(["a cat", "two dogs"])
    with torch.no_grad():
        torch.testing.assert_close(backbone(images).pooled, clip.encode_image(images), atol=1e-5, rtol=1e-4)
        expected = clip.encode_text(tokens, normalize=True)
        torch.testing.assert_close(backbone.encode_text(tokens), expected, atol=1e-5, rtol=1e-4)
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: json.loads(json.dumps(SMALL)))
    file = snapshot / "open_clip_model.safetensors"
    again = load(BACKBONES, f"open_clip:ViT-B-32@{file}", "backbone")()
    assert torch.equal(again.clip.visual.proj, clip.visual.proj)
    monkeypatch.undo()
    monkeypatch.setenv("HF_HUB_CACHE", str(empty_cache))
    assert "do not fit open_clip:ViT-B-32" in refused(f"open_clip:ViT-B-32@{file}")


# ---------------------------------------------------------------- estimates


def test_the_estimate_of_memory_grows_with_the_batch_and_covers_what_a_step_keeps():
    backbone = load(BACKBONES, "micro-vit", "backbone")()
    images = torch.randn(4, 3, 32, 32)
    prompts = torch.zeros(backbone.depth, 4, backbone.width, requires_grad=True)
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        backbone(images, prompts=prompts).pooled.sum().backward()
    weights = {p.untyped_storage().data_ptr() for p in backbone.parameters()}
    measured = sum(size for place, (size, _) in kept.items() if place not in weights)
    sizes = backbone.describe()
    parts = memory_needed(sizes, 4)
    assert parts["backbone"] == 4 * sizes["parameters"] and "training" not in parts
    assert measured <= parts["activations"] <= 1.5 * measured
    assert memory_needed(sizes, 12)["activations"] == 3 * parts["activations"]
    assert memory_needed(sizes, 0) == {"backbone": parts["backbone"]}
    # of a block alone: without gradients on their way
    own = parts["activations"] * PROMPTED * sizes["depth"] / (PROMPTED * sizes["depth"] + ON_THE_WAY)
    assert 0.9 <= own / measured <= 1.25


def test_a_cache_that_is_not_there_is_empty(empty_cache):
    assert models_at_hand() == [] and hf_cache.cached("a/b", ("x",)) is None
    assert weight_files.missing("timm:x", "a/b")
