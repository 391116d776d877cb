"""What STAR-Prompt (arXiv:2403.06870) claims and leaves open, asked of the embedded models. No torch.

Selection is that of test images: the class whose vectors a block takes. Layer −1 is what the keys say by themselves,
without filters: the first level used as a classifier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cl_core.events import IntraClassMeasured, KeysMoved, MixtureFitted, ResidualMeasured, RunStarted, SelectionMeasured
from cl_core.questions import seeds
from cl_core.questions.question import Question
from cl_core.questions.reporting import (
    CLEAR,
    ONE_SEED,
    Runs,
    compared,
    concluded,
    events,
    in_each,
    less,
    mean,
    number,
    percent,
    points,
    results_of,
    sources,
    span,
    summaries,
    told_of,
)
from cl_core.store import RunFolder
from cl_core.summary import Summary

PRESET = "star-prompt-micro"
COMPONENTS = (1, 2, 5, 10)
STILL = 0.9999  # least cosine of a key with its first self that counts as standing still
ALONE = -1


# ---------------------------------------------------------------- selection


@dataclass(frozen=True)
class Selected:
    """How often images take their own class, percent: sel[t][j] of the images of task j after task t."""

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
    """The least cosine of any key with what it was when its task had been learned, at the end."""
    moved = events(folder, KeysMoved)
    return float(np.min(moved[-1].kept)) if moved else None


def selection(runs: Runs) -> str:
    found = summaries(runs)
    picked = in_each(runs, selected)
    kept = in_each(runs, least_kept)
    mine, summary = picked.get("fixed keys"), found.get("fixed keys")
    if mine is None or mine.final is None or summary is None:
        verdict = "Not decided: the run with fixed keys has not measured its selection."
    else:
        fall, lost, least = mine.fallen, summary.forgetting, kept["fixed keys"]
        still = least is not None and least >= STILL
        how = compared(fall, lost)
        verdict = (
            f"{'Yes' if still and how in ('alike', 'lower') else 'No'}: with fixed keys {percent(mine.final)} of test "
            f"images take their own class at the end, {points(fall)} less than at best, while accuracy forgets "
            f"{points(lost)}; keys {'stand still' if still else 'move'} (least cosine {number(least)})"
            + (", so what selection loses it loses to classes that came later." if still else ".")
        )
    each = "; ".join(
        f"{label}: own class {percent(p.final)}, by the keys alone {percent(p.alone)}, selection forgets "
        f"{points(p.fallen)}, least cosine of a key {number(kept[label])}, {_scores(found[label])}"
        for label, p in picked.items()
    )
    return concluded(verdict, each, runs, "test images of all tasks learned so far, mean over blocks")


def _scores(summary: Summary) -> str:
    """ "final accuracy 95.1 %, forgetting +2.0 pp"."""
    return f"final accuracy {percent(summary.final_average_accuracy)}, forgetting {points(summary.forgetting)}"


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


# ---------------------------------------------------------------- where the vectors enter


def residual(runs: Runs) -> str:
    found = summaries(runs)
    ratios = {label: [e.ratio for e in events(folder, ResidualMeasured)] for label, folder in runs.items()}
    mine, rival = found.get("residual, heads"), found.get("prefix")
    if mine is None or rival is None:
        verdict = "Not decided: it takes the residual and the prefix."
    else:
        how = compared(mine.final_average_accuracy, rival.final_average_accuracy)
        words = {"higher": "Yes, the residual is better", "lower": "No, the prefix is better"}
        gain = less(mine.final_average_accuracy, rival.final_average_accuracy)
        verdict = f"{words.get(how, 'No, they end alike')}: {points(gain)} of final accuracy against the prefix."
    each = "; ".join(
        f"{label}: {_scores(summary)}"
        + (f", added norm {number(float(np.mean(ratios[label][-1])))} of attention's own" if ratios[label] else "")
        for label, summary in found.items()
    )
    return concluded(verdict, each, runs, "the last row; norms over layers, after the last task")


# ---------------------------------------------------------------- mixtures


def gain_of(folder: RunFolder) -> float | None:
    """Held-out log density of mixtures minus that of single Gaussians, nats per dimension, mean over classes."""
    return mean(e.mixture - e.gaussian for e in events(folder, MixtureFitted))


def mixture(runs: Runs) -> str:
    found = summaries(runs)
    mine, single, without = (found.get(label) for label in ("mixture", "one Gaussian", "no replay"))
    parts = []
    if mine is not None and single is not None:
        how = compared(mine.final_average_accuracy, single.final_average_accuracy)
        word = {"higher": "better than", "lower": "worse than"}.get(how, "no better than")
        gain = points(less(mine.final_average_accuracy, single.final_average_accuracy))
        parts.append(f"replay from a mixture ends {word} from one Gaussian ({gain})")
    if mine is not None and without is not None:
        worth = less(mine.final_average_accuracy, without.final_average_accuracy)
        parts.append(f"replay itself is worth {points(worth)}")
    better = mine is not None and single is not None and parts[0].startswith("replay from a mixture ends better")
    verdict = f"{'Yes' if better else 'No'}: {', and '.join(parts)}." if mine is not None and parts else "Not decided."
    density = gain_of(runs["mixture"]) if "mixture" in runs else None
    told = (
        f" On held-out images a mixture is {'denser' if density > 0 else 'less dense'} than one Gaussian: "
        f"{number(density)} nats per dimension."
        if density is not None
        else ""
    )
    each = told_of(found, _scores)
    return concluded(f"{verdict}{told}", each, runs, "the last row; densities over all classes")


def components(runs: Runs) -> str:
    found, gains = summaries(runs), in_each(runs, gain_of)
    values = {k: s.final_average_accuracy for k, s in found.items() if s.final_average_accuracy is not None}
    if len(values) < 2:
        verdict = "Not decided: it takes two numbers of components."
    else:
        high, low = max(values, key=lambda k: values[k]), min(values, key=lambda k: values[k])
        spread = values[high] - values[low]
        verdict = (
            f"{'Yes' if spread >= CLEAR else 'No'}, final accuracy differs by {spread:.1f} pp (lowest with {low}, "
            f"highest with {high})."
        )
    each = "; ".join(
        f"{label}: {_scores(summary)}, held-out density {number(gains[label])} nats per dimension above one Gaussian"
        for label, summary in found.items()
    )
    return concluded(verdict, each, runs, "the last row; densities over all classes")


def mixture_numbers(folder: RunFolder) -> dict[str, float | None]:
    return {**results_of(folder), "held-out density over one Gaussian, nats": gain_of(folder)}


# ---------------------------------------------------------------- CLIP


def clip(runs: Runs) -> str:
    found, label = summaries(runs), next(iter(runs))
    measured = events(runs[label], IntraClassMeasured)
    spaces = {
        space: (
            mean(float(np.nanmean(e.within)) for e in measured if e.space == space),
            mean(float(np.nanmean(e.between)) for e in measured if e.space == space and np.isfinite(e.between).any()),
            mean(e.nearest_mean for e in measured if e.space == space),
        )
        for space in ("query", "features")
    }
    apart, own = (less(*spaces[space][:2]) for space in ("query", "features"))
    if apart is None or own is None:
        verdict = "Not decided: likeness within classes was not measured in both spaces."
    else:
        verdict = (
            f"{'Yes' if apart > own else 'No'}: two images of a class are {number(apart)} of cosine nearer to each "
            f"other than two of different classes in CLIP's space, and {number(own)} in the ViT's after its task."
        )
    picked = in_each(runs, selected)
    each = "; ".join(
        f"{name}: by the keys alone {percent(p.alone)}, {_scores(found[name])}, so the second level adds "
        f"{points(less(found[name].final_average_accuracy, p.alone))}"
        for name, p in picked.items()
    )
    likeness = "; ".join(
        f"{said}: same class {number(w)}, other class {number(b)}, {percent(n)} nearest to their own mean"
        for said, (w, b, n) in (("CLIP", spaces["query"]), ("ViT", spaces["features"]))
    )
    tasks = len(next(iter(found.values())).accuracy_matrix)
    cells = f"training images of each of {span(tasks)} among its own classes; accuracies on test images after the last"
    return (
        f"{verdict} {likeness}. {each}. The embedded CLIP was pre-trained on drawn digits among other things: what it "
        f"finds is not learned from this stream alone. {sources(runs, cells)} {ONE_SEED}"
    )


def steadiness(folder: RunFolder) -> dict[str, float | None]:
    """How much nearer two images of a class are than two of different ones, and how often an image is nearest to its
    own class's mean, in both spaces."""
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

QUESTIONS = (
    Question(
        "star-selection",
        "Does the choice of vectors stay right as tasks are added?",
        "Other pools of prompts forget whom an entry was for, because keys and queries move. Here keys stand still "
        "once learned and the query model is frozen. Keys that go on being trained and keys from plain class names are "
        "the controls.",
        (
            ("fixed keys", {"preset": PRESET}),
            ("moving keys", {"preset": PRESET, "settings": {"keys": "moving"}}),
            ("plain names", {"preset": PRESET, "settings": {"keys": "templates"}}),
        ),
        selection,
        unwatched=UNWATCHED,
        numbers=selection_numbers,
        criteria=(
            seeds.reaches("keys stand still", "least cosine of a key", "fixed keys", STILL),
            seeds.Criterion("selection falls no further than accuracy", _falls_further, CLEAR, "pp", below=True),
        ),
    ),
    Question(
        "star-drifting",
        "Does it matter that keys stand still?",
        "Keys that go on being trained by cross-entropy, without replay of earlier classes, drift as those of other "
        "pools do. Everything else is the same.",
        (
            ("fixed keys", {"preset": PRESET}),
            ("drifting keys", {"preset": PRESET, "settings": {"keys": "moving", "key_replay_epochs": 0}}),
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
        "The paper adds a vector after attention and calls that better than keys and values that attention may ignore. "
        "The release adds it one linear map earlier. All three with the same choice of class and the same rates.",
        (
            ("residual, heads", {"preset": PRESET}),
            ("residual, stream", {"preset": PRESET, "settings": {"site": "stream"}}),
            ("prefix", {"preset": PRESET, "settings": {"site": "prefix"}}),
        ),
        residual,
        unwatched=UNWATCHED,
        criteria=(seeds.more("ends higher than the prefix", "final, %", "residual, heads", "prefix"),),
    ),
    Question(
        "star-mixture",
        "Is replay from a mixture better than from one Gaussian?",
        "Both levels are balanced with features drawn from what is kept of earlier classes. One Gaussian per class in "
        "both stages, and no replay at all, show what the mixture and the replay are worth.",
        (
            ("mixture", {"preset": PRESET}),
            ("one Gaussian", {"preset": PRESET, "settings": {"components": 1}}),
            ("no replay", {"preset": PRESET, "settings": {"components": 0}}),
        ),
        mixture,
        unwatched=UNWATCHED,
        numbers=mixture_numbers,
        criteria=(
            seeds.more("ends higher than with one Gaussian", "final, %", "mixture", "one Gaussian"),
            seeds.more("ends higher than without replay", "final, %", "mixture", "no replay"),
        ),
    ),
    Question(
        "star-components",
        "Does the number of Gaussians per class matter?",
        "More components fit a class's features more closely and, of few images, learn them by heart. Held-out density "
        "says which it is, final accuracy whether it matters.",
        tuple(
            (f"{count} component{'s' if count > 1 else ''}", {"preset": PRESET, "settings": {"components": count}})
            for count in COMPONENTS
        ),
        components,
        unwatched=UNWATCHED,
        numbers=mixture_numbers,
        criteria=(
            seeds.more("10 components end higher than 1", "final, %", "10 components", "1 component"),
            seeds.more("10 components end higher than 5", "final, %", "10 components", "5 components"),
        ),
    ),
    Question(
        "star-clip",
        "Is CLIP's view of a class steadier than the ViT's?",
        "The method asks CLIP because images of a class lie close together there, so that one key can stand for all. "
        "The same likeness in the ViT's features after each task is the comparison; what the keys alone find says how "
        "much of the final accuracy is CLIP's.",
        (("star_prompt", {"preset": PRESET}),),
        clip,
        unwatched=UNWATCHED,
        numbers=steadiness,
        criteria=(seeds.Criterion("classes lie further apart in CLIP's space", _further_apart, 0.0, "of cosine"),),
    ),
    Question(
        "star-companion",
        "Does STAR-Prompt owe its accuracy to CLIP?",
        "Its first level asks a second model, which has seen drawn digits before. The same frozen ViT, head and replay "
        "without that model and without vectors show what is left.",
        (("star_prompt", {"preset": PRESET}), ("without CLIP", {"preset": "star-frozen-micro"})),
        unwatched=UNWATCHED,
        criteria=(seeds.more("ends higher than without CLIP", "final, %", "star_prompt", "without CLIP"),),
    ),
)
