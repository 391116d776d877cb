"""open_clip behind doors: equal to its own forward, adaptable by name, and left as it was."""

import gzip

import open_clip
import pytest
import torch
import torch.nn.functional as F

from cl_core.assets import assets_folder
from cl_core.backbones.clip import ClipBackbone, micro_clip, random_clip
from cl_core.backbones.io_types import Adaptation, LowRank
from cl_core.config import ConfigError, Preprocessing

TEXTS = ["a photo of a star", "the letter k", "two times the letter z on a red background in the center"]


@pytest.fixture(scope="module", params=[random_clip, micro_clip], ids=["random-clip", "micro-clip"])
def backbone(request):
    return request.param()


@pytest.fixture(scope="module")
def small():
    return random_clip()


def images(backbone, count=4):
    side = backbone.preparation.size
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_without_adaptation_both_towers_equal_open_clips_own(backbone):
    x = images(backbone)
    torch.testing.assert_close(backbone(x).pooled, backbone.clip.encode_image(x), atol=1e-5, rtol=1e-5)
    tokens = backbone.tokenize(TEXTS)
    own = backbone.clip.encode_text(tokens, normalize=True)
    torch.testing.assert_close(backbone.encode_text(tokens), own, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_tapping_changes_nothing_and_gives_what_it_says(backbone):
    x, last = images(backbone), backbone.depth - 1
    kinds = ("input", "normed", "q", "k", "v", "attention", "mlp_input", "mlp_hidden", "output")
    taps = [(kind, layer) for kind in kinds for layer in range(backbone.depth)] + [("final", last)]
    tapped = backbone(x, taps=taps)
    torch.testing.assert_close(tapped.pooled, backbone(x).pooled, atol=1e-5, rtol=1e-5)
    assert set(tapped.taps) == set(taps)
    attention = tapped.taps["attention", 0]
    assert attention.shape == (4, backbone.heads, backbone.tokens, backbone.tokens)
    torch.testing.assert_close(attention.sum(-1), torch.ones_like(attention[..., 0]))
    torch.testing.assert_close(tapped.taps["final", last] @ backbone.parameter("visual.proj"), tapped.pooled)
    torch.testing.assert_close(tapped.taps["output", 0], tapped.taps["input", 1])
    block = backbone.blocks["image"][0]
    hidden = block.mlp.gelu(block.mlp.c_fc(tapped.taps["mlp_input", 0]))
    torch.testing.assert_close(tapped.taps["mlp_hidden", 0], hidden, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("part", ["q", "k", "v", "o", "c_fc", "c_proj"])
@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_branch_equals_the_weight_with_it_merged(small, tower, part):
    name, generator = f"{tower}.1.{part}", torch.Generator().manual_seed(1)
    out, width = small.map_weight(name).shape
    branch = LowRank(
        torch.randn(3, width, generator=generator), 0.1 * torch.randn(out, 3, generator=generator), scale=0.5
    )
    beside = Adaptation(branches={name: branch})
    place = small.linear_map(name)
    merged = small.parameter(place.parameter).clone()
    merged[place.rows] += branch.update()
    inside = Adaptation(weights={place.parameter: merged})

    def read(adaptation):
        if tower == "image":
            return small(images(small), adaptation=adaptation).pooled
        return small.encode_text(small.tokenize(TEXTS), adaptation=adaptation)

    assert not torch.allclose(read(beside), read(Adaptation()), atol=1e-4)
    torch.testing.assert_close(read(beside), read(inside), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(small.map_weight(name, beside), small.map_weight(name, inside))


@torch.no_grad()
def test_every_parameter_can_be_replaced_and_counts(small):
    x, tokens = images(small), small.tokenize(TEXTS)
    plain = torch.cat([small(x).pooled.flatten(), small.encode_text(tokens).flatten()])
    for name in small.parameter_names():
        changed = small.parameter(name) + 0.1 * torch.randn(
            small.parameter(name).shape, generator=torch.Generator().manual_seed(3)
        )
        adaptation = Adaptation(weights={name: changed})
        now = torch.cat(
            [
                small(x, adaptation=adaptation).pooled.flatten(),
                small.encode_text(tokens, adaptation=adaptation).flatten(),
            ]
        )
        if name.endswith("attn.in_proj_bias"):
            continue  # a bias of the keys alone moves nothing; the queries' and values' share its tensor
        assert not torch.equal(plain, now), name


@torch.no_grad()
def test_cutting_columns_after_the_longest_text_changes_nothing(backbone):
    short = backbone.tokenize(TEXTS[:2])
    together = backbone.encode_text(backbone.tokenize(TEXTS))[:2]
    torch.testing.assert_close(backbone.encode_text(short), together, atol=1e-6, rtol=1e-5)


def test_gradients_reach_what_is_handed_in_and_never_the_model(small):
    weight = small.parameter("visual.proj").clone().requires_grad_()
    small(images(small), adaptation=Adaptation(weights={"visual.proj": weight})).pooled.sum().backward()
    assert weight.grad is not None
    assert all(p.grad is None and not p.requires_grad for p in small.clip.parameters())
    assert not small.train().clip.training


def test_dropout_acts_on_the_branch_only(small):
    name = "image.0.q"
    zero = LowRank(torch.randn(2, 48), torch.zeros(48, 2), 1.0, dropout=0.9)
    adapted = small(images(small), adaptation=Adaptation(branches={name: zero})).pooled
    torch.testing.assert_close(adapted, small(images(small)).pooled)


def test_unknown_taps_are_refused_by_name(small):
    with pytest.raises(ValueError, match="no activation 'mood' in block 0"):
        small(images(small), taps=[("mood", 0)])
    with pytest.raises(ValueError, match="in the last only"):
        small(images(small), taps=[("final", 0)])


def test_unusual_models_are_refused():
    clip = open_clip.model.CLIP(
        embed_dim=16,
        vision_cfg={"image_size": 16, "patch_size": 8, "layers": 1, "width": 32, "head_width": 16, "pool_type": "avg"},
        text_cfg={"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1},
    )
    with pytest.raises(ConfigError, match="not a plain CLIP"):
        ClipBackbone(clip, "odd", Preprocessing(16, (0.5,) * 3, (0.5,) * 3), None)


def test_the_cut_tokenizer_breaks_our_words_as_the_full_one_does(backbone):
    full = open_clip.tokenizer.SimpleTokenizer(context_length=20)
    for text in TEXTS:
        ours = backbone.tokenizer
        assert [ours.decoder[i] for i in ours.encode(text)] == [full.decoder[i] for i in full.encode(text)]
    merges = gzip.decompress((assets_folder() / "micro-clip" / "micro_bpe.txt.gz").read_bytes()).decode()
    assert not merges.endswith("\n")


def test_the_embedded_model_opens_in_open_clip_itself():
    folder = assets_folder() / "micro-clip"
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    ours = micro_clip()
    x = images(ours, 2)
    with torch.no_grad():
        torch.testing.assert_close(
            F.normalize(ours(x).pooled, dim=1), model.encode_image(x, normalize=True), atol=1e-5, rtol=1e-5
        )
    assert preprocess is not None
