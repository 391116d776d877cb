"""Answers about Fwd-Prompt and NSP² against events written by hand."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from cl_core.events import AccuracyMeasured, AttentionCompared, Clock
from cl_core.questions import answered, numbers_of, pooled_from, question
from cl_core.questions.fwd_prompt import forward_transfers
from cl_core.store import RunWriter
from tests.recorded_question_runs import write
from tests.recorded_subspace_runs import probe, subspace

FALLING = [[90, 0], [80, 70]]  # final 75, forgetting 10, learning 80
KEPT = [[90, 0], [88, 72]]  # final 80, forgetting 2, learning 81


@pytest.fixture
def say(tmp_path):
    """`say(name, {label: (events, rows)})`: those runs, and the answer computed from them."""

    def ask(name, runs):
        for label, (said, rows) in runs.items():
            shown = [AccuracyMeasured(Clock(t), "class-incremental", row) for t, row in enumerate(rows)]
            write(tmp_path, name, label, *shown, *said, rows=rows)
        return answered(question(name), tmp_path).text

    return ask


def measured(gain=-2.0, *, tasks=2, overlap=None, leak=0.2):
    spaces = [subspace(task) for task in range(-1, tasks)]
    if overlap is not None:
        spaces[2] = replace(spaces[2], overlap=np.float32([0.5, overlap]))
    spaces = [replace(e, leak=np.full(len(e.leak), leak, np.float32)) for e in spaces]
    return [*spaces, *(probe(task, tasks=tasks, gain=gain) for task in range(-1, tasks))]


def test_probe_forward_transfer_is_read_from_the_rows(tmp_path):
    folder = write(tmp_path, "fwd-random", "both", *measured(tasks=3), rows=FALLING)
    assert forward_transfers(folder) == [-2.0, -4.0]


@pytest.mark.parametrize(
    ("overlaps", "word"), [((0.95, 0.92), "No:"), ((0.95, 0.4), "It depends on the block:"), ((0.3, 0.4), "Yes:")]
)
def test_spaces_are_told_apart_by_their_overlap(say, overlaps, word):
    runs = {f"block {b}": (measured(overlap=o), FALLING) for b, o in zip((1, 4), overlaps, strict=True)}
    text = say("fwd-spaces", runs)
    assert text.startswith(word) and "cores of 3 and 4 of 16 directions" in text
    assert f"overlap {overlaps[0]:.3f} (random spaces 0.38), principal angles 6° to 57°" in text


def test_the_residual_projection_is_judged_by_forgetting(say):
    text = say("fwd-residual", {"residual-only": (measured(leak=0.01), KEPT), "none": (measured(leak=0.4), FALLING)})
    assert text.startswith("Yes: with the residual projection it forgets less (+2.0 pp against +10.0 pp)")
    assert "accuracy is higher (+5.0 pp)" in text and "in old cores by 0.01 against 0.4 (a random change 0.5)" in text


def test_without_less_forgetting_the_answer_is_no(say):
    text = say("fwd-residual", {"residual-only": (measured(), FALLING), "none": (measured(), KEPT)})
    assert text.startswith("No: with the residual projection it forgets more")


def test_the_pretrained_space_is_judged_by_probe_forward_transfer(say):
    text = say(
        "fwd-pretrained",
        {
            "none": (measured(-5), FALLING),
            "residual-only": (measured(-3), FALLING),
            "pretrained-only": (measured(-3.2), FALLING),
            "both": (measured(0.5), KEPT),
        },
    )
    assert text.startswith("Partly: against the residual space alone both +3.5 pp of probe FWD and +5.0 pp")
    assert "Negative transfer (probe FWD below −1 pp): none, residual-only, pretrained-only." in text


@pytest.mark.parametrize(("control", "word"), [(FALLING, "Yes:"), (KEPT, "No:")])
def test_the_random_control_is_told_whichever_way_it_falls(say, control, word):
    text = say("fwd-random", {"both": (measured(), KEPT), "random": (measured(), control)})
    assert text.startswith(word) and "The last task found 13 of 16 directions free." in text


def test_epsilon_matters_if_the_final_accuracies_differ(say):
    text = say("fwd-epsilon", {"ε 0.95": (measured(), FALLING), "ε 0.99": (measured(), KEPT)})
    assert text.startswith("Yes: final accuracy differs by 5.0 pp, highest at ε 0.99, lowest at ε 0.95.")
    assert "ε 0.95: cores of 3, 4 directions, 13 of 16 free for the last task" in text


def test_projecting_is_judged_over_orders_which_are_seeds(tmp_path):
    asked, by_seed = question("fwd-orders"), {}
    for seed in range(3):
        runs = {}
        for label, rows in (("both", KEPT), ("none", FALLING)):
            shown = [AccuracyMeasured(Clock(t), "class-incremental", row) for t, row in enumerate(rows)]
            runs[label] = write(tmp_path, "fwd-orders", label, *shown, *measured(), rows=rows, seed=seed)
        by_seed[seed] = numbers_of(asked, runs)
    found = pooled_from(asked, by_seed)
    assert found.verdict == "yes" and [f.spread.mean for f in found.findings] == [5.0, 8.0]


def test_pool_and_prompt_length_are_judged_apart(say):
    text = say(
        "fwd-pool",
        {
            "M 10, m 5": (measured(), FALLING),
            "M 40, m 5": (measured(), KEPT),
            "M 20, m 1": (measured(), KEPT),
            "M 20, m 10": (measured(), KEPT),
        },
    )
    assert text.startswith("A pool of 40 instead of 10 helps (+5.0 pp of final accuracy). Picking 10 prompts instead")
    assert "makes no difference (+0.0 pp" in text


@pytest.mark.parametrize(("slope", "word"), [(-10, "Yes, similar tasks are hurt more"), (10, "No, similar tasks")])
def test_similarity_is_a_rank_correlation_over_pairs_of_tasks(say, slope, word):
    """Three tasks; overlaps of (T1, T2), (T1, T3), (T2, T3) are 0.6, 0.6 and 0.3."""
    rows = {-1: [60.0] * 3, 0: [60, 60 + slope * 0.6, 60 + slope * 0.6], 1: [60, 60, 60 + slope * 0.9], 2: [60.0] * 3}
    probes = [replace(probe(task), row=row) for task, row in rows.items()]
    text = say("fwd-similarity", {"none": ([*(subspace(t) for t in range(-1, 3)), *probes], FALLING)})
    assert text.startswith(word) and "3 pairs; overlap 0.30 to 0.60" in text


# ---------------------------------------------------------------- NSP²


def stored(last):
    """The stored-statistics readout, `last` percent at the end."""
    return [AccuracyMeasured(Clock(1), "stored statistics", [last, last])]


def test_the_baseline_is_judged_by_forgetting_and_the_final_accuracy(say):
    text = say(
        "nsp2-baseline",
        {"nsp2": (stored(90), KEPT), "sequential": (stored(30), FALLING), "shrink-only": (stored(90), KEPT)},
    )
    assert text.startswith("Yes, against the same prompts without protection: final +5.0 pp, forgetting −8.0 pp")
    assert "None of it is shown to be the direction of the projection" in text and "statistics +60.0 pp" in text


def test_the_direction_counts_where_stored_statistics_stay_readable(say):
    text = say(
        "nsp2-baseline",
        {"nsp2": (stored(90), KEPT), "sequential": (stored(30), FALLING), "shrink-only": (stored(60), KEPT)},
    )
    assert "Part of it is the direction of the projection" in text


def test_parts_that_help_are_named(say):
    text = say(
        "nsp2-ablation",
        {"nothing": ([], FALLING), "B1": ([], KEPT), "B2": ([], FALLING), "B1, B2 and L_LN": ([], KEPT)},
    )
    assert text.startswith("Parts that reduce forgetting by 1 pp or more: B1, B1, B2 and L_LN.")
    assert "B1 +8.0 pp less forgetting, +5.0 pp final" in text
    assert "All three together forget not clearly less than either side alone." in text


@pytest.mark.parametrize("name", ["nsp2-eta", "nsp2-norm"])
def test_a_trade_needs_both_sides_to_move(say, name, tmp_path):
    first, last = question(name).labels[0], question(name).labels[-1]
    learned_more = [[95, 0], [80, 90]]  # learning 92.5, forgetting 15
    text = say(name, {first: ([], learned_more), last: ([], KEPT)})
    assert text.startswith("Yes, it trades learning for keeping") and "learning accuracy changes by −11.5 pp" in text
    assert "forgetting by −13.0 pp" in text and f"Highest final accuracy at {first}" in text


def test_a_setting_that_moves_nothing_is_a_no(say):
    text = say("nsp2-eta", {"η 0.9": ([], KEPT), "η 1": ([], KEPT)})
    assert text.startswith("No, it changes neither by 1 pp")


def looked(local, whole):
    few = np.full(2, local, np.float32)
    return [
        AttentionCompared(
            Clock(task), 0, few * task, np.full(2, whole * task, np.float32), few, few, 0.1 * task,
            np.zeros((1, 2, 1, 2), np.float16),
        )
        for task in (0, 1)
    ]  # fmt: skip


@pytest.mark.parametrize(("mine", "word"), [(0.1, "Yes:"), (0.3, "Partly:"), (0.4, "No:")])
def test_attention_is_compared_with_unprotected_prompts(say, mine, word):
    text = say("nsp2-attention", {"nsp2": (looked(mine, 0.2), KEPT), "sequential": (looked(0.4, 0.5), FALLING)})
    assert (
        text.startswith(word)
        and f"total variation {mine:g} against 0.4" in text
        and "end to end 0.2 against 0.5" in text
    )


def test_events_of_a_run_written_twice_count_once(tmp_path):
    folder = write(tmp_path, "fwd-random", "both", *measured(tasks=3), rows=FALLING)
    with closing(RunWriter(folder)) as writer:
        writer.append([subspace(2)])
    from cl_core.questions.fwd_prompt import tasks_of

    assert [e.clock.task for e in tasks_of(folder)] == [0, 1, 2]
