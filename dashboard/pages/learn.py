"""Learn: guided lessons on the recordings that travel with the program, and the words that all pages use."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cl_core.presets import PRESETS
from dashboard.lessons import LESSONS
from dashboard.lessons.glossary import PAGE as GLOSSARY
from dashboard.lessons.glossary import TERMS, Term, matching
from dashboard.lessons.lesson import ALIKE, Guess, Lesson, RecordingMissing, Recordings, Step, filled
from dashboard.theme import percent, seconds
from dashboard.view_state import code, describe_panel, go_to, literal, sentence
from dashboard.widgets.liveplot import liveplot, to_bytes
from dashboard.widgets.starting import can_train, say_trouble, start_run

RUNS = Recordings()


# ---------------------------------------------------------------- the place, which is in the URL


def go(lesson: str | None, step: int = 1, term: str = "") -> None:
    """Make a step (from 1) of a lesson the place; None = the shelf. From a widget's callback, or before drawing."""
    query = st.query_params
    for key, value in (("lesson", lesson), ("step", lesson in LESSONS and str(step)), ("term", term)):
        if value:
            query[key] = value
        elif key in query:
            del query[key]
    st.session_state["_lesson"] = (lesson, step) if lesson else None


def place() -> tuple[str | None, int]:
    """Lesson and step (from 1) that the URL names; on the way back from another page those that were left."""
    query, left = st.query_params, st.session_state.get("_lesson")
    if "lesson" not in query and left and st.session_state.get("_arrived"):
        go(*left)
        return left
    name, said = query.get("lesson"), query.get("step", "1")
    steps = len(LESSONS[name].steps) if name in LESSONS else 1
    step = min(max(int(said), 1), steps) if said.isdecimal() and len(said) < 4 else 1
    st.session_state["_lesson"] = (name, step) if name in LESSONS or name == GLOSSARY else None
    return name, step


# ---------------------------------------------------------------- the shelf


def shelf() -> None:
    st.markdown(
        "Short lessons on real runs that came with this program; nothing has to be trained first. Every number in "
        "them is read from these runs when the page is drawn. The address of a step opens that step: send it around."
    )
    cards = [
        (lesson.name, lesson.title, lesson.about, f"about {lesson.minutes} min · {len(lesson.steps)} steps", "Begin")
        for lesson in LESSONS.values()
    ]
    cards.append((GLOSSARY, "Glossary", "Every word that these pages use, and what it means here.",
                  f"{len(TERMS)} words", "Look up"))  # fmt: skip
    with st.container(horizontal=True, key="learn-shelf"):
        for name, title, about, size, press in cards:
            with st.container(border=True, key=f"panel-card-{name}", width=285, height="stretch"):
                st.markdown(f"### {title}")
                st.markdown(about)
                st.caption(size)
                st.button(
                    press,
                    key=f"begin-{name}",
                    type="primary" if name == next(iter(LESSONS)) else "secondary",
                    on_click=go,
                    args=(name,),
                )


# ---------------------------------------------------------------- a lesson


@st.cache_data(show_spinner=False, max_entries=16)
def told(lesson: str, stamp: tuple[int, ...]) -> dict[str, str]:
    """What a lesson's texts say in their braces, computed once for all viewers."""
    return LESSONS[lesson].facts(RUNS)


@st.cache_data(show_spinner=False, max_entries=80)
def pictures(lesson: str, step: int, stamp: tuple[int, ...]) -> list[tuple[bytes, dict[str, Any]]]:
    """The figures of a step (from 1), ready to be sent, with their words."""
    import pandas  # noqa: F401  (whole before Plotly looks for it: another thread may be importing it now)

    found = []
    for number, drawing in enumerate(LESSONS[lesson].steps[step - 1].drawings):
        figure = drawing.draw(RUNS)
        words = dict(figure.layout.meta)
        file = f"lesson-{lesson}-{step}-{number + 1}"
        found.append((to_bytes(figure, file=file, height=words["height"]), words))
    return found


def head(lesson: Lesson, step: int) -> None:
    """Title, where one is, and the way back and on."""
    last = len(lesson.steps)
    with st.container(horizontal=True, vertical_alignment="center", key="learn-head"):
        st.button("All lessons", key="learn-shelf-again", icon=":material/apps:", on_click=go, args=(None,))
        st.button(
            "Back",
            key="learn-back",
            icon=":material/arrow_back:",
            shortcut="Left",
            disabled=step == 1,
            on_click=go,
            args=(lesson.name, step - 1),
        )
        for number in range(1, last + 1):
            st.button(
                str(number),
                key=f"learn-step-{number}",
                type="primary" if number == step else "tertiary",
                help=lesson.steps[number - 1].title,
                on_click=go,
                args=(lesson.name, number),
            )
        st.button(
            "Next",
            key="learn-next",
            icon=":material/arrow_forward:",
            icon_position="right",
            shortcut="Right",
            disabled=step == last,
            on_click=go,
            args=(lesson.name, step + 1),
        )


def ask(lesson: Lesson, number: int, step: Step, facts: dict[str, str]) -> None:
    """The question, a guess where one is wanted, and the answer behind a press."""
    with st.container(border=True, key=f"panel-question-{lesson.name}-{number}"):
        st.markdown(f":material/help: **{filled(step.question, facts)}**")
        guessed = _guess(lesson, number, step.guess) if step.guess else ""
        with st.expander("Show the answer", key=f"answer-{lesson.name}-{number}"):
            st.markdown(guessed + filled(step.answer, facts))


def _guess(lesson: Lesson, number: int, guess: Guess) -> str:
    """A slider; what its value is worth, in a sentence."""
    said = st.slider(guess.says, 0, 100, 50, key=f"guess-{lesson.name}-{number}", format="%d %%")
    off = said - guess.value(RUNS)
    judged = "right to the point" if abs(off) < ALIKE else f"{abs(off):.1f} points too {'high' if off > 0 else 'low'}"
    return f"You say {percent(said, 0)}: {judged}. It is "


def onward(lesson: Lesson, number: int, step: Step) -> None:
    """Words, links into the program, a run to start, and the next step or lesson."""
    if step.terms:
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key="learn-words"):
            st.markdown("Words:", width="content")
            for key in step.terms:
                with st.popover(TERMS[key].word, type="tertiary", key=f"word-{lesson.name}-{number}-{key}"):
                    entry(TERMS[key])
    if step.links or step.preset:
        st.markdown("**Try it yourself**")
    for link in step.links:
        if st.button(
            link.says,
            key=f"learn-link-{lesson.name}-{number}-{link.page}-{link.says}",
            type="tertiary",
            icon=":material/arrow_outward:",
        ):
            go_to(link.page, **dict(link.choices))
    if step.preset and can_train():
        preset = PRESETS[step.preset]
        about = f"about {seconds(preset.seconds)} on two idle cores" if preset.seconds else "in the background"
        pressed = st.button(
            f"Train it: {preset.title}",
            key=f"learn-train-{lesson.name}-{number}",
            icon=":material/play_arrow:",
            help=f"{preset.about} Takes {about}.",
            on_click=start_run,
            args=({"preset": step.preset}, "learn"),
        )
        if not say_trouble("learn") and pressed:
            go_to("pages/run.py")
    names = list(LESSONS)
    later = names.index(lesson.name) + 1
    if number < len(lesson.steps):
        where, said = (lesson.name, number + 1), lesson.steps[number].title
    elif later < len(names):
        where, said = (names[later], 1), f"the lesson '{LESSONS[names[later]].title}'"
    else:
        where, said = (GLOSSARY, 1), "the glossary"
    st.button(
        f"Next: {said}",
        key=f"learn-onward-{lesson.name}-{number}",
        type="primary",
        icon=":material/arrow_forward:",
        icon_position="right",
        on_click=go,
        args=where,
    )


def lesson_page(lesson: Lesson, number: int) -> None:
    head(lesson, number)
    step = lesson.steps[number - 1]
    try:
        stamp = tuple(RUNS.log(name).reading for name in lesson.runs)
        facts, drawn = told(lesson.name, stamp), pictures(lesson.name, number, stamp)
    except RecordingMissing as missing:
        st.info(sentence(missing), icon=":material/visibility_off:")
        return
    left, right = st.columns([2, 3], gap="large")
    with left, st.container(key=f"panel-step-{lesson.name}-{number}"):
        st.caption(f"Step {number} of {len(lesson.steps)}")
        st.markdown(f"### {step.title}")
        st.markdown(filled(step.text, facts))
        ask(lesson, number, step, facts)
        onward(lesson, number, step)
    with right:
        for index, (drawing, (figure, words)) in enumerate(zip(step.drawings, drawn, strict=True)):
            key = f"lesson-{lesson.name}-{number}-{index}"
            with st.container(border=True, key=f"panel-{key}", gap="xsmall"):
                st.markdown(f"**{f'{drawing.of}: ' if drawing.of else ''}{literal(words['title'])}**")
                if drawing.runs:
                    named = " and ".join(map(code, drawing.runs))
                    st.caption(f"{'Recordings' if len(drawing.runs) > 1 else 'Recording'} {named}")
                liveplot(figure, key=key, height=words["height"])
                describe_panel(words, key=key)


# ---------------------------------------------------------------- the glossary


def entry(term: Term) -> None:
    """What a term means."""
    st.markdown(term.meaning)
    if term.formula:
        st.markdown(code(term.formula))
    if term.also:
        st.caption(f"Also called {', '.join(term.also)}.")


def glossary() -> None:
    asked = st.query_params.get("term")
    st.button("All lessons", key="learn-shelf-again", icon=":material/apps:", on_click=go, args=(None,))
    if asked is not None and asked not in TERMS:
        st.warning(
            f"There is no word {code(asked)} in the glossary. All of them are below.", icon=":material/search_off:"
        )
    wanted = st.text_input(
        "Search", key="glossary-search", placeholder="a word, or a part of one", icon=":material/search:", width=360
    )
    found = matching(wanted)
    if asked in TERMS and not wanted:
        found = [TERMS[asked], *(term for term in found if term.key != asked)]
    if not found:
        st.markdown(f"No word here says {code(wanted)}. Try a shorter part of it.")
    for term in found:
        with st.container(border=term.key == asked, key=f"term-{term.key}", gap="xsmall"):
            st.markdown(f"### {term.word}", width=760)
            with st.container(width=760, gap="xsmall"):
                entry(term)
            with st.container(horizontal=True, gap="small"):
                if term.lesson:
                    st.button(
                        f"Lesson: {LESSONS[term.lesson].title}",
                        key=f"term-lesson-{term.key}",
                        type="tertiary",
                        icon=":material/school:",
                        on_click=go,
                        args=(term.lesson,),
                    )
                if term.key != asked:
                    st.button(
                        "Link",
                        key=f"term-link-{term.key}",
                        type="tertiary",
                        icon=":material/link:",
                        help="Puts this word into the page's address",
                        on_click=go,
                        args=(GLOSSARY, 1, term.key),
                    )


def show() -> None:
    name, step = place()
    st.markdown(f"## {LESSONS[name].title if name in LESSONS else 'Glossary' if name == GLOSSARY else 'Learn'}")
    if name in LESSONS:
        lesson_page(LESSONS[name], step)
    elif name == GLOSSARY:
        glossary()
    else:
        if name is not None:
            st.warning(f"There is no lesson {code(name)}. All of them are below.", icon=":material/search_off:")
        shelf()


show()
