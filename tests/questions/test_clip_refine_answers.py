"""Whether narrowing the gap first changes forgetting: from runs written by hand."""

import pytest

from cl_core.questions import answered, question
from cl_core.questions.clip_refine import SEEDS, sign
from tests.recorded_question_runs import gap, write

NAME = "clip-refine-forgetting"


@pytest.fixture
def say(tmp_path):
    def ask(forgotten, *, narrowed=0.2, seeds=SEEDS):
        """`forgotten`: seed → points that the refined run forgets; the plain one forgets 10."""
        for seed in seeds:
            for arm, points, length in (("refined", forgotten[seed], narrowed), ("as pre-trained", 10, 0.4)):
                rows = [[90, 60], [90 - points, 88]]
                said = [gap(-1, length, 50.0), gap(1, 0.3, 40.0)]
                write(tmp_path, NAME, f"{arm}, seed {seed}", *said, rows=rows, zero_shot=[70, 60])
        return answered(question(NAME), tmp_path).text

    return ask


def test_all_seeds_have_to_agree_by_more_than_they_differ():
    assert sign([2.0, 3.0, 2.5]) == 1 and sign([-2.0, -3.0, -2.5]) == -1
    assert sign([2.0, 9.0, -0.1]) == 0 and sign([0.5, 0.6, 0.7]) == 0 and sign([0.1, 6.0, 0.1]) == 0


def test_less_forgotten_more_forgotten_and_undecided(say):
    text = say([4, 5, 6])
    assert text.startswith("Yes, less is forgotten: with the gap narrowed by 50 %, forgetting changes by −5.0 ± 1.0 pp")


def test_more_forgotten(say):
    assert say([14, 15, 16]).startswith("Yes, more is forgotten")


def test_seeds_that_disagree_leave_it_undecided(say):
    assert say([4, 15, 11]).startswith("Undecided: with the gap narrowed by 50 %, forgetting changes by +0.0 ± 5.6 pp")


def test_a_gap_that_was_not_narrowed_answers_nothing(say):
    text = say([4, 5, 6], narrowed=0.39)
    assert text.startswith("Not decided: refining did not narrow the gap by 10 % (it did by 2.5 %)")


def test_one_seed_is_not_enough(say):
    assert say([4, 5, 6], seeds=(0,)).startswith("Not decided: refined and as pre-trained are needed with 3 seeds.")
