"""Learn: guided lessons on recorded runs, and the glossary of all pages."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cl_core.events import KINDS
from cl_core.presets import PRESETS
from dashboard.lessons import lessons, mistakes
from dashboard.lessons.facts import ALIKE
from dashboard.lessons.glossary import PAGE as GLOSSARY
from dashboard.lessons.glossary import TERMS, Term, matching
from dashboard.lessons.lesson import Lesson, LessonError, RunMissing, Runs, Step, Told
from dashboard.theme import percent, seconds
from dashboard.view_state import called, code, describe_panel, go_to, literal, sentence, without_links
from dashboard.widgets.inspection import ask as open_with
from dashboard.widgets.liveplot import liveplot, to_bytes
from dashboard.widgets.starting import can_train, say_trouble, start_and_show

# ---------------------------------------------------------------- lesson and step in the URL


def go(lesson: str | None, step: int = 1, term: str = "") -> None:
    """Go to a step (from 1) of a lesson; None = the overview. Call it from a widget's callback or before drawing."""
    query = st.query_params
    for key, value in (("lesson", lesson), ("step", lesson in lessons() and str(step)), ("term", term)):
        if value:
            query[key] = value
        elif key in query:
            del query[key]
    st.session_state["_lesson"] = (lesson, step) if lesson else None


def place() -> tuple[str | None, int]:
    """Return the lesson and step (from 1) in the URL, or, on return from another page, those last shown."""
    query, left = st.query_params, st.session_state.get("_lesson")
    if "lesson" not in query and left and st.session_state.get("_arrived"):
        go(*left)
        return left
    name, said = query.get("lesson"), query.get("step", "1")
    known = lessons()
    steps = len(known[name].steps) if name in known else 1
    step = min(max(int(said), 1), steps) if said.isdecimal() and len(said) < 4 else 1
    st.session_state["_lesson"] = (name, step) if name in known or name == GLOSSARY else None
    return name, step


# ---------------------------------------------------------------- overview of the lessons


def shelf() -> None:
    st.markdown(
        "Short lessons on recorded runs; nothing has to be trained first. Every number in them is read from these runs "
        "when the page is drawn. The URL of a step opens that step and can be shared."
    )
    first = next(iter(lessons()), None)
    with st.container(horizontal=True, key="learn-shelf"):
        for lesson in lessons().values():
            with card(lesson.name, lesson.title):
                small, alt = thumbnail_of(lesson)
                if small:
                    st.image(small, width="stretch", alt=alt)
                st.markdown(without_links(lesson.about))
                st.caption(f"about {lesson.minutes} min · {len(lesson.steps)} steps{read_so_far(lesson)}")
                begin(lesson.name, "Begin", primary=lesson.name == first)
        with card(GLOSSARY, "Glossary"):
            st.markdown("All terms used on these pages, with their definitions.")
            st.caption(f"{len(TERMS)} words")
            begin(GLOSSARY, "Look up")
    for mistake in mistakes():
        st.error(f"A lesson cannot be shown: {sentence(mistake)}", icon=":material/edit_off:")


def card(name: str, title: str) -> Any:
    place = st.container(border=True, key=f"panel-card-{name}", width=285, height="stretch")
    place.markdown(f"### {without_links(title)}")
    return place


def begin(name: str, says: str, *, primary: bool = False) -> None:
    st.button(says, key=f"begin-{name}", type="primary" if primary else "secondary", on_click=go, args=(name,))


def read_so_far(lesson: Lesson) -> str:
    """Return a tick once every step has been opened in this session; before that, how many."""
    seen = len(st.session_state.get("_read", {}).get(lesson.name, ()))
    if seen >= len(lesson.steps):
        return " · :material/check_circle: done"
    return f" · {seen} read" if seen else ""


def thumbnail_of(lesson: Lesson) -> tuple[str, str]:
    """Return the lesson's first figure as a small SVG and its title; empty if its runs are missing."""
    try:
        runs = lesson.open()
        return drawn_small(lesson.name, stamp(lesson, runs), lesson, runs)
    except (RunMissing, LessonError):
        return "", ""


@st.cache_data(show_spinner=False, max_entries=32)
def drawn_small(name: str, stamp: tuple[Any, ...], _lesson: Lesson, _runs: Runs) -> tuple[str, str]:
    import pandas  # noqa: F401  (fully imported before Plotly looks for it; another thread may be importing it now)

    from dashboard.lessons.thumbnail import thumbnail

    if not _lesson.thumbnail:
        return "", ""
    figure = _lesson.figure(_lesson.steps[_lesson.thumbnail - 1].drawings[0], _runs)
    return thumbnail(figure), str(figure.layout.meta["title"])


# ---------------------------------------------------------------- a lesson


def stamp(lesson: Lesson, runs: Runs) -> tuple[Any, ...]:
    """Return a cache key that changes whenever the lesson's file or the contents of its runs change."""
    return lesson.file, lesson.file.stat().st_mtime_ns, *(run.key(*KINDS.values()) for run in runs.values())


@st.cache_data(show_spinner=False, max_entries=80)
def told(name: str, number: int, stamp: tuple[Any, ...], _lesson: Lesson, _runs: Runs) -> Told:
    """Return the texts of a step (from 1), computed once for all viewers."""
    return _lesson.told(_lesson.steps[number - 1], _runs)


@st.cache_data(show_spinner=False, max_entries=80)
def figures(
    name: str, number: int, stamp: tuple[Any, ...], _lesson: Lesson, _runs: Runs
) -> list[tuple[bytes, dict[str, Any]]]:
    """Return the figures of a step (from 1), ready to be sent, with their texts."""
    import pandas  # noqa: F401  (as above)

    found = []
    for index, drawing in enumerate(_lesson.steps[number - 1].drawings, start=1):
        figure = _lesson.figure(drawing, _runs)
        words = dict(figure.layout.meta)
        found.append((to_bytes(figure, file=f"lesson-{name}-{number}-{index}", height=words["height"]), words))
    return found


def head(lesson: Lesson, step: int) -> None:
    """Draw the title, the current step, and buttons to the previous and next step."""
    last = len(lesson.steps)
    with st.container(horizontal=True, vertical_alignment="center", key="learn-head"):
        st.button("All lessons", key="learn-shelf-again", icon=":material/apps:", on_click=go, args=(None,))
        st.button(
            "Back",
            key="learn-back",
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
            shortcut="Right",
            disabled=step == last,
            on_click=go,
            args=(lesson.name, step + 1),
        )


def ask(lesson: Lesson, number: int, said: Told) -> None:
    """Draw the question, the input for the reader's guess, and the answer."""
    with st.container(border=True, key=f"panel-question-{lesson.name}-{number}"):
        st.markdown(f":material/help: **{said.question}**")
        verdict = _chosen(lesson, number, said) if said.choices else ""
        guessed = _guess(lesson, number, said.guess) if said.guess is not None else ""
        if verdict:
            st.markdown(f"{verdict} {said.answer}")
            return
        with st.expander("Show the answer", key=f"answer-{lesson.name}-{number}"):
            st.markdown(guessed + said.answer)


def _chosen(lesson: Lesson, number: int, said: Told) -> str:
    """Draw buttons for the choices; return the verdict once one is chosen."""
    chosen = st.radio(
        said.question,
        range(len(said.choices)),
        index=None,
        format_func=lambda place: said.choices[place][0],
        key=f"choice-{lesson.name}-{number}",
        label_visibility="collapsed",
    )
    if chosen is None:
        return ""
    return ":material/check: **Right.**" if said.choices[chosen][1] else ":material/close: **No.**"


def _guess(lesson: Lesson, number: int, value: float) -> str:
    """Draw a slider; return a sentence on how far off its value is."""
    said = st.slider("Your guess, in percent", 0, 100, 50, key=f"guess-{lesson.name}-{number}", format="%d %%")
    off = said - value
    judged = "exactly right" if abs(off) < ALIKE else f"{abs(off):.1f} points too {'high' if off > 0 else 'low'}"
    return f"You say {percent(said, 0)}: {judged}. It is "


def onward(lesson: Lesson, number: int, step: Step) -> None:
    """Draw the step's terms, links to pages, a run to start, and the next step or lesson."""
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
            on_click=start_and_show,
            args=({"preset": step.preset}, "learn"),
        )
        if not say_trouble("learn") and pressed:
            go_to("pages/run.py")
    known = lessons()
    names = list(known)
    later = names.index(lesson.name) + 1
    if number < len(lesson.steps):
        where, said = (lesson.name, number + 1), lesson.steps[number].title
    elif later < len(names):
        where, said = (names[later], 1), f"the lesson '{known[names[later]].title}'"
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
        runs = lesson.open()
        at = stamp(lesson, runs)
        said, drawn = told(lesson.name, number, at, lesson, runs), figures(lesson.name, number, at, lesson, runs)
    except RunMissing as missing:
        st.info(sentence(missing), icon=":material/visibility_off:")
        return
    except LessonError as mistake:
        st.error(sentence(mistake), icon=":material/edit_off:")
        return
    st.session_state.setdefault("_read", {}).setdefault(lesson.name, set()).add(number)
    left, right = st.columns([2, 3], gap="large")
    with left, st.container(key=f"panel-step-{lesson.name}-{number}"):
        st.caption(f"Step {number} of {len(lesson.steps)}")
        st.markdown(f"### {without_links(step.title)}")
        st.markdown(said.text)
        if said.broken:
            st.warning(
                f"A claim of this step does not hold for these runs: {', '.join(map(code, said.broken))}.",
                icon=":material/rule:",
            )
        ask(lesson, number, said)
        onward(lesson, number, step)
    with right:
        named = dict(lesson.runs)
        for index, (drawing, (figure, words)) in enumerate(zip(step.drawings, drawn, strict=True)):
            key = f"lesson-{lesson.name}-{number}-{index}"
            with st.container(border=True, key=f"panel-{key}", gap="xsmall"):
                st.markdown(f"**{literal(f'{drawing.label}: ' if drawing.label else '')}{literal(words['title'])}**")
                if drawing.names:
                    shown = " and ".join(literal(called(named[name])) for name in drawing.names)
                    st.caption(f"{'Runs' if len(drawing.names) > 1 else 'Run'} {shown}")
                liveplot(figure, key=key, height=words["height"])
                describe_panel(words, key=key)


# ---------------------------------------------------------------- glossary


def entry(term: Term) -> None:
    """Draw a glossary entry."""
    st.markdown(term.meaning)
    if term.formula:
        st.markdown(code(term.formula))
    if term.also:
        st.caption(f"Also called {', '.join(term.also)}.")


def glossary() -> None:
    asked = st.query_params.get("term")
    st.button("All lessons", key="learn-shelf-again", icon=":material/apps:", on_click=go, args=(None,))
    if asked is not None and asked not in TERMS:
        st.warning(f"The glossary has no entry {code(asked)}. All entries are below.", icon=":material/search_off:")
    wanted = st.text_input(
        "Search",
        key="glossary-search",
        bind="query-params",
        placeholder="a word, or a part of one",
        icon=":material/search:",
        width=360,
    )
    found = matching(wanted)
    if asked in TERMS and not wanted:
        found = [TERMS[asked], *(term for term in found if term.key != asked)]
    if not found:
        st.markdown(f"No entry contains {code(wanted)}. Try a shorter part of it.")
    for term in found:
        with st.container(border=term.key == asked, key=f"term-{term.key}", gap="xsmall"):
            st.markdown(f"### {term.word}", width=760)
            with st.container(width=760, gap="xsmall"):
                entry(term)
            with st.container(horizontal=True, gap="small"):
                if term.lesson in lessons():
                    st.button(
                        f"Lesson: {lessons()[term.lesson].title}",
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
                        help="Adds this term to the page's URL",
                        on_click=go,
                        args=(GLOSSARY, 1, term.key),
                    )


def show() -> None:
    name, step = place()
    known = lessons()
    title = known[name].title if name in known else "Glossary" if name == GLOSSARY else "Learn"
    open_with(without_links(title))
    if name in known:
        lesson_page(known[name], step)
    elif name == GLOSSARY:
        glossary()
    else:
        if name is not None:
            st.warning(f"There is no lesson {code(name)}. All of them are below.", icon=":material/search_off:")
        shelf()


show()
