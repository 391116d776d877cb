"""Learn: every step of every lesson is drawn; the place is in the URL; what is asked for and not there is said."""

from __future__ import annotations

import re

import pytest

from cl_core.assets import recordings_folder
from dashboard import launch, runs
from dashboard.lessons import lessons
from dashboard.lessons.facts import accuracy
from dashboard.lessons.glossary import TERMS
from dashboard.lessons.loader import VARIABLE
from dashboard.view_state import page_file
from tests.dashboard.reading import drawn, figures, foot, shown, words

LESSONS = lessons()


@pytest.fixture
def learn(monkeypatch, open_page):
    """`learn(lesson="room", step="2")`: the page at that URL, with the recordings that travel with the program."""
    monkeypatch.setattr(runs, "recordings_folder", recordings_folder)

    def at(**query):
        app = open_page("learn")
        for key, value in query.items():
            app.query_params[key] = value
        return drawn_again(app)

    return at


def drawn_again(app):
    app.run()
    assert not app.exception, [e.value for e in app.exception]
    return app


def place(app) -> tuple[str | None, ...]:
    """lesson, step and term as the URL has them."""
    found = (app.query_params.get(key) for key in ("lesson", "step", "term"))
    return tuple(value[0] if isinstance(value, list) else value for value in found)


def press(app, key):
    app.button(key=key).click()
    return drawn_again(app)


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS.keys())
def test_every_step_is_drawn(lesson, learn):
    app, opened = learn(lesson=lesson.name), lesson.open()
    for number, step in enumerate(lesson.steps, start=1):
        said = words(app)
        assert step.title in said
        for text in (step.text, step.question, step.answer):
            assert shown(lesson.say(text, opened)) in said
        assert len(drawn(app)) == len(step.drawings)
        assert app.button(key="learn-back").disabled == (number == 1)
        assert app.button(key="learn-next").disabled == (number == len(lesson.steps))
        if number < len(lesson.steps):
            app = press(app, "learn-next")


def test_the_shelf_shows_all_lessons_with_their_first_figure(learn):
    app = learn()
    said = words(app)
    assert len(app.get("image")) == len(LESSONS)
    assert all(lesson.title in said and lesson.about in said for lesson in LESSONS.values()) and "Glossary" in said


def test_the_way_through_a_lesson_is_in_the_url(learn):
    app = press(learn(), "begin-room")
    assert place(app) == ("room", "1", None)
    app = press(app, "learn-next")
    app = press(app, "learn-next")
    assert place(app)[1] == "3" and LESSONS["room"].steps[2].title in words(app)
    app = press(app, "learn-back")
    assert place(app)[1] == "2"
    app = press(app, "learn-step-5")
    assert place(app)[1] == "5"
    app = press(app, "learn-onward-room-5")
    assert place(app) == ("threshold", "1", None)
    app = press(app, "learn-shelf-again")
    assert place(app) == (None, None, None)


@pytest.mark.parametrize(("asked", "shown"), [("0", 1), ("99", 5), ("two", 1), ("-1", 1), ("9" * 5000, 1), ("²", 1)])
def test_a_step_that_is_not_there_is_the_nearest(asked, shown, learn):
    assert LESSONS["room"].steps[shown - 1].title in words(learn(lesson="room", step=asked))


def test_an_unknown_lesson_is_said_and_the_shelf_shown(learn):
    said = words(learn(lesson="`nothing`", step="1"))
    assert "There is no lesson `'nothing'`" in said and LESSONS["forgetting"].about in said


def test_a_guess_is_judged_when_the_answer_is_shown(learn):
    app = learn(lesson="forgetting", step="1")
    truth = accuracy(LESSONS["forgetting"].open()["plain"], on=1)
    app.slider(key="guess-forgetting-1").set_value(90)
    assert f"You say 90 %: {90 - truth:.1f} points too high. It is {truth:.1f}\N{NO-BREAK SPACE}%" in words(
        drawn_again(app)
    )


def test_a_choice_is_judged_and_the_answer_follows(learn):
    app = learn(lesson="price", step="2")
    choice = app.radio(key="choice-price-2")
    assert choice.value is None and "Right." not in words(app)
    choice.set_value(1)
    assert "**Right.**" in words(drawn_again(app))
    app.radio(key="choice-price-2").set_value(0)
    assert "**No.**" in words(drawn_again(app))


def test_a_lesson_is_ticked_when_all_its_steps_were_opened(learn):
    app = learn(lesson="price", step="1")
    for number in range(2, len(LESSONS["price"].steps) + 1):
        app = press(app, f"learn-step-{number}")
    said = words(press(app, "learn-shelf-again"))
    assert said.count(":material/check_circle: done") == 1


def test_a_teachers_mistakes_are_shown_and_a_claim_that_fails_is_said(learn, tmp_path, monkeypatch):
    text = (LESSONS["forgetting"].file).read_text("utf-8")
    (tmp_path / "mine.md").write_text(text.replace("claim: not all", "claim: all"), "utf-8")
    (tmp_path / "broken.md").write_text("no head", "utf-8")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert "A lesson cannot be shown: broken.md, line 1" in words(learn())
    assert "does not hold for these runs: `all_measured(plain)`" in words(learn(lesson="mine", step="2"))


def test_a_teachers_text_makes_no_link_and_no_markup(learn, tmp_path, monkeypatch):
    text = (LESSONS["forgetting"].file).read_text("utf-8")
    text = text.replace(
        "A small network learns", "![](https://x.example/y) <b>A</b> [a](https://x.example) network learns"
    )
    (tmp_path / "mine.md").write_text(text, "utf-8")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    said = "\n".join(element.value for element in learn(lesson="mine").markdown)
    assert "x.example" in said and "https://" not in said
    assert not re.search(r"(?<!\\)!\[|(?<!\\)<b>|\]\(", said), "an image, a tag or a link"


def test_a_lesson_without_its_recording_says_so(open_page):
    app = open_page("learn")
    app.query_params["lesson"] = "clip"
    said = words(drawn_again(app))
    assert "This lesson reads the run finetune" in said and not drawn(app)


def test_a_lesson_leaves_the_shared_choices_alone(learn):
    app = learn()
    foot(app).selectbox(key="run").set_value("gnsp-micro-mtil")
    drawn_again(app)
    app.switch_page(str(page_file("pages/spectra.py"))).run()
    app.session_state["task"] = "T3"
    drawn_again(app)
    app.switch_page(str(page_file("pages/learn.py"))).run()
    press(app, "begin-forgetting")
    assert foot(app).selectbox(key="run").value == "gnsp-micro-mtil"
    app.switch_page(str(page_file("pages/spectra.py")))
    drawn_again(app)
    assert foot(app).selectbox(key="run").value == "gnsp-micro-mtil" and app.session_state["task"] == "T3"
    app.switch_page(str(page_file("pages/learn.py")))
    assert LESSONS["forgetting"].steps[0].title in words(drawn_again(app))  # where it was left


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS.keys())
def test_every_link_leads_where_it_says(lesson, learn):
    """Choices become those of the page: a run, a task, a threshold that is not there would be dropped in silence."""
    app = None
    for number, step in enumerate(lesson.steps, start=1):
        for link in step.links:
            if app is None:
                app = learn(lesson=lesson.name, step=str(number))
            else:
                app.query_params["lesson"], app.query_params["step"] = lesson.name, str(number)
                app.switch_page(str(page_file("pages/learn.py")))
                drawn_again(app)
            app = press(app, f"learn-link-{lesson.name}-{number}-{link.page}-{link.says}")
            for key, value in link.choices:
                shown = app.session_state[key]
                shown = "true" if shown is True else shown  # a switch, as the URL spells it
                assert shown == (list(value) if isinstance(value, tuple) else value), (link, key)


def test_a_run_can_be_started_from_a_step(learn, monkeypatch):
    started = []
    monkeypatch.setattr(launch, "start", lambda folder, config, title: started.append(config) or stop())

    def stop():
        raise launch.StoreError("the disk is full")

    app = learn(lesson="forgetting", step="5")
    app = press(app, "learn-train-forgetting-5")
    assert started[0].method == "sequential" and "The disk is full." in words(app)


# ---------------------------------------------------------------- the glossary


def test_the_glossary_is_searched(learn):
    app = learn(lesson="glossary")
    said = words(app)
    assert all(term.word in said and term.meaning in said for term in TERMS.values())
    app.text_input(key="glossary-search").set_value("elbow")
    said = words(drawn_again(app))
    assert TERMS["knee"].meaning in said and TERMS["modality-gap"].meaning not in said
    app.text_input(key="glossary-search").set_value("xyzzy")
    assert "No entry contains `xyzzy`" in words(drawn_again(app))


def test_a_word_has_a_link_and_comes_first(learn):
    app = learn(lesson="glossary", term="nullity")
    assert words(app).index(TERMS["nullity"].meaning) < words(app).index(TERMS["accuracy-matrix"].meaning)
    app = press(app, "term-link-seed")
    assert place(app) == ("glossary", None, "seed")
    app = press(app, "term-lesson-seed")
    assert place(app) == ("tables", "1", None)
    assert "The glossary has no entry `nonsense`" in words(learn(lesson="glossary", term="nonsense"))


# ---------------------------------------------------------------- the way here


def test_start_leads_to_the_first_lesson(monkeypatch, open_page):
    monkeypatch.setattr(runs, "recordings_folder", recordings_folder)
    app = press(open_page("start"), "start-lesson")
    assert LESSONS["forgetting"].steps[0].title in words(app) and place(app)[:2] == ("forgetting", "1")
    assert "Accuracy matrix" in figures(app)
