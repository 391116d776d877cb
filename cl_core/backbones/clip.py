"""A frozen open_clip model that accepts adaptations and returns named activations.

Radford et al. Learning Transferable Visual Models From Natural Language Supervision. ICML 2021, arXiv:2103.00020.

Nothing of open_clip is forked or hooked: each block is run from its own modules (ln_1, attn, ls_1, ln_2, mlp, ls_2)
with parameters looked up by name, so a method can replace any of them or add a low-rank branch to a linear map without
touching the model. Without an adaptation the result equals open_clip's own forward; the untouched model is therefore
always at hand, as teacher and as zero-shot reference.

Shapes: B images, N image tokens (class token first), d width, H heads, L blocks; n texts of T tokens; joint width e.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn

from cl_core.backbones.autocast import MixedPrecision, autocast_method
from cl_core.backbones.bundled_models import hint, load_weights, read_card, seeded
from cl_core.backbones.io_types import AS_IT_IS, NO_EDIT, Adaptation, Features, ModelEdit, Prefix, Tap
from cl_core.config import ConfigError, Preprocessing

TAPS = ("input", "normed", "q", "k", "v", "attention", "mlp_input", "mlp_hidden", "output", "final")
TOWERS = {"image": "visual.transformer.resblocks.", "text": "transformer.resblocks."}


@dataclass(frozen=True)
class LinearMap:
    """Location of a linear map y = x Wᵀ: a parameter's name and the rows that are W."""

    parameter: str
    rows: slice
    bias: str


class ClipBackbone(MixedPrecision):
    """A frozen open_clip model with two transformer towers. Call it with prepared images."""

    prefix: Prefix | None = None

    def __init__(self, clip: open_clip.model.CLIP, name: str, preparation: Preprocessing, tokenizer: Any) -> None:
        super().__init__()
        self.clip = clip.eval().requires_grad_(False)
        self.name, self.preparation, self.tokenizer = name, preparation, tokenizer
        self.notes: list[str] = []  # notes on reading a weights file
        self._tokens: tuple[tuple[str, ...], Tensor] | None = None  # of the last texts
        visual = clip.visual
        _refuse_unusual(clip, name)
        self.blocks = {"image": visual.transformer.resblocks, "text": clip.transformer.resblocks}
        self.depth, self.width = len(visual.transformer.resblocks), visual.ln_post.normalized_shape[0]
        self.heads = visual.transformer.resblocks[0].attn.num_heads
        self.joint_width = visual.proj.shape[1]
        self.text_depth, self.text_width = len(clip.transformer.resblocks), clip.ln_final.normalized_shape[0]
        self.patch_grid = tuple(visual.grid_size)
        self.tokens = self.patch_grid[0] * self.patch_grid[1] + 1

    def with_prefix(self, prefix: Prefix) -> ClipBackbone:
        """Return the model with shared weights and a cache of its unchanged image tower's outputs by image id."""
        found = copy.copy(self)
        found.prefix = prefix
        return found

    @property
    def pooled_width(self) -> int:
        """Width of `Features.pooled`."""
        return self.joint_width

    @property
    def logit_scale(self) -> Tensor:
        """Return s = exp(logit scale), frozen."""
        return self.clip.logit_scale.exp()

    def train(self, mode: bool = True) -> ClipBackbone:
        """Stay in eval mode, because the backbone is a fixed function."""
        return super().train(False)

    # ------------------------------------------------------------ the image tower

    @autocast_method
    def forward(
        self,
        images: Tensor,
        *,
        adaptation: Adaptation = AS_IT_IS,
        prompts: Mapping[int, Tensor] | None = None,
        taps: Sequence[Tap] = (),
    ) -> Features:
        """Compute image embeddings, not normalised.

        Args:
            images: [B, 3, S, S], prepared as `preparation` says.
            adaptation: changes of the frozen model.
            prompts: block → prompts [M, d] appended to its input, their outputs dropped; like tokens, they pass its
                ln_1, but no other norm.
            taps: names of activations to return, each (kind, block):
                "input" [B, N, d] tokens entering the block; "normed" after ln_1; "q" of the tokens (before scaling);
                "k", "v" [B, H, N + M, d/H]; "attention" [B, H, N, N + M] after the softmax, prompts last;
                "mlp_input" [B, N, d] after ln_2;
                "mlp_hidden" [B, N, 4d] after the activation; "output" [B, N, d] leaving the block; "final" [B, d]
                (last block only) the class token after ln_post, which the image projection reads.

        Returns:
            Features with pooled [B, e].

        Raises:
            ValueError: an unknown tap.
        """
        for kind, layer in taps:
            if kind not in TAPS or not 0 <= layer < self.depth or (kind == "final" and layer != self.depth - 1):
                raise ValueError(
                    f"no activation {kind!r} in block {layer}; kinds: {', '.join(TAPS)}; blocks: 0 to "
                    f"{self.depth - 1} ('final' in the last only)"
                )
        tokens, found = self.embed(images, adaptation), {}
        for layer in range(self.depth):
            wanted = {kind for kind, block in taps if block == layer}
            # The patch tokens of the last block are not used, so only its class token is computed; this is exact.
            alone = layer == self.depth - 1 and wanted <= {"final"}
            own = (prompts or {}).get(layer)
            tokens, tapped = self.block(layer, tokens, adaptation, wanted, only_first=alone, prompts=own)
            found.update({(kind, layer): value for kind, value in tapped.items()})
        final = self._norm(tokens[:, 0], "visual.ln_post", self.clip.visual.ln_post, adaptation)
        if ("final", self.depth - 1) in taps:
            found["final", self.depth - 1] = final
        return Features(final @ self.parameter("visual.proj", adaptation), found)

    def features(
        self, images: Tensor, edit: ModelEdit = NO_EDIT, taps: Iterable[Tap] = (), ids: Tensor | None = None
    ) -> Features:
        """Run `forward` with the model changed by `edit`; without changes, images with `ids` are looked up in the
        `prefix` cache, if there is one."""
        taps = tuple(taps)
        if self.prefix is not None and ids is not None and not taps and edit == NO_EDIT:
            return Features(self.prefix(self._untouched, images, ids))
        return self(images, adaptation=edit.adaptation, prompts=_prompts_of(edit), taps=taps)

    def _untouched(self, images: Tensor) -> Tensor:
        with self.computing_in(torch.float32):
            return self(images).pooled

    def edited_block(
        self, layer: int, tokens: Tensor, edit: ModelEdit = NO_EDIT, taps: frozenset[str] = frozenset()
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run `block` of the image tower, changed by `edit`."""
        return self.block(layer, tokens, edit.adaptation, taps, prompts=_prompts_of(edit).get(layer))

    def read(self, texts: Sequence[str], edit: ModelEdit = NO_EDIT) -> Tensor:
        """Return unit embeddings [n, e] of texts in the joint space, with the text tower changed by `edit`."""
        asked = tuple(texts)  # mostly the same texts again, and tokenising takes longer than the tower
        if self._tokens is None or self._tokens[0] != asked:
            self._tokens = asked, self.tokenize(asked)
        return self.encode_text(self._tokens[1], adaptation=edit.adaptation)

    @autocast_method
    def embed(self, images: Tensor, adaptation: Adaptation = AS_IT_IS) -> Tensor:
        """Tokens entering block 0. [B, 3, S, S] → [B, N, d]."""
        visual = self.clip.visual
        patches = F.conv2d(images, self.parameter("visual.conv1.weight", adaptation), stride=visual.conv1.stride)
        patches = patches.flatten(2).mT
        first = self.parameter("visual.class_embedding", adaptation).expand(len(images), 1, -1)
        tokens = torch.cat([first, patches], dim=1) + self.parameter("visual.positional_embedding", adaptation)
        if isinstance(visual.ln_pre, nn.LayerNorm):
            tokens = self._norm(tokens, "visual.ln_pre", visual.ln_pre, adaptation)
        return tokens

    @autocast_method
    def block(
        self,
        layer: int,
        tokens: Tensor,
        adaptation: Adaptation = AS_IT_IS,
        taps: set[str] | frozenset[str] = frozenset(),
        *,
        tower: str = "image",
        only_first: bool = False,
        prompts: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run one block on tokens [B, N, d]; return (output tokens, taps).

        Args:
            tower: "image", or "text" (causal).
            only_first: compute the first token's output only: [B, 1, d].
            prompts: [M, d] beside the tokens, their outputs dropped; their queries are never computed.

        Fused attention runs unless the attention map itself is tapped.
        """
        block, prefix = self.blocks[tower][layer], f"{TOWERS[tower]}{layer}."
        batch, count, width = tokens.shape
        heads = block.attn.num_heads
        normed = self._norm(tokens, prefix + "ln_1", block.ln_1, adaptation)
        weight = self.parameter(prefix + "attn.in_proj_weight", adaptation)
        bias = self.parameter(prefix + "attn.in_proj_bias", adaptation)
        mixed_in = F.linear(normed, weight, bias).chunk(3, dim=-1)
        q, k, v = (
            self._branch(f"{tower}.{layer}.{part}", normed, value, adaptation)
            .view(batch, count, heads, width // heads)
            .transpose(1, 2)
            for part, value in zip("qkv", mixed_in, strict=True)
        )
        if prompts is not None and len(prompts):
            beside = F.linear(
                self._norm(prompts, prefix + "ln_1", block.ln_1, adaptation), weight[width:], bias[width:]
            )
            more = (x.view(1, -1, heads, width // heads).transpose(1, 2) for x in beside.chunk(2, dim=-1))
            k, v = (torch.cat([x, own.expand(batch, -1, -1, -1)], dim=2) for x, own in zip((k, v), more, strict=True))
        tapped = {
            kind: value
            for kind, value in (("input", tokens), ("normed", normed), ("q", q), ("k", k), ("v", v))
            if kind in taps
        }
        if only_first:
            q, tokens = q[:, :, :1], tokens[:, :1]
        if "attention" in taps:
            scores = (q * (width // heads) ** -0.5) @ k.mT
            if tower == "text":
                scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
            tapped["attention"] = scores.softmax(dim=-1)
            mixed = tapped["attention"] @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=tower == "text")
        mixed = mixed.transpose(1, 2).reshape(batch, -1, width)
        tokens = tokens + block.ls_1(self._linear(f"{tower}.{layer}.o", mixed, adaptation))
        mlp_input = self._norm(tokens, prefix + "ln_2", block.ln_2, adaptation)
        hidden = block.mlp.gelu(self._linear(f"{tower}.{layer}.c_fc", mlp_input, adaptation))
        tokens = tokens + block.ls_2(self._linear(f"{tower}.{layer}.c_proj", hidden, adaptation))
        tapped |= {
            kind: value
            for kind, value in (("mlp_input", mlp_input), ("mlp_hidden", hidden), ("output", tokens))
            if kind in taps
        }
        return tokens, tapped

    # ------------------------------------------------------------ the text tower

    def tokenize(self, texts: Iterable[str]) -> Tensor:
        """[n, T] token ids."""
        return self.tokenizer(list(texts)).to(self.clip.logit_scale.device)

    @autocast_method
    def encode_text(
        self,
        tokens: Tensor,
        *,
        adaptation: Adaptation = AS_IT_IS,
        replaced: Mapping[int, Tensor] | None = None,
        unit: bool = True,
    ) -> Tensor:
        """Return text embeddings [n, e] of token ids [n, T], rows of length 1 unless `unit` is False.

        `replaced`: position → embeddings [n, m] that replace the token there (learned words).

        Columns after the longest text are cut off; attention is causal, so this does not change the result.
        """
        ends = tokens.argmax(dim=-1)  # end-of-text has the highest id
        tokens = tokens[:, : int(ends.max()) + 1]
        x = F.embedding(tokens, self.parameter("token_embedding.weight", adaptation))
        for position, embedding in (replaced or {}).items():
            x = torch.cat([x[:, :position], embedding[:, None], x[:, position + 1 :]], dim=1)
        x = x + self.parameter("positional_embedding", adaptation)[: tokens.shape[1]]
        for layer in range(self.text_depth):
            x, _ = self.block(layer, x, adaptation, tower="text")
        last = x[torch.arange(len(x), device=x.device), ends]
        last = self._norm(last, "ln_final", self.clip.ln_final, adaptation)
        joint = last @ self.parameter("text_projection", adaptation)
        return F.normalize(joint, dim=-1) if unit else joint

    # ------------------------------------------------------------ parameters by name

    def parameter(self, name: str, adaptation: Adaptation = AS_IT_IS) -> Tensor:
        """Return a parameter by its open_clip name, or its replacement in the adaptation."""
        replaced = adaptation.weights.get(name)
        return self._named[name] if replaced is None else replaced

    @property
    def _named(self) -> dict[str, nn.Parameter]:
        if "_names" not in self.__dict__:
            self.__dict__["_names"] = dict(self.clip.named_parameters())
        return self.__dict__["_names"]

    def _apply(self, *arguments: Any, **others: Any) -> ClipBackbone:
        self.__dict__.pop("_names", None)  # moving to another device may replace the parameter objects
        return super()._apply(*arguments, **others)

    def parameter_names(self) -> list[str]:
        """Return the names of all parameters except the logit scale, which is never trained here."""
        return [name for name in self._named if name not in ("logit_scale", "logit_bias")]

    def linear_map(self, name: str) -> LinearMap:
        """Return the location of a map such as "image.3.q" (q, k, v, o, c_fc or c_proj of a tower's block)."""
        tower, layer, part = name.split(".")
        prefix = f"{TOWERS[tower]}{layer}."
        width = self.width if tower == "image" else self.text_width
        if part in "qkv":
            start = "qkv".index(part) * width
            return LinearMap(prefix + "attn.in_proj_weight", slice(start, start + width), prefix + "attn.in_proj_bias")
        inner = {"o": "attn.out_proj", "c_fc": "mlp.c_fc", "c_proj": "mlp.c_proj"}[part]
        return LinearMap(f"{prefix}{inner}.weight", slice(None), f"{prefix}{inner}.bias")

    def linear_maps(
        self, towers: Iterable[str] = ("image", "text"), parts: Iterable[str] = (*"qkvo", "c_fc", "c_proj")
    ) -> list[str]:
        """Return names of linear maps of whole towers, in order."""
        depths, parts = {"image": self.depth, "text": self.text_depth}, tuple(parts)
        return [f"{tower}.{layer}.{part}" for tower in towers for layer in range(depths[tower]) for part in parts]

    def attention_maps(self, towers: Iterable[str] = ("image", "text"), parts: str = "qkvo") -> list[str]:
        """Return names of the attention projections of whole towers, in order."""
        return self.linear_maps(towers, parts)

    def map_weight(self, name: str, adaptation: Adaptation = AS_IT_IS) -> Tensor:
        """Return W [out, in] of a map, including the adaptation."""
        place = self.linear_map(name)
        weight = self.parameter(place.parameter, adaptation)[place.rows]
        branch = adaptation.branches.get(name)
        return weight if branch is None else weight + branch.update()

    def key_weight(self, layer: int) -> Tensor:
        """W_k of a block of the image tower, per head: [H, d/H, d], rows in the layout `y = x Wᵀ`."""
        return self.map_weight(f"image.{layer}.k").view(self.heads, -1, self.width)

    def norm_gain(self, layer: int) -> Tensor:
        """Gain γ of its first LayerNorm: [d]."""
        return self.parameter(f"{TOWERS['image']}{layer}.ln_1.weight")

    def describe(self) -> dict[str, Any]:
        """Return sizes as plain values, for the record of a run."""
        return {
            "name": self.name,
            "depth": self.depth,
            "width": self.width,
            "heads": self.heads,
            "tokens": self.tokens,
            "patch_grid": list(self.patch_grid),
            "prefix_tokens": 1,
            "image_size": self.preparation.size,
            "parameters": sum(p.numel() for p in self.parameters()),
            "joint_width": self.joint_width,
            "text_depth": self.text_depth,
            "text_width": self.text_width,
            **({"notes": list(self.notes)} if self.notes else {}),
        }

    def _linear(self, name: str, x: Tensor, adaptation: Adaptation) -> Tensor:
        place = self.linear_map(name)
        y = F.linear(x, self.parameter(place.parameter, adaptation), self.parameter(place.bias, adaptation))
        return self._branch(name, x, y, adaptation)

    @staticmethod
    def _branch(name: str, x: Tensor, y: Tensor, adaptation: Adaptation) -> Tensor:
        branch = adaptation.branches.get(name)
        return y if branch is None else y + branch(x)

    def _norm(self, x: Tensor, name: str, norm: nn.LayerNorm, adaptation: Adaptation) -> Tensor:
        gain, shift = self.parameter(f"{name}.weight", adaptation), self.parameter(f"{name}.bias", adaptation)
        return F.layer_norm(x, norm.normalized_shape, gain, shift, norm.eps)


def _prompts_of(edit: ModelEdit) -> dict[int, Tensor]:
    """Return block → prompts [M, d], which is all that a CLIP's blocks use of an edit besides its adaptation."""
    return {layer: own.prompts for layer, own in edit.blocks.items() if own.prompts is not None}


def _refuse_unusual(clip: open_clip.model.CLIP, name: str) -> None:
    """Raise ConfigError for unsupported blocks or pooling, which would silently be computed wrongly."""
    visual = clip.visual
    plain = (
        getattr(visual, "attn_pool", None) is None
        and getattr(visual, "pool_type", "") == "tok"
        and getattr(clip, "text_pool_type", "") == "argmax"
        and isinstance(clip.text_projection, nn.Parameter)
    )
    for blocks in (visual.transformer.resblocks, clip.transformer.resblocks) if plain else ():
        for block in blocks:
            plain &= isinstance(block.attn, nn.MultiheadAttention) and block.attn.in_proj_weight is not None
            plain &= type(block).__name__ == "ResidualAttentionBlock"
    if not plain:
        raise ConfigError(
            f"{name} is not a plain CLIP of two transformers (class-token and end-of-text pooling, standard blocks); "
            "choose one like ViT-B-16"
        )


def micro_clip() -> ClipBackbone:
    """Return the bundled micro-CLIP: `assets/micro-clip`, a genuine open_clip model (see its README there)."""
    folder, card = read_card("micro-clip", "open_clip_config.json")
    try:
        clip, size = open_clip.model.CLIP(**card["model_cfg"]), card["model_cfg"]["vision_cfg"]["image_size"]
        preparation = Preprocessing(size, tuple(card["preprocess_cfg"]["mean"]), tuple(card["preprocess_cfg"]["std"]))
        weights, sha256 = folder / card["weights_file"], card["weights_sha256"]
        tokenizer = SimpleTokenizer(
            str(folder / card["tokenizer_file"]), context_length=card["model_cfg"]["text_cfg"]["context_length"]
        )
    except (KeyError, TypeError, RuntimeError, OSError) as error:
        described = folder / "open_clip_config.json"
        raise ConfigError(f"{described} does not describe the model ({error!r}); {hint('micro-clip')}") from error
    load_weights(clip, weights, sha256, "micro-clip")
    return ClipBackbone(clip, "micro-clip", preparation, tokenizer)


def random_clip() -> ClipBackbone:
    """Return a model with two untrained blocks per tower, 16×16 images, joint width 24 and fixed weights. For tests."""
    folder, card = read_card("micro-clip", "open_clip_config.json")
    text = card["model_cfg"]["text_cfg"]
    tokenizer = SimpleTokenizer(str(folder / card["tokenizer_file"]), context_length=text["context_length"])
    with seeded(11):
        clip = open_clip.model.CLIP(
            embed_dim=24,
            vision_cfg={"image_size": 16, "patch_size": 8, "layers": 2, "width": 48, "head_width": 16},
            text_cfg={**text, "width": 32, "heads": 2, "layers": 2},
            quick_gelu=True,
        )
        for parameter in clip.parameters():  # gains start at 1 and biases at 0; tests need other values
            if parameter.dim() == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    return ClipBackbone(clip, "random-clip", Preprocessing(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), tokenizer)
