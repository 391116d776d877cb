"""Answers against events written by hand, whose numbers can be worked out on paper."""

from __future__ import annotations

import numpy as np
import pytest

from cl_core.presets import PRESETS
from cl_core.questions import answered, long_streams, question
from cl_core.questions.gnsp import cut_of
from cl_core.questions.long_streams import directions_left
from cl_core.questions.nusa_cl import leaks_of
from tests.recorded_question_runs import cut, gap, update, weight, write

FALLING = [[90, 60], [80, 88]]  # Transfer 60, Last 84, forgetting 10, learning 89


@pytest.fixture
def say(tmp_path):
    """`say(name, {label: (events, rows)})`: those runs, and the answer computed from them."""

    def ask(name, runs, **others):
        for label, (said, rows) in runs.items():
            write(tmp_path, name, label, *said, rows=rows, **others)
        return answered(question(name), tmp_path).text

    return ask


# ---------------------------------------------------------------- NuSA-CL


LIMIT = PRESETS["nusa-cl-micro"].config["settings"]["r_max"]


def leaking(*leaks):
    return [weight(task, leak_left=leak, leak_right=leak / 2) for task, leak in enumerate(leaks)]


def test_leaks_are_counted_over_maps_and_tasks_where_the_weight_moved(tmp_path):
    folder = write(
        tmp_path, "nusa-cost", "nusa_cl", *leaking(0.1, 0.3), weight(1, "text.0.k", leak_left=None), rows=FALLING
    )
    leaks = leaks_of(folder)
    assert leaks.left.tolist() == [0.1, 0.3] and leaks.right.tolist() == [0.05, 0.15, 0.25]
    assert (leaks.worst, leaks.chance, leaks.maps, leaks.tasks) == (0.3, 0.5, 2, 2)


def test_orthogonality_is_a_yes_at_rounding_level_and_a_no_above_it(say):
    others = {"lora_sequential": (leaking(0.5, 0.4), FALLING), "finetune": (leaking(0.4, 0.6), FALLING)}
    text = say("nusa-orthogonality", {"nusa_cl": (leaking(1e-6, 3e-6), FALLING), **others})
    assert text.startswith("Yes. No change that NuSA-CL made has more than 3e−06")
    assert "finetune: left median 0.5, max 0.6; right median 0.25, max 0.3; chance 0.5" in text
    assert "lora_sequential has 0.65 times the leak of chance" in text  # median of 0.2, 0.25, 0.4, 0.5 over 0.5
    assert (
        "nusa_cl = nusa-orthogonality-nusa-cl" in text and "seed 0" in text and "1 maps after each of T1 to T2" in text
    )


def test_orthogonality_says_no_plainly(say):
    assert say("nusa-orthogonality", {"nusa_cl": (leaking(1e-6, 0.2), FALLING)}).startswith("No. A change")


def test_rho_is_told_with_the_maps_in_which_the_rank_limit_would_have_bound(say):
    """192 directions: 100 null ones exceed the preset's limit, 20 do not."""

    def at(null):
        return [
            weight(t, n, sigma=np.ones(192), principal=192 - null, written=null) for t in (0, 1) for n in ("a", "b")
        ]

    text = say(
        "nusa-rho",
        {
            "rho 0.80": (at(100), [[90, 50], [70, 90]]),
            "rho 0.90": (at(60), [[80, 50], [70, 90]]),
            "rho 0.95": (at(40), [[80, 50], [70, 90]]),
            "rho 0.99": (at(33), [[80, 50], [70, 90]]),
            "rho 0.999": (at(20), [[70, 52], [68, 80]]),
        },
    )
    assert text.startswith("Yes, it trades learning for keeping: from rho 0.80 to rho 0.999")
    assert "change by −80, learning accuracy by −15.0 pp and the loss on T1 by −18.0 pp" in text
    assert (
        "rho 0.999: 20 directions written, learning accuracy 75.0 %, loss on T1 +2.0 pp, Transfer 52.0 %, and r_max = "
        f"{LIMIT} would have bound in 0 of 2 maps" in text
    )
    assert "would have bound in 2 of 2 maps" in text and "Here r_max = 192" in text


def test_rho_that_changes_nothing_is_a_no(say):
    same = ([weight(sigma=np.ones(192), principal=150, written=42)], FALLING)
    assert say("nusa-rho", {"rho 0.80": same, "rho 0.999": same}).startswith("No, nothing moves by 1 pp")


@pytest.mark.parametrize(
    ("free", "verdict"),
    [
        ([[90, 40], [80, 60]], "Yes, staying in the null space at every step helps: Transfer +20.0 pp, Last +14.0 pp"),
        ([[90, 70], [80, 68]], "Partly, it helps Last and costs Transfer"),
        ([[90, 60], [80, 88]], "No, staying in the null space at every step does not help"),
    ],
)
def test_persistence_is_judged_by_transfer_and_last(say, free, verdict):
    text = say("nusa-persistence", {"every step": (leaking(0.0), FALLING), "initial only": (leaking(0.4), free)})
    assert text.startswith(verdict)
    assert "every step: Transfer 60.0 %, Last 84.0 %, forgetting +10.0 pp, leak left median 0, max 0" in text


@pytest.mark.parametrize(
    ("cut_rows", "verdict"),
    [
        ([[90, 40], [80, 70]], "Yes, the last directions are the better ones where anything differs"),
        (
            [[90, 40], [80, 98]],
            "Partly: the last directions are better in Transfer against after the cut, worse in Last",
        ),
        ([[90, 70], [80, 88]], "No, the last directions are nowhere better, and worse in Transfer"),
        ([[90, 60.5], [80, 88.5]], "No, which directions are written to makes no difference of 1 pp"),
    ],
)
def test_directions_are_compared_with_their_controls(say, cut_rows, verdict):
    runs = {label: (leaking(0.1), FALLING) for label in ("last", "random")}
    text = say("nusa-directions", {**runs, "after the cut": (leaking(0.1), cut_rows)}, zero_shot=[10, 33])
    assert text.startswith(verdict) and "untrained model: 33.0 %" in text


def test_the_directions_left_are_counted_after_the_task():
    flat, steep = np.ones(100), np.array([10.0, 1, 1, 1])
    assert directions_left(weight(sigma=flat, rho=0.95)) == 5
    assert directions_left(weight(sigma=steep, rho=0.95)) == 3


def test_room_runs_out_when_fewer_than_r_max_directions_are_left(say):
    """Of 100 directions 60 are left after T1 and 5 after T2, of which r_max were to be written."""
    wide = np.concatenate([np.full(40, 10.0), np.full(60, 0.1)])
    first = weight(0, sigma=wide, rho=0.95, principal=38, written=LIMIT, promoted=4, effective_rank=50.0)
    second = weight(
        1, sigma=wide, after=np.ones(100, np.float32), rho=0.95, principal=38, written=LIMIT, promoted=3, drift=0.4
    )
    text = say("nusa-saturation", {"twelve tasks": ([first, second], FALLING)})
    assert text.startswith(f"Yes: after T2, 1 of 1 maps have fewer than r_max = {LIMIT} directions left")
    assert "Remaining capacity (d − k)/d: 0.620 → 0.620 → 0.050" in text and "tightest map 5 directions" in text
    assert "Promoted singular values: 7 in all, 4 in T1 and 3 in T2" in text and "Drift: 0.4 of the whole" in text
    assert "Written of r_max: 1.00 → 1.00" in text and "Effective rank: 2.0 → 50.0 → 3.0" in text


def test_room_that_is_left_is_a_no(say):
    wide = np.concatenate([np.full(40, 10.0), np.full(60, 0.1)])
    said = [weight(t, sigma=wide, rho=0.95, principal=38, written=LIMIT) for t in (0, 1)]
    text = say("nusa-saturation", {"twelve tasks": (said, FALLING)})
    assert text.startswith(f"No, not within 2 tasks: after T2 every one of 1 maps has r_max = {LIMIT} directions left")


def test_cost_is_told_by_width_and_extrapolated_with_the_cube(say, tmp_path, monkeypatch):
    monkeypatch.setattr(long_streams, "seconds_of", lambda folder: 1.0)
    said = [weight(0, f"text.{i}.q", sigma=np.ones(128), seconds=0.004) for i in range(3)]
    said += [weight(0, f"image.{i}.q", sigma=np.ones(192), seconds=s) for i, s in enumerate((0.009, 0.0135, 0.9))]
    text = say("nusa-cost", {"nusa_cl": (said, FALLING)})
    assert text.startswith("Yes: decompositions take 93.5 % of the run's time")
    assert "width 128: 4.00 ms (3 decompositions), width 192: 13.50 ms (3 decompositions)" in text
    assert (
        "power 3.0" in text
        and "extrapolated from width 192 with the cube of the width: 512: 0.26 s, 768: 0.86 s" in text
    )
    assert "on cpu, 1 thread" in text
    monkeypatch.setattr(long_streams, "seconds_of", lambda folder: 100.0)
    assert answered(question("nusa-cost"), tmp_path).text.startswith("No: decompositions take 0.9 %")


def test_similar_neighbours_are_compared_by_the_first_halves_losses(tmp_path):
    """Order I: Digits a loses 10, Letters a 4. Order II: Digits a loses 1, Letters a 2, and no second half counts."""
    near = [[90, 0, 0, 0], [80, 90, 0, 0], [0, 50, 90, 0], [0, 0, 86, 90]]
    far = [[90, 0, 0, 0], [89, 90, 0, 0], [0, 88, 90, 0], [0, 0, 10, 90]]
    halves = ["Digits a", "Digits b", "Letters a", "Letters b"]
    write(tmp_path, "nusa-similar", "order I", rows=near, tasks=halves)
    write(tmp_path, "nusa-similar", "order II", rows=far, tasks=[halves[i] for i in (0, 2, 1, 3)])
    text = answered(question("nusa-similar"), tmp_path).text
    assert text.startswith("Yes, similar neighbours interfere more: a first half loses +7.0 pp when its other half")
    assert "and +1.5 pp when another domain does (mean of 2 domains; more beside its other half in 2 of them)" in text
    assert (
        "other half next: Digits +10.0 pp, Letters +4.0 pp; another domain next: Digits +1.0 pp, Letters +2.0 pp"
        in text
    )


def test_similar_neighbours_that_interfere_less_are_a_no(tmp_path):
    write(tmp_path, "nusa-similar", "order I", rows=[[90, 0], [88, 90]], tasks=["Digits a", "Digits b"])
    write(tmp_path, "nusa-similar", "order II", rows=[[90, 0], [70, 90]], tasks=["Digits a", "Letters a"])
    assert answered(question("nusa-similar"), tmp_path).text.startswith("No, similar neighbours interfere less")


# ---------------------------------------------------------------- GNSP


def spaces(length, recall, **others):
    return [gap(-1, 0.5, 80.0), gap(0, 0.9, 1.0), gap(1, length, recall, **others)]


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (spaces(0.54, 77.0), "Yes: the gap is kept, retrieval is kept."),
        (spaces(0.54, 60.0), "Partly: the gap is kept, retrieval is not kept (−20.0 pp R@1)."),
        (spaces(0.54, 60.0, direction=0.5), "No: the gap is not kept, retrieval is not kept"),
        (spaces(0.60, 77.0), "Partly: the gap is not kept, retrieval is kept."),
    ],
)
def test_the_gap_is_kept_or_not_by_stated_bounds(say, said, verdict):
    text = say("gnsp-gap", {"gnsp": (said, FALLING)})
    assert text.startswith(verdict) and "Kept means here: length within 10 %" in text
    assert "24 held-out pairs, before training and after T2" in text


def test_what_the_losses_and_what_the_projection_do_is_told_apart(say):
    text = say(
        "gnsp-gap",
        {
            "gnsp": (spaces(0.5, 78.0), FALLING),
            "without the two losses": (spaces(0.4, 60.0), FALLING),
            "finetune": (spaces(0.2, 20.0, general=30.0), FALLING),
        },
    )
    assert "are worth +18.0 pp of R@1, and what is left of GNSP +40.0 pp against fine-tuning" in text
    assert (
        "finetune: gap length 0.5 → 0.2, its direction's cosine 1, R@1 75.0 % → 15.0 %, general accuracy 90.0 % → "
        "30.0 %" in text
    )


def test_a_leak_is_compared_with_what_the_task_before_left_free(tmp_path):
    """3 of 4 directions protected: chance is sqrt(3/4); the first task has no leak and the last cut binds nothing."""
    said = [cut(0, 1), update(0, None), cut(1, 4), update(1, 0.5)]
    found = cut_of(write(tmp_path, "gnsp-rho", "rho 0.15", *said, rows=FALLING))
    assert (found.free, found.leak, found.tasks) == (0.25, 0.5, 2)
    assert found.chance == pytest.approx(0.75**0.5)


def test_rho_and_the_projection_are_judged_apart(say):
    def at(nullity, leak):
        return [cut(0, nullity), cut(1, nullity), update(0, None), update(1, leak)]

    text = say(
        "gnsp-rho",
        {
            "rho 0.01": (at(1, 0.8), [[90, 60], [85, 80]]),
            "rho 0.15": (at(2, 0.5), FALLING),
            "rho 0.8": (at(3, 0.2), [[90, 60], [60, 90]]),
            "update": (at(2, 0.0), FALLING),
            "shrink": (at(2, 0.7), [[90, 50], [70, 88]]),
            "none": (at(2, 0.7), [[90, 40], [60, 88]]),
        },
    )
    assert text.startswith(
        "Yes, the cut matters: from rho 0.01 to rho 0.8 the results differ, Last by 9.0 pp (lowest at"
    )
    assert "Transfer by 0.0 pp" in text and "forgetting by 25.0 pp (lowest at rho 0.01, highest at rho 0.8)" in text
    assert (
        "Updates do not stay in the free directions when the gradient is projected: leak 0.5, 0.707 times chance"
        in text
    )
    assert "when the step is projected: 0." in text
    assert "Yes, projecting raises Last: against shrink Last is higher (+5.0 pp) and Transfer +10.0 pp" in text
    assert "rho 0.01: 25 % of directions free, leak 0.8 (chance 0.866)" in text and "2 of 8 runs are missing" in text


def test_a_cut_that_decides_nothing_and_a_projection_that_does_not_help_are_noes(say):
    same = ([cut(0, 2), cut(1, 2), update(1, 0.0)], FALLING)
    text = say("gnsp-rho", {label: same for label in ("rho 0.01", "rho 0.15", "rho 0.8", "shrink", "none")})
    assert text.startswith("No, the cut decides nothing from rho 0.01 to rho 0.8")
    assert "Updates stay in the free directions" in text
    assert "No, projecting does not raise Last: against shrink Last is alike (+0.0 pp)" in text
