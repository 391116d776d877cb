"""Playground: small networks, trained on whole task streams each time the threshold is moved."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cl_core.config import ConfigError
from cl_core.events import Clock
from cl_core.playground.frontier import best, neutral, point, points, row_of, text_of
from cl_core.playground.recording import spectrum_events
from cl_core.playground.settings import ACTIVATIONS, RULES, STREAMS, PlaygroundConfig, at_strength, slider_of
from dashboard.playground_controls import (
    CUT_TITLES,
    RULE_TITLES,
    STREAM_TITLES,
    STRENGTH_KEYS,
    USUAL,
    USUAL_VALUES,
)
from dashboard.playground_jobs import Busy, Job, laboratory
from dashboard.playground_page import page_of
from dashboard.runs import runs_folder, runs_index
from dashboard.verdicts import remembered
from dashboard.view_state import called, describe_panel, go_to, literal, sentence
from dashboard.widgets.inspection import answer, ask
from dashboard.widgets.playground_board import (
    SHORT,
    board_record,
    layer_names,
    playground_board,
    positions,
    recorded_points,
)
from dashboard.widgets.projection_plane import projection_plane

PATIENCE = 1.2  # seconds that a rerun waits for its network before drawing the page without its results
LOOK = 0.4  # seconds between polls while waiting
REMEMBERED = 40  # slider positions in the trail
BOUND: dict[str, Any] = {"bind": "query-params", "persist_state": "session"}


# ---------------------------------------------------------------- controls, all bound to the URL


def controls() -> tuple[PlaygroundConfig, bool]:
    """Return the chosen settings and whether the reader predicts first. Raises ConfigError for invalid settings."""
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom", key="playground-controls"):
        rule = _named("Rule", "protect", RULE_TITLES, "What protects old tasks", width=160)
        stream = _named("Digits", "digits", STREAM_TITLES, "What changes from task to task", width=130)
        similarity = "0"
        if stream == "split-digits":
            tasks = _number("Tasks", "parts", 2, 5, "Ten digits, at least two a task")
        else:
            tasks = _number("Tasks", "tasks", 2, 20, "Tasks in the stream")
            similarity = _position(
                "Similarity of tasks",
                "similarity",
                [f"{i / 10:g}" for i in range(11)],
                "Permuted: share of pixels that stay in place. Rotated: 1 = all upright. Similar tasks need fewer "
                "directions",
            )
        seed = _number("Seed", "seed", 0, 999, "Permutations, initial weights, batches")
        projects = rule in ("gpm", "sgp", "adam-nscl")
        by_layer = projects and st.toggle("A threshold for each layer", key="bylayer", **BOUND)
        predict = st.toggle(
            "Predict first",
            key="predict",
            help="Mark the result that you expect, then see the error of your prediction",
            **BOUND,
        )
    st.caption(f"{RULE_TITLES[rule]}, {RULES[rule]}. {STREAM_TITLES[stream]} digits: {STREAMS[stream]}.")
    settings: dict[str, Any] = {"rule": rule, "stream": stream, "seed": seed, "similarity": float(similarity)}
    settings |= {"tasks": tasks, **network(rule)}
    if by_layer:
        settings["energy"] = by_layers(settings["depth"])
    return strengthened(PlaygroundConfig.of(settings)), predict


def network(rule: str) -> dict[str, Any]:
    """Draw the settings of network, training and rule in an expander; return their values."""
    rates = ["0.01", "0.03", "0.1", "0.15", "0.3", "1"]
    with st.expander("Network, training and rule", key="playground-network"):
        with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
            found = {
                "depth": _number("Hidden layers", "depth", 1, 4),
                "width": _number("Units per layer", "width", 2, 256),
                "activation": _named("Activation", "activation", {a: a for a in ACTIVATIONS}, width=120),
                "learning_rate": float(_position("Learning rate", "rate", rates)),
                "epochs": _number("Epochs per task", "epochs", 1, 50),
                "batch_size": int(_position("Batch", "batch", ["8", "16", "32", "64", "128", "256"])),
            }
        return found | of_rule(rule)


def of_rule(rule: str) -> dict[str, Any]:
    """Return the rule's settings other than its strength."""
    if rule == "adam-nscl":
        return {"nscl_cut": _named("Null space", "cut", CUT_TITLES, width=380)}
    if rule not in ("gpm", "sgp"):
        return {}
    with st.container(horizontal=True, gap="large", vertical_alignment="bottom"):
        growths = ["0", "0.001", "0.003", "0.005", "0.01"]
        found = {"energy_growth": float(_position("ε grows per task by", "growth", growths, "As in the paper"))}
        if rule == "sgp":
            alphas = ["0", "1", "3", "10", "25", "100"]
            found["sgp_alpha"] = float(_position("Importance α", "alpha", alphas, "0: linear; large: as GPM"))
    return found


def by_layers(depth: int) -> tuple[float, ...]:
    """Return ε of every layer, each from its own slider."""
    texts = [f"{value:g}" for value in slider_of(USUAL).positions]  # type: ignore[union-attr]
    names = layer_names(PlaygroundConfig(depth=depth))
    with st.container(horizontal=True, gap="large", key="playground-layers"):
        return tuple(float(_position(f"ε, into {name}", f"eps{layer + 1}", texts)) for layer, name in enumerate(names))


def strengthened(config: PlaygroundConfig) -> PlaygroundConfig:
    """Return the settings with the slider's strength. The plain slider is hidden where the board can be drawn."""
    slider = slider_of(config)
    if slider is None or isinstance(config.energy, tuple):
        return config
    with st.container(key="eps"):
        texts = [slider.text(value) for value in slider.positions]
        chosen = _position(slider.label, strength_key(config), texts)
    return at_strength(config, float(chosen))


def strength_named(config: PlaygroundConfig) -> str:
    """Return the strength as text, as in "ε = 0.95", or the rule's title if it has none."""
    slider = slider_of(config)
    return f"{SHORT.get(slider.setting, slider.label)} = {text_of(config)}" if slider else RULE_TITLES[config.rule]


def strength_key(config: PlaygroundConfig) -> str:
    """Return the slider's key in the URL."""
    slider = slider_of(config)
    return STRENGTH_KEYS[slider.setting] if slider else ""


def _usual(key: str, name: str) -> dict[str, Any]:
    """Return a control's default as argument `name`, unless code has set its value: Streamlit accepts only one."""
    return {} if key in st.session_state.get("_playground_set", ()) else {name: USUAL_VALUES[key]}


def _named(label: str, key: str, titles: dict[str, str], help: str = "", *, width: int) -> str:
    """Draw a choice by title, kept in the URL by title."""
    keys = {title: name for name, title in titles.items()}
    default: dict[str, Any] = {name: list(keys).index(value) for name, value in _usual(key, "index").items()}
    chosen = st.selectbox(label, list(keys), key=key, help=help or None, width=width, **default, **BOUND)
    return keys.get(chosen, next(iter(keys.values())))


def _number(label: str, key: str, low: int, high: int, help: str = "") -> int:
    default = _usual(key, "value")
    return int(st.number_input(label, low, high, step=1, key=key, help=help or None, width=110, **default, **BOUND))


def _position(label: str, key: str, texts: list[str], help: str = "") -> str:
    default = _usual(key, "value")
    return str(st.select_slider(label, texts, key=key, help=help or None, width=190, **default, **BOUND))


# ---------------------------------------------------------------- board


def board(config: PlaygroundConfig, job: Job | None, done: bool, busy: str, predict: bool) -> None:
    """Draw the board: results of the chosen network if it is `done`, and progress until then."""
    lab, state = laboratory(), st.session_state
    others = [at_strength(config, float(text)) for text in positions(config)] if positions(config) else []
    if isinstance(config.energy, tuple):
        others = []
    settings = str(neutral(config))
    trail = state.setdefault("_playground_trail", {})
    if trail.get("of") != settings:
        trail.clear()
        trail |= {"of": settings, "texts": []}
    texts = trail["texts"]
    if done and (not texts or texts[-1] != text_of(config)):
        texts.append(text_of(config))
        del texts[:-REMEMBERED]
    record = board_record(
        config,
        live=job.outcomes[0] if job is not None and done else None,
        trained=lab.trained(config, others),
        stored=frontier_points(config),
        trail=texts,
        asked=str(config.settings()),
        waiting="" if done else waiting_text(job, busy),
        predict=predict,
    )

    def chosen(text: str) -> None:
        if isinstance(config.energy, tuple):
            return
        state[strength_key(config)] = text

    with st.container(border=True, key="panel-playground"):
        playground_board(record, key=f"playground-board-{strength_key(config)}", on_choose=chosen)


def waiting_text(job: Job | None, busy: str) -> str:
    if job is None:
        return busy
    ahead = laboratory().ahead(job)
    return f"Waiting: {ahead} before this one" if ahead else "Training…"


def frontier_points(config: PlaygroundConfig) -> list[dict[str, Any]]:
    """Return the frontier over several seeds for these settings, trained here or recorded; empty if there is none."""
    if isinstance(config.energy, tuple):
        return []
    if found := recorded_points(config):
        return found
    job = laboratory().known(row_of(config))
    return points(job.outcomes) if job is not None and job.done and not job.trouble else []


def pending_frontier(config: PlaygroundConfig) -> Job | None:
    """Return the job of these settings' frontier, if it was requested and is not drawn yet."""
    if isinstance(config.energy, tuple):
        return None
    job = laboratory().known(row_of(config))
    return job if job is not None and not job.done else None


def follow(pending: list[Job]) -> None:
    """Redraw the page when one of these jobs is done; poll a few times a second until then.

    `pending`: jobs that were not done when the page was drawn, even if they are now, so that their results are drawn.
    """
    if not pending:
        return

    @st.fragment(run_every=LOOK)
    def look() -> None:
        if any(job.done for job in pending):
            if any(job.done and len(job.configs) > 1 for job in pending):
                st.toast("The frontier is ready: see the curve above the slider", icon=":material/show_chart:")
            st.rerun()
        for job in pending:
            networks = len(job.configs)
            if networks > 1 or not job.started:
                done = sum(len(outcome.tasks) for outcome in job.outcomes)
                total = sum(config.tasks for config in job.configs)
                ahead = laboratory().ahead(job)
                said = f"{ahead} before this one" if ahead else f"{done} of {total} tasks learned"
                what = f"Frontier, {networks} networks" if networks > 1 else "One network"
                st.progress(done / total, text=f"{what}: {said}")

    look()


# ---------------------------------------------------------------- actions


def actions(config: PlaygroundConfig) -> list[Job]:
    """Draw the buttons for frontier, keeping, export and reset; return the jobs that are not done yet."""
    lab, state, open_jobs = laboratory(), st.session_state, list[Job]()
    movable = not isinstance(config.energy, tuple) and slider_of(config) is not None
    recorded = movable and bool(recorded_points(config))
    with st.container(horizontal=True, gap="small", vertical_alignment="center", key="playground-actions"):
        drawn = st.button(
            "Draw the frontier",
            key="playground-frontier",
            type="primary",
            icon=":material/show_chart:",
            disabled=recorded or not movable,
            help=frontier_help(config, recorded),
        )
        kept = st.button(
            "Keep this run",
            key="playground-keep",
            icon=":material/bookmark_add:",
            help="Writes it to the runs folder, for Spectra, Forgetting, Compare, What if and Export",
        )
        found = frontier_points(config)
        st.download_button(
            "Export as a web page",
            lambda: page_of(config, found),
            file_name=f"playground-{config.rule}-{config.stream}.html",
            mime="text/html",
            key="playground-export",
            icon=":material/public:",
            on_click="ignore",
            disabled=not found,
            help="The frontier as one HTML file whose slider works without a server"
            if found
            else "Draw the frontier first: the page holds its points",
        )
        st.button("All defaults", key="playground-reset", icon=":material/restart_alt:", on_click=reset)
    try:
        if drawn:
            open_jobs.append(lab.train(row_of(config)))
        if kept:
            state["_playground_kept"] = lab.keep(config, runs_folder())
    except Busy as busy:
        st.warning(sentence(str(busy)), icon=":material/hourglass_top:")
    keeping: Job | None = state.get("_playground_kept")
    if keeping is not None:
        say_kept(keeping, open_jobs)
    return open_jobs


def frontier_help(config: PlaygroundConfig, recorded: bool) -> str:
    if recorded:
        return "Already recorded, at every position and with three seeds: see the curve above"
    if isinstance(config.energy, tuple):
        return "A frontier needs one threshold for all layers; switch off the thresholds for each layer"
    if slider_of(config) is None:
        return "This rule has no strength to vary: there is no frontier to draw"
    return f"Trains {len(row_of(config))} networks, a range of strengths with three seeds each: mean and spread"


def say_kept(job: Job, open_jobs: list[Job]) -> None:
    """Say where a kept run is, or that it is being written."""
    if not job.done:
        open_jobs.append(job)
        return
    if job.trouble:
        st.error(sentence(job.trouble))
        return
    runs_index(fresh=True)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f":material/check: Kept as {literal(called(job.run))}.", width="content")
        for label, page in (
            ("Open it in Spectra", "spectra"),
            ("Forgetting", "forgetting"),
            ("What if", "whatif"),
            ("Runs", "compare"),
            ("Export", "export"),
        ):
            pressed = st.button(
                label,
                key=f"playground-open-{page}",
                type="tertiary",
                on_click=lambda: st.session_state.update(run=job.run),
            )
            if pressed:
                go_to(f"pages/{page}.py")


def set_control(key: str, value: Any) -> None:
    """Set a control's value before it is drawn."""
    st.session_state[key] = value
    st.session_state.setdefault("_playground_set", set()).add(key)


def reset() -> None:
    """Reset all controls to their defaults and clear the trail."""
    for key, value in USUAL_VALUES.items():
        if key in st.session_state:
            set_control(key, value)
    for key in ("_playground_trail", "_playground_kept"):
        st.session_state.pop(key, None)


def spectra(config: PlaygroundConfig, job: Job) -> None:
    """Draw the spectra of one layer with their cuts, as on the Spectra page."""
    from dashboard.figures.spectra import spectrum_decay
    from dashboard.widgets.liveplot import liveplot, to_bytes

    outcome = job.outcomes[0]
    events = [event for t in outcome.tasks for event in spectrum_events(config, t, Clock(t.task, 0, 0))]
    names = layer_names(config)
    with st.container(border=True, key="panel-playground-spectra", gap="xsmall"):
        st.markdown("**Spectra of old tasks' inputs of a layer, and the rule's cut**")
        chosen = st.segmented_control("Layer", names, key="inputs", default=names[0], required=True, **BOUND)
        layer = names.index(chosen) if chosen in names else 0
        figure = spectrum_decay(events, layer=layer, space="inputs", task=config.tasks - 1, tasks=config.tasks)
        words = dict(figure.layout.meta or {})
        liveplot(to_bytes(figure, file="playground-spectra", height=330), key="playground-spectra", height=330)
        describe_panel(words, key="playground-spectra")


def show() -> None:
    ask("What does it cost to remember?")
    try:
        config, predict = controls()
    except ConfigError as error:
        st.warning(sentence(str(error)), icon=":material/tune:")
        return
    lab, job, busy = laboratory(), None, ""
    try:
        job = lab.train((config,))
        job.wait(PATIENCE)
    except Busy as error:
        busy = sentence(str(error))
    ended = job is not None and job.done  # read once, because it may end while the page is drawn
    frontier = pending_frontier(config)
    trouble = job.trouble if job is not None and ended else ""
    if predict:
        answer("Mark the result that you expect; the network's numbers are shown after that.")
    elif job is not None and ended and not trouble:
        here, top = point([job.outcomes[0]], text_of(config)), best(frontier_points(config))
        answer(remembered(here, top, strength_named(config)))
    elif known := [found for found in frontier_points(config) if found["text"] == text_of(config)]:
        answer(remembered(known[0], best(frontier_points(config)), strength_named(config)))
    else:
        answer("Move the slider: on release, the network is trained on the whole stream of tasks.")
    board(config, job, ended and not trouble, busy, predict)
    if trouble:
        st.error(sentence(trouble))
    pending = actions(config)
    pending += [job] if job is not None and not ended else []
    pending += [frontier] if frontier is not None and frontier not in pending else []
    follow(pending)
    left, right = st.columns(2, gap="medium")
    with left:
        if job is not None and ended and not trouble and not predict:  # the spectra would give the answer away
            spectra(config, job)
    with right, st.container(border=True, key="panel-playground-plane", gap="xsmall"):
        st.markdown("**What one projection does**")
        projection_plane(key="playground-plane")
        st.caption(
            "Two inputs of a layer instead of many, with synthetic points. Drag the arrow, move ε: the component "
            "used by old inputs is removed from the new task's gradient."
        )


show()
