"""Claims and open questions of STAR-Prompt (arXiv:2403.06870), tested on the bundled models. No torch.

Selection: the class whose vectors a block selects for test images. Layer −1 is the selection by keys alone, without
filters: the first level used as a classifier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cl_core.events import IntraClassMeasured, KeysMoved, MixtureFitted, RunStarted, SelectionMeasured
from cl_core.questions import seeds
from cl_core.questions.question import Question
from cl_core.questions.reporting import (
    events,
    less,
    mean,
    results_of,
)
from cl_core.store import RunFolder

PRESET = "star-prompt-micro"
COMPONENTS = (1, 2, 5, 10)
STILL = 0.9999  # least cosine of a key with its initial value that counts as fixed
ALONE = -1


# ---------------------------------------------------------------- selection


@dataclass(frozen=True)
class Selected:
    """How often images select their own class, percent: sel[t][j] of the images of task j after task t."""

    layers: dict[int, np.ndarray]  # layer → [T, T], NaN = not measured

    @property
    def final(self) -> float | None:
        """Mean over blocks and tasks at the end."""
        return mean(np.nanmean(m[-1]) for layer, m in self.layers.items() if layer != ALONE)

    @property
    def alone(self) -> float | None:
        """The same of the keys alone."""
        return float(np.nanmean(self.layers[ALONE][-1])) if ALONE in self.layers else None

    @property
    def fallen(self) -> float | None:
        """Mean over earlier tasks of best minus last, mean over blocks."""
        return mean(_fall(m) for layer, m in self.layers.items() if layer != ALONE)


def _fall(matrix: np.ndarray) -> float:
    """mean_{j < T−1} ( max_t sel[t, j] − sel[T−1, j] )."""
    if len(matrix) < 2:
        return float("nan")
    return float(np.mean(np.nanmax(matrix[:, :-1], axis=0) - matrix[-1, :-1]))


def selected(folder: RunFolder) -> Selected:
    sizes = sizes_of(folder)
    tasks, ends = len(sizes), np.cumsum([0, *sizes])
    layers: dict[int, np.ndarray] = {}
    for event in events(folder, SelectionMeasured):
        table = layers.setdefault(event.layer, np.full((tasks, tasks), np.nan))
        for task in range(event.clock.task + 1):
            own = [c for c in range(ends[task], ends[task + 1]) if c < event.counts.shape[1]]
            table[event.clock.task, task] = 100 * float(np.mean([event.counts[c, c] for c in own]))
    return Selected(layers)


def sizes_of(folder: RunFolder) -> list[int]:
    """Classes of each task."""
    plan = events(folder, RunStarted)
    return [len(task["classes"]) for task in plan[-1].tasks] if plan else []


def least_kept(folder: RunFolder) -> float | None:
    """The least cosine, at the end, of any key with its value when its task had been learned."""
    moved = events(folder, KeysMoved)
    return float(np.min(moved[-1].kept)) if moved else None


def selection_numbers(folder: RunFolder) -> dict[str, float | None]:
    picked = selected(folder)
    return {
        "own class, %": picked.final,
        "by the keys alone, %": picked.alone,
        "selection forgets, pp": picked.fallen,
        "least cosine of a key": least_kept(folder),
        **results_of(folder),
    }


def _falls_further(numbers: seeds.Numbers) -> float | None:
    mine = numbers["fixed keys"]
    return less(mine["selection forgets, pp"], mine["forgetting, pp"])


def gain_of(folder: RunFolder) -> float | None:
    """Held-out log density of mixtures minus that of single Gaussians, nats per dimension, mean over classes."""
    return mean(e.mixture - e.gaussian for e in events(folder, MixtureFitted))


def mixture_numbers(folder: RunFolder) -> dict[str, float | None]:
    return {**results_of(folder), "held-out density over one Gaussian, nats": gain_of(folder)}


# ---------------------------------------------------------------- CLIP


def steadiness(folder: RunFolder) -> dict[str, float | None]:
    """Difference of within-class and between-class cosines, and how often an image is nearest to its own class's mean,
    in both spaces."""
    found: dict[str, float | None] = {}
    for space, name in (("query", "CLIP"), ("features", "ViT")):
        measured = [e for e in events(folder, IntraClassMeasured) if e.space == space]
        within = mean(float(np.nanmean(e.within)) for e in measured)
        between = mean(float(np.nanmean(e.between)) for e in measured if np.isfinite(e.between).any())
        found[f"{name}, same minus other class, cosine"] = less(within, between)
        found[f"{name}, nearest to own mean, %"] = mean(e.nearest_mean for e in measured)
    return {**found, "by the keys alone, %": selected(folder).alone, **results_of(folder)}


def _further_apart(numbers: seeds.Numbers) -> float | None:
    mine = numbers["star_prompt"]
    return less(mine["CLIP, same minus other class, cosine"], mine["ViT, same minus other class, cosine"])


UNWATCHED = ("attention", "drift", "spectra")
UNWATCHED_BUT_FEATURES = ("attention", "drift")  # mixtures and likeness within classes are measured with the spectra

QUESTIONS = (
    Question(
        "star-selection",
        "Does the selection of vectors stay correct as tasks are added?",
        "Other pools of prompts forget the owner of an entry, because keys and queries move. Here keys are fixed "
        "once learned and the query model is frozen. Keys that are trained further and keys from plain class names are "
        "the controls.",
        (
            ("fixed keys", {"preset": PRESET}),
            ("moving keys", {"preset": PRESET, "settings": {"keys": "moving"}}),
            ("plain names", {"preset": PRESET, "settings": {"keys": "templates"}}),
        ),
        unwatched=UNWATCHED,
        numbers=selection_numbers,
        criteria=(
            seeds.reaches("keys stand still", "least cosine of a key", "fixed keys", STILL),
            seeds.Criterion("selection falls no further than accuracy", _falls_further, seeds.CLEAR, "pp", below=True),
        ),
    ),
    Question(
        "star-drifting",
        "Does it matter that keys are fixed?",
        "Keys of all classes, trained by every task with cross-entropy on its own images and without replay, drift "
        "like those of other pools do. Everything else is the same.",
        (
            ("fixed keys", {"preset": PRESET}),
            ("drifting keys", {"preset": PRESET, "settings": {"keys": "drifting"}}),
        ),
        unwatched=UNWATCHED,
        numbers=selection_numbers,
        criteria=(
            seeds.more("more images take their own class", "own class, %", "fixed keys", "drifting keys"),
            seeds.more("ends higher", "final, %", "fixed keys", "drifting keys"),
        ),
    ),
    Question(
        "star-residual",
        "Is a residual better than a prefix?",
        "The paper adds a vector after attention and claims that this is better than keys and values that attention "
        "may ignore. The release adds it one linear map earlier. All three use the same selection and the same rates.",
        (
            ("residual, heads", {"preset": PRESET}),
            ("residual, stream", {"preset": PRESET, "settings": {"site": "stream"}}),
            ("prefix", {"preset": PRESET, "settings": {"site": "prefix"}}),
        ),
        unwatched=UNWATCHED,
        criteria=(seeds.more("ends higher than the prefix", "final, %", "residual, heads", "prefix"),),
    ),
    Question(
        "star-mixture",
        "Is replay from a mixture better than from one Gaussian?",
        "Both levels are balanced with features drawn from stored mixtures of earlier classes. One Gaussian per "
        "class in both stages, and no replay at all, isolate the effects of the mixture and of replay.",
        (
            ("mixture", {"preset": PRESET}),
            ("one Gaussian", {"preset": PRESET, "settings": {"components": 1}}),
            ("no replay", {"preset": PRESET, "settings": {"components": 0}}),
        ),
        unwatched=UNWATCHED_BUT_FEATURES,
        numbers=mixture_numbers,
        criteria=(
            seeds.more("ends higher than with one Gaussian", "final, %", "mixture", "one Gaussian"),
            seeds.more("ends higher than without replay", "final, %", "mixture", "no replay"),
        ),
    ),
    Question(
        "star-components",
        "Does the number of Gaussians per class matter?",
        "More components fit a class's features more closely, but overfit with few images. Held-out density "
        "shows which is the case, final accuracy whether it matters.",
        tuple(
            (f"{count} component{'s' if count > 1 else ''}", {"preset": PRESET, "settings": {"components": count}})
            for count in COMPONENTS
        ),
        unwatched=UNWATCHED_BUT_FEATURES,
        numbers=mixture_numbers,
        criteria=(
            seeds.more("10 components end higher than 1", "final, %", "10 components", "1 component"),
            seeds.more("10 components end higher than 5", "final, %", "10 components", "5 components"),
        ),
    ),
    Question(
        "star-clip",
        "Is CLIP's representation of a class more stable than the ViT's?",
        "The method uses CLIP because images of a class lie close together there, so that one key can represent all. "
        "The same similarity in the ViT's features after each task is the comparison; accuracy by keys alone shows how "
        "much of the final accuracy comes from CLIP.",
        (("star_prompt", {"preset": PRESET}),),
        unwatched=UNWATCHED_BUT_FEATURES,
        numbers=steadiness,
        criteria=(seeds.Criterion("classes lie further apart in CLIP's space", _further_apart, 0.0, "of cosine"),),
    ),
    Question(
        "star-companion",
        "Does STAR-Prompt's accuracy come from CLIP?",
        "Its first level uses a second model, pre-trained on drawn digits. The same frozen ViT, head and replay "
        "without that model and without vectors are the control.",
        (("star_prompt", {"preset": PRESET}), ("without CLIP", {"preset": "star-frozen-micro"})),
        unwatched=UNWATCHED,
        criteria=(seeds.more("ends higher than without CLIP", "final, %", "star_prompt", "without CLIP"),),
    ),
)
