"""Paths of images among the classes over tasks: distances to stored class means, and a path in one plane.

f_t: features of an image with the model after task t; μ_c: class means stored when class c had just been learned, never
updated. a: the image's true class, b: its predicted class now, or the best other class if it is still correct. L = |μ_b
− μ_a|, e₁ = (μ_b − μ_a) / L, j the image's own task:

    e₂ ∝ (f_j − μ_a) − e₁e₁ᵀ(f_j − μ_a)      so both means and the image just after learning lie in the plane
    x_t = e₁ᵀ(f_t − μ_a) / L      0 beside μ_a, 1 beside μ_b, ½ as far from one as from the other
    y_t = e₂ᵀ(f_t − μ_a) / L      h_t: distance of f_t from the plane, / L
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

NEAREST = 3  # number of nearest class means reported
MOMENTS = 24  # maximum number of boundaries, evenly spaced


def evenly(first: int, last: int, most: int = MOMENTS) -> list[int]:
    """At most `most` whole numbers from `first` to `last`, both among them."""
    count = min(last - first + 1, most)
    return [first + round(k * (last - first) / max(count - 1, 1)) for k in range(count)]


def plane_paths(features: Tensor, means: Tensor, true: Tensor, rival: Tensor) -> Tensor:
    """[T, n, 3] (x, y, h) of features [T, n, d] with class means [C, d], classes `true` and `rival` [n]. The first time
    lies in the plane (h = 0). NaN if both means are the same point."""
    origin, across = means[true], means[rival] - means[true]
    length = across.norm(dim=1, keepdim=True)
    first = across / length
    offsets = features - origin
    begun = offsets[0]
    second = begun - (begun * first).sum(1, keepdim=True) * first
    second = second / second.norm(dim=1, keepdim=True).clamp(min=1e-12)
    x, y = ((offsets * axis).sum(2) for axis in (first, second))
    away = (offsets - x[..., None] * first - y[..., None] * second).norm(dim=2)
    found = torch.stack([x, y, away], dim=2) / length
    return torch.where(length > 0, found, torch.full_like(found, torch.nan))


def nearest_means(features: Tensor, means: Tensor, seen: int) -> tuple[Tensor, Tensor]:
    """Classes and distances [n, k] of the k nearest of the first `seen` class means [C, d] to features [n, d]."""
    distances = torch.cdist(features, means[:seen])
    found = distances.topk(min(NEAREST, seen), dim=1, largest=False)
    return found.indices, found.values


def table(
    rows: Tensor, rival: Tensor, moments: list[int], paths: Tensor, near: list[tuple[Tensor, Tensor]]
) -> dict[str, Any]:
    """The table stored with the run, numbers rounded to four digits.

    Returns:
        "rows" [n]: indices among the task's test images; "rival" [n]: classes; "after" [T]: tasks from 1; "path"
        [n][T][3], null where both class means are the same point; "nearest" [n][T][k]: (class, distance).
    """
    known = torch.isfinite(paths).all(dim=2).all(dim=0).tolist()
    nearest = [
        [
            [[int(c), _short(d)] for c, d in zip(classes[i].tolist(), away[i].tolist(), strict=True)]
            for classes, away in near
        ]
        for i in range(len(rows))
    ]
    return {
        "rows": rows.tolist(),
        "rival": rival.tolist(),
        "after": [moment + 1 for moment in moments],
        "path": [
            [[_short(v) for v in point] for point in image] if ok else None
            for image, ok in zip(paths.transpose(0, 1).tolist(), known, strict=True)
        ],
        "nearest": nearest,
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")
