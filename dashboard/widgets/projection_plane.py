"""A gradient projection in the plane: what an energy threshold protects, and what it leaves of a gradient.

All interaction happens in the browser: the page sends the points once. The formulas are implemented here again, in
NumPy, for the initial sentence and for a test that both agree.

Gradient projection memory: Saha et al., ICLR 2021, arXiv:2103.09762. The soft form: Saha and Roy, AAAI 2023,
arXiv:2302.01386.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st

from dashboard.theme import TASK_COLOURS, percent

_HERE = Path(__file__)
_ROOM = '<div class="plane"><p class="plane-says"></p></div>'
_SLACK = 1e-9  # of a share: 1 is reached although the shares were rounded
_mount = st.components.v2.component(
    "projection_plane",
    html=_ROOM,
    css=_HERE.with_suffix(".css").read_text("utf-8"),
    js=_HERE.with_suffix(".js").read_text("utf-8"),
    isolate_styles=False,
)


@dataclass(frozen=True)
class Projection:
    """Result of projecting one gradient in the plane of two inputs."""

    axes: np.ndarray  # [2, 2] orthonormal rows, strongest first; the first points up, the second left of it
    deviations: np.ndarray  # [2] σᵢ: root mean square of the points along each axis, in units of the points
    shares: np.ndarray  # [2] shares of the energy; their sum is 1
    protected: int  # number of leading axes protected, 0 to 2
    strength: np.ndarray  # [2] λᵢ: share of the gradient along each axis that is removed, 0 to 1
    left: np.ndarray  # [2] the projected gradient
    removed: np.ndarray  # [2] gradient − left
    left_share: float  # |left| / |gradient|
    change: float  # root mean square of x·Δ over the points, Δ the projected gradient
    change_before: float  # the same for the gradient itself


def projection_picture(
    points: np.ndarray | Sequence[Sequence[float]],
    gradient: np.ndarray | Sequence[float],
    energy: float,
    alpha: float | None = None,
) -> Projection:
    """Protect the leading axes of `points` that hold the share `energy`, and project `gradient` away from them.

        M = XᵀX / n = Σᵢ σᵢ² aᵢ aᵢᵀ,   k = fewest with Σ_{i≤k} σᵢ² ≥ ε Σᵢ σᵢ²,   left = g − Σ_{i≤k} λᵢ (g·aᵢ) aᵢ

    with λᵢ = 1, so that left = g − g B Bᵀ, or, in the soft form, λᵢ = (α + 1) σᵢ / (α σᵢ + σ₁).

    Args:
        points: [n, 2] inputs of old tasks, not centred.
        gradient: [2] gradient of one row of weights.
        energy: ε, the share of the old inputs' energy to protect, 0 to 1.
        alpha: α of the soft form, at least 0; None projects fully.

    Raises:
        ValueError: for points that are not [n, 2], hold no energy or are not finite, and for values out of bounds.
    """
    x, g = np.asarray(points, dtype=np.float64), np.asarray(gradient, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != 2 or not len(x):
        raise ValueError(f"points must be [n, 2], got {list(x.shape)}; of wider inputs choose two directions")
    if not np.isfinite(x).all() or not x.any():
        raise ValueError("points must be finite and not all zero")
    if g.shape != (2,) or not np.isfinite(g).all() or not g.any():
        raise ValueError(f"gradient must be two finite numbers, not both zero, got {g.tolist()}")
    if not 0 <= energy <= 1:
        raise ValueError(f"energy must lie in [0, 1], got {energy:g}")
    if alpha is not None and not (np.isfinite(alpha) and alpha >= 0):
        raise ValueError(f"alpha must be at least 0, got {alpha:g}; None projects fully")
    moment = x.T @ x / len(x)
    values, vectors = np.linalg.eigh(moment)  # ascending
    first = vectors[:, 1]
    if first[1] < 0 or (first[1] == 0 and first[0] < 0):
        first = -first
    axes = np.array([first, [-first[1], first[0]]])
    power = values[::-1].clip(min=0)
    shares, deviations = power / power.sum(), np.sqrt(power)
    protected = int((np.concatenate([[0.0], np.cumsum(shares)]) < energy - _SLACK).sum())
    factors = np.ones(2) if alpha is None else (alpha + 1) * deviations / (alpha * deviations + deviations[0])
    strength = np.where(np.arange(2) < protected, factors, 0.0)
    removed = (strength * (axes @ g)) @ axes
    left = g - removed
    return Projection(
        axes=axes,
        deviations=deviations,
        shares=shares,
        protected=protected,
        strength=strength,
        left=left,
        removed=removed,
        left_share=float(np.linalg.norm(left) / np.linalg.norm(g)),
        change=float(np.linalg.norm(deviations * (axes @ left))),
        change_before=float(np.linalg.norm(deviations * (axes @ g))),
    )


def says(picture: Projection, energy: float) -> str:
    """Describe `picture`: what is protected at `energy`, what is left, and the effect on old outputs."""
    share, left = _percent(picture.shares[0]), _percent(picture.left_share)
    before, after = _short(picture.change_before), _short(picture.change)
    if picture.protected == 0:
        return f"Nothing is protected: the whole gradient is left. Old outputs change by {before}."
    if picture.protected == 1:
        what = f"One axis holds {share} of the energy and is protected"
    else:
        what = f"The first axis holds {share} of the energy, less than the {_percent(energy, 0)} to keep"
        if picture.left_share < 1e-6:
            return (
                f"{what}, so both are protected: the projected gradient is zero, and the new task cannot be learned "
                f"here. Old outputs do not change (unprotected: by {before})."
            )
        what += f", so both are protected, the second by {_percent(picture.strength[1])}"
    return f"{what}: {left} of the gradient’s length is left. Old outputs change by {after} instead of {before}."


def _percent(share: float, digits: int = 1) -> str:
    return percent(100 * share, digits).replace(" ", "\u00a0")  # never broken between number and unit


def _short(value: float) -> str:
    """Two significant digits."""
    return f"{float(f'{value:.2g}'):g}" if value > 1e-9 else "0"


def example_points() -> np.ndarray:
    """Return [160, 2] fixed synthetic inputs: a cloud with one strong and one weak direction."""
    spread = np.random.default_rng(5).standard_normal((160, 2)) * (1.0, 0.3)
    turn = np.deg2rad(30)
    return spread @ [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]


def _record(
    points: np.ndarray | None, gradient: Sequence[float] | None, energy: float, alpha: float, soft: bool
) -> dict[str, object]:
    """Check the arguments and return the browser's data, including the initial sentence."""
    x = example_points() if points is None else np.asarray(points, dtype=np.float64)
    g = (0.5, 0.85) if gradient is None else gradient
    first = projection_picture(x, g, energy, alpha if soft else None)
    projection_picture(x, g, energy, alpha)  # check alpha now, because the soft form may be switched on later
    return {
        "points": x.tolist(),
        "gradient": [float(v) for v in g],
        "energy": energy,
        "alpha": alpha,
        "soft": soft,
        "says": says(first, energy),
        "colours": TASK_COLOURS[:2],  # old, new
    }


def projection_plane(
    points: np.ndarray | None = None,
    gradient: Sequence[float] | None = None,
    *,
    energy: float = 0.9,
    alpha: float = 10.0,
    soft: bool = False,
    key: str,
) -> None:
    """Draw the plane.

    Args:
        points: [n, 2] inputs of old tasks; None = a synthetic cloud.
        gradient: [2] gradient of the new task; the reader changes only its direction.
        energy: initial ε, 0 to 1.
        alpha: α of the soft form.
        soft: whether to start with the soft form.
        key: unique on the page.
    """
    record = _record(points, gradient, energy, alpha, soft)
    _mount(data=json.dumps(record, separators=(",", ":")).encode(), key=key)


def html(
    points: np.ndarray | None = None,
    gradient: Sequence[float] | None = None,
    *,
    energy: float = 0.9,
    alpha: float = 10.0,
    soft: bool = False,
) -> str:
    """Return the plane as an HTML fragment that needs neither server nor network; arguments as in `projection_plane`.

    Without scripts it shows its initial sentence. Text and background colours are the page's `--ink` and `--ground`.
    """
    record = _record(points, gradient, energy, alpha, soft)
    style, script = (_HERE.with_suffix(end).read_text("utf-8") for end in (".css", ".js"))
    script = script.replace("export default function", "const mount = function")
    data = json.dumps(record, separators=(",", ":"))
    return f"""<div class="plane-place">{_ROOM.replace("></p>", f">{record['says']}</p>")}</div>
<style>{style}</style>
<script>{{
const place = document.currentScript.previousElementSibling.previousElementSibling;
{script};
mount({{ data: {data}, parentElement: place }});
}}</script>"""
