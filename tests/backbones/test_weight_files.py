"""Weights as training scripts leave them: found, stripped, converted and merged, and said; or refused by name."""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cl_core.backbones import activations, timm_models
from cl_core.backbones.activations import other_activation_fits
from cl_core.backbones.adapters import merge
from cl_core.backbones.clip import ClipBackbone, micro_clip
from cl_core.backbones.hf_clip import WITHIN, converted
from cl_core.backbones.weight_files import Weights, fill, read_weights, without_prefix
from cl_core.config import ConfigError, Preprocessing
from cl_core.registry import BACKBONES, load, lookup

NAME = "vit_tiny_patch16_224"
SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "layers": 1, "width": 64},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def wild(model, seed=3):
    """A state_dict that nobody else has."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(value.shape, generator=generator) * 0.05 for name, value in model.state_dict().items()}


@pytest.fixture(scope="module")
def bare():
    """What the backbone holds: no classifier."""
    return wild(timm.create_model(NAME, num_classes=0))


def timm_backbone(file):
    return load(BACKBONES, f"timm:{NAME}@{file}", "backbone")()


def refused(name):
    with pytest.raises(ConfigError) as caught:
        load(BACKBONES, name, "backbone")()
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    return str(caught.value)


def prefixed(prefix, tensors):
    return {f"{prefix}{name}": value for name, value in tensors.items()}


# ---------------------------------------------------------------- names and nests


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "module._orig_mod.", "model.", "net.", "backbone.", "encoder.", "my.own.vit."]
)
def test_what_stands_before_all_names_is_taken_off_and_said(tmp_path, bare, prefix):
    torch.save({"state_dict": prefixed(prefix, bare)}, tmp_path / "w.pth")
    backbone = timm_backbone(tmp_path / "w.pth")
    assert all(torch.equal(value, bare[name]) for name, value in backbone.vit.state_dict().items())
    said = " ".join(backbone.notes)
    assert "names" in said and (prefix.split("_orig_mod.")[0] or "_orig_mod.") in said
    assert backbone.describe()["notes"] == backbone.notes


def test_what_stands_beside_the_backbone_is_left_out_and_said(tmp_path, bare):
    whole = {**prefixed("model.backbone.", bare), "model.neck.weight": torch.zeros(2), "loss.margin": torch.zeros(1)}
    torch.save(whole, tmp_path / "w.pth")
    notes = timm_backbone(tmp_path / "w.pth").notes
    assert any("stands beside: model.neck.weight, loss.margin" in note for note in notes)


@pytest.mark.parametrize(
    ("nest", "taken"),
    [
        (lambda b, o: {"state_dict_ema": b, "state_dict": o}, "state_dict_ema"),
        (lambda b, o: {"model": {"state_dict": b}, "epoch": 3}, ""),
        (lambda b, o: {"student": prefixed("backbone.", o), "teacher": prefixed("backbone.", b)}, "teacher"),
        (lambda b, o: {**prefixed("student.", o), **prefixed("teacher.", b)}, "teacher."),
        (lambda b, o: {"encoder": b, "optimizer": {"state": {}}}, "encoder"),
    ],
)
def test_nests_are_found_and_what_was_taken_is_said(tmp_path, bare, nest, taken):
    other = {name: torch.zeros_like(value) for name, value in bare.items()}
    torch.save(nest(bare, other), tmp_path / "w.pth")
    backbone = timm_backbone(tmp_path / "w.pth")
    assert torch.equal(backbone.vit.blocks[0].attn.qkv.weight, bare["blocks.0.attn.qkv.weight"])
    assert taken in " ".join(backbone.notes)


@pytest.mark.parametrize("head", ["fc", "classifier", "head", "heads", "projection_head"])
def test_heads_of_any_name_and_size_are_left_out_and_said(tmp_path, bare, head):
    torch.save({**bare, f"{head}.weight": torch.zeros(17, 192), f"{head}.bias": torch.zeros(17)}, tmp_path / "w.pth")
    assert any(f"{head}.weight, {head}.bias" in note for note in timm_backbone(tmp_path / "w.pth").notes)


def test_a_position_embedding_of_another_size_is_resampled_and_said(tmp_path):
    large = wild(timm.create_model("vit_tiny_patch16_384", num_classes=0))
    torch.save(large, tmp_path / "w.pth")
    backbone = timm_backbone(tmp_path / "w.pth")
    assert backbone.vit.pos_embed.shape[1] == 197
    assert "position embedding resampled from 577 to 197 tokens" in backbone.notes


def test_what_is_no_head_is_refused_and_another_form_is_named(tmp_path, bare):
    torch.save({**bare, "blocks.0.gate": torch.zeros(1)}, tmp_path / "a.pth")
    assert "blocks.0.gate has no place in it" in refused(f"timm:{NAME}@{tmp_path / 'a.pth'}")
    torch.save({"vit.encoder.layer.0.attention.attention.query.weight": torch.zeros(2)}, tmp_path / "b.pth")
    assert "Hugging Face transformers' names of a ViT" in refused(f"timm:{NAME}@{tmp_path / 'b.pth'}")


# ---------------------------------------------------------------- what lies beside the tensors


def test_settings_and_numbers_beside_the_tensors_are_read(tmp_path, bare):
    beside = {
        "args": argparse.Namespace(lr=0.1, output=Path("out"), names=["a"]),
        "best": np.float64(71.5), "count": np.int64(3), "share": np.float32(0.5), "right": np.bool_(True),
    }  # fmt: skip
    torch.save({"model": bare, **beside}, tmp_path / "w.pth")
    found = read_weights(tmp_path / "w.pth")
    assert found.tensors.keys() == bare.keys()


class Foreign:
    """A class that a file must not bring to life."""

    def __setstate__(self, state):
        pytest.fail("code of a weights file was run")


def test_other_objects_are_refused_by_their_name(tmp_path, bare):
    thing = Foreign()
    thing.a = 1
    torch.save({"model": bare, "thing": thing}, tmp_path / "w.pth")
    sentence = refused(f"timm:{NAME}@{tmp_path / 'w.pth'}")
    assert "tests.backbones.test_weight_files.Foreign, which is not plain data" in sentence


def test_a_torchscript_program_is_named_with_the_way_out(tmp_path):
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "w.pt")
    sentence = refused(f"timm:{NAME}@{tmp_path / 'w.pt'}")
    assert "TorchScript" in sentence and "torch.jit.load(FILE).state_dict()" in sentence


def test_a_prefix_is_only_taken_off_where_everything_is_found_below_it():
    weights = Weights({"a.x": torch.zeros(1), "a.y": torch.zeros(1), "b.x": torch.zeros(1)}, "w")
    assert without_prefix(weights, ["x", "y"]).tensors.keys() == {"x", "y"}
    assert without_prefix(weights, ["x", "y", "z"]) is weights
    assert without_prefix(weights, ["a.x"]) is weights


# ---------------------------------------------------------------- CLIP


def hugging_face_names(state):
    """open_clip's names as transformers writes them: the way back from what is tested."""
    found = {"logit_scale": state["logit_scale"]}
    found["visual_projection.weight"] = state["visual.proj"].mT.contiguous()
    found["text_projection.weight"] = state["text_projection"].mT.contiguous()
    for tower, ours, plain in (
        ("vision_model", "visual.", {"class_embedding": "embeddings.class_embedding",
         "conv1.weight": "embeddings.patch_embedding.weight",
         "positional_embedding": "embeddings.position_embedding.weight"}),
        ("text_model", "", {"token_embedding.weight": "embeddings.token_embedding.weight",
         "positional_embedding": "embeddings.position_embedding.weight"}),
    ):  # fmt: skip
        for name, theirs in plain.items():
            found[f"{tower}.{theirs}"] = state[ours + name]
        norms = {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm"} if ours else {"ln_final": "final_layer_norm"}
        for kind in ("weight", "bias"):
            for name, theirs in norms.items():
                found[f"{tower}.{theirs}.{kind}"] = state[f"{ours}{name}.{kind}"]
            block = f"{ours}transformer.resblocks.0"
            theirs = f"{tower}.encoder.layers.0"
            for letter, part in zip("qkv", state[f"{block}.attn.in_proj_{kind}"].chunk(3), strict=True):
                found[f"{theirs}.self_attn.{letter}_proj.{kind}"] = part.contiguous()
            for other, name in WITHIN.items():
                found[f"{theirs}.{other}.{kind}"] = state[f"{block}.{name}.{kind}"]
    return found


@pytest.fixture
def small_clip(monkeypatch):
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: json.loads(json.dumps(SMALL)))
    torch.manual_seed(0)
    return open_clip.model.CLIP(**SMALL).eval()


def test_hugging_faces_clip_names_are_converted(tmp_path, small_clip):
    state = wild(small_clip)
    theirs = {**hugging_face_names(state), "text_model.embeddings.position_ids": torch.arange(77)[None]}
    save_file(theirs, tmp_path / "w.safetensors")
    backbone = load(BACKBONES, f"open_clip:ViT-B-32@{tmp_path / 'w.safetensors'}", "backbone")()
    for name, value in backbone.clip.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert "Hugging Face's names turned into open_clip's" in backbone.notes
    theirs["vision_model.encoder.layers.0.mlp.gate.weight"] = torch.zeros(1)
    with pytest.raises(ConfigError, match=r"mlp\.gate\.weight, which open_clip has not"):
        converted(Weights(theirs, "w"))
    del theirs["vision_model.encoder.layers.0.mlp.gate.weight"]
    del theirs["vision_model.encoder.layers.0.self_attn.k_proj.weight"]
    with pytest.raises(ConfigError, match="lack k of"):
        converted(Weights(theirs, "w"))


def test_a_fine_tunes_nests_and_prefixes_are_found_for_clip_too(tmp_path, small_clip):
    state = wild(small_clip)
    torch.save({"epoch": 3, "state_dict": prefixed("module.", state)}, tmp_path / "w.pt")
    backbone = load(BACKBONES, f"open_clip:ViT-B-32@{tmp_path / 'w.pt'}", "backbone")()
    assert torch.equal(backbone.clip.visual.proj, state["visual.proj"]) and "module. taken off" in backbone.notes[0]
    del state["visual.proj"]
    torch.save(state, tmp_path / "v.pt")
    assert "visual.proj is missing" in refused(f"open_clip:ViT-B-32@{tmp_path / 'v.pt'}")


@pytest.fixture
def quick_clip():
    """A CLIP whose image features, with QuickGELU, are those of the probes' captions: as if it had been trained so."""
    torch.manual_seed(0)
    clip = open_clip.model.CLIP(**SMALL, quick_gelu=True).eval()
    preparation = Preprocessing(16, (0.5,) * 3, (0.5,) * 3)
    backbone = ClipBackbone(clip, "mine", preparation, open_clip.tokenizer.SimpleTokenizer())
    with torch.no_grad():
        mlp = clip.visual.transformer.resblocks[0].mlp
        mlp.c_fc.weight.mul_(2)
        mlp.c_fc.bias.fill_(-2.5)  # where the two differ most
        mlp.c_proj.weight.mul_(500)
        images, texts = activations._probes(backbone)
        words = clip.encode_text(backbone.tokenize(texts), normalize=True)
        clip.visual.proj.copy_(torch.eye(*clip.visual.proj.shape))
        pooled = torch.cat([clip.visual.ln_post(h) for h in [_pooled(clip, images)]])
        clip.visual.proj.copy_(torch.linalg.lstsq(pooled, words).solution)
        clip.logit_scale.fill_(math.log(60))
    return backbone


def _pooled(clip, images):
    """What the image tower feeds its last norm: [n, d]."""
    found = []
    hook = clip.visual.ln_post.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    clip.encode_image(images)
    hook.remove()
    return found[0][:, 0] if found[0].ndim == 3 else found[0]


def _swap(clip, activation):
    for module in list(clip.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, (nn.GELU, open_clip.transformer.QuickGELU)):
                setattr(module, name, activation())


def test_the_wrong_activation_is_told_by_the_probes(quick_clip):
    assert other_activation_fits(quick_clip, quick=True) == []
    _swap(quick_clip.clip, nn.GELU)
    (said,) = other_activation_fits(quick_clip, quick=False)
    assert "probably trained with QuickGELU, and the architecture has GELU" in said and "-quickgelu" in said
    kinds = {type(child).__name__ for module in quick_clip.clip.modules() for child in module.children()}
    assert "GELU" in kinds and "QuickGELU" not in kinds, "left as it was"


OPENAIS = {"input_resolution": torch.tensor(16), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}


@pytest.mark.parametrize(
    "more, beside, said",
    [
        (OPENAIS, {}, "QuickGELU (it holds input_resolution, context_length, vocab_size, as OpenAI's own do)"),
        ({}, {"config.json": {"model_type": "clip"}}, "QuickGELU (config.json beside it says quick_gelu)"),
        ({}, {"config.json": {"model_type": "clip", "vision_config": {"hidden_act": "gelu"}}}, ""),
        ({}, {"open_clip_config.json": {"model_cfg": {"quick_gelu": True}}}, "QuickGELU (open_clip_config.json beside"),
        ({}, {"config.json": [1]}, None),
        ({}, {}, None),
    ],
)
def test_the_activation_is_told_by_marks_of_the_file_and_by_what_lies_beside_it(
    tmp_path, small_clip, monkeypatch, more, beside, said
):
    """Half precision and a wrapper's prefix, as fine-tunes of OpenAI's models are saved; None: the probes are asked."""
    asked = []
    monkeypatch.setattr(
        "cl_core.backbones.open_clip_models.other_activation_fits", lambda *_: asked.append(1) or ["asked"]
    )
    state = {name: value.half() for name, value in wild(small_clip).items()}
    torch.save({"state_dict": prefixed("module.", {**state, **more})}, tmp_path / "w.pt")
    for name, card in beside.items():
        (tmp_path / name).write_text(json.dumps(card))
    backbone = load(BACKBONES, f"open_clip:ViT-B-32@{tmp_path / 'w.pt'}", "backbone")()
    assert torch.equal(backbone.clip.visual.proj, state["visual.proj"].float())
    notes = [note for note in backbone.notes if "GELU" in note]
    assert bool(asked) == (said is None)
    assert (
        (said in notes[0] and "choose the architecture whose name ends in -quickgelu" in notes[0])
        if said
        else not notes
    )


def test_where_the_choice_of_activation_hardly_matters_nothing_is_said(quick_clip):
    assert other_activation_fits(micro_clip(), quick=False) == []
    quick_clip.clip.logit_scale.data.fill_(math.log(1.0001))  # the probes tell nothing, and features differ
    (said,) = other_activation_fits(quick_clip, quick=True)
    assert "the file does not say" in said


# ---------------------------------------------------------------- LoRA adapters as PEFT saves them


def write_adapter(folder, pairs, **config):
    """`pairs`: path → (A, B)."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["qkv"], "bias": "none", **config}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    tensors = {}
    for path, (a, b) in pairs.items():
        tensors[f"base_model.model.{path}.lora_A.weight"], tensors[f"base_model.model.{path}.lora_B.weight"] = a, b
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def pair(out, inside, rank=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rank, inside, generator=generator), torch.randn(out, rank, generator=generator)


@pytest.fixture
def toy():
    torch.manual_seed(0)
    return nn.ModuleDict({"a": nn.ModuleDict({"qkv": nn.Linear(6, 9)}), "b": nn.ModuleDict({"qkv": nn.Linear(6, 9)})})


@pytest.mark.parametrize(
    ("config", "scale"),
    [({}, 6 / 2), ({"use_rslora": True}, 6 / math.sqrt(2)), ({"alpha_pattern": {"a.qkv": 1}}, 1 / 2)],
)
def test_an_adapter_is_merged_by_its_formula(tmp_path, toy, config, scale):
    pairs = {"a.qkv": pair(9, 6, seed=1), "b.qkv": pair(9, 6, seed=2)}
    before = toy["a"]["qkv"].weight.detach().clone()
    (told,) = merge(toy, write_adapter(tmp_path / "lora", pairs, **config))
    a, b = pairs["a.qkv"]
    torch.testing.assert_close(toy["a"]["qkv"].weight.detach(), before + scale * (b @ a))
    assert "2 layers (rank 2" in told and ("√" in told) == bool(config.get("use_rslora"))


def test_an_adapter_of_a_part_of_a_larger_model_and_of_a_convolution(tmp_path):
    model = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 2), "fc": nn.Linear(4, 4)})
    before = model["conv"].weight.detach().clone()
    a, b = torch.randn(2, 3, 2, 2), torch.randn(4, 2, 1, 1)
    pairs = {"net.body.conv": (a, b), "net.body.fc": pair(4, 4)}
    merge(model, write_adapter(tmp_path / "x", pairs, target_modules=["conv", "fc"]))
    change = torch.einsum("or,rikl->oikl", b[:, :, 0, 0], a) * 3
    torch.testing.assert_close(model["conv"].weight.detach(), before + change)


def test_attention_of_open_clip_is_merged_as_peft_computes_it(tmp_path):
    attention = nn.ModuleDict({"attn": nn.MultiheadAttention(6, 2)})
    before = {name: value.clone() for name, value in attention.state_dict().items()}
    pairs = {"attn": pair(18, 6, seed=1), "attn.base_layer.out_proj": pair(6, 6, seed=2)}
    told = merge(attention, write_adapter(tmp_path / "x", pairs, target_modules=["attn"]))
    after = attention.state_dict()
    inner, outer = ((b @ a) * 3 for a, b in pairs.values())
    torch.testing.assert_close(after["attn.in_proj_weight"], before["attn.in_proj_weight"] + inner)
    torch.testing.assert_close(after["attn.out_proj.weight"], before["attn.out_proj.weight"] + 2 * outer)
    assert any("twice" in line for line in told)


@pytest.mark.parametrize(
    ("pairs", "config", "sentence"),
    [
        ({"a.qkv": (9, 6)}, {}, "names b.qkv and holds no pair"),
        ({"a.qkv": (9, 6), "c.qkv": (9, 6)}, {}, "no such layer"),
        ({"a.qkv": (9, 6), "b.qkv": (9, 5)}, {}, "the weight there is"),
        ({"a.qkv": (9, 6), "b.qkv": (9, 6)}, {"r": 3}, "rank 3 for a.qkv, and its pair has rank 2"),
        ({"a.qkv": (9, 6), "b.qkv": (9, 6)}, {"use_dora": True}, "DoRA"),
        ({"a.qkv": (9, 6), "b.qkv": (9, 6)}, {"bias": "all"}, "trained biases"),
        ({"a.qkv": (9, 6), "b.qkv": (9, 6)}, {"peft_type": "LOHA"}, "type LOHA"),
        ({"a.qkv": (9, 6), "b.qkv": (9, 6)}, {"lora_alpha": "x"}, "no number for lora_alpha"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_and_changes_nothing(tmp_path, toy, pairs, config, sentence):
    before = {name: value.clone() for name, value in toy.state_dict().items()}
    folder = write_adapter(tmp_path / "x", {path: pair(*shape) for path, shape in pairs.items()}, **config)
    with pytest.raises(ConfigError, match=sentence):
        merge(toy, folder)
    assert all(torch.equal(value, before[name]) for name, value in toy.state_dict().items())


def test_half_a_pair_or_another_tensor_is_refused(tmp_path, toy):
    folder = write_adapter(tmp_path / "x", {"a.qkv": pair(9, 6), "b.qkv": pair(9, 6)})
    tensors = load_file(folder / "adapter_model.safetensors")
    half = {name: value for name, value in tensors.items() if "b.qkv.lora_B" not in name}
    save_file(half, folder / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match=r"no lora_B of b\.qkv"):
        merge(toy, folder)
    more = {**tensors, "base_model.model.a.qkv.lora_magnitude_vector": torch.ones(9)}
    save_file(more, folder / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match="1 left over"):
        merge(toy, folder)


def test_adapters_are_named_after_the_weights(tmp_path, bare, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(bare, tmp_path / "w@1.pth")
    blocks = {f"blocks.{i}.attn.qkv": pair(576, 192, seed=i) for i in range(12)}
    folder = write_adapter(tmp_path / "lora", blocks)
    for written in (f"timm:{NAME}@w@1.pth@lora", f"timm:{NAME}@random@lora"):
        name, _ = lookup(BACKBONES, written, "backbone")
        assert name == lookup(BACKBONES, name, "backbone")[0] and name.endswith(f"@{folder}")
        backbone = load(BACKBONES, name, "backbone")()
        assert any("LoRA adapter lora merged into 12 layers" in note for note in backbone.notes)
    a, b = blocks["blocks.3.attn.qkv"]
    merged = timm_backbone(f"{tmp_path / 'w@1.pth'}@{folder}").vit.blocks[3].attn.qkv.weight
    torch.testing.assert_close(merged, bare["blocks.3.attn.qkv.weight"] + 3 * (b @ a))
    assert "LoRA adapter" in str(timm_models.plan(f"{NAME}@random@{folder}")["notes"])
    (tmp_path / "empty").mkdir()
    assert "adapter_config.json" in refused(f"timm:{NAME}@{tmp_path / 'w@1.pth'}@{tmp_path / 'empty'}")
    assert "is not there" in refused(f"timm:{NAME}@random@{tmp_path / 'gone'}")


def test_what_was_made_of_a_file_is_known_before_training(tmp_path, bare, capsys):
    from cl_core.cli import main

    torch.save({"teacher": prefixed("backbone.", bare)}, tmp_path / "w.pth")
    assert main(["backbones", f"timm:{NAME}@{tmp_path / 'w.pth'}"]) == 0
    out = capsys.readouterr().out
    assert "note: taken from teacher" in out and "note: backbone. taken off the names" in out


def test_fill_says_what_it_left_out():
    model = nn.Linear(2, 2)
    weights = Weights({**{n: v.clone() for n, v in model.state_dict().items()}, "fc.weight": torch.zeros(1)}, "w")
    assert fill(model, weights, ()) == ["left out, because the backbone has no such part: fc.weight"]
