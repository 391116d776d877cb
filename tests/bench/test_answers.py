"""The page of answers: verdicts first, and what each run came to as a table."""

from __future__ import annotations

from bench.answers import ONE_SEED, columns, page, parted, table
from cl_core.questions import QUESTIONS

EACH = (
    "nsp2: final 61.7 %, forgetting +20.8 pp, leak 0.388 → 0.456; "
    "sequential: final 50.0 %, forgetting −1.0 pp, leak 1e−07; "
    "shrink-only: final 61.6 %, forgetting +25.1 pp, leak 3"
)
TEXT = f"Yes. It forgets less, against nsp2: a thing. {EACH}. Here r = 2. From nsp2 = a, sequential = b; seed 0; cells."


def test_an_answer_is_parted_into_what_is_said_told_and_where_from():
    said, told, source = parted(TEXT + ONE_SEED, ("nsp2", "sequential", "shrink-only"))
    assert said == "Yes. It forgets less, against nsp2: a thing. Here r = 2."
    assert told["sequential"] == "final 50.0 %, forgetting −1.0 pp, leak 1e−07" and len(told) == 3
    assert source == "From nsp2 = a, sequential = b; seed 0; cells."
    assert parted("Not answered yet: none.", ("nsp2",)) == ("Not answered yet: none.", {}, "")


def test_values_that_all_runs_tell_are_columns():
    _, told, _ = parted(TEXT, ("nsp2", "sequential", "shrink-only"))
    head, rows = columns(told)
    assert head == ["Run", "final", "forgetting", "leak"] and rows[0] == ["nsp2", "61.7 %", "+20.8 pp", "0.388 → 0.456"]
    assert columns({"a": "x 1", "b": "y 2"}) == (["Run", "Result"], [["a", "x 1"], ["b", "y 2"]])


def test_the_page_begins_with_every_verdict():
    name = next(iter(QUESTIONS))
    lines = list(page({name: TEXT}))
    assert any(f"| [{name}](#{name}) | {QUESTIONS[name].title} | Yes. It forgets less" in line for line in lines)
    assert list(table(["a"], [])) == []
