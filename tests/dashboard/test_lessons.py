"""Lessons say what the recordings hold: every number is computed once more, every claim is derived again; and a file
that says it wrongly is refused with its line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest

from cl_core.assets import recordings_folder
from cl_core.events import AccuracyMeasured
from cl_core.presets import PRESETS
from dashboard import runs
from dashboard.lessons import lessons, loader, mistakes
from dashboard.lessons.expressions import Expression, Text, expressions
from dashboard.lessons.facts import FACTS, change, compared
from dashboard.lessons.glossary import TERMS, matching
from dashboard.lessons.lesson import Lesson, LessonError, RunMissing, Step, by_own_head, open_run
from dashboard.lessons.thumbnail import thumbnail
from dashboard.run_log import Snapshot
from tests.dashboard import lesson_numbers as again
from tests.dashboard.lesson_numbers import CIL, GNSP, NUSA, PLAIN, PROTECTED, TIL, TUNED, numbers

DOCS = Path(__file__).resolve().parents[2]
LESSONS = lessons()
STEPS = [(name, number) for name, lesson in LESSONS.items() for number in range(1, len(lesson.steps) + 1)]
A_NUMBER = re.compile(r"(?<![\w@.])[+\-−]?\d+(?:\.\d+)?(?:e[\-−]?\d+)?")


@pytest.fixture(autouse=True)
def bundled(forget_everything, monkeypatch):
    """The recordings that travel with the program, and no others."""
    monkeypatch.setattr(runs, "recordings_folder", recordings_folder)


def texts(step: Step) -> tuple[Text, ...]:
    return step.text, step.question, step.answer, *(choice.says for choice in step.choices)


def read(name: str, number: int) -> str:
    """All that a step says, as one line."""
    lesson = LESSONS[name]
    opened = lesson.open()
    return " ".join(" ".join(lesson.say(text, opened) for text in texts(lesson.steps[number - 1])).split())


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS.keys())
def test_texts_hold_no_number_of_their_own(lesson: Lesson):
    for step in lesson.steps:
        for text in texts(step):
            bare = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|T\d|NSP²|η = 1\b|\b0 %|\b100 %", "", text.source, flags=re.DOTALL)
            assert not re.search(r"\d", bare), f"{lesson.name}, {step.title}: a number is typed in: {bare}"


@pytest.mark.parametrize("name", LESSONS)
def test_every_number_is_the_recordings(name: str):
    lesson, known = LESSONS[name], numbers()
    opened = lesson.open()
    for step in lesson.steps:
        for expression in {e for text in texts(step) for e in expressions(text.source)}:
            value = Expression(expression, 1, tuple(opened)).value(opened)
            said = f"{value:.3g}" if type(value) is float else str(value)
            found = [t.replace("−", "-") for t in A_NUMBER.findall(re.sub(r"\bT(?=\d)|R@\d", "", said))]
            if expression.startswith("order("):
                assert found == [str(n) for n in range(1, len(again.tasks(PLAIN)) + 1)]
                continue
            if expression not in known:
                assert not found, f"{expression} says {said}: a number that nobody has computed again"
                continue
            agree(expression, said, found, list(known[expression]))


def agree(expression: str, said: str, found: list[str], values: list[float]) -> None:
    """What is printed is these values, rounded, and its words follow them."""
    if "stays" in said:
        assert abs(values[1] - values[0]) < 1
        values = values[1:]
    if "within a point" in said:
        assert abs(values[0]) < 1 and not found
        return
    if "more" in said or "less" in said:
        assert ("more" in said) == (values[0] > 0)
        values = [abs(values[0])]
    assert len(found) == len(values), f"{expression}: {said} against {values}"
    for token, value in zip(found, values, strict=True):
        mantissa, _, exponent = token.partition("e")
        room = 0.51 * 10.0 ** -len(mantissa.partition(".")[2]) * 10.0 ** int(exponent or 0)
        assert abs(float(token) - value) <= room, f"{expression}: {said} against {values}"
    if "falls from" in said or "rises from" in said:
        assert ("falls" in said) == (values[1] < values[0])


def test_words_follow_numbers():
    assert change(90.0, 40.0) == "falls from 90.0 % to 40.0 %" and change(40.0, 90.0).startswith("rises")
    assert change(90.0, 90.4) == "stays where it was, at 90.4 %"
    assert change(math.nan, 3.0) == "was not measured at both ends"
    assert compared(3.0, 8.5) == "5.5 points less" and compared(8.5, 3.0) == "5.5 points more"
    assert compared(3.0, 3.2) == "as much, within a point"


# ---------------------------------------------------------------- claims


@pytest.mark.parametrize(("name", "number"), STEPS)
def test_what_a_step_claims_holds_for_its_recordings(name: str, number: int):
    lesson = LESSONS[name]
    assert lesson.broken(lesson.steps[number - 1], lesson.open()) == []


@pytest.mark.parametrize(("name", "number"), [at for at in STEPS if LESSONS[at[0]].steps[at[1] - 1].choices])
def test_one_choice_of_a_question_is_right(name: str, number: int):
    lesson = LESSONS[name]
    right = [lesson.value(choice.right, lesson.open()) for choice in lesson.steps[number - 1].choices]
    assert sum(map(bool, right)) == 1


def row_of(table: str, begins: str) -> list[tuple[float, float]]:
    """(mean, spread) of every column of a line of a table in docs/results.md or the README; NaN where there is none."""
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {begins} |")]
    found = []
    for cell in line.split("|")[2:-1]:
        numbers = re.findall(r"-?\d+\.?\d*", cell)
        found.append(
            (float(numbers[0]), float(numbers[1])) if "±" in cell and "→" not in cell else (math.nan, math.nan)
        )
    return found


def results(title: str) -> str:
    """The table of docs/results.md whose first column is called `title`."""
    text = (DOCS / "docs" / "results.md").read_text("utf-8")
    return text[text.index(f"| {title} |") :].partition("\n\n")[0]


def readme() -> str:
    text = (DOCS / "README.md").read_text("utf-8")
    return text[text.index("| split-digits, micro-vit |") :].partition("\n\n")[0]


def the_control_ends_alike() -> bool:
    """Final class-incremental accuracy of NSP² and the control differ by less than either's spread, in both tables."""
    pairs = [(row_of(t, "NSP²")[0], row_of(t, "NSP², shrink-only control")[0]) for t in (readme(), digits())]
    return all(abs(a[0] - b[0]) < min(a[1], b[1]) for a, b in pairs)


def the_control_drifts_more() -> bool:
    return all(
        row_of(t, "NSP²")[5][0] > row_of(t, "NSP², shrink-only control")[5][0] + 10 for t in (readme(), digits())
    )


def digits() -> str:
    return results("split-digits, micro-vit")


def domains() -> str:
    return results("micro-mtil, micro-clip")


def seeds_spread_more_than_pictures() -> bool:
    spreads = [row_of(digits(), method)[0][1] for method in ("sequential", "NSP²")]
    return min(spreads) > 2 and min(spreads) > max(again.error_of_end(PLAIN), again.error_of_end(PROTECTED))


def random_directions_do_far_worse() -> bool:
    chosen, random = row_of(domains(), "NuSA-CL"), row_of(domains(), "NuSA-CL, random directions")
    return random[3][0] < chosen[3][0] - 5 and random[5][0] > chosen[5][0] + 10


def fine_tuning_at_its_best_is_closer() -> bool:
    """Last of fine-tuning at its own rate lies nearer to the GNSP recording than the recorded fine-tuning does."""
    best, ours, theirs = row_of(domains(), "fine-tuning")[3][0], again.matrix(TUNED, TIL), again.matrix(GNSP, TIL)
    return abs(again.end(theirs) - best) < 0.5 * abs(again.end(theirs) - again.end(ours))


def jumps_run_down_columns() -> bool:
    """When a task is learned its column jumps, and stays up: what is below the diagonal exceeds what is above it."""
    a = np.array(again.matrix(NUSA, TIL))
    below, above = a[np.tril_indices(len(a), -1)], a[np.triu_indices(len(a), 1)]
    jumps = [a[j, j] - a[j - 1, j] for j in range(1, len(a))]
    return min(jumps) > 0 and below.mean() > above.mean() + 10


def only_the_method_differs() -> bool:
    ours, theirs = (again.RunFolder(recordings_folder() / run).config() for run in (TUNED, GNSP))
    same = ("backbone", "stream", "seed", "training", "stream_settings")
    return (
        all(getattr(ours, f) == getattr(theirs, f) for f in same)
        and again.settings(TUNED)["rate"] == again.settings(GNSP)["rate"]
    )


def the_tail_alone_moves() -> bool:
    (e,) = [e for e in again.weight_changes(NUSA, 0) if e.name == "image.0.q"]
    left = len(e.before) - e.written
    risen = int(sum(e.after > e.before[e.principal - 1] * 1.000001)) - (e.principal - 1)
    return risen > 0 and all(np.min(np.abs(e.after - value)) < 1e-5 * value for value in e.before[:left])


def the_floor_holds() -> bool:
    """With next to everything protected, what still passes is no less than (1 − η)²."""
    passed = again.at_threshold(lambda energy: len(energy) - 1, again.eta())[2]
    return passed >= 100 * (1 - again.eta()) ** 2


# What a text says of runs that are not among the recordings, or derives from whole events.
CLAIMS: list[tuple[str, int, str, Callable[[], bool]]] = [
    ("threshold", 1, "", the_floor_holds),
    ("threshold", 3, "", lambda: again.at_threshold(lambda energy: len(energy) // 4, 1.0)[1] < 75),
    ("threshold", 5, "cannot be told apart in class-incremental accuracy", the_control_ends_alike),
    ("threshold", 5, "By stored statistics the method is ahead", the_control_drifts_more),
    ("clip", 4, "only the method differs", only_the_method_differs),
    ("clip", 4, "Fine-tuning at a rate chosen for it ends much closer", fine_tuning_at_its_best_is_closer),
    ("weights", 1, "Every direction left of the shade keeps its value exactly", the_tail_alone_moves),
    ("weights", 4, "runs at a rate too high for it",
     lambda: row_of(domains(), "fine-tuning")[3][0] > again.end(again.matrix(TUNED, TIL)) + 5),
    ("weights", 4, "does far worse in this project's tables", random_directions_do_far_worse),
    ("tables", 1, "that jump runs down a column", jumps_run_down_columns),
    ("tables", 3, "images are the smaller part", seeds_spread_more_than_pictures),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "number", "quote", "holds"), CLAIMS, ids=[f"{c[0]}-{c[1]}-{c[2][:40]}" for c in CLAIMS]
)
def test_a_claim_about_other_runs_is_made_and_holds(name: str, number: int, quote: str, holds: Callable[[], bool]):
    assert quote in read(name, number), "the lesson does not say this any more"
    assert holds(), f"{name}, step {number}: '{quote}' is not what the recordings (or the tables) say"


def test_nearly_every_step_is_checked():
    claimed = {(name, number) for name, number in STEPS if LESSONS[name].steps[number - 1].claims}
    unchecked = set(STEPS) - claimed - {claim[:2] for claim in CLAIMS}
    assert unchecked <= {("tables", 2), ("forgetting", 1), ("forgetting", 3)}, "a step that claims nothing testable"


# ---------------------------------------------------------------- figures, links, words


@pytest.mark.parametrize(("name", "number"), STEPS)
def test_every_figure_draws_the_runs_it_names(name: str, number: int):
    lesson = LESSONS[name]
    opened = lesson.open()
    for drawing in lesson.steps[number - 1].drawings:
        figure = lesson.figure(drawing, opened)
        assert isinstance(figure, go.Figure) and figure.data and set(drawing.names) <= set(dict(lesson.runs))
        assert {"title", "caption", "how", "alt", "height"} <= set(figure.layout.meta)
        assert "Nothing" not in figure.layout.meta["alt"]


def drawn(name: str, number: int) -> list[go.Figure]:
    lesson = LESSONS[name]
    return [lesson.figure(drawing, lesson.open()) for drawing in lesson.steps[number - 1].drawings]


def test_the_first_matrix_ends_where_the_reader_is_to_guess():
    cells = np.array(drawn("forgetting", 1)[0].data[0].z)
    whole = again.matrix(PLAIN, CIL)
    assert cells.shape == (5, 5) and np.isnan(cells[3:]).all()
    np.testing.assert_allclose(cells[:3], np.array(whole)[:3], rtol=1e-6)
    lesson = LESSONS["forgetting"]
    assert lesson.value(lesson.steps[0].guess, lesson.open()) == whole[-1][0]


def test_the_zero_shot_step_shows_nothing_but_that_row():
    known = np.concatenate([np.array(trace.z, float).ravel() for trace in drawn("clip", 1)[0].data])
    np.testing.assert_allclose(known[np.isfinite(known)], again.zero_shot(TUNED), rtol=1e-6)


def test_figures_to_be_compared_have_the_same_axes():
    for name, number in (("room", 3), ("room", 4), ("weights", 2)):
        found = drawn(name, number)
        ranges = {tuple(axis.range) for figure in found for axis in figure.select_yaxes()}
        assert len(found) == 2 and len(ranges) == 1


def test_lessons_are_of_a_lessons_size():
    assert mistakes() == []
    assert 5 <= len(LESSONS) <= 12 and all(3 <= len(lesson.steps) <= 6 for lesson in LESSONS.values())
    for name, number in STEPS:
        step = LESSONS[name].steps[number - 1]
        assert step.drawings, f"{name}, {step.title}: no figure"
        said = " ".join(LESSONS[name].say(step.question, LESSONS[name].open()).split())
        assert said.endswith("?"), step.title
        assert not step.preset or not PRESETS[step.preset].needs
        for link in step.links:
            assert (DOCS / "dashboard" / link.page).is_file()
            named = dict(link.choices)
            used = {*named.get("runs", ()), *({named["run"]} if "run" in named else ())}
            assert used <= set(dict(LESSONS[name].runs).values())


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_has_a_thumbnail(name: str):
    drawing = thumbnail(drawn(name, LESSONS[name].thumbnail)[0])
    assert drawing.startswith("<svg")
    assert drawing.count("<rect") + drawing.count("<path") + drawing.count("<circle") > 1 and "nan" not in drawing


def test_a_recording_that_is_not_there_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "recordings_folder", lambda: tmp_path / "none")
    runs._INDEX.clear()
    with pytest.raises(RunMissing, match="reads the run sequential-split-digits"):
        LESSONS["forgetting"].open()


def test_words_are_found_by_name_first():
    assert matching("nullity")[0].key == "nullity"
    assert "task" in [term.key for term in matching("session")]
    assert matching("no such word") == [] and len(matching("")) == len(TERMS)
    assert all(key == term.key and re.fullmatch(r"[a-z-]+", key) for key, term in TERMS.items())
    assert all(not term.lesson or term.lesson in LESSONS for term in TERMS.values())


# ---------------------------------------------------------------- files that teachers write

OWN = """---
title: Mine
about: One sentence.
runs: plain = sequential-split-digits
---

# First

It ends at {{ final(plain) }}.

figure: accuracy_matrix(plain)

## Question

More than half?

- [final(plain) > 50] Yes
- [final(plain) <= 50] No

## Answer

{% if final(plain) > 50 %}Yes.{% else %}No.{% endif %}

## Try it

- [The run](forgetting?run=plain)
"""


def own(tmp_path, monkeypatch, text: str, name: str = "mine.md") -> Path:
    (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.setenv(loader.VARIABLE, str(tmp_path))
    return tmp_path / name


def test_a_lesson_of_ones_own_stands_beside_the_others(tmp_path, monkeypatch):
    own(tmp_path, monkeypatch, OWN)
    found = lessons()
    assert set(found) == {*LESSONS, "mine"} and list(found)[-1] == "mine"
    lesson = found["mine"]
    assert lesson.say(lesson.steps[0].text, lesson.open()).startswith("It ends at 61.7\N{NO-BREAK SPACE}%")
    assert lesson.steps[0].links[0].choices == (("run", PLAIN),)


def test_a_changed_file_is_read_again_and_one_of_the_same_name_replaces_a_bundled_one(tmp_path, monkeypatch):
    file = own(tmp_path, monkeypatch, OWN, "forgetting.md")
    assert lessons()["forgetting"].title == "Mine" and len(lessons()) == len(LESSONS)
    file.write_text(OWN.replace("title: Mine", "title: My second try"), "utf-8")
    assert lessons()["forgetting"].title == "My second try"


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("---\ntitle: Mine", "title: Mine", 1, "begins with a line '---'"),
        ("about: One sentence.\n", "", 4, "does not say 'about"),
        ("about:", "abuot:", 3, "did you mean 'about'"),
        ("title: Mine", "title", 2, "'key: value'"),
        ("runs: plain = ", "runs: ", 4, "'name = run"),
        ("about:", "thumbnail: 2\nabout:", 3, "the number of a step with a figure"),
        ("final(plain) }}", "fnal(plain) }}", 9, "no fact 'fnal'; did you mean 'final'"),
        ("final(plain) }}", "final(plane) }}", 9, "'plane' is neither a fact nor a run"),
        ("{{ final(plain) }}", "{{ final(plain }}", 9, "unexpected"),
        ("{{ final(plain) }}", "{{ plain.folder.path }}", 9, "'.' cannot be used"),
        ("{{ final(plain) }}", "{{ plain['folder'] }}", 9, "'[ ]' cannot be used"),
        ("{{ final(plain) }}", "{% for i in plain %}x{% endfor %}", 9, "'for' cannot be used"),
        ("{{ final(plain) }}", "{{ 9 ** 9 ** 9 }}", 9, "cannot be used"),
        ("{{ final(plain) }}", "{{ final(plain) | pprint }}", 9, "cannot be used"),
        ("accuracy_matrix(", "acuracy_matrix(", 11, "no figure 'acuracy_matrix'; did you mean 'accuracy_matrix'"),
        ("accuracy_matrix(plain)", "accuracy_matrix(other)", 11, "'other' is no run of this lesson"),
        ("accuracy_matrix(plain)", "open('x')", 11, "no figure 'open'"),
        ("## Question", "## Qestion", 13, "a section is called Question, Answer, Try it"),
        ("## Answer", "## Try it\n\n## Answer", 26, "a section is called"),
        ("- [final(plain) <= 50] No\n", "", 17, "at least two"),
        ("forgetting?run=plain", "forgeting?run=plain", 26, "no page 'forgeting'; did you mean 'forgetting'"),
        ("forgetting?run=plain", "train:nothing", 26, "no preset 'nothing'"),
        ("forgetting?run=plain", "https://x.example/", 26, "no page 'https"),
        ("figure: accuracy_matrix(plain)", "words: nothing", 11, "no word 'nothing'"),
    ],
)  # fmt: skip
def test_a_mistake_names_file_and_line(old, new, line, said, tmp_path, monkeypatch):
    if new.startswith("## Try it"):
        old, new, said = "- [The run]", "The run", "a link is"
    assert OWN.count(old) >= 1
    own(tmp_path, monkeypatch, OWN.replace(old, new, 1))
    (mistake,) = mistakes()
    assert str(mistake).startswith(f"mine.md, line {line}: ") and said in str(mistake), str(mistake)
    assert "mine" not in lessons()


def test_what_a_run_does_not_hold_names_the_line_too(tmp_path, monkeypatch):
    own(tmp_path, monkeypatch, OWN.replace("final(plain) }}", "gap_length(plain) }}", 1))
    lesson = lessons()["mine"]
    with pytest.raises(LessonError, match=r"mine.md, line 9: the run sequential-split-digits holds no ModalityGap"):
        lesson.say(lesson.steps[0].text, lesson.open())
    own(tmp_path, monkeypatch, OWN.replace("final(plain) }}", "accuracy(plain, 99) }}", 1))
    lesson = lessons()["mine"]
    with pytest.raises(LessonError, match=r"line 9: accuracy cannot be computed .*it takes run, after, on, readout"):
        lesson.say(lesson.steps[0].text, lesson.open())
    own(tmp_path, monkeypatch, OWN.replace("final(plain) }}", '"a" * 999999999 }}', 1))
    lesson = lessons()["mine"]
    with pytest.raises(LessonError, match=r"\* is for numbers"):
        lesson.say(lesson.steps[0].text, lesson.open())
    own(tmp_path, monkeypatch, OWN.replace("accuracy_matrix(plain)", "losses(plain, layer=1)"))
    lesson = lessons()["mine"]
    with pytest.raises(LessonError, match="line 11: figure 'losses' has no control layer"):
        lesson.figure(lesson.steps[0].drawings[0], lesson.open())


def test_a_claim_that_does_not_hold_is_found(tmp_path, monkeypatch):
    own(tmp_path, monkeypatch, OWN.replace("## Question", "claim: final(plain) > 99\n\n## Question", 1))
    lesson = lessons()["mine"]
    assert lesson.broken(lesson.steps[0], lesson.open()) == ["final(plain) > 99"]


def test_every_fact_says_what_it_is():
    assert len(FACTS) > 50 and all(fact.__doc__ for fact in FACTS.values())


def test_a_lesson_speaks_of_the_own_heads_accuracies_whatever_a_run_shows_first():
    run = open_run(PLAIN)
    stored = sorted((one for kind in run.kinds() for one in run.of(kind)), key=lambda one: one.seq)
    for n, one in enumerate(stored):
        if isinstance(one.event, AccuracyMeasured):
            stored[n] = replace(one, event=replace(one.event, headline=one.event.readout == again.STORED))
    told = Snapshot.holding(run.folder, stored, run.config)
    assert FACTS["final"](told) == pytest.approx(again.end(again.matrix(PLAIN, again.STORED)))
    assert FACTS["final"](by_own_head(told)) == pytest.approx(again.end(again.matrix(PLAIN, CIL)))
    assert by_own_head(told).key(AccuracyMeasured) == told.key(AccuracyMeasured)
    unnamed = open_run("gnsp-micro-mtil")
    assert by_own_head(unnamed) is unnamed
