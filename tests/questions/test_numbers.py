"""Numbers of a question's runs against events written by hand, which can be worked out on paper."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from cl_core.events import (
    AccuracyMeasured,
    AttentionCompared,
    Clock,
    IntraClassMeasured,
    KeysMoved,
    MixtureFitted,
    SelectionMeasured,
)
from cl_core.presets import PRESETS
from cl_core.questions import QUESTIONS, answered, long_streams, question
from cl_core.questions.fwd_prompt import forward_transfers, tasks_of
from cl_core.questions.long_streams import directions_left
from cl_core.questions.star_prompt import selected
from cl_core.store import RunWriter
from tests.recorded_question_runs import cut, gap, update, weight, write
from tests.recorded_subspace_runs import probe, subspace

FALLING = [[90, 60], [80, 88]]  # over domains: Transfer 60, Last 84, forgetting 10, learning 89
LIMIT = PRESETS["nusa-cl-micro"].config["settings"]["r_max"]


@pytest.fixture
def numbers(tmp_path):
    """`numbers(question, label, *events, rows=…)`: what that run of the question comes to."""

    def of(name, label, *events, rows=FALLING, **others):
        return question(name).numbers(write(tmp_path, name, label, *events, rows=rows, **others))

    return of


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_run_that_measured_nothing_leaves_every_criterion_open(name, tmp_path):
    asked = question(name)
    for label in asked.labels:
        write(tmp_path, name, label, rows=[[90, 40], [80, 85]], zero_shot=[30, 50])
    found = answered(asked, tmp_path, seeds=[0])
    assert list(found.arms) == list(asked.labels) and not found.missing[0]
    assert found.verdict == "undecided" and "1 of 3 seeds" in found.text() and "None" not in found.text()


# ---------------------------------------------------------------- NuSA-CL


def leaking(*leaks):
    return [weight(task, leak_left=leak, leak_right=leak / 2) for task, leak in enumerate(leaks)]


def test_leaks_are_counted_over_both_sides_maps_and_tasks_where_the_weight_moved(numbers):
    """0.1, 0.3 left; 0.05, 0.15, 0.25 right; the map that did not move on its left side counts on its right."""
    found = numbers("nusa-orthogonality", "nusa_cl", *leaking(0.1, 0.3), weight(1, "text.0.k", leak_left=None))
    assert found == {"largest leak, % of chance": pytest.approx(60), "median leak": 0.15, "chance": 0.5}


def test_rho_counts_written_directions_and_what_was_lost_of_the_first_task(numbers):
    found = numbers("nusa-rho", "rho 0.80", *(weight(t, written=n) for t, n in ((0, 100), (1, 60))))
    assert found == {"directions written": 80, "learning, %": 89, "loss on T1, pp": 10, "Transfer, %": 60}


def test_the_directions_left_are_counted_after_the_task():
    flat, steep = np.ones(100), np.array([10.0, 1, 1, 1])
    assert directions_left(weight(sigma=flat, rho=0.95)) == 5
    assert directions_left(weight(sigma=steep, rho=0.95)) == 3


def test_room_runs_out_when_fewer_than_r_max_directions_are_left(numbers):
    """Of 100 directions 62 are null before T1 and 5 after T2, of which r_max were to be written."""
    wide = np.concatenate([np.full(40, 10.0), np.full(60, 0.1)])
    first = weight(0, sigma=wide, rho=0.95, principal=38, written=LIMIT, promoted=4, effective_rank=50.0)
    flat = {"sigma": wide, "after": np.ones(100, np.float32)}
    second = weight(1, **flat, rho=0.95, principal=38, written=LIMIT, promoted=3, drift=0.4)
    found = numbers("nusa-saturation", "twelve tasks", first, second)
    assert found["short of room, maps"] == 1 and found["tightest map, directions"] == 5
    assert found["room before T1, share"] == pytest.approx(0.62)
    assert found["room at the end, share"] == pytest.approx(0.05)
    assert found["effective rank before T1"] == 2 and found["effective rank at the end"] == 3
    assert found["promoted singular values"] == 7
    assert found["change in the pre-trained principal space, share"] == 0.4


def test_cost_is_a_share_of_the_run_and_a_median_for_each_width(numbers, monkeypatch):
    monkeypatch.setattr(long_streams, "seconds_of", lambda folder: 1.0)
    measured = [weight(0, f"text.{i}.q", sigma=np.ones(128), seconds=0.004) for i in range(3)]
    measured += [weight(0, f"image.{i}.q", sigma=np.ones(192), seconds=s) for i, s in enumerate((0.009, 0.0135, 0.9))]
    found = numbers("nusa-cost", "nusa_cl", *measured)
    assert found == {"share of time, %": pytest.approx(93.45), "width 128, ms": 4, "width 192, ms": 13.5}


def test_neighbours_are_compared_by_what_first_halves_lose(numbers):
    """Order I: Digits a loses 10, Letters a 4. Order II: Digits a loses 1, Letters a 2, and no second half counts."""
    near = [[90, 0, 0, 0], [80, 90, 0, 0], [0, 50, 90, 0], [0, 0, 86, 90]]
    far = [[90, 0, 0, 0], [89, 90, 0, 0], [0, 88, 90, 0], [0, 0, 10, 90]]
    halves = ["Digits a", "Digits b", "Letters a", "Letters b"]
    beside = numbers("nusa-similar", "order I", rows=near, tasks=halves)
    apart = numbers("nusa-similar", "order II", rows=far, tasks=[halves[i] for i in (0, 2, 1, 3)])
    assert beside == {"loss of first halves, pp": 7} and apart == {"loss of first halves, pp": 1.5}


# ---------------------------------------------------------------- GNSP


def test_the_joint_space_is_read_before_training_and_after_the_last_task(numbers):
    spaces = [gap(-1, 0.5, 80.0), gap(0, 0.9, 1.0), gap(1, 0.6, 60.0, direction=0.5, general=30.0)]
    found = numbers("gnsp-gap", "gnsp", *spaces)
    assert found == {
        "change of the gap, %": pytest.approx(20),
        "cosine of its direction": 0.5,
        "R@1 lost, pp": 20,
        "general accuracy lost, pp": 60,
    }
    assert numbers("gnsp-gap", "finetune", *spaces[1:]) == {}, "not measured before training"


def test_a_leak_is_compared_with_what_the_task_before_left_free(numbers):
    """3 of 4 directions protected: chance is √(3/4); the first task has no leak and the last cut constrains nothing."""
    found = numbers("gnsp-rho", "rho 0.15", cut(0, 1), update(0, None), cut(1, 4), update(1, 0.5))
    assert found["free, %"] == 25 and found["leak, times chance"] == pytest.approx(0.5 / 0.75**0.5)
    assert found["Last, %"] == 84


# ---------------------------------------------------------------- STAR-Prompt

STEADY = [[90, None], [90, 80]]  # final 85


def rows(*values):
    return np.array(values, dtype=np.float32)


def picks(task, layer, *own):
    """Classes that find their own with shares `own`, the rest going to the next entry."""
    counts = np.diag(np.array(own, dtype=np.float32))
    return SelectionMeasured(Clock(task), layer, "class", counts, list(range(len(own))), 100 * float(np.mean(own)))


SELECTED = [
    picks(0, 0, 1, 0.8),
    picks(0, -1, 1, 0.6),
    picks(1, 0, 0.9, 0.7, 0.5, 0.7),
    picks(1, -1, 0.5, 0.5, 0.5, 0.5),
]


def likeness(space, within, between):
    return IntraClassMeasured(Clock(0), space, rows(0.9, 0.9), rows(within, within), rows(between, between), 88.0)


def test_selection_is_read_task_by_task_with_its_own_forgetting(numbers, tmp_path):
    folder = write(tmp_path, "star-clip", "star_prompt", *SELECTED, rows=STEADY, classes=2)
    found = selected(folder)
    assert found.layers[0][0, 0] == pytest.approx(90) and found.layers[0][1].tolist() == pytest.approx([80, 60])
    assert np.isnan(found.layers[0][0, 1])
    kept = KeysMoved(Clock(1), rows(0.8, 1), rows(0.5, 0.5), rows(0.1, 0.1))
    picked = numbers("star-selection", "fixed keys", *SELECTED, kept, rows=STEADY, classes=2)
    assert picked["own class, %"] == pytest.approx(70) and picked["by the keys alone, %"] == pytest.approx(50)
    assert picked["selection forgets, pp"] == pytest.approx(10)
    assert picked["least cosine of a key"] == pytest.approx(0.8)


def test_a_mixture_is_measured_by_the_density_of_held_out_images(numbers):
    few = np.zeros((1, 2), np.float16)
    fit = MixtureFitted(Clock(0), 0, 5, 1.5, 1.0, few, few, few, 0.5)
    found = numbers("star-mixture", "mixture", fit, rows=STEADY)
    assert found["held-out density over one Gaussian, nats"] == 0.5 and found["final, %"] == 85


def test_clip_is_compared_with_the_vit_by_the_likeness_of_a_class(numbers):
    measured = [*SELECTED, likeness("query", 0.9, 0.3), likeness("features", 0.5, 0.3)]
    found = numbers("star-clip", "star_prompt", *measured, rows=STEADY, classes=2)
    assert found["CLIP, same minus other class, cosine"] == pytest.approx(0.6)
    assert found["ViT, same minus other class, cosine"] == pytest.approx(0.2)
    assert found["ViT, nearest to own mean, %"] == 88


# ---------------------------------------------------------------- Fwd-Prompt


def measured(gain=-2.0, *, tasks=2, overlap=None):
    spaces = [subspace(task) for task in range(-1, tasks)]
    if overlap is not None:
        spaces[2] = replace(spaces[2], overlap=np.float32([0.5, overlap]))
    return [*spaces, *(probe(task, tasks=tasks, gain=gain) for task in range(-1, tasks))]


def class_incremental(*matrix):
    return [AccuracyMeasured(Clock(t), "class-incremental", row) for t, row in enumerate(matrix)]


def test_probe_forward_transfer_is_read_from_the_rows(tmp_path):
    folder = write(tmp_path, "fwd-random", "both", *measured(tasks=3), rows=FALLING)
    assert forward_transfers(folder) == [-2.0, -4.0]


def test_fwd_prompt_counts_what_the_last_task_found_free(numbers):
    found = numbers("fwd-random", "both", *class_incremental([90, 0], [80, 70]), *measured(-3), rows=[])
    assert found == {
        "final, %": 75,
        "forgetting, pp": 10,
        "learning, %": 80,
        "probe FWD, pp": -3,
        "free for the last task, directions": 13,
    }


def test_cores_of_two_tasks_are_compared_with_random_spaces(numbers):
    found = numbers("fwd-spaces", "block 1", *measured(overlap=0.95))
    assert found["core, directions"] == 3 and found["overlap"] == pytest.approx(0.95)
    assert found["overlap of random spaces"] == pytest.approx(0.375)


@pytest.mark.parametrize("slope", [-10, 10])
def test_similarity_is_a_rank_correlation_over_pairs_of_tasks(numbers, slope):
    """Three tasks; overlaps of (T1, T2), (T1, T3), (T2, T3) are 0.6, 0.6 and 0.3."""
    shown = {-1: [60.0] * 3, 0: [60, 60 + slope * 0.6, 60 + slope * 0.6], 1: [60, 60, 60 + slope * 0.9], 2: [60.0] * 3}
    probes = [replace(probe(task), row=row) for task, row in shown.items()]
    found = numbers("fwd-similarity", "none", *(subspace(t) for t in range(-1, 3)), *probes)
    assert found["smallest overlap"] == pytest.approx(0.3) and found["largest overlap"] == pytest.approx(0.6)
    assert found["rank correlation"] == pytest.approx(0.05 * slope), "the pair of least overlap moves least"


def test_projecting_is_judged_over_orders_which_are_seeds(tmp_path):
    for seed in range(3):
        for label, matrix in (("both", ([90, 0], [88, 72])), ("none", ([90, 0], [80, 70]))):
            events = [*class_incremental(*matrix), *measured()]
            write(tmp_path, "fwd-orders", label, *events, rows=list(matrix), seed=seed)
    found = answered(question("fwd-orders"), tmp_path, seeds=range(3))
    assert found.verdict == "yes" and [f.spread.mean for f in found.findings] == [5.0, 8.0]


def test_events_of_a_run_written_twice_count_once(tmp_path):
    folder = write(tmp_path, "fwd-random", "both", *measured(tasks=3), rows=FALLING)
    with closing(RunWriter(folder)) as writer:
        writer.append([subspace(2)])
    assert [e.clock.task for e in tasks_of(folder)] == [0, 1, 2]


# ---------------------------------------------------------------- NSP²


def test_nsp2_is_read_by_heads_and_by_stored_statistics(numbers):
    stored = AccuracyMeasured(Clock(1), "stored statistics", [90, 94])
    found = numbers("nsp2-baseline", "nsp2", *class_incremental([90, 0], [80, 70]), stored, rows=[])
    assert found == {"final, %": 75, "forgetting, pp": 10, "learning, %": 80, "stored statistics, %": 92}


def test_attention_is_read_on_old_tasks_at_the_end(numbers):
    def looked(task):
        local, whole = np.full(2, 0.1 * task, np.float32), np.full(2, 0.2 * task, np.float32)
        picture = np.zeros((1, 2, 1, 2), np.float16)
        return AttentionCompared(Clock(task), 0, local, whole, local, local, 0.3 * task, picture)

    found = numbers("nsp2-attention", "nsp2", looked(0), looked(1))
    assert list(found.values()) == pytest.approx([0.1, 0.2, 0.3])
