"""Whether narrowing the gap first changes forgetting: from runs written by hand."""

import pytest

from cl_core.questions import answered, numbers_of, pooled_from, question
from tests.recorded_question_runs import gap, write

NAME = "clip-refine-forgetting"


@pytest.fixture
def ask(tmp_path):
    def of(forgotten, *, narrowed=0.2, arms=("refined", "distilled alone", "as pre-trained")):
        """`forgotten`: points that the refined run forgets in seeds 0, 1, …; the others forget 10."""
        asked, by_seed = question(NAME), {}
        for seed, points in enumerate(forgotten):
            runs = {}
            for arm in arms:
                lost, length = (points, narrowed) if arm == "refined" else (10, 0.4)
                rows, said = [[90, 60], [90 - lost, 88]], [gap(-1, length, 50.0), gap(1, 0.3, 40.0)]
                runs[arm] = write(tmp_path, NAME, arm, *said, rows=rows, zero_shot=[70, 60], seed=seed)
            by_seed[seed] = numbers_of(asked, runs)
        return pooled_from(asked, by_seed)

    return of


def test_less_forgotten_in_every_seed_is_a_yes(ask):
    found = ask([4, 5, 6])
    assert found.verdict == "yes" and [f.word for f in found.findings] == ["yes", "yes", "yes"]
    assert found.findings[0].spread.mean == pytest.approx(50.0), "the gap is half as long"
    assert found.findings[1].spread.values == (6.0, 5.0, 4.0)
    assert found.arms["refined"]["gap before T1"].told() == "0.2 ± 0"


def test_more_forgotten_with_a_narrower_gap_is_partly(ask):
    assert ask([14, 15, 16]).verdict == "partly"


def test_seeds_that_disagree_leave_it_undecided(ask):
    assert ask([4, 15, 11]).verdict == "undecided"


def test_a_gap_that_was_not_narrowed_is_said(ask):
    assert [f.word for f in ask([4, 5, 6], narrowed=0.39).findings] == ["no", "yes", "yes"]


def test_two_seeds_are_not_enough_and_one_shows_its_numbers(ask, tmp_path):
    assert ask([4, 5]).verdict == "undecided"
    said = answered(question(NAME), tmp_path, seeds=[0]).sentence()
    assert said.startswith("No verdict yet, seed 0: the gap is narrower before the first task: 50.0 % (asked for at")
    assert "less is forgotten than as pre-trained: +6.0 pp (asked for at least 1 pp)" in said
