"""Attention of a user's model: timm's, open_clip's and `nn.MultiheadAttention`, on probe images.

A module's attention is recomputed from its inputs (fused kernels do not keep it): per head softmax(q kᵀ / √d), with the
mask of the call. Nothing in the model is replaced, and only passes over probe images are observed.

    end to end   the module's attention now, compared with that when the probes' task had just been learned
    local        the same with the inputs of that time, which shows the change in this module alone
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from cl_core.events import AttentionCompared, Clock


@dataclass
class Look:
    """An attention module's input and output [n, N, d] and attention [n, H, N, N]."""

    input: Tensor
    mask: Tensor | None
    attention: Tensor
    output: Tensor


class AttentionWatch:
    """The self-attention modules of a model, in order.

    Raises:
        ValueError: if there is none, or one cannot be recomputed.
    """

    def __init__(self, model: nn.Module) -> None:
        found = [(name, module) for name, module in model.named_modules() if _kind(module)]
        self.modules = dict(found)
        if not found:
            raise ValueError(
                "the model has no attention to record: timm's Attention, open_clip's blocks and nn.MultiheadAttention "
                "are known; leave out attention=True"
            )
        self._then: dict[int, tuple[list[Look], Tensor]] = {}

    def watched(self) -> list[str]:
        """Return the query, key and value modules of each attention, named as in `Recorder(modules=…)`."""
        return [name if _kind(module) == "torch" else f"{name}.qkv" for name, module in self.modules.items()]

    def look(self, run: Callable[[], Any]) -> list[Look]:
        """Return the attention of each module in the forward pass of `run`. Raises ValueError for a module that was not
        called, or was called with an unsupported mask."""
        with self._hooked() as seen:
            run()
        looks = []
        for name, module in self.modules.items():
            if name not in seen:
                raise ValueError(
                    f"attention module {name} was not reached by the probe; PyTorch's fast path hides it: "
                    "torch.backends.mha.set_fastpath_enabled(False)"
                )
            tokens, mask, output = seen[name]
            looks.append(Look(tokens, mask, attention_of(module, tokens, mask), output))
        shapes = {look.attention.shape[1:] for look in looks}
        if len(shapes) > 1:
            raise ValueError(
                f"attention of the modules has different shapes ({', '.join(str(list(s)) for s in shapes)}), and "
                "layers are compared side by side; record a model of one tower"
            )
        return looks

    def compare(self, task: int, run: Callable[[], Any], features: Tensor, clock: Clock) -> AttentionCompared:
        """Compare attention on the probes of `task` with the first call for that task. `features` [n, d]."""
        now = self.look(run)
        then, before = self._then.setdefault(task, (now, features))
        local = [
            attention_of(module, old.input, old.mask) for module, old in zip(self.modules.values(), then, strict=True)
        ]
        return AttentionCompared(
            clock,
            task,
            _array([_variation(new, old.attention) for new, old in zip(local, then, strict=True)]),
            _array([_variation(new.attention, old.attention) for new, old in zip(now, then, strict=True)]),
            _array([_moved(new.output, old.output) for new, old in zip(now, then, strict=True)]),
            np.zeros(len(now), np.float32),
            float((1 - nn.functional.cosine_similarity(features, before, dim=-1, eps=1e-12)).clamp(min=0).mean()),
            torch.stack([new.attention[:, :, 0] for new in now], dim=1).half().cpu().numpy(),
        )

    @contextmanager
    def _hooked(self) -> Iterator[dict[str, tuple[Tensor, Tensor | None, Tensor]]]:
        """Collect inputs [n, N, d], masks and outputs of the modules within the block."""
        seen: dict[str, tuple[Tensor, Tensor | None, Tensor]] = {}

        def keep(name: str) -> Any:
            def hook(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], out: Any) -> None:
                tokens: Tensor = given[0] if given else named["query"] if "query" in named else named["x"]
                output = out[0] if isinstance(out, tuple) else out
                mask = named.get("attn_mask")
                if mask is None and _kind(module) == "timm" and len(given) > 1:
                    mask = given[1]
                if named.get("key_padding_mask") is not None or (mask is not None and mask.ndim != 2):
                    raise ValueError(f"attention module {name} was called with a mask a sample, which is not followed")
                if _kind(module) == "torch" and not cast(nn.MultiheadAttention, module).batch_first:
                    tokens, output = tokens.transpose(0, 1), output.transpose(0, 1)
                seen[name] = (tokens.detach().float().clone(), mask, output.detach().float().clone())

            return hook

        hooks = [module.register_forward_hook(keep(name), with_kwargs=True) for name, module in self.modules.items()]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()


def _kind(module: nn.Module) -> str:
    """Return "torch", "timm", or "" for other modules."""
    if isinstance(module, nn.MultiheadAttention):
        plain = module.in_proj_weight is not None and module.bias_k is None and not module.add_zero_attn
        return "torch" if plain else ""
    timm = type(module).__name__ == "Attention" and type(module).__module__.startswith("timm.")
    plain = isinstance(getattr(module, "qkv", None), nn.Linear) and hasattr(module, "num_heads")
    return "timm" if timm and plain else ""


@torch.no_grad()
def attention_of(module: nn.Module, tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Compute the attention [n, H, N, N] of tokens [n, N, d]; rows sum to 1."""
    anything = cast(Any, module)
    if _kind(module) == "torch":
        heads, weight, bias = anything.num_heads, anything.in_proj_weight, anything.in_proj_bias
    else:
        heads, weight, bias = anything.num_heads, anything.qkv.weight, anything.qkv.bias
    with torch.autocast(tokens.device.type, enabled=False):
        both = nn.functional.linear(tokens, weight.float(), None if bias is None else bias.float())
        n, count, _ = tokens.shape
        q, k = both.chunk(3, dim=-1)[:2]
        q, k = (part.view(n, count, heads, -1).transpose(1, 2) for part in (q, k))
        for name in ("q_norm", "k_norm"):
            norm = getattr(module, name, None)
            if isinstance(norm, nn.Module) and not isinstance(norm, nn.Identity):
                q, k = (norm(q), k) if name == "q_norm" else (q, norm(k))
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(mask, -math.inf) if mask.dtype == torch.bool else scores + mask.float()
        return scores.softmax(dim=-1)


def _variation(now: Tensor, then: Tensor) -> Tensor:
    """Return the total variation: half the sum of differences per query, mean over images, heads and queries."""
    return 0.5 * (now - then).abs().sum(dim=-1).mean()


def _moved(now: Tensor, then: Tensor) -> Tensor:
    return (now - then).norm() / then.norm().clamp_min(1e-12)


def _array(values: list[Tensor]) -> np.ndarray:
    return torch.stack(values).float().cpu().numpy()


def grid_of(model: nn.Module, tokens: int) -> tuple[int, int] | None:
    """Return (rows, columns) of the patch grid among `tokens`, from the model, or a square after one class token; None
    = unknown."""
    for owner, name in (("patch_embed", "grid_size"), ("visual", "grid_size")):
        told = getattr(getattr(model, owner, None), name, None)
        if isinstance(told, (tuple, list)) and len(told) == 2 and told[0] * told[1] < tokens:
            return int(told[0]), int(told[1])
    side = math.isqrt(max(0, tokens - 1))
    return (side, side) if side > 1 and side * side == tokens - 1 else None


def as_pictures(inputs: Any) -> np.ndarray | None:
    """Convert prepared images [n, 1 or 3, H, W] to [n, H, W, 3] uint8, stretched from their smallest to their largest
    value; None if they are not images."""
    if not isinstance(inputs, Tensor) or inputs.ndim != 4 or inputs.shape[1] not in (1, 3):
        return None
    values = inputs.detach().float().cpu()
    low, high = values.min(), values.max()
    scaled = ((values - low) / (high - low).clamp_min(1e-12) * 255).round().byte().permute(0, 2, 3, 1)
    return scaled.expand(-1, -1, -1, 3).contiguous().numpy()
