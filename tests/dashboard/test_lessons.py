"""Lessons say what the recordings hold: every number is computed once more, every claim is derived again."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest

from cl_core.assets import recordings_folder
from cl_core.presets import PRESETS
from dashboard import runs
from dashboard.lessons import LESSONS
from dashboard.lessons.glossary import TERMS, matching
from dashboard.lessons.lesson import Lesson, RecordingMissing, Recordings, Step, against, course
from tests.dashboard import lesson_numbers as again
from tests.dashboard.lesson_numbers import CIL, GNSP, NUMBERS, NUSA, PLAIN, PROTECTED, TIL, TUNED

DOCS = Path(__file__).resolve().parents[2]
STEPS = [(name, number) for name, lesson in LESSONS.items() for number in range(1, len(lesson.steps) + 1)]
A_NUMBER = re.compile(r"(?<![\w@.])[+\-−]?\d+(?:\.\d+)?(?:e[\-−]?\d+)?")


@pytest.fixture(autouse=True)
def bundled(forget_everything, monkeypatch):
    """The recordings that travel with the program, and no others."""
    monkeypatch.setattr(runs, "recordings_folder", recordings_folder)


def texts(step: Step) -> tuple[str, str, str]:
    return step.text, step.question, step.answer


def read(name: str, number: int) -> str:
    """All that a step says, as one line."""
    facts = LESSONS[name].facts(Recordings())
    return " ".join(" ".join(text.format_map(facts) for text in texts(LESSONS[name].steps[number - 1])).split())


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS.keys())
def test_texts_hold_no_number_of_their_own(lesson: Lesson):
    for step in lesson.steps:
        for text in texts(step):
            bare = re.sub(r"\{\w+\}|T\d|T\{\w+\}|NSP²|η = 1\b|\b0 %|\b100 %", "", text)
            assert not re.search(r"\d", bare), f"{lesson.name}, {step.title}: a number is typed in: {bare}"


@pytest.mark.parametrize("name", LESSONS)
def test_every_number_is_the_recordings(name: str):
    facts, expected = LESSONS[name].facts(Recordings()), NUMBERS[name]()
    for fact, said in facts.items():
        found = [t.replace("−", "-") for t in A_NUMBER.findall(re.sub(r"\bT\d\b|R@\d|NSP²", "", said))]
        if fact in expected:
            values = expected.pop(fact)
            if len(found) == 1 and len(values) == 2 and "stays" in said:
                assert abs(values[1] - values[0]) < 1
                values = values[1:]
            if not found and "within a point" in said:
                assert abs(values[0]) < 1
                continue
            if "more" in said or "less" in said:
                assert ("more" in said) == (values[0] > 0)
                values = [abs(values[0])]
            assert len(found) == len(values), f"{fact}: {said} against {values}"
            for token, value in zip(found, values, strict=True):
                digits = len(token.partition("e")[0].partition(".")[2])
                room = 0.51 * 10.0**-digits * (10.0 ** int(token.partition("e")[2]) if "e" in token else 1)
                assert abs(float(token) - value) <= room, f"{fact}: {said} against {values}"
            if "falls from" in said or "rises from" in said:
                assert ("falls" in said) == (values[1] < values[0])
        else:
            assert not found, f"{fact} says {said}: a number that nobody has computed again"
    assert set(expected) == set(), "numbers that the lesson does not say any more"


@pytest.mark.parametrize("name", LESSONS)
def test_every_fact_is_said(name: str):
    lesson = LESSONS[name]
    named = {
        field for step in lesson.steps for t in texts(step) for _, field, _, _ in string.Formatter().parse(t) if field
    }
    assert named <= set(lesson.facts(Recordings()))


def test_words_follow_numbers():
    assert course(90.0, 40.0) == "falls from 90.0 % to 40.0 %" and course(40.0, 90.0).startswith("rises")
    assert course(90.0, 90.4) == "stays where it was, at 90.4 %"
    assert course(math.nan, 3.0) == "was not measured at both ends"
    assert against(3.0, 8.5) == "5.5 points less" and against(8.5, 3.0) == "5.5 points more"
    assert against(3.0, 3.2) == "as much, within a point"


# ---------------------------------------------------------------- claims


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


def steep() -> bool:
    values = np.sqrt(np.asarray(again.first_spectrum().eigenvalues, np.float64))
    return values[len(values) - again.first_spectrum().nullity] < 0.1 * values[0] and values[-1] > 0


def same_digits() -> bool:
    return [t["classes"] for t in again.tasks(PLAIN)] == [t["classes"] for t in again.tasks(PROTECTED)]


def ends(run: str, readout: str) -> float:
    return again.end(again.matrix(run, readout))


CLAIMS: list[tuple[str, int, str, Callable[[], bool]]] = [
    ("forgetting", 1, "about test pictures of *all digits seen so far*", lambda: not math.isnan(plain()[4][0])),
    ("forgetting", 2, "The column of T1 falls", lambda: plain()[0][0] - plain()[-1][0] > 10),
    ("forgetting", 2, "Cells above the diagonal are empty",
     lambda: all(math.isnan(plain()[0][j]) for j in range(1, 5))),
    ("forgetting", 3, "The second is higher", lambda: again.on_the_way(plain()) > again.end(plain())),
    ("forgetting", 4, "T5 stands at", lambda: plain()[-1][-1] < again.learned(plain())),
    ("forgetting", 5, "learned the same digits in the same order", same_digits),
    ("forgetting", 5, "What the second run keeps better, it had learned less of",
     lambda: again.forgotten(kept()) < again.forgotten(plain()) and again.learned(kept()) < again.learned(plain())),
    ("forgetting", 5, "Neither: at the end they are within a point",
     lambda: abs(again.end(kept()) - again.end(plain())) < 1),
    ("readouts", 1, "No: it tells them apart", lambda: again.readouts()["widest_task"][0] > 80),
    ("readouts", 2, "T1 falls from", lambda: again.readouts()["stored_first"][1] < 50),
    ("readouts", 3, "the features still know nearly everything", lambda: ends(PLAIN, again.AFRESH) > 95),
    ("readouts", 3, "it moved out of the old reader's reach", lambda: ends(PLAIN, again.STORED) < 50),
    ("readouts", 4, "The features stayed nearer to where they were",
     lambda: ends(PROTECTED, again.STORED) > ends(PLAIN, again.STORED) + 10),
    ("readouts", 4, "the heads still compete", lambda: ends(PROTECTED, TIL) > ends(PROTECTED, CIL) + 10),
    ("readouts", 4, "The head. By stored statistics",
     lambda: ends(PROTECTED, again.STORED) > ends(PROTECTED, CIL) + 10),
    ("room", 1, "They fall steeply", steep),
    ("room", 1, "no value is exactly zero", lambda: min(again.first_spectrum().eigenvalues) > 0),
    ("room", 2, "uses few directions strongly",
     lambda: again.counted(0.9) < 0.1 * len(again.first_spectrum().eigenvalues)),
    ("room", 3, "Much more than the projection takes",
     lambda: again.movement(PROTECTED) / again.movement(PLAIN) < again.through(PROTECTED) / 100 - 0.1),
    ("room", 3, "is taken away or weakened before the step", lambda: again.through(PROTECTED) < 95),
    ("room", 4, "avoids what old digits use better than the plain run",
     lambda: again.residual(PROTECTED) < again.residual(PLAIN)),
    ("room", 4, "more than chance would have it", lambda: again.residual(PLAIN) > again.residual(PLAIN, "isotropic")),
    ("room", 4, "lies above a random direction",
     lambda: again.residual(PROTECTED) > again.residual(PROTECTED, "isotropic")),
    ("room", 5, "By the knee, no", lambda: abs(np.diff(again.room()["free_course"])[0]) < 1),
    ("room", 5, "by the share of energy, yes", lambda: np.diff(again.room()["inputs_course"])[0] < -1),
    ("threshold", 1, "It costs the new task much and spares the old ones hardly anything",
     lambda: again.threshold()["passed_low"][0] - again.threshold()["passed_high"][0] > 5
     > again.threshold()["felt_low"][0] - again.threshold()["felt_high"][0]),
    ("threshold", 1, "No threshold gets below that floor",
     lambda: again.at_threshold(lambda energy: len(energy) - 1, again.eta())[2] >= again.threshold()["floor"][0]),
    ("threshold", 2, "can now fall to zero; the middle one pays",
     lambda: again.threshold()["strict_felt_high"][0] < 1 < again.threshold()["passed_high"][0]
     - again.threshold()["strict_passed_high"][0]),
    ("threshold", 3, "More of what the task wanted lies in the protected half",
     lambda: again.threshold()["half_passed"][0] < 50),
    ("threshold", 3, "it stays low until most directions are free",
     lambda: again.at_threshold(lambda energy: len(energy) // 4, 1.0)[1] < 75),
    ("threshold", 4, "the two end within a point of each other",
     lambda: abs(again.end(kept()) - again.end(plain())) < 1),
    ("threshold", 5, "Protection also makes steps smaller", lambda: again.movement(PROTECTED) < again.movement(PLAIN)),
    ("threshold", 5, "cannot be told apart in class-incremental accuracy", the_control_ends_alike),
    ("threshold", 5, "By stored statistics the method is ahead", the_control_drifts_more),
    ("clip", 1, "The gap to what it can learn is wide",
     lambda: again.clip()["worst_learned"][0] > again.clip()["worst_zero"][0] + 20),
    ("clip", 1, "Guessing would give", lambda: again.clip()["worst_zero"][0] > 2 * again.clip()["worst_chance"][0]),
    ("clip", 2, "worst hit is", lambda: min(again.lost_unasked().values()) < -10),
    ("clip", 3, "its direction turns", lambda: again.gap(TUNED, -1).direction < 0.9),
    ("clip", 3, "say whether it hurts; here accuracy on the first world's own classes falls",
     lambda: np.diff(again.clip()["general_course"])[0] < -5),
    ("clip", 4, "trains the same weights at the same rate", only_the_method_differs),
    ("clip", 4, "points less of each new domain", lambda: again.clip()["learning_against"][0] < -1),
    ("clip", 4, "Fine-tuning at a rate chosen for it ends much closer", fine_tuning_at_its_best_is_closer),
    ("weights", 1, "Every direction left of the shade keeps its value exactly", the_tail_alone_moves),
    ("weights", 2, "which is rounding", lambda: max(again.sides(again.weight_changes(NUSA))) < 1e-5),
    ("weights", 2, "more than a random change would have there",
     lambda: np.mean(again.sides(again.weight_changes(TUNED, 0))) > max(again.weights()["chance"])),
    ("weights", 3, "the share of null directions falls", lambda: np.diff(again.weights()["null_course"])[0] < -1),
    ("weights", 3, "by the end some maps offer only",
     lambda: again.weights()["fewest"][0] < again.weights()["most"][0]),
    ("weights", 4, "times as far as fine-tuning's", lambda: again.weights()["further"][0] > 1),
    ("weights", 4, "Yet it forgets",
     lambda: again.weights()["forgetting"][0] < again.weights()["forgetting_tuned"][0] - 5),
    ("weights", 4, "The gap between pictures and texts still goes",
     lambda: again.weights()["length"][0] > again.weights()["length_before"][0] + 0.05),
    ("weights", 4, "runs at a rate too high for it",
     lambda: row_of(domains(), "fine-tuning")[3][0] > ends(TUNED, TIL) + 5),
    ("weights", 4, "does far worse in this project's tables", random_directions_do_far_worse),
    ("tables", 1, "where every cell is measured", lambda: not np.isnan(again.matrix(NUSA, TIL)).any()),
    ("tables", 1, "that jump runs down a column", jumps_run_down_columns),
    ("tables", 1, "From the same numbers turned over",
     lambda: abs(again.tables()["turned_forgetting"][0] - again.tables()["forgetting"][0]) > 5),
    ("tables", 3, "the difference is smaller than twice",
     lambda: abs(again.tables()["difference"][0]) < 2 * again.tables()["noise"][0]),
    ("tables", 3, "pictures are the smaller part", seeds_spread_more_than_pictures),
    ("tables", 3, "Other seeds move final accuracy by several points", seeds_spread_more_than_pictures),
    ("price", 1, "undo the old ones",
     lambda: again.matrix(again.UNHELD, CIL)[-1][0] < again.matrix(again.UNHELD, CIL)[0][0] - 20),
    ("price", 2, "far more than the seeds differ",
     lambda: best_threshold("final") > 20 + max(threshold("0", "final"), threshold("1", "final"))),
    ("price", 2, "hardly any step is allowed",
     lambda: threshold("1", "learning") < 30 < 90 < threshold("0", "learning")),
    ("price", 2, "to its right it cannot learn",
     lambda: threshold("1", "forgetting") < best_threshold("forgetting") < threshold("0", "forgetting")),
    ("price", 3, "near the best threshold", lambda: abs(float(again.best_text()) - 0.92) < 0.03),
    ("price", 3, "layer by layer", lambda: again.left("0")[0] < again.left("0")[1] < again.left("0")[2]),
    ("price", 3, "falls from task to task when ε is large",
     lambda: again.frontier("0")["0.99"]["matrix"][9][9] < again.frontier("0")["0.99"]["matrix"][1][1] - 20),
    ("price", 4, "takes few of its own", lambda: again.left("0.8")[0] > again.left("0")[0] + 0.2),
    ("price", 4, "With nothing protected, similar tasks already end at",
     lambda: again.frontier("0.8")["0"]["after"][-1]["final"] > 80),
    ("tables", 4, "no, they moved", lambda: ends(PLAIN, again.AFRESH) > ends(PLAIN, again.STORED) + 30),
]  # fmt: skip


def threshold(text: str, measure: str) -> float:
    return again.frontier("0")[text]["after"][-1][measure]


def best_threshold(measure: str) -> float:
    return threshold(again.best_text(), measure)


def plain() -> list[list[float]]:
    return again.matrix(PLAIN, CIL)


def kept() -> list[list[float]]:
    return again.matrix(PROTECTED, CIL)


@pytest.mark.parametrize(
    ("name", "number", "quote", "holds"), CLAIMS, ids=[f"{c[0]}-{c[1]}-{c[2][:40]}" for c in CLAIMS]
)
def test_a_claim_is_made_and_holds(name: str, number: int, quote: str, holds: Callable[[], bool]):
    assert quote in read(name, number), "the lesson does not say this any more"
    assert holds(), f"{name}, step {number}: '{quote}' is not what the recordings (or the tables) say"


def test_nearly_every_step_is_checked():
    assert set(STEPS) - {claim[:2] for claim in CLAIMS} <= {("tables", 2)}, "a step whose words nobody derives again"


# ---------------------------------------------------------------- figures, links, words


@pytest.mark.parametrize(("name", "number"), STEPS)
def test_every_figure_draws_the_recordings_it_names(name: str, number: int):
    recordings, lesson = Recordings(), LESSONS[name]
    for drawing in lesson.steps[number - 1].drawings:
        read_from = set()

        class Watched(Recordings):
            def log(self, run, seen=read_from):
                seen.add(run)
                return recordings.log(run)

        figure = drawing.draw(Watched())
        assert isinstance(figure, go.Figure) and figure.data and set(drawing.runs) <= read_from <= set(lesson.runs)
        assert {"title", "caption", "how", "alt", "height"} <= set(figure.layout.meta)
        assert "Nothing" not in figure.layout.meta["alt"]


def test_the_first_matrix_ends_where_the_reader_is_to_guess():
    drawn = LESSONS["forgetting"].steps[0].drawings[0].draw(Recordings())
    cells = np.array(drawn.data[0].z)
    assert cells.shape == (5, 5) and np.isnan(cells[3:]).all()
    np.testing.assert_allclose(cells[:3], np.array(plain())[:3], rtol=1e-6)
    guess = LESSONS["forgetting"].steps[0].guess
    assert guess is not None and guess.value(Recordings()) == plain()[-1][0]


def test_the_zero_shot_step_shows_nothing_but_that_row():
    drawn = LESSONS["clip"].steps[0].drawings[0].draw(Recordings())
    known = np.concatenate([np.array(trace.z, float).ravel() for trace in drawn.data])
    np.testing.assert_allclose(known[np.isfinite(known)], again.zero_shot(TUNED), rtol=1e-6)


def test_figures_to_be_compared_have_the_same_axes():
    for name, number in (("room", 3), ("room", 4), ("weights", 2)):
        drawings = LESSONS[name].steps[number - 1].drawings
        ranges = {tuple(axis.range) for d in drawings for axis in d.draw(Recordings()).select_yaxes()}
        assert len(drawings) == 2 and len(ranges) == 1


def test_lessons_are_of_a_lessons_size():
    assert 5 <= len(LESSONS) <= 8 and all(3 <= len(lesson.steps) <= 6 for lesson in LESSONS.values())
    for name, number in STEPS:
        step = LESSONS[name].steps[number - 1]
        assert 2 <= len(re.findall(r"[.?!:](?=\s|$)", step.text)) <= 9 and step.question.endswith("?"), step.title
        assert set(step.terms) <= set(TERMS) and step.preset in ("", *PRESETS)
        assert not step.preset or not PRESETS[step.preset].needs
        for link in step.links:
            assert (DOCS / "dashboard" / link.page).is_file()
            named = dict(link.choices)
            assert {*named.get("runs", ()), *({named["run"]} if "run" in named else ())} <= set(LESSONS[name].runs)


def test_a_recording_that_is_not_there_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "recordings_folder", lambda: tmp_path / "none")
    runs._INDEX.clear()
    with pytest.raises(RecordingMissing, match="reads the recording sequential-split-digits"):
        LESSONS["forgetting"].facts(Recordings())


def test_words_are_found_by_name_first():
    assert matching("nullity")[0].key == "nullity"
    assert "task" in [term.key for term in matching("session")]
    assert matching("no such word") == [] and len(matching("")) == len(TERMS)
    assert all(key == term.key and re.fullmatch(r"[a-z-]+", key) for key, term in TERMS.items())
    assert all(not term.lesson or term.lesson in LESSONS for term in TERMS.values())
