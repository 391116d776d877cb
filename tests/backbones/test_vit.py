"""The wrapper runs timm's blocks from their own modules: timm's numbers, and prompts as the papers have them."""

import json
import shutil

import pytest
import timm
import torch

from cl_core.assets import assets_folder
from cl_core.backbones import bundled_models as embedded
from cl_core.backbones import vit as vit_module
from cl_core.backbones.io_types import NO_EDIT, BlockIntervention, LowRank, ModelEdit, PrependedTokens
from cl_core.backbones.vit import ViTBackbone, micro_vit, random_vit
from cl_core.config import ConfigError, Preprocessing

ARCHITECTURES = {
    "class token": {"model_name": "vit_tiny_patch16_224"},
    "average pooling": {"model_name": "vit_tiny_patch16_224", "global_pool": "avg", "class_token": False},
    "pooling norm": {"model_name": "vit_tiny_patch16_224", "global_pool": "avg", "fc_norm": True},
    "registers": {"model_name": "vit_tiny_patch16_224", "reg_tokens": 4, "no_embed_class": True},
    "query-key norm": {"model_name": "vit_tiny_patch16_224", "qk_norm": True},
    "layer scale": {"model_name": "vit_tiny_patch16_224", "init_values": 0.1},
    "norm before the projection": {"model_name": "vit_tiny_patch16_224", "scale_attn_norm": True},
    "pre-norm, no qkv bias": {"model_name": "vit_tiny_patch16_224", "pre_norm": True, "qkv_bias": False},
}


def built(name):
    """A timm architecture without weights, shortened to three blocks; gains and biases are made uneven."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = timm.create_model(pretrained=False, depth=3, img_size=64, num_classes=0, **ARCHITECTURES[name])
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    return ViTBackbone(model, name, Preprocessing(64, (0.5,) * 3, (0.5,) * 3))


@pytest.fixture(scope="module", params=["random-vit", *ARCHITECTURES])
def backbone(request):
    return random_vit() if request.param == "random-vit" else built(request.param)


def images_for(backbone, count=3):
    side = backbone.preparation.size
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(5))


def prompts_for(backbone, length=5, layers=None):
    shape = (layers or backbone.depth, length, backbone.width)
    return 2 * torch.rand(shape, generator=torch.Generator().manual_seed(6)) - 1


def reference(backbone, images, prompts):
    """timm's own blocks on image tokens with the prompts appended, prompt queries computed and then dropped."""
    model = backbone.vit
    tokens = backbone.embed(images)
    for block, own in zip(model.blocks, prompts, strict=True):
        count = tokens.shape[1]
        tokens = block(torch.cat([tokens, own.expand(len(images), -1, -1)], dim=1))[:, :count]
    return model.forward_head(model.norm(tokens), pre_logits=True)


def test_without_prompts_the_result_is_timms_own(backbone):
    images = images_for(backbone)
    model = backbone.vit
    expected = model.forward_head(model.forward_features(images), pre_logits=True)
    torch.testing.assert_close(backbone(images).pooled, expected, atol=1e-5, rtol=0)


def test_prompts_act_as_tokens_appended_to_every_block_and_dropped_after_it(backbone):
    images, prompts = images_for(backbone), prompts_for(backbone)
    expected = reference(backbone, images, prompts)
    assert (expected - backbone(images).pooled).abs().max() > 1e-3
    torch.testing.assert_close(backbone(images, prompts=prompts).pooled, expected, atol=1e-5, rtol=0)


def test_tapping_changes_nothing_and_taps_have_the_promised_shapes(backbone):
    images, prompts = images_for(backbone), prompts_for(backbone)
    last = backbone.depth - 1
    taps = [(kind, at) for at in range(backbone.depth) for kind in vit_module.TAPS if kind != "final" or at == last]
    tapped = backbone(images, prompts=prompts, taps=taps)
    torch.testing.assert_close(tapped.pooled, backbone(images, prompts=prompts).pooled, atol=1e-5, rtol=0)
    n, m, d, h = backbone.tokens, prompts.shape[1], backbone.width, backbone.heads
    shapes = {
        "input": (3, n, d),
        "normed": (3, n + m, d),
        "q": (3, h, n, d // h),
        "k": (3, h, n + m, d // h),
        "v": (3, h, n + m, d // h),
        "attention": (3, h, n, n + m),
        "bare": (3, n, d),
        "branch": (3, n, d),
        "output": (3, n, d),
        "final": (3, n, d),
    }
    assert {tap: tuple(value.shape) for tap, value in tapped.taps.items()} == {
        (kind, layer): shapes[kind] for kind, layer in taps
    }


def test_attention_rows_sum_to_one_and_every_block_leaves_as_many_tokens_as_entered(backbone):
    taps = [(kind, layer) for layer in range(backbone.depth) for kind in ("input", "attention", "output")]
    found = backbone(images_for(backbone), prompts=prompts_for(backbone), taps=taps).taps
    for layer in range(backbone.depth):
        rows = found["attention", layer].sum(dim=-1)
        torch.testing.assert_close(rows, torch.ones_like(rows), atol=1e-5, rtol=0)
        assert found["input", layer].shape == found["output", layer].shape
        if layer:
            assert torch.equal(found["input", layer], found["output", layer - 1])


def test_only_what_is_asked_for_is_tapped():
    backbone = random_vit()
    found = backbone(images_for(backbone), taps=[("q", 1)]).taps
    assert set(found) == {("q", 1)}


def test_tapped_queries_and_normed_tokens_are_those_of_the_fused_projection():
    backbone = random_vit()
    images, prompts = images_for(backbone), prompts_for(backbone)
    found = backbone(images, prompts=prompts, taps=[("input", 1), ("normed", 1), ("q", 1), ("k", 1), ("v", 1)]).taps
    block = backbone.vit.blocks[1]
    whole = block.norm1(torch.cat([found["input", 1], prompts[1].expand(3, -1, -1)], dim=1))
    torch.testing.assert_close(found["normed", 1], whole, atol=1e-6, rtol=0)
    q, k, v = block.attn.qkv(whole).unflatten(-1, (3, backbone.heads, -1)).permute(2, 0, 3, 1, 4)
    for kind, expected in (("q", q[:, :, : backbone.tokens]), ("k", k), ("v", v)):
        torch.testing.assert_close(found[kind, 1], expected, atol=1e-5, rtol=0)


def test_key_weight_is_the_middle_third_of_the_fused_weight_by_heads():
    backbone = random_vit()
    images = images_for(backbone)
    found = backbone(images, taps=[("normed", 0), ("k", 0)]).taps
    bias = backbone.vit.blocks[0].attn.qkv.bias[backbone.width : 2 * backbone.width].view(backbone.heads, 1, -1)
    keys = torch.einsum("bnd,hed->bhne", found["normed", 0], backbone.key_weight(0)) + bias
    torch.testing.assert_close(keys, found["k", 0], atol=1e-5, rtol=0)


def test_the_order_of_prompts_within_a_block_does_not_matter():
    backbone = random_vit()
    images, prompts = images_for(backbone), prompts_for(backbone)
    shuffled = prompts[:, torch.tensor([3, 0, 4, 2, 1])]
    torch.testing.assert_close(
        backbone(images, prompts=shuffled).pooled, backbone(images, prompts=prompts).pooled, atol=1e-5, rtol=0
    )


def test_prompts_of_zeros_are_not_no_prompts():
    backbone = random_vit()
    images = images_for(backbone)
    zeroed = backbone(images, prompts=torch.zeros(backbone.depth, 4, backbone.width)).pooled
    assert (zeroed - backbone(images).pooled).abs().max() > 1e-3
    assert torch.equal(
        backbone(images, prompts=torch.zeros(backbone.depth, 0, backbone.width)).pooled, backbone(images).pooled
    )


def test_prompts_for_the_first_blocks_only_leave_the_others_bare():
    backbone = random_vit()
    images, prompts = images_for(backbone), prompts_for(backbone, layers=1)
    found = backbone(images, prompts=prompts, taps=[("attention", 0), ("attention", 1)]).taps
    assert found["attention", 0].shape[-1] == backbone.tokens + 5
    assert found["attention", 1].shape[-1] == backbone.tokens


def test_a_single_block_repeats_what_the_whole_network_did():
    backbone = random_vit()
    images, prompts = images_for(backbone), prompts_for(backbone)
    found = backbone(images, prompts=prompts, taps=[("input", 1), ("attention", 1), ("output", 1)]).taps
    output, tapped = backbone.block(1, found["input", 1], BlockIntervention(prompts=prompts[1]), {"attention"})
    assert torch.equal(output, found["output", 1])
    assert torch.equal(tapped["attention"], found["attention", 1])


def test_gradients_reach_the_prompts_and_nothing_else():
    backbone = random_vit()
    prompts = prompts_for(backbone).requires_grad_()
    backbone(images_for(backbone), prompts=prompts).pooled.square().sum().backward()
    assert (prompts.grad.flatten(1).norm(dim=1) > 0).all()
    assert all(p.grad is None and not p.requires_grad for p in backbone.parameters())


def test_the_backbone_stays_in_eval_mode():
    backbone = random_vit().train()
    assert not any(module.training for module in backbone.modules())


def test_random_vit_is_always_the_same_and_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second = random_vit(), random_vit()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_sizes_are_told_as_plain_values():
    described = random_vit().describe()
    assert (described["depth"], described["width"], described["heads"]) == (2, 48, 3)
    assert (described["tokens"], described["patch_grid"], described["prefix_tokens"]) == (5, [2, 2], 1)
    assert json.loads(json.dumps(described)) == described


@pytest.mark.parametrize("tap", [("queries", 0), ("q", 2), ("q", -1)])
def test_an_unknown_activation_is_refused_with_those_there_are(tap):
    backbone = random_vit()
    with pytest.raises(ValueError, match=r"no activation .* in block .*; kinds: input, .*; blocks: 0 to 1"):
        backbone(images_for(backbone), taps=[tap])


@pytest.mark.parametrize("shape", [(3, 4, 48), (2, 4, 47), (4, 48)])
def test_prompts_that_do_not_fit_are_refused_with_the_shape_that_does(shape):
    backbone = random_vit()
    with pytest.raises(ValueError, match=r"prompts must be \[≤ 2 blocks, M, 48\], got"):
        backbone(images_for(backbone), prompts=torch.zeros(shape))


# ---------------------------------------------------------------- the embedded weights

needs_weights = pytest.mark.skipif(
    not (assets_folder() / "micro-vit" / "model.safetensors").is_file(), reason="micro-vit's weights are not there"
)


@pytest.fixture
def copied_assets(tmp_path, monkeypatch):
    """A copy of the embedded folder that a test may damage."""
    copied = tmp_path / "micro-vit"
    copied.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(assets_folder() / "micro-vit" / name, copied / name)
    monkeypatch.setattr(embedded, "assets_folder", lambda: tmp_path)
    return copied


@needs_weights
def test_the_embedded_vit_gives_timms_own_features():
    backbone = micro_vit()
    images = images_for(backbone)
    expected = backbone.vit.forward_head(backbone.vit.forward_features(images), pre_logits=True)
    torch.testing.assert_close(backbone(images).pooled, expected, atol=1e-5, rtol=0)
    prompts = prompts_for(backbone)
    torch.testing.assert_close(
        backbone(images, prompts=prompts).pooled, reference(backbone, images, prompts), atol=1e-5, rtol=0
    )


def damage_bytes(folder):
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 0xFF
    weights.write_bytes(bytes(data))


def describe_another_model(folder):
    card = json.loads((folder / "config.json").read_text())
    card["architecture"]["depth"] += 1
    (folder / "config.json").write_text(json.dumps(card))


@needs_weights
@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "config.json").unlink(), "weights of micro-vit are missing"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be read"),
        (lambda folder: (folder / "config.json").write_text('{"half'), "is damaged"),
        (lambda folder: (folder / "config.json").write_text("{}"), "does not describe the model"),
        (damage_bytes, "SHA-256"),
        (describe_another_model, "do not fit the model"),
    ],
)
def test_missing_or_damaged_weights_give_one_sentence_with_the_way_out(copied_assets, damage, sentence):
    damage(copied_assets)
    with pytest.raises(ConfigError, match=sentence) as raised:
        micro_vit()
    assert "\n" not in str(raised.value)
    assert "plastiscope pretrain micro-vit" in str(raised.value)


# ------------------------------------------------------------ edits of a block, tokens that join


def drawn(*shape, seed=8):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_shifts_of_zero_change_no_bit(backbone):
    images, zero = images_for(backbone), torch.zeros(3, backbone.width)
    edits = {layer: BlockIntervention(head_shift=zero, stream_shift=zero) for layer in range(backbone.depth)}
    assert torch.equal(backbone(images, edits=edits).pooled, backbone(images).pooled)


def test_a_shift_of_the_heads_is_a_shift_of_every_value_and_reaches_the_stream_through_the_projection():
    backbone = random_vit()
    images, shift = images_for(backbone), drawn(3, backbone.width)
    block = backbone.vit.blocks[0]
    shifted = backbone(images, edits={0: BlockIntervention(head_shift=shift)}).pooled
    later = backbone(images, edits={0: BlockIntervention(stream_shift=shift @ block.attn.proj.weight.T)}).pooled
    torch.testing.assert_close(shifted, later, atol=1e-5, rtol=1e-5)
    assert (shifted - backbone(images).pooled).norm(dim=1).min() > 0.01


def test_a_prefix_of_the_prompts_own_keys_and_values_is_the_prompts():
    backbone = random_vit()
    images, prompts = images_for(backbone), prompts_for(backbone)[0]
    attention, normed = backbone.vit.blocks[0].attn, backbone.vit.blocks[0].norm1(prompts)
    _, keys, values = attention.qkv(normed).split(backbone.width, dim=-1)
    prefixed = backbone(
        images, edits={0: BlockIntervention(prefix=(keys[None], values[None]))}, taps=[("attention", 0)]
    )
    prompted = backbone(images, edits={0: BlockIntervention(prompts=prompts)}, taps=[("attention", 0)])
    torch.testing.assert_close(prefixed.pooled, prompted.pooled, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(prefixed.taps["attention", 0], prompted.taps["attention", 0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("low_rank", [True, False], ids=["low rank", "dense"])
@pytest.mark.parametrize("place, name", enumerate("qkv"))
def test_a_branch_is_the_same_as_the_changed_weight_for_prompts_too(place, name, low_rank):
    backbone, changed = random_vit(), random_vit()
    width = backbone.width
    down, up = drawn(4, width), drawn(width, 4, seed=9)
    branch = LowRank(down, up, 0.1) if low_rank else 0.1 * up @ down
    with torch.no_grad():
        changed.vit.blocks[1].attn.qkv.weight[place * width : (place + 1) * width] += 0.1 * up @ down
    images, prompts = images_for(backbone), prompts_for(backbone)
    beside = backbone(images, prompts=prompts, edits={1: BlockIntervention(branches={name: branch})}).pooled
    torch.testing.assert_close(beside, changed(images, prompts=prompts).pooled, atol=1e-4, rtol=1e-4)
    assert (beside - backbone(images, prompts=prompts).pooled).abs().max() > 1e-3


@pytest.mark.parametrize("start", [0, 2])
def test_joined_tokens_go_through_timms_blocks_and_are_left_out_of_the_pooling(backbone, start):
    images, model = images_for(backbone), backbone.vit
    if start >= backbone.depth:
        pytest.skip("fewer blocks than that")
    entering, first = drawn(3, 4, backbone.width), model.num_prefix_tokens
    tokens = backbone.embed(images)
    for layer, block in enumerate(model.blocks):
        if layer == start:
            tokens = torch.cat([tokens[:, :first], entering, tokens[:, first:]], dim=1)
        tokens = block(tokens)
    tokens = model.norm(tokens)
    found = backbone(images, joined=PrependedTokens(entering, start), taps=[("final", backbone.depth - 1)])
    torch.testing.assert_close(found.taps["final", backbone.depth - 1], tokens, atol=1e-5, rtol=1e-5)
    kept = torch.cat([tokens[:, :first], tokens[:, first + 4 :]], dim=1)
    torch.testing.assert_close(found.pooled, model.forward_head(kept, pre_logits=True), atol=1e-5, rtol=1e-5)
    read = PrependedTokens(entering, start, pooled=True)
    for taps in ([], [("final", backbone.depth - 1)], [("attention", backbone.depth - 1)]):
        pooled = backbone.features(images, ModelEdit(joined=read), taps).pooled
        torch.testing.assert_close(pooled, tokens[:, first : first + 4].mean(dim=1), atol=1e-5, rtol=1e-5)


def test_where_joined_tokens_are_read_the_last_block_computes_their_outputs_alone():
    backbone = random_vit()
    images, seen = images_for(backbone), []
    backbone.vit.blocks[-1].mlp.register_forward_hook(lambda module, given, out: seen.append(out.shape[1]))
    edit = ModelEdit(joined=PrependedTokens(drawn(3, 4, backbone.width), 0, pooled=True))
    alone = backbone.features(images, edit).pooled
    whole = backbone.features(images, edit, [("output", backbone.depth - 1)]).pooled
    assert seen == [4, backbone.tokens + 4]
    torch.testing.assert_close(alone, whole, atol=1e-5, rtol=1e-5)


def test_edits_may_differ_from_image_to_image_and_do_not_leak_between_them():
    backbone = random_vit()
    images, shift = images_for(backbone), drawn(3, backbone.width)
    prefix = (drawn(3, 2, backbone.width), drawn(3, 2, backbone.width, seed=9))
    together = backbone(images, edits={0: BlockIntervention(head_shift=shift, prefix=prefix)}).pooled
    for row in range(3):
        own = BlockIntervention(head_shift=shift[row : row + 1], prefix=tuple(x[row : row + 1] for x in prefix))
        alone = backbone(images[row : row + 1], edits={0: own}).pooled
        torch.testing.assert_close(alone, together[row : row + 1], atol=1e-5, rtol=1e-5)


def test_the_first_tokens_output_alone_is_the_first_of_all_outputs_whatever_the_edit(backbone):
    draw = torch.Generator().manual_seed(13)
    width, heads = backbone.width, backbone.heads
    tokens = torch.randn(3, 7, width, generator=draw)
    prefix = tuple(torch.randn(1, 4, width, generator=draw) for _ in "kv")
    branch = torch.randn(width, width, generator=draw) / width**0.5
    for edit in (
        BlockIntervention(),
        BlockIntervention(prompts=prompts_for(backbone)[1], branches={"q": branch, "v": branch}),
        BlockIntervention(prefix=prefix, head_shift=torch.ones(3, width), stream_shift=torch.ones(3, width)),
    ):
        whole, entering = backbone.block(1, tokens, edit, {"input", "normed", "k", "v"})
        first, tapped = backbone.block(1, tokens, edit, {"input", "normed", "k", "v"}, only=slice(0, 1))
        torch.testing.assert_close(first, whole[:, :1], rtol=1e-5, atol=1e-5)
        assert tapped.keys() == entering.keys() and tapped["k"].shape[1] == heads
        for kind, value in tapped.items():
            torch.testing.assert_close(value, entering[kind], rtol=1e-5, atol=1e-5)


def test_a_block_that_is_asked_for_its_attention_map_stops_there():
    backbone, passed = random_vit(), []
    backbone.vit.blocks[1].mlp.register_forward_hook(lambda module, given, out: passed.append(out.shape[1]))
    tokens, shift = drawn(3, backbone.tokens, backbone.width), drawn(3, backbone.width)
    for edit in (
        NO_EDIT,
        ModelEdit({1: BlockIntervention(prompts=drawn(2, backbone.width), head_shift=shift, stream_shift=shift)}),
        ModelEdit(joined=PrependedTokens(drawn(3, 2, backbone.width), 1, shown_last=False)),
    ):
        _, whole = backbone.edited_block(1, tokens, edit, frozenset({"attention", "output"}))
        left, alone = backbone.edited_block(1, tokens, edit, frozenset({"attention"}))
        assert left.shape == (3, 0, backbone.width) and passed.pop() == 0 and passed.pop() == backbone.tokens
        assert torch.equal(alone["attention"], whole["attention"])
    assert backbone.edited_block(1, tokens)[0].shape == tokens.shape


@pytest.mark.parametrize("taps", [{"q"}, {"attention"}, {"q", "attention", "input"}])
def test_queries_and_the_map_of_the_last_block_are_those_of_all_tokens_without_their_outputs(taps):
    """What a task's end collects needs no MLP of patch tokens in the last block: exact, and cheaper."""
    backbone = random_vit()
    tokens = torch.randn(3, backbone.tokens, 48, generator=torch.Generator().manual_seed(0))
    edit = BlockIntervention(prompts=torch.randn(2, 48, generator=torch.Generator().manual_seed(1)))
    whole, expected = backbone.block(1, tokens, edit, {*taps, "output"})
    first, found = backbone.block(1, tokens, edit, taps, only=slice(0, 1))
    assert first.shape == (3, 1, 48)
    torch.testing.assert_close(first, whole[:, :1], atol=1e-5, rtol=1e-5)
    for kind in taps:
        torch.testing.assert_close(found[kind], expected[kind], atol=1e-6, rtol=1e-6)
