"""The pages of questions and answers: made from the questions and from stored numbers, as they stand in the docs."""

from __future__ import annotations

import json

import pytest

from bench.answers import DOCS, answers_page, dumped, filled, measured, table
from cl_core.questions import QUESTIONS, merged, pooled_from, read_answers, stored_numbers
from cl_core.questions.stored import answers_file
from tests.recorded_question_runs import weight, write

NAME = "nusa-persistence"
LABELS = QUESTIONS[NAME].labels


def numbers(last):
    """Of three seeds: Last of both runs a point apart from seed to seed."""
    measures = {"Transfer, %": 60.0, "Last, %": 84.0, "forgetting, pp": 1.0, "learning, %": 90.0}
    arm = lambda value, seed: {**measures, "Transfer, %": 60.0 + value, "Last, %": value + seed}
    return {seed: {LABELS[0]: arm(last, seed), LABELS[1]: arm(50.0, seed)} for seed in range(3)}


def test_the_page_begins_with_every_verdict_over_seeds():
    answers = merged({}, QUESTIONS[NAME], numbers(70.0))
    lines = list(answers_page(answers))
    assert f"| [{NAME}](#{NAME}) | {QUESTIONS[NAME].title} | Yes. | 0, 1, 2 |" in lines
    assert "| raises Last | at least 1 pp | +20.0 ± 0.0 pp | yes |" in lines
    assert f"| {LABELS[0]} | 130.0 ± 0.0 | 71.0 ± 1.0 | 1.0 ± 0.0 | 90.0 ± 0.0 |" in lines
    assert any(line.startswith("Not asked over seeds yet:") and "`nusa-rho`" in line for line in lines)


def test_fewer_seeds_have_no_verdict():
    two = {seed: runs for seed, runs in numbers(70.0).items() if seed < 2}
    lines = list(answers_page(merged({}, QUESTIONS[NAME], two)))
    assert f"| [{NAME}](#{NAME}) | {QUESTIONS[NAME].title} | 0, 1 | 2 of 3 seeds |" in lines
    assert any("**No verdict yet (2 of 3 seeds).**" in line for line in lines)


def test_finished_runs_are_written_over_what_is_stored(tmp_path):
    answers = merged({}, QUESTIONS[NAME], numbers(70.0))
    write(tmp_path, NAME, LABELS[0], weight(), rows=[[90, 60], [80, 88]], seed=1)
    stored = json.loads(dumped(measured(answers, tmp_path, seeds=(0, 1, 2))))
    found = stored_numbers(QUESTIONS[NAME], stored)
    assert found[1][LABELS[0]]["Last, %"] == 84.0 and found[0][LABELS[0]]["Last, %"] == 70.0
    assert found[1][LABELS[1]]["Last, %"] == 51.0


def test_the_docs_are_what_is_stored():
    again = "run `python -m bench.answers`"
    assert (DOCS / "answers.md").read_text("utf-8") == "\n".join(answers_page(read_answers())), again
    assert filled(questions := (DOCS / "questions.md").read_text("utf-8")) == questions, again


@pytest.mark.skipif(not answers_file().is_file(), reason="nothing is stored")
def test_every_criterion_reads_something_of_a_stored_answer():
    """Names of measures are spelled alike where they are written and read."""
    for name, asked in QUESTIONS.items():
        found = pooled_from(asked, stored_numbers(asked, read_answers()))
        if found.arms and not any(found.missing.values()):
            assert all(f.spread is not None for f in found.findings), name


def test_a_family_without_a_place_is_refused():
    with pytest.raises(SystemExit, match="no place for the questions of NuSA-CL"):
        filled("# Questions\n")


def test_a_table_of_no_rows_is_nothing():
    assert list(table(["a"], [])) == [] and list(table(["a"], [["x|y"]]))[2] == "| x∣y |"
