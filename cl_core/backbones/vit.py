"""A frozen timm Vision Transformer that accepts prompts and other edits and returns named activations.

timm is neither forked nor hooked: each block is run from its own modules (norm1, attn.qkv, q_norm, k_norm, proj, ls1,
norm2, mlp, ls2). Without prompts the result equals timm's own forward.

Prompts follow VPT-Deep (Jia et al., ECCV 2022): M tokens are appended to a block's input after its image tokens,
without position embedding, and their outputs are dropped. So the prompt *queries* are never computed (exact, and
cheaper), and since norm1, W_k and W_v see the same prompts for every image, keys and values of prompts are computed
once per batch.

Besides prompts, a block accepts prefixes, shifts and branches (`BlockIntervention`), and tokens can be added to the
sequence permanently (`PrependedTokens`). A block without an edit is computed as in the frozen model.

Shapes: B images, N image tokens (class token and joined tokens included), M prompts, d width, H heads, L blocks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from timm.layers import Attention, PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from cl_core.backbones.autocast import MixedPrecision, autocast_method
from cl_core.backbones.bundled_models import hint, load_weights, read_card, seeded
from cl_core.backbones.io_types import (
    NO_EDIT,
    UNEDITED,
    BlockIntervention,
    Features,
    LowRank,
    ModelEdit,
    Prefix,
    PrependedTokens,
    Tap,
)
from cl_core.backbones.prepended_tokens import run_joined, shown
from cl_core.config import ConfigError, Preprocessing

TAPS = ("input", "normed", "q", "k", "v", "attention", "bare", "branch", "output", "final")
# Taps available if only the first token's output is computed. Queries and the map then cover all tokens.
WITHOUT_OUTPUTS = {"input", "normed", "q", "k", "v", "attention"}


class ViTBackbone(MixedPrecision):
    """A frozen timm ViT. Call it with prepared images; `block` runs a single block, for layer-local comparisons."""

    prefix: Prefix | None = None

    def __init__(self, vit: nn.Module, name: str, preparation: Preprocessing) -> None:
        super().__init__()
        _refuse_unusual(vit, name)
        assert isinstance(vit, VisionTransformer)
        self.vit = vit.eval().requires_grad_(False)
        self.name, self.preparation = name, preparation
        self.notes: list[str] = []  # notes on reading a weights file
        self.depth, self.width, self.heads = len(vit.blocks), vit.embed_dim, _attention(vit.blocks[0]).num_heads
        self.patch_grid = tuple(vit.patch_embed.grid_size)
        self.tokens = self.patch_grid[0] * self.patch_grid[1] + vit.num_prefix_tokens

    def with_prefix(self, prefix: Prefix) -> ViTBackbone:
        """Return the model with shared weights and a cache, by image id, of the input of the first edited block
        (`prefix.first`; if equal to the depth: final features)."""
        found = copy.copy(self)
        found.prefix = prefix
        return found

    @property
    def pooled_width(self) -> int:
        """Width of `Features.pooled`."""
        return self.width

    def train(self, mode: bool = True) -> ViTBackbone:
        """Stay in eval mode, because the backbone is a fixed function."""
        return super().train(False)

    @autocast_method
    def forward(
        self,
        images: Tensor,
        *,
        prompts: Tensor | None = None,
        edits: Mapping[int, BlockIntervention] | None = None,
        joined: PrependedTokens | None = None,
        taps: Sequence[Tap] = (),
    ) -> Features:
        """Compute features of `images`.

        Args:
            images: [B, 3, S, S], prepared as `preparation` says.
            prompts: [L', M, d] with L' ≤ L: the prompts of the first L' blocks; None or M = 0: no prompts.
            edits: block → its other changes.
            joined: tokens that enter at a block and stay.
            taps: names of activations to return, each (kind, block):
                "input" [B, N, d] image tokens entering the block; "normed" [B, N + M, d] after norm1, prompts last; "q"
                [B, H, N, d/H] image queries, bias included, before the 1/√(d/H) scaling
                (like "k" before the q_norm and k_norm that some models have); "k", "v" [B, H, N + M, d/H], the values
                before any shift; "attention" [B, H, N, N + M] after the softmax, prompt and prefix columns
                last; "bare" [B, N, d] what the attention would add to the tokens without a prefix and without shifts,
                "branch" [B, N, d] what it adds with them; "output" [B, N, d] leaving the block; "final" [B, N, d] (last
                block only) after the final norm.

        Returns:
            Features with pooled [B, d]: final norm and pooling as timm's `forward_head(pre_logits=True)`.

        Raises:
            ValueError: an unknown tap, or prompts that do not fit.
        """
        self._check(prompts, taps)
        found = dict(edits or {})
        for layer, own in enumerate(prompts if prompts is not None else ()):
            found[layer] = replace(found.get(layer, UNEDITED), prompts=own)
        return self.features_from(0, self.embed(images), found, joined, taps)

    @autocast_method
    def features_from(
        self,
        start: int,
        tokens: Tensor,
        edits: Mapping[int, BlockIntervention],
        joined: PrependedTokens | None = None,
        taps: Sequence[Tap] = (),
    ) -> Features:
        """Run `forward` from block `start`, on the tokens [B, N, d] that enter it."""
        found: dict[Tap, Tensor] = {}
        first, only = self.vit.num_prefix_tokens, None
        for layer in range(start, self.depth):
            wanted = {kind for kind, block in taps if block == layer}
            edit = edits.get(layer, UNEDITED)
            if joined is not None and layer == joined.block:
                entering = joined.tokens.expand(len(tokens), -1, -1)
                tokens = torch.cat([tokens[:, :first], entering, tokens[:, first:]], dim=1)
            # The other output tokens of the last block are not used; skipping them is exact and cheaper.
            only = self._read(joined) if layer == self.depth - 1 and wanted <= WITHOUT_OUTPUTS else None
            tokens, tapped = self.block(layer, tokens, edit, wanted, only=only)
            found.update({(kind, layer): value for kind, value in tapped.items()})
        tokens = self.vit.norm(tokens)
        if ("final", self.depth - 1) in taps:
            found["final", self.depth - 1] = tokens
        if joined is not None and joined.pooled:
            return Features((tokens if only else tokens[:, self._read(joined)]).mean(dim=1), found)
        if joined is not None:
            tokens = torch.cat([tokens[:, :first], tokens[:, first + joined.tokens.shape[1] :]], dim=1)
        return Features(self.vit.forward_head(tokens, pre_logits=True), found)

    def _read(self, joined: PrependedTokens | None) -> slice | None:
        """Return the tokens whose outputs give the features; None = all."""
        first = self.vit.num_prefix_tokens
        if joined is not None and joined.pooled:
            return slice(first, first + joined.tokens.shape[1])
        return slice(0, 1) if self.vit.global_pool == "token" else None

    def features(
        self, images: Tensor, edit: ModelEdit = NO_EDIT, taps: Iterable[Tap] = (), ids: Tensor | None = None
    ) -> Features:
        """Run `forward` with the model changed by `edit`; taps of joined tokens follow `PrependedTokens`. Images with
        `ids` enter at the first changed block, if a `prefix` caches its input."""
        seen = self._run(images, edit, tuple(taps), ids)
        if edit.joined is None:
            return seen
        return Features(seen.pooled, shown(seen.taps, edit.joined, self.vit.num_prefix_tokens))

    def _run(self, images: Tensor, edit: ModelEdit, taps: tuple[Tap, ...], ids: Tensor | None) -> Features:
        prefix, changed = self.prefix, self.depth if edit.first_block is None else edit.first_block
        start = min((changed, *(block for _, block in taps)))
        if prefix is None or ids is None or start < prefix.first:
            return self(images, edits=edit.blocks, joined=edit.joined, taps=taps)
        self._check(None, taps)
        if prefix.first == self.depth:
            return Features(prefix(lambda part: self._before(self.depth, part), images, ids))
        tokens = self.tokens_entering(prefix.first, images, ids)
        return self.features_from(prefix.first, tokens, edit.blocks, edit.joined, taps)

    def tokens_entering(self, block: int, images: Tensor, ids: Tensor | None = None) -> Tensor:
        """Return tokens [B, N, d] that enter a block of the unchanged model, in float32; images with `ids` are looked
        up if a `prefix` caches this block's input."""
        if self.prefix is None or ids is None or self.prefix.first != block:
            return self._before(block, images)
        return self.prefix(lambda part: self._before(block, part), images, ids)

    def _before(self, block: int, images: Tensor) -> Tensor:
        """Return float32 tokens [B, N, d] that enter a block of the unchanged model; for the depth, features [B, d]."""
        with self.computing_in(torch.float32):
            if block == self.depth:
                return self(images).pooled
            tokens = self.embed(images)
            for layer in range(block):
                tokens, _ = self.block(layer, tokens)
            return tokens

    def edited_block(
        self, layer: int, tokens: Tensor, edit: ModelEdit = NO_EDIT, taps: frozenset[str] = frozenset()
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run `block` with the changes of `edit`, on tokens in the layout of its "input" tap; return (output tokens,
        taps). If nothing after the attention map is requested, it stops there and returns tokens [B, 0, d]."""
        only = slice(0, 0) if "attention" in taps and taps <= WITHOUT_OUTPUTS else None
        run = lambda tokens: self.block(layer, tokens, edit.blocks.get(layer, UNEDITED), taps, only=only)
        if edit.joined is None:
            return run(tokens)
        return run_joined(run, layer, tokens, edit.joined, self.vit.num_prefix_tokens)

    @autocast_method
    def embed(self, images: Tensor) -> Tensor:
        """Tokens entering block 0. [B, 3, S, S] → [B, N, d]."""
        vit = self.vit
        return vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))

    @autocast_method
    def block(
        self,
        layer: int,
        tokens: Tensor,
        edit: BlockIntervention = UNEDITED,
        taps: set[str] | frozenset[str] = frozenset(),
        *,
        only: slice | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run one block with the changes of `edit` on tokens [B, N, d]; return (output tokens [B, N, d], taps).

        Fused attention runs unless the attention map itself is tapped. With `only`, just the outputs of these tokens
        are computed, [B, n, d]; then nothing after the attention map can be tapped.
        """
        block = self._block(layer)
        attention = _attention(block)
        batch, count, width = tokens.shape
        heads, depth = attention.num_heads, attention.head_dim
        normed = block.norm1(tokens)
        alone = only is not None and not taps & {"q", "attention"}
        asking = normed[:, only] if alone else normed  # the tokens whose queries are needed
        if alone:
            q, k, v = (self._in_heads(x) for x in self._queries_apart(attention, asking, normed))
        else:
            q, k, v = attention.qkv(normed).view(batch, count, 3, heads, depth).permute(2, 0, 3, 1, 4).unbind(0)
        if edit.branches:
            beside = {n: self._branch(branch, asking if n == "q" else normed) for n, branch in edit.branches.items()}
            q, k, v = (x + beside[name] if name in beside else x for name, x in (("q", q), ("k", k), ("v", v)))
        if edit.prompts is not None and edit.prompts.shape[0]:
            prompt_normed, prompt_k, prompt_v = self._prompt_keys_values(block, edit)
            k = torch.cat([k, prompt_k.expand(batch, -1, -1, -1)], dim=2)
            v = torch.cat([v, prompt_v.expand(batch, -1, -1, -1)], dim=2)
            if "normed" in taps:
                normed = torch.cat([normed, prompt_normed.expand(batch, -1, -1)], dim=1)
        plain = (k, v)
        if edit.prefix is not None:
            prefix_k, prefix_v = (self._in_heads(x.expand(batch, -1, -1)) for x in edit.prefix)
            k, v = torch.cat([k, prefix_k], dim=2), torch.cat([v, prefix_v], dim=2)
        tapped = {
            kind: value
            for kind, value in (("input", tokens), ("normed", normed), ("q", q), ("k", k), ("v", v))
            if kind in taps
        }
        if only is not None:
            tokens = tokens[:, only]
            count = tokens.shape[1]
        answered = slice(None) if only is None or alone else only  # queries whose outputs are needed
        q, k = attention.q_norm(q), attention.k_norm(k)
        if "attention" in taps:
            weights = (q * attention.scale @ k.mT).softmax(dim=-1)  # [B, H, N, N + M]
            tapped["attention"] = weights
            mixed = weights[:, :, answered] @ v
        else:
            q = q[:, :, answered]
            mixed = F.scaled_dot_product_attention(q, k, v, scale=attention.scale)
        mixed = mixed.transpose(1, 2).reshape(batch, count, width)
        if edit.head_shift is not None:
            mixed = mixed + edit.head_shift[:, None]
        branch = block.ls1(attention.proj(attention.norm(mixed)))
        if "bare" in taps:
            tapped["bare"] = self._bare_branch(block, q, *plain)
        if "branch" in taps:
            tapped["branch"] = branch if edit.stream_shift is None else branch + edit.stream_shift[:, None]
        tokens = tokens + branch
        if edit.stream_shift is not None:
            tokens = tokens + edit.stream_shift[:, None]
        tokens = tokens + block.ls2(block.mlp(block.norm2(tokens)))
        if "output" in taps:
            tapped["output"] = tokens
        return tokens, tapped

    @autocast_method
    def pool(self, tokens: Tensor) -> Tensor:
        """Return features [B, d] of the output tokens [B, N, d] of the last block."""
        return self.vit.forward_head(self.vit.norm(tokens), pre_logits=True)

    def map_weight(self, name: str) -> Tensor:
        """W [d, d] of an attention projection, y = x Wᵀ: "image.3.k" is the key map of block 3 (q, k or v)."""
        _, layer, which = name.split(".")
        return _attention(self._block(int(layer))).qkv.weight.view(3, self.width, self.width)["qkv".index(which)]

    def key_weight(self, layer: int) -> Tensor:
        """W_k of a block, per head: [H, d/H, d], rows in the layout `y = x Wᵀ`."""
        weight = _attention(self._block(layer)).qkv.weight
        return weight[self.width : 2 * self.width].view(self.heads, -1, self.width)

    def keys_values(self, layer: int, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return a block's keys and values of tokens [..., d] (after its first LayerNorm), not yet split into heads."""
        block = self._block(layer)
        both = _attention(block).qkv
        weight, bias = both.weight, None if both.bias is None else both.bias[self.width :]
        k, v = F.linear(block.norm1(tokens), weight[self.width :], bias).chunk(2, dim=-1)
        return k, v

    def norm_gain(self, layer: int) -> Tensor:
        """Gain γ of a block's first LayerNorm: [d]."""
        return cast(nn.LayerNorm, self._block(layer).norm1).weight

    def describe(self) -> dict[str, Any]:
        """Return sizes as plain values, for the record of a run."""
        return {
            "name": self.name,
            "depth": self.depth,
            "width": self.width,
            "heads": self.heads,
            "tokens": self.tokens,
            "patch_grid": list(self.patch_grid),
            "prefix_tokens": self.vit.num_prefix_tokens,
            "image_size": self.preparation.size,
            "parameters": sum(p.numel() for p in self.parameters()),
            **({"notes": list(self.notes)} if self.notes else {}),
        }

    @staticmethod
    def _queries_apart(attention: Attention, asking: Tensor, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries of `asking` [B, n, d], keys and values of `normed` [B, N, d], not yet split into heads."""
        weight, bias, width = attention.qkv.weight, attention.qkv.bias, normed.shape[-1]
        q = F.linear(asking, weight[:width], None if bias is None else bias[:width])
        k, v = F.linear(normed, weight[width:], None if bias is None else bias[width:]).chunk(2, dim=-1)
        return q, k, v

    @staticmethod
    def _bare_branch(block: Block, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the update [B, N, d] of tokens by attention of normed queries to keys and values [B, H, n, d/H]."""
        attention = _attention(block)
        mixed = F.scaled_dot_product_attention(q, attention.k_norm(k), v, scale=attention.scale)
        return block.ls1(attention.proj(attention.norm(mixed.transpose(1, 2).flatten(2))))

    def _block(self, layer: int) -> Block:
        return cast(Block, self.vit.blocks[layer])  # `_refuse_unusual` takes no other

    def _in_heads(self, x: Tensor) -> Tensor:
        """Split into heads, [B, n, d] → [B, H, n, d/H]: coordinates 0 … d/H − 1 go to head 0."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _branch(self, branch: LowRank | Tensor, x: Tensor) -> Tensor:
        """Return what a branch adds to queries, keys or values of inputs x [B, n, d]: [B, H, n, d/H]."""
        return self._in_heads(F.linear(x, branch) if isinstance(branch, Tensor) else branch(x))

    def _prompt_keys_values(self, block: Block, edit: BlockIntervention) -> tuple[Tensor, Tensor, Tensor]:
        """Return norm1, keys and values of prompts [M, d], equal for all images: [M, d] and twice [1, H, M, d/H]."""
        attention, width = _attention(block), self.width
        normed = block.norm1(edit.prompts)
        bias = None if attention.qkv.bias is None else attention.qkv.bias[width:]
        k, v = F.linear(normed, attention.qkv.weight[width:], bias)[None].split(width, dim=-1)
        k, v = self._in_heads(k), self._in_heads(v)
        if edit.branches:
            k, v = (
                x + self._branch(edit.branches[name], normed[None]) if name in edit.branches else x
                for name, x in (("k", k), ("v", v))
            )
        return normed, k, v

    def _check(self, prompts: Tensor | None, taps: Sequence[Tap]) -> None:
        for kind, layer in taps:
            if kind not in TAPS or not 0 <= layer < self.depth or (kind == "final" and layer != self.depth - 1):
                raise ValueError(
                    f"no activation {kind!r} in block {layer}; kinds: {', '.join(TAPS)}; blocks: 0 to "
                    f"{self.depth - 1} ('final' in the last only)"
                )
        if prompts is not None and (
            prompts.dim() != 3 or prompts.shape[0] > self.depth or prompts.shape[2] != self.width
        ):
            raise ValueError(f"prompts must be [≤ {self.depth} blocks, M, {self.width}], got {list(prompts.shape)}")


def _attention(block: nn.Module) -> Attention:
    return cast(Attention, block.attn)  # `_refuse_unusual` takes no other


def _refuse_unusual(vit: nn.Module, name: str) -> None:
    """Raise ConfigError, with the reason, for models whose structure this file does not compute as timm does."""
    if type(vit) is VisionTransformer:
        reason = _unusual_part(vit)
    else:  # a subclass changes what happens between the blocks
        distilled = getattr(vit, "dist_token", None) is not None
        reason = "it has a distillation token" if distilled else f"it is a {type(vit).__name__}"
    if reason:
        raise ConfigError(
            f"{name} is not a plain Vision Transformer: {reason}; choose one like vit_base_patch16_224 or "
            "vit_small_patch14_reg4_dinov2"
        )


def _unusual_part(vit: VisionTransformer) -> str:
    """Return a reason for the first unsupported part of `vit`; empty if there is none."""
    if type(vit.patch_embed) is not PatchEmbed:
        return f"its patches come from a {type(vit.patch_embed).__name__}, not from one convolution (a hybrid)"
    if vit.global_pool not in ("token", "avg"):
        return f"it pools by {vit.global_pool or 'nothing'}, not by the class token or the average"
    if not isinstance(vit.patch_drop, nn.Identity):
        return "it drops patches"
    for layer, block in enumerate(vit.blocks):
        attention, kind = block.attn if hasattr(block, "attn") else None, type(block).__name__
        if type(block) is not Block:
            told = {"ResPostBlock": ", which normalises after its branches"}
            more = told.get(kind, ", with parallel branches" if "Parallel" in kind else "")
            return f"block {layer} is a {kind}{more}"
        if type(attention) is not Attention:
            return f"block {layer} attends by {type(attention).__name__}"
        if getattr(attention, "gate", None) is not None:
            return f"block {layer} gates its attention"
        channels = attention.num_heads * attention.head_dim
        if channels != vit.embed_dim:
            return f"block {layer} attends in {channels} channels, and its tokens have {vit.embed_dim}"
        if not isinstance(block.norm1, nn.LayerNorm) or block.norm1.weight is None:
            return f"block {layer} normalises by {type(block.norm1).__name__}, and prompts need a LayerNorm with gain"
    return ""


def micro_vit() -> ViTBackbone:
    """Return the bundled micro ViT: `assets/micro-vit`, a genuine timm ViT with a few MB of weights (see its README
    there)."""
    folder, card = read_card("micro-vit")
    try:
        preparation = Preprocessing(card["image_size"], tuple(card["mean"]), tuple(card["std"]))
        vit, sha256 = timm.create_model(**card["architecture"]), card["weights_sha256"]
    except (KeyError, TypeError, RuntimeError) as error:
        described = folder / "config.json"
        raise ConfigError(f"{described} does not describe the model ({error!r}); {hint('micro-vit')}") from error
    load_weights(vit, folder / "model.safetensors", sha256, "micro-vit")
    return ViTBackbone(vit, "micro-vit", preparation)


def random_vit() -> ViTBackbone:
    """Return a model with two untrained blocks of width 48 on 16×16 images and fixed weights. For tests."""
    with seeded(7):
        vit = timm.create_model(
            "vit_tiny_patch16_224",
            pretrained=False,
            img_size=16,
            patch_size=8,
            embed_dim=48,
            depth=2,
            num_heads=3,
            num_classes=0,
        )
        for parameter in vit.parameters():  # timm starts gains at 1 and biases at 0; tests need other values
            if parameter.dim() == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    return ViTBackbone(vit, "random-vit", Preprocessing(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
