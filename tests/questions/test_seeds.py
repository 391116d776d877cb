"""Verdicts over seeds: numbers that can be worked out on paper."""

from __future__ import annotations

import json

import pytest

from cl_core.questions import QUESTIONS, config_of, merged, pooled_from, stored_numbers, with_stored
from cl_core.questions.question import Question
from cl_core.questions.seeds import Criterion, Spread, differs, less, more, pooled, settings_mark, stays_below, table

MORE = more("ends higher", "final, %", "mine", "other")


def of(*pairs):
    """(mine, other) of seeds 0, 1, …"""
    return {
        seed: {"mine": {"final, %": mine}, "other": {"final, %": other}} for seed, (mine, other) in enumerate(pairs)
    }


@pytest.mark.parametrize(
    ("differences", "word"),
    [
        ((3, 4, 5), "yes"),  # 4 ± 1
        ((1, 2, 3), "yes"),  # 2 ± 1 touches the bound
        ((0, 2, 4), "undecided"),  # 2 ± 2
        ((-1, 0, 0.5), "no"),  # −0.2 ± 0.8
        ((0, 0, 0), "no"),
        ((9, 9), "undecided"),  # two seeds
    ],
)
def test_a_verdict_has_to_lie_beyond_the_spread(differences, word):
    found = pooled(("mine", "other"), (MORE,), of(*((50 + d, 50) for d in differences)))
    assert found.findings[0].word == word and found.verdict == word


def test_differences_are_taken_seed_by_seed():
    found = pooled(("mine", "other"), (MORE,), of((90, 80), (50, 41), (30, 19)))
    assert found.findings[0].spread.values == (10, 9, 11) and found.verdict == "yes"
    assert found.arms["mine"]["final, %"].told("%") == "56.7 ± 30.6 %"


def test_what_should_stay_below_is_read_the_other_way_round():
    low = stays_below("stays low", "final, %", "mine", 10.0)
    assert low.word(Spread((8, 9, 10))) == "yes" and low.word(Spread((9, 10, 11))) == "undecided"
    assert low.word(Spread((12, 13, 14))) == "no" and low.rule == "at most 10 %"


def test_some_criteria_make_a_partly_and_an_open_one_leaves_it_open():
    less_ = less("ends lower", "final, %", "mine", "other")
    assert pooled(("mine", "other"), (MORE, less_), of((9, 1), (9, 1), (9, 1))).verdict == "partly"
    missing = more("beats a third", "final, %", "mine", "third")
    assert pooled(("mine", "other"), (MORE, missing), of((9, 1), (9, 1), (9, 1))).verdict == "undecided"
    assert pooled(("mine", "other"), (), of((9, 1))).verdict == "undecided"


def test_a_seed_without_one_of_the_runs_is_left_out_of_what_reads_it():
    numbers = of((9, 1), (9, 2), (9, 3))
    del numbers[1]["other"]
    found = pooled(("mine", "other"), (MORE,), numbers)
    assert found.findings[0].spread.values == (8, 6) and found.missing[1] == ("other",) and found.short
    assert len(found.arms["mine"]["final, %"].values) == 3


def test_a_range_is_over_all_runs_or_none():
    apart = differs("differs", "final, %", ("mine", "other"))
    assert pooled(("mine", "other"), (apart,), of((9, 1), (2, 8))).findings[0].spread.values == (8, 6)
    assert apart.value({"mine": {"final, %": 1.0}, "other": {"final, %": None}}) is None


def test_the_table_says_the_unit_once():
    head, rows = table(pooled(("mine", "other"), (MORE,), of((90, 80), (91, 82))))
    assert head == ["run", "final, %"] and rows == [["mine", "90.5 ± 0.7"], ["other", "81.0 ± 1.4"]]


def test_the_text_holds_verdict_criteria_and_runs():
    text = pooled(("mine", "other"), (MORE,), of((9, 1), (9, 2), (9, 3))).text()
    assert text.startswith("Yes. Seeds 0, 1, 2; mean ± sd.")
    assert "- ends higher: yes, +7.0 ± 1.0 pp (asked for at least 1 pp)" in text and text.splitlines()[-2].startswith(
        "mine"
    )


class Asked(dict):
    """Numbers of a run that notes which measures were read."""

    def __init__(self, read):
        super().__init__()
        self.read = read

    def __getitem__(self, measure):
        self.read.add(measure)
        return 1.0


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_criterion_reads_runs_of_its_question(name):
    asked = QUESTIONS[name]
    assert asked.criteria, "a question without a criterion has no verdict"
    for criterion in asked.criteria:
        read = set()
        assert criterion.value({label: Asked(read) for label in asked.labels}) is not None
        assert read, criterion.says


@pytest.fixture
def asked():
    record = {"method": "sequential", "stream": "synthetic", "settings": {"prompt_rate": 0.5}}
    runs = (("mine", record), ("other", {**record, "method": "nsp2"}))
    return Question("made", "Is it?", "", runs, criteria=(MORE,))


def test_stored_numbers_count_while_the_settings_are_those(asked):
    answers = merged({"else": {}}, asked, of((9, 1), (8, 1), (7, 1)))
    assert list(answers) == ["else", "made"] and json.loads(json.dumps(answers)) == answers
    assert pooled_from(asked, stored_numbers(asked, answers)).verdict == "yes"
    changed = Question("made", "", "", (asked.runs[0], ("other", {"method": "nsp2"})), criteria=(MORE,))
    assert list(stored_numbers(changed, answers)[0]) == ["mine"]
    assert list(merged(answers, changed, {})["made"]["0"]) == ["mine"], "what no longer fits is left out"


def test_what_was_measured_here_goes_before_what_is_stored(asked):
    stored, here = of((9, 1), (8, 1)), {1: {"mine": {"final, %": 5.0}}}
    found = with_stored(here, stored)
    assert found[0] == stored[0] and found[1]["mine"] == {"final, %": 5.0} and found[1]["other"] == {"final, %": 1}


def test_the_mark_changes_with_settings_and_not_with_seed_or_name():
    asked = QUESTIONS["nsp2-eta"]
    marks = {label: settings_mark(config_of(asked, label)) for label in asked.labels}
    assert len(set(marks.values())) == len(marks)
    assert settings_mark(config_of(asked, "η 1", seed=7)) == marks["η 1"]


def test_a_criterion_says_what_it_asks_for():
    assert Criterion("x", lambda n: 1.0, -0.5, "").rule == "at least −0.5" and MORE.rule == "at least 1 pp"
