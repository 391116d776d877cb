"""Labels beside marks: none on another, none on a mark, and nothing is named that found no room."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from dashboard.figures.labels import MARK, NEAR, place_labels

WHOLE = {"x": (0.0, 620.0), "y": (0.0, 340.0)}  # data units are pixels


def boxes(labels):
    from dashboard.figures.labels import HEIGHT, LETTER

    found = []
    for label in labels:
        width, edge = LETTER * len(label.text), label.x + label.right
        left = {"left": edge, "right": edge - width, "center": edge - width / 2}[label.xanchor]
        found.append((left, left + width, label.y + label.up - HEIGHT / 2, label.y + label.up + HEIGHT / 2))
    return found


def meet(one, other, slack=0.2):
    return (
        one[0] < other[1] - slack
        and other[0] < one[1] - slack
        and one[2] < other[3] - slack
        and other[2] < one[3] - slack
    )


@pytest.mark.parametrize("seed", range(6))
def test_no_label_lies_on_another_or_on_a_mark_that_it_does_not_name(seed):
    random = np.random.default_rng(seed)
    marks = [(*random.uniform((20, 20), (600, 320)), f"setting {i}") for i in range(14)]
    labels, left_out = place_labels(marks, **WHOLE)
    assert len(labels) >= 5
    found = boxes(labels)
    assert not [pair for pair in combinations(found, 2) if meet(*pair)]
    for label, box in zip(labels, found, strict=True):
        named = label.text.split(", ")
        strangers = [m for m in marks if m[2] not in named]
        assert not [m for m in strangers if meet(box, (m[0] - MARK, m[0] + MARK, m[1] - MARK, m[1] + MARK))]
    said = {name for label in labels for name in label.text.split(", ")} | set(left_out)
    assert {m[2] for m in marks} <= said, "each is named, or known to be left out"


def test_neighbours_of_neighbours_are_one_group_and_equal_names_are_said_once():
    chain = [(100.0 + 0.9 * NEAR * i, 100.0, name) for i, name in enumerate(("0.9", "0.95", "0.95", "1"))]
    (label,), left_out = place_labels([*chain, (400.0, 300.0, "")], **WHOLE)
    assert label.text == "0.9, 0.95, 1" and not left_out


def test_a_label_at_the_right_edge_turns_inwards():
    (label,), _ = place_labels([(618.0, 100.0, "a rather long name")], **WHOLE)
    assert label.xanchor == "right" and label.right < 0


def test_what_is_taken_stays_free():
    taken = [(0.0, 620.0, 0.0, 340.0)]
    assert place_labels([(300.0, 100.0, "name")], **WHOLE, taken=taken) == ([], ["name"])


def test_a_label_avoids_the_line_that_leaves_its_mark():
    path = [(100.0, 100.0), (500.0, 160.0)]  # rises to the right, through the usual place
    labels, _ = place_labels([(*path[0], "0.5"), (*path[1], "1")], **WHOLE, paths=[path])
    first = boxes(labels)[0]
    assert not [
        x for x in np.linspace(100, 500, 400) if meet(first, (x, x, 100 + 0.15 * (x - 100), 100 + 0.15 * (x - 100)), 0)
    ]
