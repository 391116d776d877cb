"""Measures of images and texts on one sphere: distance of the two clouds, and retrieval of pairs.

The modality gap is that of Liang et al., NeurIPS 2022, arXiv:2203.02053: in a contrastively trained model the
embeddings of images and of texts lie in two separate cones. All functions are pure and take numpy arrays.

Shapes: x [n, e] and t [n, e] unit rows, row i of both one pair; S = x tᵀ [n, n] their cosines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def gap_vector(images: Array, texts: Array) -> Array:
    """Δ = mean_i x_i − mean_j t_j: [n, e], [m, e] → [e]."""
    return images.mean(axis=0) - texts.mean(axis=0)


def modality_gap(images: Array, texts: Array) -> float:
    """‖Δ‖₂: 0 if both clouds have the same centre, 2 if each is one point and they are opposite."""
    return float(np.linalg.norm(gap_vector(images, texts)))


def cosine(first: Array, second: Array) -> float:
    """a · b / (‖a‖ ‖b‖); NaN if one of them is zero."""
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    return float((first @ second / lengths).clip(-1, 1)) if lengths else float("nan")


def paired_distance(images: Array, texts: Array) -> float:
    """mean_i ‖x_i − t_i‖₂."""
    return float(np.linalg.norm(images - texts, axis=1).mean())


def pair_cosines(cosines: Array) -> tuple[Array, Array]:
    """Of S [n, n]: the pairs' own S_ii [n], and S_ij with i ≠ j [n (n − 1)]."""
    return np.diagonal(cosines).copy(), cosines[~np.eye(len(cosines), dtype=bool)]


def shares(values: Array, edges: Array) -> Array:
    """Share of `values` in each of the bins between `edges` [b + 1]; values outside by rounding count in the last bin:
    [b], sum 1."""
    counts, _ = np.histogram(values.clip(edges[0], edges[-1]), bins=edges)
    return counts / max(len(values), 1)


def separation(positive: Array, negative: Array) -> float:
    """(μ₊ − μ₋) / sqrt((sd₊² + sd₋²) / 2), population deviations; NaN if both are constant."""
    spread = np.sqrt((positive.var() + negative.var()) / 2)
    return float((positive.mean() - negative.mean()) / spread) if spread else float("nan")


def area_under_roc(positive: Array, negative: Array) -> float:
    """P(s₊ > s₋) + ½ P(s₊ = s₋), counted over all pairs of values (Mann and Whitney): 1 = perfectly separated, ½ =
    chance."""
    ordered = np.sort(negative)
    below, up_to = np.searchsorted(ordered, positive, "left"), np.searchsorted(ordered, positive, "right")
    return float((below + up_to).mean() / (2 * len(negative))) if len(positive) and len(negative) else float("nan")


def retrieval_recall(cosines: Array, ranks: tuple[int, ...] = (1, 5)) -> dict[str, float]:
    """R@k = (100 / n) #{i : S_ii among the k largest of row i}, ties counted against the pair: {"1": …, "5": …}.

    Rows are queries, columns candidates; pass Sᵀ for the other direction.
    """
    # The pair itself is one of those at least as near.
    rivals = (cosines >= np.diagonal(cosines)[:, None]).sum(axis=1) - 1
    return {str(k): float(100 * (rivals < k).mean()) for k in ranks}


def linear_probe(images: Array, texts: Array, folds: int = 5) -> float:
    """Percent of held-out rows that a logistic regression assigns to the correct modality, mean over `folds`.

    100 = a hyperplane separates images from texts, 50 = chance. An image and its text are held out together. NaN with
    fewer pairs than folds.
    """
    from sklearn.linear_model import LogisticRegression

    n = min(len(images), len(texts))
    if n < folds:
        return float("nan")
    right = []
    for fold in range(folds):
        held = np.arange(n) % folds == fold
        learned = np.concatenate([images[:n][~held], texts[:n][~held]])
        asked = np.concatenate([images[:n][held], texts[:n][held]])
        model = LogisticRegression(max_iter=200).fit(learned, np.repeat([0, 1], (~held).sum()))
        right.append((model.predict(asked) == np.repeat([0, 1], held.sum())).mean())
    return float(100 * np.mean(right))


def principal_axes(rows: Array, count: int = 2) -> tuple[Array, Array]:
    """Centre [e] and the first `count` principal directions [count, e] of `rows` [n, e].

    The sign is chosen so that the largest loading is positive, which makes the result deterministic.
    """
    centre = rows.mean(axis=0)
    axes = np.linalg.svd(rows - centre, full_matrices=False)[2][:count]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    return centre, axes * signs[:, None]


def gap_axes(images: Array, texts: Array) -> tuple[Array, Array]:
    """Centre [e] and two orthonormal axes [2, e] for drawing both clouds: along the gap vector, and the first principal
    direction of the rest.

    The two largest principal components of the clouds would hide the gap: it is a shift of the means, small compared
    with the variation among images. Without a gap: those components.
    """
    rows, gap = np.concatenate([images, texts]), gap_vector(images, texts)
    length = np.linalg.norm(gap)
    if length < 1e-9:
        return principal_axes(rows)
    first = gap / length
    rest = rows - np.outer(rows @ first, first)
    return rows.mean(axis=0), np.stack([first, principal_axes(rest, 1)[1][0]])


def class_similarities(images: Array, texts: Array, labels: NDArray[np.int64]) -> tuple[float, float]:
    """(mean x_i · t_{y_i}, mean x_i · t_c over c ≠ y_i) of images [n, e], class texts [C, e], labels [n] 0 … C−1.

    The second is NaN with a single class.
    """
    cosines = images @ texts.T
    own = np.zeros(cosines.shape, dtype=bool)
    own[np.arange(len(labels)), labels] = True
    return float(cosines[own].mean()), float(cosines[~own].mean()) if len(texts) > 1 else float("nan")


def nearest_text_accuracy(images: Array, texts: Array, labels: NDArray[np.int64]) -> float:
    """Percent of images whose nearest class text is their own: (100 / n) #{i : argmax_c x_i · t_c = y_i}."""
    return float(100 * ((images @ texts.T).argmax(axis=1) == labels).mean())
