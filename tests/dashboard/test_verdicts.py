"""The sentence that answers a page's question, against events whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from cl_core.events import (
    AttentionCompared,
    Clock,
    ConceptorMeasured,
    ModalityGapMeasured,
    SelectionMeasured,
    SpectrumMeasured,
    SubspaceMeasured,
    UpdateMeasured,
    WeightSpectrumMeasured,
)
from dashboard.verdicts import (
    Contender,
    attention_kept,
    capacity_left,
    joint_space_kept,
    learned_and_kept,
    own_entries_found,
    remembered,
    room_left,
    runs_compared,
    subspace_room_left,
    threshold_moved,
    tried_and_measured,
    weight_room_left,
    weights_moved,
)


def spectrum(task: int, layer: int, left: int, width: int = 20) -> SpectrumMeasured:
    values = np.linspace(1, 0, width, dtype=np.float32)
    return SpectrumMeasured(Clock(task, 0, task), layer, "kv", values, left, "energy 0.95", True, 0.95, 4.0, 1.0, 0.0)


def compared(task: int, probe: int, *moved: float) -> AttentionCompared:
    values = np.array(moved, dtype=np.float32)
    nothing = np.zeros_like(values)
    return AttentionCompared(
        Clock(task, 0, task), probe, values, values, nothing, nothing, 0.0, np.zeros((1, len(moved), 1, 4), np.float16)
    )


def gap(task: int, length: float, recall: float, general: float) -> ModalityGapMeasured:
    none, at = np.zeros(2, np.float32), {"1": recall, "5": recall}
    points = np.zeros((1, 2), np.float16)
    return ModalityGapMeasured(
        Clock(task, 0, task), length, 1.0, 0.1, 0.1, 1.0, none, none, none, 0.3, 0.0, 1.0, 0.9, 99.0, at, at, 40,
        general, points, points,
    )  # fmt: skip


def plain(said: str) -> str:
    return said.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("measured", "task", "said"),
    [
        ([], None, ""),
        ([spectrum(0, 0, 15)], None, "After T1 15 of 20 directions (75 %) are left."),
        (
            [spectrum(0, 0, 15), spectrum(0, 1, 15), spectrum(1, 0, 15), spectrum(1, 1, 15)],
            None,
            "After T2 every layer has 15 of 20 directions (75 %) left: none has been taken since T1.",
        ),
        (
            [spectrum(0, 0, 18), spectrum(0, 1, 16), spectrum(1, 0, 9), spectrum(1, 1, 12)],
            None,
            "After T2 layer 1 has the fewest left, 9 of 20 directions (45 %); since T1 it lost most, 9 directions.",
        ),
        (
            [spectrum(0, 0, 18), spectrum(0, 1, 16), spectrum(1, 0, 9), spectrum(1, 1, 12)],
            0,
            "After T1 layer 2 has the fewest left, 16 of 20 directions (80 %).",
        ),
        (
            [spectrum(0, 0, 5), spectrum(0, 1, 6), spectrum(1, 0, 7), spectrum(1, 1, 6)],
            None,
            "After T2 layer 2 has the fewest left, 6 of 20 directions (30 %); no layer has fewer than after T1.",
        ),
    ],
)
def test_room_left(measured, task, said):
    assert plain(room_left(measured, task)) == said


def test_attention_kept():
    assert attention_kept([]) == "" and attention_kept([compared(0, 0, 0.0, 0.0)]) == ""
    events = [compared(0, 0, 0, 0), compared(1, 1, 0, 0), compared(1, 0, 0.001, 0.002)]
    assert attention_kept(events).endswith("is what it was when they were learned.")
    events += [compared(2, 0, 0.1, 0.2), compared(2, 1, 0.4, 0.1)]
    assert plain(attention_kept(events)) == (
        "After T3 20.0 % of the attention on images of earlier tasks lies elsewhere than when they were learned; most "
        "on T2 in layer 1, 40.0 %."
    )
    assert attention_kept(events, 1).startswith("After T2 ")


def test_joint_space_kept():
    first, second = gap(-1, 0.8, 60.0, 70.0), gap(0, 0.9, 40.0, 75.0)
    assert joint_space_kept([]) == joint_space_kept([first]) == joint_space_kept([first, second], -1) == ""
    assert plain(joint_space_kept([first, second])) == (
        "After T1 the gap is 0.9, before training 0.8; R@1 changed by −20.0 pp, general accuracy by +5.0 pp."
    )


NAN = np.nan


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], ""),
        ([[NAN, NAN]] * 2, ""),
        ([[90, NAN], [NAN, NAN]], "T1 has been learned: 90.0 % of its test images are correct."),
        (
            [[90, NAN, NAN], [70, 80, NAN], [60, 76, 95]],
            "After T3 accuracy on the 3 tasks learned so far averages 77.0 %; T1 fell most, from 90.0 % to 60.0 %.",
        ),
        (
            [[90, 10], [91, 80]],
            "After T2 accuracy on the 2 tasks learned so far averages 85.5 %; none of them is worse than when it had "
            "just been learned.",
        ),
        ([[90, 80, 70]], "All 3 tasks were learned at once; accuracy on them averages 80.0 %."),
    ],
)
def test_learned_and_kept(rows, said):
    assert plain(learned_and_kept(np.array(rows, dtype=float))) == said


def test_own_entries_found():
    def taken(owners, accuracy):
        counts = np.array([[8, 2], [4, 6]], dtype=np.float32)
        of = "task" if accuracy is not None else ""
        return SelectionMeasured(Clock(1, 0, 1), -1, of, counts, owners, accuracy)

    assert plain(own_entries_found(taken([0, 1], 70.0), {0: 80.0, 1: 60.0})) == (
        "After T2 70.0 % of the images select mostly their own entries (chance 50.0 %), those of T2 least; "
        "1.96 of 2 entries are in use."
    )
    assert plain(own_entries_found(taken([-1, -1], None), {})) == (
        "After T2 1.96 of 2 entries are in use; they belong to no task, so no selection is right or wrong."
    )


def test_threshold_moved():
    run, now = {"nullity": 46.0, "interference": 0.1}, {"nullity": 64.0, "interference": 25.0}
    assert plain(threshold_moved(now, run, task=2, at="a cut at energy 0.9")) == (
        "After T3 a cut at energy 0.9 leaves 64.0 % of the directions free (the run: 46.0 %); 25.0 % of "
        "the next update's effect on what old tasks use would pass (the run: 0.1 %)."
    )
    assert plain(threshold_moved(run, run, task=2, at="a cut at the knee")) == (
        "After T3 a cut at the knee leaves 46.0 % of the directions free; 0.1 % of the next update's "
        "effect on what old tasks use would pass."
    )
    assert "pass" not in threshold_moved({**now, "interference": NAN}, None, task=0, at="it")


def contender(name: str, final: list[float], forgetting: list[float], first: int = 0) -> Contender:
    seeds = range(first, first + len(final))
    return Contender(name, dict(zip(seeds, final, strict=True)), dict(zip(seeds, forgetting, strict=True)))


def test_one_seed_calls_nothing_better():
    one, other = contender("a", [80.0], [2.0]), contender("b", [60.0], [-0.5])
    assert runs_compared([]) == runs_compared([one]) == ""
    assert plain(runs_compared([one, other], ["method (x | y)", "prompts", "rate", "epochs"])) == (
        "a ends at 80.0 %, b at 60.0 %; they forget 2.0 and −0.5 points. One seed each (0): which is better is "
        "undecided. They differ in method (x | y), prompts, rate and 1 more (table below)."
    )
    assert "One seed each (0, 3)" in runs_compared([one, contender("b", [60.0], [1.0], 3)])
    many = runs_compared([one, other, contender("c", [70.0], [5.0])])
    assert plain(many) == (
        "3 settings end between 60.0 % (b) and 80.0 % (a); they forget between −0.5 points (b) and 5.0 (c). "
        "One seed each (0): which is better is undecided."
    )


def test_runs_are_called_better_beyond_the_spread_of_three_common_seeds():
    high, low = contender("a", [80, 82, 81], [2, 2, 3]), contender("b", [60, 61, 63], [9, 8, 9])
    assert plain(runs_compared([low, high])) == (
        "a ends higher, at 81.0 ± 1.0 % against 61.3 ± 1.5 % of b; a forgets less, 2.3 ± 0.6 points against 8.7 ± 0.6. "
        "Seeds 0, 1, 2."
    )
    assert "higher" not in runs_compared([high, contender("b", [60, 61, 63], [9, 8, 9], first=2)]), "one seed in common"
    near = runs_compared([high, contender("b", [81, 79, 82], [9, 8, 9])])
    assert (
        "higher" not in near and "a forgets less" in near and "which is better in final accuracy is undecided" in near
    )
    assert "Within the spread over seeds 0, 1, 2" in near
    assert plain(runs_compared([high])).startswith("The runs differ only in their seed: they end at 81.0 ± 1.0 %")


def test_remembered():
    here = {"text": "0.95", "after": [{"final": 64.0, "learning": 91.0, "forgetting": 30.0}]}
    best = {"text": "0.9", "after": [{"final": 66.0, "learning": 91.0, "forgetting": 28.0}]}
    said = "ε = 0.95: learned to 91.0 %, forgotten 30.0 points, 64.0 % in the end"
    assert plain(remembered(here, None, "ε = 0.95")) == said + "."
    assert plain(remembered(here, best, "ε = 0.95")) == said + "; the best known threshold is 0.9, with 66.0 %."
    assert remembered({"after": []}, best, "ε = 0.95") == ""


def test_tried_and_measured():
    rows = [("Share passed in T2", 10.0, 20.0, 21.0), ("Interference in T2", 25.3, 0.0, 0.2)]
    found = {"stored statistics": ({"forgetting": 15.0}, {"forgetting": 2.0}), "other": ({"forgetting": 1.0},) * 2}
    assert tried_and_measured([], {}) == "" and tried_and_measured([("Interference in T2", 1.0, 0.0, NAN)], {}) == ""
    assert plain(tried_and_measured(rows, found)) == (
        "Interference in T2: predicted 0.0 %, measured 0.2 %, before 25.3 %; forgetting by stored statistics went "
        "from 15.0 to 2.0 points."
    )


def test_weight_room_left():
    def weight(task, name, principal):
        values = np.linspace(1, 0, 10, dtype=np.float32)
        return WeightSpectrumMeasured(
            Clock(task, 0, task), name, values, values, 0.9, principal, 0, "none", False, 5.0, 5.0, None, None, 0.5,
            None, 1.0, 0.1, 0, 0.0,
        )  # fmt: skip

    first = [weight(0, "image.0.q", 6), weight(0, "text.1.v", 7)]
    assert weight_room_left([]) == ""
    assert plain(weight_room_left(first)) == (
        "After T1 text tower, layer 2, values has the fewest null directions, 3 of 10 (30 %)."
    )
    later = [*first, weight(1, "image.0.q", 8), weight(1, "text.1.v", 7)]
    assert plain(weight_room_left(later)) == (
        "After T2 image tower, layer 1, queries has the fewest null directions, 2 of 10 (20 %); since T1 it lost 2."
    )
    assert weight_room_left(later, 0) == weight_room_left(first)


def test_subspace_room_left():
    def space(task, free, taken):
        found = {"free pre-trained": free, "conflicting": taken, "occupied": 1, "free residual": 1}
        none, some = np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
        return SubspaceMeasured(
            Clock(task, 0, task), 0, some, 0.9, 1, 1.0, some, some, none, found, {}, None, some, some, "both", "images"
        )

    assert subspace_room_left([]) == ""
    assert plain(subspace_room_left([space(-1, 7, 1), space(0, 4, 4)])) == (
        "After T1 5 of 10 directions are free (50 %), before training 8."
    )


def test_capacity_left_and_weights_moved():
    def soft(layer, capacity):
        return ConceptorMeasured(Clock(2, 0, 2), layer, np.zeros(4, np.float32), capacity, 0.1, 1.0, 0.0)

    assert capacity_left([]) == weights_moved([]) == ""
    assert plain(capacity_left([soft(0, 0.2), soft(1, 0.45)])) == (
        "After T3 layer 2 has the least capacity left: 45.0 % is used."
    )
    moved = [
        UpdateMeasured(Clock(t, 0, t), layer, m, {}, {}) for t, layer, m in ((0, 1, 0.7), (1, 0, 0.2), (1, 1, 0.3))
    ]
    assert plain(weights_moved(moved)) == "In T2 layer 2 moved most, by 30.0 % of its size; in T1 it moved 70.0 %."
    assert plain(weights_moved(moved, 0)) == "In T1 layer 2 moved most, by 70.0 % of its size."
