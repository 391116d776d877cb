"""Second moments of what past tasks look at, summed as they pass by in constant memory.

Shapes: n rows (samples, tokens), d features, H heads, D model width, B images, N tokens.
Units: squared activations. Moments are uncentred: the mean is not removed.
"""

import torch
from torch import Tensor

from cl_core.linalg.validation import floating


def gram(rows: Tensor) -> Tensor:
    """Sum of outer products of the rows, in float32 or wider even under autocast.

        G = Xᵀ X

    Args:
        rows: [..., n, d] activations.

    Returns:
        [..., d, d] symmetric positive semi-definite, squared activation units; float32 where the rows were narrower.

    Raises:
        TypeError: if the rows are not a floating-point tensor.
        ValueError: if they are not at least two-dimensional or not finite.
    """
    if floating(rows, "rows").ndim < 2:
        raise ValueError(f"rows must be [..., n, d], got shape {list(rows.shape)}")
    wide = rows if rows.dtype == torch.float64 else rows.float()
    with torch.autocast(rows.device.type, enabled=False):
        return wide.mT @ wide


def gram_per_head(queries: Tensor) -> Tensor:
    """One small Gram matrix for each head, over all images and tokens.

        G_h = Σ_b Q_bhᵀ Q_bh

    Args:
        queries: [B, H, N, d] per-head queries, bias included, before the 1/√d scale.

    Returns:
        [H, d, d] squared activation units; float32 where the queries were narrower.

    Raises:
        TypeError, ValueError: as `gram`, or if the queries are not four-dimensional.

    Reference: Lu et al., NeurIPS 2024, arXiv:2406.05658.
    """
    if floating(queries, "queries").ndim != 4:
        raise ValueError(f"queries must be [images, heads, tokens, width], got shape {list(queries.shape)}")
    return gram(queries.transpose(0, 1).flatten(1, 2))


def second_moment(rows: Tensor) -> Tensor:
    """Mean of outer products of the rows: `gram` divided by their number.

        C = Xᵀ X / n

    Args:
        rows: [..., n, d] activations, n ≥ 1.

    Returns:
        [..., d, d] symmetric positive semi-definite, squared activation units.

    Raises:
        TypeError, ValueError: as `gram`, or if there are no rows.
    """
    total = gram(rows)
    if rows.shape[-2] == 0:
        raise ValueError("rows must hold at least one row, got 0; skip empty batches")
    return total / rows.shape[-2]


def pulled_back_moment(gram_per_head: Tensor, key_weight: Tensor) -> Tensor:
    """Gram matrix of all heads' queries pulled back through their key weights, without forming the pulled-back rows.

        C = Σ_h W_hᵀ G_h W_h,    equal to JᵀJ for J = rows q_h W_h of every image, head and token stacked

    Divide by (images · heads · tokens) for the mean over those rows.

    Args:
        gram_per_head: [..., H, d, d] per-head Gram matrices of the queries.
        key_weight: [H, d, D] each head's rows of the key weight.

    Returns:
        [..., D, D] on the device and in the wider dtype of the two, squared pulled-back query units.

    Raises:
        TypeError: if either is not a floating-point tensor.
        ValueError: if head counts or head widths differ.

    Reference: Lu et al., NeurIPS 2024, arXiv:2406.05658.
    """
    floating(gram_per_head, "gram_per_head")
    floating(key_weight, "key_weight")
    heads, width = key_weight.shape[:2] if key_weight.ndim == 3 else (None, None)
    if heads is None or gram_per_head.shape[-3:] != (heads, width, width):
        raise ValueError(
            "key_weight must be [H, d, D] and gram_per_head [..., H, d, d] with the same H and d, got "
            f"{list(key_weight.shape)} and {list(gram_per_head.shape)}"
        )
    dtype = torch.promote_types(gram_per_head.dtype, key_weight.dtype)
    weight, grams = key_weight.to(dtype), gram_per_head.to(dtype)
    with torch.autocast(weight.device.type, enabled=False):
        pulled = (grams @ weight).flatten(-3, -2)  # [..., H·d, D]: the sum over heads becomes one product
        total = weight.flatten(0, 1).mT @ pulled
    return (total + total.mT) / 2


def unit_norm(moment: Tensor) -> Tensor:
    """A moment divided by its own Frobenius norm; a zero moment stays zero.

        Ĉ = C / ‖C‖_F

    Args:
        moment: [..., d, d].

    Returns:
        [..., d, d] dimensionless, ‖Ĉ‖_F = 1 (or 0).

    Reference: arXiv:2507.19839, which sums mini-batches and tasks in this form.
    """
    norm = torch.linalg.matrix_norm(floating(moment, "moment"), keepdim=True)
    return moment / torch.where(norm > 0, norm, torch.ones_like(norm))
