"""Runs: a table of all runs; below it the chosen runs and a sweep are compared: in the plane of learning accuracy and
forgetting, as overlaid curves, cell by cell, and by the settings that differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import streamlit as st
from streamlit.errors import StreamlitAPIException

from cl_core.config import ConfigError, RunConfig
from cl_core.readouts import AFTER_TASKS
from cl_core.store import RunFolder, StoreError
from cl_core.summary import shared_readout
from cl_core.sweeps import ParetoPoint, Sweep, known_sweeps, load, spots, sweep_status
from cl_core.sweeps.pareto import FORK, OWN, differing, said, settings_of
from dashboard import launch
from dashboard.comparison import Compared, meant, named, read, stream_of_run
from dashboard.lineage import Lineage, Parting, lineage, partings
from dashboard.runs import RunIndex, runs_folder, runs_index, summary
from dashboard.verdicts import BEST_RUN, Contender, runs_compared
from dashboard.view_state import (
    begin_with,
    called,
    choose,
    choose_named_run,
    code,
    current,
    empty,
    go_to,
    literal,
    sentence,
    show_plot,
    show_run,
)
from dashboard.widgets.inspection import answer, ask, more
from dashboard.widgets.pace import every
from dashboard.widgets.run_library import run_library
from dashboard.widgets.sweep_form import last_words, sweep_form, sweep_progress

MOST = 30  # runs in the plane and the tables
CURVES = 6  # overlaid runs; more dash patterns than that look alike
BEAT = 2.0  # seconds between checks of a sweep that is training
SMALL = 280  # pixels of the figures below the plane
NO_SWEEP = "none"
FIRST = ("method", "backbone", "stream", "prompt_blocks", FORK)  # listed first among the settings that differ
SPELLED, WIDE = 4, 60  # most values of a setting in a sentence, and their most characters
JUDGED = "run default"


# ---------------------------------------------------------------- choice of runs


def choose_runs(index: RunIndex, shown: str | None) -> list[str]:
    """Return up to `MOST` run names, kept in the URL as `runs` (repeated, or separated by commas) and across pages."""
    state, spelled = st.session_state, st.query_params.get_all("runs")
    asked = named(spelled, index)
    linked, unknown = [name for name in asked if index.find(name)], [n for n in asked if not index.find(n)]
    if linked and asked != spelled and state.get("_runs-spelled") != spelled:
        state["_runs-spelled"] = spelled
        try:
            st.query_params["runs"] = asked
        except StreamlitAPIException:  # already bound
            state["runs"] = linked[:MOST]
        else:
            st.rerun()  # the control reads only repeated keys and would clear a list with commas
    if "runs" in state:
        state["runs"] = [name for name in state["runs"] if index.find(name)][:MOST]
    elif not linked:
        begin_with("runs", _usual(index, shown))
    chosen = choose_named_run(
        "Compared", "runs", index.names, max_selections=MOST, placeholder=f"Choose up to {MOST} runs"
    )
    if unknown:
        st.warning(
            f"Not in {code(runs_folder())}: {', '.join(map(code, unknown))}.",
            icon=":material/search_off:",
        )
    return chosen


def _usual(index: RunIndex, shown: str | None) -> list[str]:
    """Return the run that is shown and the newest other run of its stream."""
    folder = index.find(shown)
    stream = stream_of_run(folder)
    if folder is None:
        return []
    others = (
        n
        for n in index.names
        if n != shown
        and stream is not None
        and stream_of_run(index.find(n)) == stream
        and (partner := index.find(n)) is not None
        and summary(partner).tasks_measured > 1
    )
    return [folder.name, *[n for n in [next(others, None)] if n]]


# ---------------------------------------------------------------- panels


def plane_panel(found: list[ParetoPoint], budget: float | None, readout: str) -> None:
    """Draw the plane. A click on a run opens it; a click on a mean compares its runs."""
    from dashboard.figures.frontier import plane

    state = st.session_state
    state["_spots"] = {spot.label: list(spot.runs) for spot in found}

    def picked(point: dict[str, Any]) -> None:
        runs = meant(point, state.get("_spots", {}))
        if len(runs) == 1:
            show_run(runs[0])
            state["_open_run"] = True
        elif runs:
            state["runs"] = runs[:MOST]

    names = {run: called(run) for spot in found for run in spot.runs}
    show_plot(plane, found, key="compare-plane", budget=budget, readout=readout, names=names, on_pick=picked)
    st.caption("Click a run to open it, or the mean of several seeds to compare these runs below.")
    if state.pop("_open_run", False):
        go_to("pages/run.py")


def curves(matrices: dict[str, np.ndarray], forks: dict[str, Parting]) -> None:
    """Overlay the curves of the first `CURVES` matrices; keys are display names of runs."""
    from dashboard.figures.comparison import accuracy_overlay, forgetting_overlay

    if len(matrices) > CURVES:
        st.caption(f"Curves of the first {CURVES} of {len(matrices)} runs; the plane and the tables have all of them.")
        matrices = dict(list(matrices.items())[:CURVES])
        forks = {name: parting for name, parting in forks.items() if {name, parting.carrier} <= matrices.keys()}
    left, right = st.columns(2)
    with left:
        show_plot(accuracy_overlay, matrices, key="compare-accuracy", forks=forks, height=SMALL)
    with right:
        show_plot(forgetting_overlay, matrices, key="compare-forgetting", forks=forks, height=SMALL)


def difference(matrices: dict[str, np.ndarray], known: dict[str, Compared]) -> None:
    """Draw the difference between the accuracy matrices of two chosen runs."""
    from dashboard.figures.comparison import matrix_difference

    names = list(matrices)
    if len(names) > 2:
        left, right = st.columns(2)
        with left:
            first = _one_of("Difference of", "difference", names)
        with right:
            second = _one_of("minus", "minus", [name for name in names if name != first])
    else:
        first, second = names
    plans = [[task.get("classes") for task in known[name].tasks] for name in (first, second)]
    if plans[0] != plans[1]:
        st.info(
            "These runs learned their classes in different orders (different seeds): a cell compares positions in "
            "the stream, not classes.",
            icon=":material/info:",
        )
    show_plot(
        matrix_difference,
        matrices[first],
        matrices[second],
        key="compare-difference",
        names=(called(first), called(second)),
        tasks=known[first].tasks if plans[0] == plans[1] else (),
    )


def _one_of(label: str, key: str, names: list[str]) -> str:
    if key in st.session_state and st.session_state[key] not in names:  # no longer compared
        st.session_state[key] = names[0]
    return choose_named_run(label, key, names, index=0, width=320)


def settings_table(configs: dict[str, RunConfig]) -> None:
    """Show a table of the settings that differ."""
    flat = {name: settings_of(config, everything=True) for name, config in configs.items()}
    names = differing(list(flat.values()))
    with st.container(border=True, key="panel-compare-settings"):
        st.markdown("**Settings that differ**")
        if not names:
            st.markdown("None: these runs have the same settings.")
            return
        st.dataframe(
            {"setting": names, **{called(run): [_said(one, n) for n in names] for run, one in flat.items()}},
            key="compare-settings",
            hide_index=True,
            width="stretch",
            alt=f"{len(names)} settings that differ between {len(flat)} runs",
        )
        st.caption(f"*{OWN}*: not named by the run, its method's own value or none.")


def _said(settings: dict[str, Any], name: str) -> str:
    if name == FORK:
        parent, after, task = str(settings.get(name, "none")).rpartition(" after ")
        return called(parent) + after + task if after else task
    return said(settings.get(name, OWN))


def _in_words(name: str, flat: list[dict[str, Any]]) -> str:
    """Describe a setting that differs and its values: "blocks with prompts (all | the last one)"."""
    values = list(dict.fromkeys(_said(one, name) for one in flat))
    if name == "prompt_blocks":
        name = "blocks with prompts"
        spelled = {"0": "all", "1": "the last one", OWN: OWN}
        values = [spelled.get(value, f"the last {value}") for value in values]
    if len(values) > SPELLED or sum(map(len, values)) > WIDE or OWN in values:
        return name
    return f"{name} ({' | '.join(values)})"


# ---------------------------------------------------------------- a sweep


def choose_sweep() -> Sweep | None:
    """Return the sweep that is drawn in the plane, kept in the URL as `sweep`."""
    state, names = st.session_state, known_sweeps(runs_folder())
    wanted = state.get("_sweep_wanted")
    if wanted in names:
        begin_with("sweep", state.pop("_sweep_wanted"))
    if not names:
        return None
    chosen = choose("Sweep", "sweep", [NO_SWEEP, *names], NO_SWEEP)
    if chosen == NO_SWEEP:
        return None
    try:
        return load(runs_folder(), chosen)
    except StoreError as error:
        st.error(sentence(error), icon=":material/broken_image:")
        return None


def sweep_runs(sweep: Sweep) -> list[RunFolder]:
    """Return the sweep's finished runs."""
    try:
        return [found.folder for found in sweep_status(sweep, runs_folder()).of("finished") if found.folder]
    except (StoreError, ConfigError) as error:
        st.error(sentence(error))
        return []


def follow_sweep(sweep: Sweep) -> None:
    """Show the progress of a sweep; refreshed while a worker is on it."""
    runs = runs_folder()

    def body() -> None:
        try:
            newer = sweep_status(sweep, runs)
        except (StoreError, ConfigError) as error:
            st.error(sentence(error))
            return
        busy = sweep_progress(sweep, newer, st.session_state.get("sweep-workers", 1))
        seen = (sweep.name, busy, newer.finished)
        if st.session_state.get("_sweep_seen", seen) != seen and st.session_state["_sweep_seen"][0] == sweep.name:
            st.session_state["_sweep_seen"] = seen
            st.rerun()  # another run for the plane, or the worker has ended
        st.session_state["_sweep_seen"] = seen

    watching = launch.sweeping(runs, sweep.name)
    st.fragment(body, run_every=every(BEAT) if watching else None, key="sweep-fragment")()
    last_words(sweep.name)


def form(sweep: Sweep | None = None) -> None:
    """Draw the sweep form on request, because listing the settings of all methods takes a separate process. Below it
    follows the progress of the chosen sweep, where the user looks after starting one."""
    waiting = st.session_state.get("_sweep_wanted")
    if waiting:  # started, but its record is not written yet
        _await(waiting)
    with st.container(border=True, key="panel-sweep-form"):
        note = "Train a grid of values × seeds, several runs at once; the plane fills as they finish"
        if st.toggle("Sweep a setting", key="sweep-form", help=note):
            sweep_form()
            if sweep:
                follow_sweep(sweep)


def _await(name: str) -> None:
    """Poll until the worker has written the sweep's record, or has ended."""

    def body() -> None:
        if name in known_sweeps(runs_folder()):
            st.rerun()
        if launch.sweeping(runs_folder(), name):
            st.info(f"{code(name)} is starting: its settings are being checked.", icon=":material/hourglass_top:")
            return
        words = launch.last_lines(launch.output_of(runs_folder(), name))
        st.error("The process ended before the sweep began. Its last output:", icon=":material/error:")
        st.code("\n".join(words) or "none", language=None, wrap_lines=True)

    st.fragment(body, run_every=every(1.0) if launch.sweeping(runs_folder(), name) else None, key="sweep-await")()


# ---------------------------------------------------------------- the page


def show() -> None:
    frame, index = current(), runs_index()
    ask(BEST_RUN)
    if not index.names:
        empty(
            "Runs are overlaid here as soon as there are two.",
            "Start one",
            page="pages/start.py",
            key="compare-empty",
        )
        form()
        return
    run_library(index, MOST)
    st.markdown("### Compare")
    chosen = choose_runs(index, frame.run)
    with st.container(horizontal=True, gap="large", key="compare-controls", vertical_alignment="bottom"):
        sweep = choose_sweep()
        readout = choose("Readout", "readout", [JUDGED, *AFTER_TASKS], JUDGED)
        readout = "" if readout == JUDGED else readout
        limited = st.toggle(
            "Forgetting budget",
            key="compare-limited",
            bind="query-params",
            help="Most forgetting allowed: the best setting within is ringed",
        )
        budget = (
            float(
                st.number_input("points", 0.0, 100.0, 10.0, 1.0, key="compare-budget", width=130, bind="query-params")
            )
            if limited
            else None
        )
    swept = sweep_runs(sweep) if sweep else []
    if sweep and not st.session_state.get("sweep-form"):
        follow_sweep(sweep)
    folders = {name: folder for name in chosen if (folder := index.find(name)) is not None}
    compare(folders, swept, budget, readout)
    form(sweep)


def compare(folders: dict[str, RunFolder], swept: list[RunFolder], budget: float | None, readout: str) -> None:
    """Draw all panels for the chosen runs and the finished runs of a sweep."""
    known = {name: found for name, folder in folders.items() if (found := read(folder)) is not None}
    for name in folders.keys() - known.keys():
        st.error(f"{literal(called(name))} cannot be read.", icon=":material/broken_image:")
    beside = [found for folder in swept if folder.name not in folders and (found := read(folder)) is not None]
    everything = [*known.values(), *beside]
    if not everything:
        st.info("Choose runs above; two or more are overlaid.", icon=":material/info:")
        return
    if len({found.stream for found in everything}) > 1:
        told = [f"{literal(called(name))}: {literal(found.stream_told)}" for name, found in known.items()]
        told += [f"the sweep: {literal(beside[0].stream_told)}"] if beside else []
        st.warning(
            "These runs learned different streams, so their numbers cannot be compared. Choose runs of "
            f"one stream{'; until then the sweep is drawn alone' if beside else ''}. {'; '.join(told)}.",
            icon=":material/difference:",
        )
        if len({found.stream for found in beside}) == 1:
            draw({}, beside, {}, budget, readout)
    else:
        origins = {name: lineage(folders[name], runs_index().own.get) for name in known}
        draw(known, beside, origins, budget, readout)
    if len(known) > 1:
        settings_table({name: found.config for name, found in known.items()})


def points_of(runs: Iterable[Compared], readout: str) -> list[ParetoPoint]:
    """Return the runs' points in the plane; forks are distinguished by their parents' names."""
    runs = list(runs)
    found = spots([(run.config, run.summary) for run in runs], readout)
    for parent in sorted({run.config.parent for run in runs} - {""}, key=len, reverse=True):
        name = called(parent)
        found = [
            replace(spot, label=spot.label.replace(parent, name), line=spot.line.replace(parent, name))
            for spot in found
        ]
    return found


def judged_runs(known: dict[str, Compared], readout: str) -> tuple[list[Contender], list[str]]:
    """Return the contenders of the page's answer, each setting with its seeds, and the settings that differ."""
    points = points_of(known.values(), readout)
    points.sort(key=lambda spot: -fmean(spot.final))  # as the sentence orders them
    found = [
        Contender(
            called(spot.runs[0]) if len(spot.runs) == 1 else spot.label,
            dict(zip(spot.seeds, spot.final, strict=True)),
            dict(zip(spot.seeds, spot.forgetting, strict=True)),
        )
        for spot in points
    ]
    flat = [settings_of(known[spot.runs[0]].config) for spot in points]
    names = sorted(differing(flat), key=lambda name: name not in FIRST)
    # settings that not every method has
    own = [name for name in names if name != FORK and not all(name in one for one in flat)]
    return found, [*(_in_words(name, flat) for name in names if name not in own), *own]


def draw(
    known: dict[str, Compared],
    beside: list[Compared],
    origins: dict[str, Lineage],
    budget: float | None,
    readout: str,
) -> None:
    """Draw the figures for runs of one stream."""
    shared = readout or shared_readout(r.summary for r in (*beside, *known.values()))
    if shared != readout:
        st.caption(f"These runs name different headline readouts; they are compared by {literal(shared)} accuracy.")
    readout = shared
    found = points_of((*beside, *known.values()), readout)
    if found:
        plane_panel(found, budget, readout)
    else:
        st.info(
            "No learning accuracy and forgetting to draw"
            + (f" under the readout {literal(readout)}" if readout else "")
            + ": they need a second task learned after the first.",
            icon=":material/visibility_off:",
        )
    matrices = {name: r.matrix(readout) for name, r in known.items()}
    matrices = {name: matrix for name, matrix in matrices.items() if np.isfinite(matrix).any()}
    if len(known) == 1:
        st.info("One run is chosen. Add another above to overlay both.", icon=":material/add:")
    if matrices:
        left = partings({name: origins[name] for name in matrices}, matrices)
        curves(
            {called(name): matrix for name, matrix in matrices.items()},
            {
                called(name): Parting(called(parting.carrier), parting.after_task, called(parting.parent))
                for name, parting in left.items()
            },
        )
    answer(runs_compared(*judged_runs(known, readout)))
    if len(matrices) > 1:
        with more("Cell by cell", key="compare-cells") as opened:
            if opened:
                difference(matrices, known)


show()
