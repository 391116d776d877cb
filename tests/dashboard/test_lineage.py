"""Which runs have a past in common: parents, forks of forks, siblings, and runs that only look like relatives."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from cl_core.store import find_run
from dashboard.lineage import Lineage, Parting, common, lineage, partings
from tests.recorded_forks import forkable, forked

P = Lineage(("p",))
Q = Lineage(("p", "q"), (3,))  # left p after T3
R = Lineage(("p", "q", "r"), (3, 2))  # left q after T2, where q was still p
S = Lineage(("p", "s"), (2,))
X = Lineage(("x",))


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        (P, Q, ("p", 3)),
        (P, R, ("p", 2)),
        (Q, R, ("q", 2)),
        (Q, S, ("p", 2)),
        (R, S, ("p", 2)),
        (P, X, ("", 0)),
        (P, P, ("", 0)),  # one run, drawn once anyway
    ],
)
def test_two_runs_share_what_was_trained_before_either_left(first, second, found):
    assert common(first, second) == common(second, first) == found


def matrix(*rows):
    """[4, 4] with the same number all along a row."""
    return np.array([[value] * (i + 1) + [np.nan] * (3 - i) for i, value in enumerate(rows)], float)


def test_an_ancestor_carries_the_past_whatever_the_order_of_choice():
    matrices = {"q": matrix(9, 8, 7, 1), "r": matrix(9, 8, 2, 2), "p": matrix(9, 8, 7, 6)}
    found = partings({"q": Q, "r": R, "p": P}, matrices)
    assert found == {"q": Parting("p", 3, "p"), "r": Parting("p", 2, "p")} and list(found) == ["q", "r"]


def test_of_siblings_the_first_carries_the_past_of_the_parent_that_is_not_there():
    matrices = {"s": matrix(9, 8, 3, 3), "q": matrix(9, 8, 7, 1)}
    assert partings({"s": S, "q": Q}, matrices) == {"q": Parting("s", 2, "p")}


def test_a_fork_of_a_fork_leaves_the_one_it_shares_most_with():
    late = Lineage(("p", "q", "late"), (1, 3))
    early = Lineage(("p", "q"), (1,))
    matrices = {"p": matrix(9, 8, 7, 6), "q": matrix(9, 5, 5, 5), "late": matrix(9, 5, 5, 4)}
    found = partings({"p": P, "q": early, "late": late}, matrices)
    assert found == {"q": Parting("p", 1, "p"), "late": Parting("q", 3, "q")}


def test_runs_whose_numbers_differ_before_the_fork_are_kept_apart():
    other = matrix(9, 8.5, 7, 6)  # another run that took the name of the parent
    assert partings({"p": P, "s": S}, {"p": other, "s": matrix(9, 8, 3, 3)}) == {}
    assert partings({"p": P, "s": S}, {"p": other[:, :3], "s": matrix(9, 8, 3, 3)}) == {}


def test_a_lineage_is_read_from_the_notes_of_the_forks(runs_folder):
    grand = forkable(runs_folder, "grand")
    mother = forked(grand, 2, "mother", 40.0)
    child = forked(mother, 1, "child", 60.0)
    read = lineage(child, lambda name: find_run(runs_folder, name))
    assert read == Lineage(("grand", "mother", "child"), (2, 1))
    assert lineage(child, lambda name: None) == Lineage(("mother", "child"), (1,)), "gone folders leave their names"
    assert lineage(grand, lambda name: None) == Lineage(("grand",))
    mother.fork_file.write_text("{")
    assert lineage(child, lambda name: find_run(runs_folder, name)) == Lineage(("mother", "child"), (1,))
    shutil.copyfile(child.fork_file, mother.fork_file)  # a note that names itself: no way round in circles
    assert lineage(mother, lambda name: find_run(runs_folder, name)) == Lineage(("mother",))
