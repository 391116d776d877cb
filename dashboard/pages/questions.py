"""Questions: claims and open points of the papers, the runs that decide them, and the answers computed from these."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import streamlit as st

from cl_core.config import ConfigError
from cl_core.questions import (
    FAMILIES,
    LEAST,
    QUESTIONS,
    Courses,
    Pooled,
    Question,
    courses_of,
    criteria_table,
    finished_by_seed,
    known_runs,
    pooled_from,
    read_answers,
    runs_of,
    runs_with,
    stored,
    stored_numbers,
    table,
    with_stored,
)
from cl_core.store import HELD, RunFolder, StoreError
from dashboard import launch
from dashboard.markdown import table as markdown_table
from dashboard.progress import progress
from dashboard.run_log import log_of
from dashboard.runs import run_folders, runs_folder, runs_index
from dashboard.theme import seconds, task_name
from dashboard.view_state import called, choose, code, go_to, literal, sentence, show_plot, show_run
from dashboard.widgets.control_bar import STATES
from dashboard.widgets.inspection import answer as answered
from dashboard.widgets.inspection import ask
from dashboard.widgets.pace import every

BEAT = 2.0  # seconds between refreshes while runs train
FIRST = "nsp2-baseline"  # its answer is bundled
SEEDS = tuple(range(LEAST))  # required for a verdict
ICONS = {
    "yes": ":material/check_circle:",
    "no": ":material/cancel:",
    "partly": ":material/contrast:",
    "undecided": ":material/help:",
}
WHOLE = "\N{NO-BREAK SPACE}"  # keeps a number and its unit on one line
ANSWERED, PARTLY, OPEN = ":material/check_circle:", ":material/clock_loader_60:", ":material/radio_button_unchecked:"

Known = Mapping[str, tuple[RunFolder, str]]


def run_rows(asked: Question, known: Known) -> None:
    """Draw one line per run: a button that opens it on the Run page, and its state."""
    for label in asked.labels:
        with st.container(horizontal=True, vertical_alignment="center", key=f"question-row-{asked.name}-{label}"):
            if label not in known:
                st.markdown(f":material/radio_button_unchecked: {literal(label)}: not started")
                continue
            folder, state = known[label]
            icon, word = STATES.get(state, ("", state))
            pressed = st.button(
                label,
                key=f"question-open-{asked.name}-{label}",
                type="tertiary",
                icon=":material/monitoring:",
                help=f"Open {literal(called(folder.name))} on the Run page",
                on_click=_show,
                args=(folder.name,),
            )
            st.markdown(f"{icon} {word}{_stand(folder) if state in HELD else ''}")
            if pressed:
                go_to("pages/run.py")


def _show(name: str) -> None:
    runs_index(fresh=True)  # the run may be newer than the list
    show_run(name)


def _stand(folder: RunFolder) -> str:
    """Return the progress of a live run: task, step, time left."""
    log = log_of(folder).snapshot()
    stand = progress(log)
    if stand.task < 0:
        return ""
    left = f", {seconds(stand.seconds_left)} left" if stand.seconds_left is not None else ""
    return f", {task_name(stand.task)} of {stand.tasks}, step {stand.step} of {stand.steps}{left}"


def controls(asked: Question, known: Known, seed: int, busy: bool) -> None:
    """Draw the button that trains the missing runs, or the progress of training."""
    state, finished = st.session_state, sum(s == "finished" for _, s in known.values())
    missing = len(asked.labels) - finished
    if busy:
        st.progress(finished / len(asked.labels), text=f"{finished} of {len(asked.labels)} runs finished")
        st.caption(
            "Training goes on if this page is closed. *Stop* in the bar below stops the run it shows, and the rest."
        )
    elif missing and importlib.util.find_spec("torch") is None:
        st.info("Only the viewer is installed: runs can be viewed; training needs `pip install .`.")
    elif missing:
        about = f", about {seconds(asked.seconds)} for all on two idle cores" if asked.seconds else ""
        with st.container(horizontal=True):
            st.button(
                f"Train the {missing} missing runs" if missing > 1 else "Train the missing run",
                key="question-start",
                type="primary",
                icon=":material/play_arrow:",
                on_click=_start,
                args=(asked.name, (seed,)),
            )
            st.button(
                f"Train seeds {SEEDS[0]} to {SEEDS[-1]}",
                key="question-start-seeds",
                help=f"Mean ± sd and a verdict take {LEAST} seeds: {len(asked.labels) * LEAST} runs",
                on_click=_start,
                args=(asked.name, SEEDS),
            )
        st.caption(
            f"One after another, on this computer{about}; finished runs are kept. In a terminal: "
            f"{code(f'plastiscope ask {asked.name} --seed {seed}')} or "
            f"{code(f'plastiscope ask {asked.name} --seeds ' + ','.join(map(str, SEEDS)))}"
        )
        words = launch.last_lines(launch.question_log(runs_folder(), asked.name))
        if state.get("_question_asked") == asked.name and words:
            st.error("The process ended before all runs were finished. Its last output:", icon=":material/error:")
            st.code("\n".join(words), language=None, wrap_lines=True)
    if state.get("_question_trouble"):
        st.error(sentence(state["_question_trouble"]))


def _start(name: str, seeds: Sequence[int]) -> None:
    state = st.session_state
    state.pop("_question_trouble", None)
    try:
        launch.ask(runs_folder(), name, seeds)
        state["_question_asked"] = name
    except StoreError as error:
        state["_question_trouble"] = str(error)


def over_seeds(asked: Question, seed: int) -> Pooled:
    """Return the numbers of the finished runs of seeds 0, 1, 2 and `seed`, and stored numbers of missing runs."""
    found = finished_by_seed([asked], *run_folders(), seeds=sorted({*SEEDS, seed}))[asked.name]
    measured = {
        each: {label: _numbers(asked.name, str(folder.path), _changed(folder)) for label, folder in runs.items()}
        for each, runs in found.items()
    }
    file = stored.answers_file()
    kept = _stored(asked.name, str(file), file.stat().st_mtime_ns if file.is_file() else 0)
    return pooled_from(asked, with_stored(measured, {s: v for s, v in kept.items() if s in {*SEEDS, seed}}))


@st.cache_data(show_spinner="Reading the runs…", max_entries=512)
def _numbers(name: str, path: str, changed: int) -> dict[str, float | None]:
    """Return the numbers of a finished run; `changed` is the modification time of its file."""
    return dict(QUESTIONS[name].numbers(RunFolder(Path(path))))


@st.cache_data(show_spinner=False)
def _stored(name: str, file: str, changed: int) -> dict[int, dict[str, dict[str, float | None]]]:
    """Return a question's stored numbers from `file`, last modified at `changed`."""
    return stored_numbers(QUESTIONS[name], read_answers(Path(file)))


def seeds_panel(asked: Question, seed: int) -> None:
    """Draw verdict, criteria, figure and table over seeds."""
    from dashboard.figures.answers import answer_over_seeds

    try:
        found = over_seeds(asked, seed)
    except StoreError as error:
        st.error(sentence(error), icon=":material/broken_image:")
        return
    if not found.arms:
        st.markdown("The answer appears here when its runs are finished; a partial answer after the first run.")
        return
    with st.container(border=True, key="panel-question-seeds"):
        st.markdown(f"### {ICONS[found.verdict]} {found.headline()}")
        st.caption(f"{found.seeds_named()}. A verdict needs {LEAST} seeds and an effect larger than their spread.")
        for head, rows in (criteria_table(found), table(found)):
            cells = [[literal(row[0]), *(literal(cell).replace(" ", WHOLE) for cell in row[1:])] for row in rows]
            st.markdown(markdown_table([*map(literal, head)], cells))
    names = found.measures()
    measure = choose("Measure", "measure", names, found.leading())
    show_plot(answer_over_seeds, found, measure, key="question-figure")


def _finished(known: Known) -> tuple[tuple[str, str, int], ...]:
    """Return label, folder and modification time of the finished runs."""
    return tuple((label, str(f.path), _changed(f)) for label, (f, state) in known.items() if state == "finished")


def _changed(folder: RunFolder) -> int:
    try:
        return folder.database.stat().st_mtime_ns
    except OSError:
        return 0


def _busy(asked: Question, known: Known) -> bool:
    """Return whether any process, of this server or another, is training runs of the question."""
    return launch.asking(runs_folder(), asked.name) or any(state in HELD for _, state in known.values())


def body(asked: Question, seed: int) -> None:
    """Draw runs, button and answer: everything that changes while runs train."""
    state = st.session_state
    try:
        known = known_runs(asked, *run_folders(), seed=seed)
    except (StoreError, ConfigError) as error:
        st.error(sentence(error))
        return
    busy = _busy(asked, known)
    seen, now = state.get("_question_busy"), (asked.name, busy, len(_finished(known)))
    state["_question_busy"] = now
    if seen is not None and seen != now and seen[0] == asked.name:
        st.rerun()  # to start or stop refreshing, or because the answer above has changed
    seeds_panel(asked, seed)
    st.markdown(f"### Its runs, seed {seed}")
    run_rows(asked, known)
    controls(asked, known, seed, busy)


@st.cache_resource(show_spinner=False, max_entries=8)
def wanted(seed: int) -> tuple[Mapping[str, Mapping[str, str]], Courses]:
    """Return question → label → fingerprint of that run's settings, and the objects that find the runs. Cached, because
    the module of a page is executed anew on each rerun."""
    runs = {name: runs_of(each, seed=seed) for name, each in QUESTIONS.items()}
    keys = {name: {label: c.fingerprint() for label, c in each.items()} for name, each in runs.items()}
    return keys, courses_of(config for each in runs.values() for config in each.values())


@st.cache_data(show_spinner=False, max_entries=2)
def _stored_seeds(file: str, changed: int) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Return question → (seeds with numbers in `file`, last modified at `changed`; whether they give a verdict)."""
    answers, found = read_answers(Path(file)), {}
    for name in answers.keys() & QUESTIONS.keys():
        by_seed = pooled_from(QUESTIONS[name], stored_numbers(QUESTIONS[name], answers))
        found[name] = (by_seed.seeds, not by_seed.short)
    return found


def shelf(asked: Question, keys: Mapping[str, Mapping[str, str]], finished: set[str]) -> None:
    """List all questions by method, each with the number of its runs in `finished` (by fingerprint) and whether a
    verdict is stored. The group of the chosen question is expanded; a click opens a question."""
    file = stored.answers_file()
    kept = _stored_seeds(str(file), file.stat().st_mtime_ns if file.is_file() else 0)
    with st.container(gap="xxsmall", key="question-shelf"):
        for family, questions in FAMILIES.items():
            done = {q.name: sum(settings in finished for settings in keys[q.name].values()) for q in questions}
            whole = {q.name for q in questions if done[q.name] == len(keys[q.name]) or kept.get(q.name, ((), False))[1]}
            with st.expander(f"{family} · {len(whole)} of {len(questions)} answered", expanded=asked in questions):
                for each in questions:
                    seeds, _ = kept.get(each.name, ((), False))
                    begun = done[each.name] or seeds
                    st.button(
                        literal(each.title),
                        key=f"question-pick-{each.name}",
                        type="secondary" if each.name == asked.name else "tertiary",
                        icon=ANSWERED if each.name in whole else PARTLY if begun else OPEN,
                        help=f"{each.name}: {done[each.name]} of {len(keys[each.name])} runs finished"
                        + (
                            f"; numbers stored of seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
                            * bool(seeds)
                        ),
                        on_click=st.session_state.update,
                        kwargs={"question": each.name},
                    )


def show() -> None:
    left, right = st.columns([2, 3], gap="large")
    with left:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            asked = QUESTIONS[choose("Question", "question", list(QUESTIONS), FIRST, spell_out=True)]
            seed = int(
                st.number_input(
                    "Seed",
                    0,
                    2**31 - 1,
                    0,
                    key="question-seed",
                    width=140,
                    bind="query-params",
                    help="The same for all runs of a question",
                )
            )
        keys, courses = wanted(seed)
        try:
            there = runs_with(courses, *run_folders())
        except (StoreError, ConfigError):
            there = {}  # reported elsewhere on the page
        shelf(asked, keys, {settings for settings, (_, state) in there.items() if state == "finished"})
        st.caption(f"{ANSWERED} answered, {PARTLY} in part, {OPEN} no run yet. Bundled recordings and answers count.")
    ask(literal(asked.title))
    mine = {label: there[settings] for label, settings in keys[asked.name].items() if settings in there}
    with suppress(StoreError):  # reported elsewhere on the page
        found = over_seeds(asked, seed)
        if found.arms:
            answered(found.sentence())
    with right:
        st.markdown(literal(asked.why))
        busy = _busy(asked, mine)
        st.fragment(body, run_every=every(BEAT) if busy else None, key="question-fragment")(asked, seed)


show()
