"""Answers about STAR-Prompt, against events written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cl_core.events import (
    Clock,
    IntraClassMeasured,
    KeysMoved,
    MixtureFitted,
    ResidualMeasured,
    SelectionMeasured,
)
from cl_core.questions import answered, question
from cl_core.questions.star_prompt import selected
from tests.recorded_question_runs import write

STEADY, FALLING = [[90, None], [90, 80]], [[90, None], [60, 80]]  # final 85 and 70


@pytest.fixture
def say(tmp_path):
    def ask(name, runs):
        for label, (said, rows) in runs.items():
            write(tmp_path, name, label, *said, rows=rows, classes=2)
        return answered(question(name), tmp_path).text

    return ask


def rows(*values):
    return np.array(values, dtype=np.float32)


def picks(task, layer, *own):
    """Classes that find their own with shares `own`, the rest going to the next entry."""
    counts = np.diag(np.array(own, dtype=np.float32))
    return SelectionMeasured(Clock(task), layer, "class", counts, list(range(len(own))), 100 * float(np.mean(own)))


def keys(task, least):
    return KeysMoved(Clock(task), rows(least, 1), rows(0.5, 0.5), rows(0.1, 0.1))


def fit(gain):
    few = np.zeros((1, 2), np.float16)
    return MixtureFitted(Clock(0), 0, 5, 1 + gain, 1.0, few, few, few, 0.5)


def likeness(space, within, between):
    return IntraClassMeasured(Clock(0), space, rows(0.9, 0.9), rows(within, within), rows(between, between), 88.0)


SELECTED = [
    picks(0, 0, 1, 0.8),
    picks(0, -1, 1, 0.6),
    picks(1, 0, 0.9, 0.7, 0.5, 0.7),
    picks(1, -1, 0.5, 0.5, 0.5, 0.5),
]


def test_selection_is_read_task_by_task_with_its_own_forgetting(tmp_path):
    folder = write(tmp_path, "star-clip", "star_prompt", *SELECTED, rows=STEADY, classes=2)
    found = selected(folder)
    assert found.layers[0][0, 0] == pytest.approx(90) and found.layers[0][1].tolist() == pytest.approx([80, 60])
    assert np.isnan(found.layers[0][0, 1])
    assert (found.final, found.alone, found.fallen) == pytest.approx((70, 50, 10))


def test_keys_that_stand_still_while_accuracy_forgets_more_are_a_yes_and_moving_ones_a_no(say):
    still, moving = [*SELECTED, keys(1, 1.0)], [*SELECTED, keys(1, 0.8)]
    text = say("star-selection", {"fixed keys": (still, FALLING), "moving keys": (moving, STEADY)})
    assert text.startswith("Yes: with fixed keys 70.0 % of test images take their own class at the end, +10.0 pp less")
    assert "while accuracy forgets +30.0 pp; keys stand still (least cosine 1), so what selection loses" in text
    assert "moving keys: own class 70.0 %, by the keys alone 50.0 %" in text and "least cosine of a key 0.8" in text


def test_keys_that_moved_are_a_no(say):
    assert say("star-selection", {"fixed keys": ([*SELECTED, keys(1, 0.8)], FALLING)}).startswith("No: with fixed keys")


@pytest.mark.parametrize(
    ("prefix", "verdict"),
    [
        (FALLING, "Yes, the residual is better: +15.0 pp"),
        (STEADY, "No, they end alike: +0.0 pp"),
        ([[99, None], [99, 99]], "No, the prefix is better: −14.0 pp"),
    ],
)
def test_residual_and_prefix_are_compared_by_final_accuracy(say, prefix, verdict):
    added = [ResidualMeasured(Clock(1), rows(0.1, 0.3), rows(0.1, 0.1))]
    text = say("star-residual", {"residual, heads": (added, STEADY), "prefix": ([], prefix)})
    assert text.startswith(verdict) and "added norm 0.2 of attention's own" in text


def test_a_mixture_must_end_higher_than_one_gaussian_not_only_fit_better(say):
    runs = {"mixture": ([fit(0.5)], STEADY), "no replay": ([], FALLING)}
    better = say("star-mixture", {**runs, "one Gaussian": ([fit(0.5)], FALLING)})
    assert better.startswith(
        "Yes: replay from a mixture ends better than from one Gaussian (+15.0 pp), and replay itself is"
    )
    assert "denser than one Gaussian: 0.5 nats per dimension" in better


def test_a_mixture_that_ends_alike_is_a_no(say):
    text = say("star-mixture", {"mixture": ([fit(-0.5)], STEADY), "one Gaussian": ([], STEADY)})
    assert text.startswith("No: replay from a mixture ends no better than from one Gaussian (+0.0 pp).")
    assert "less dense than one Gaussian: −0.5 nats" in text


def test_components_matter_if_final_accuracy_differs(say):
    text = say("star-components", {"1 component": ([fit(0.0)], STEADY), "5 components": ([fit(0.2)], FALLING)})
    assert text.startswith(
        "Yes, final accuracy differs by 15.0 pp (lowest with 5 components, highest with 1 component)."
    )


@pytest.mark.parametrize(("within", "verdict"), [(0.9, "Yes: two images of a class are 0.6"), (0.4, "No")])
def test_clip_is_compared_with_the_vit_and_what_its_keys_find_is_told(say, within, verdict):
    said = [*SELECTED, likeness("query", within, 0.3), likeness("features", 0.5, 0.3)]
    text = say("star-clip", {"star_prompt": (said, STEADY)})
    assert text.startswith(verdict) and "by the keys alone 50.0 %" in text
    assert "so the second level adds +35.0 pp" in text and "88.0 % nearest to their own mean" in text


def test_without_measurements_nothing_is_decided(say):
    for name, label in (
        ("star-selection", "moving keys"),
        ("star-residual", "prefix"),
        ("star-mixture", "no replay"),
        ("star-components", "5 components"),
        ("star-clip", "star_prompt"),
    ):
        assert say(name, {label: ([], STEADY)}).startswith("Not decided"), name
