"""Prompt pools: which prompts images select from a pool, and whether these were learned for their own task."""

from __future__ import annotations

import numpy as np
import streamlit as st

from cl_core.events import (
    AccuracyMeasured,
    IntraClassMeasured,
    KeysMoved,
    MixtureFitted,
    ResidualMeasured,
    SelectionMeasured,
)
from dashboard.run_log import Snapshot
from dashboard.theme import number, percent, task_label, task_name
from dashboard.verdicts import POOLS, own_entries_found
from dashboard.view_state import (
    USUAL,
    ViewState,
    choose_as,
    empty,
    learned_at_once,
    literal,
    not_measured,
    show_figure,
)
from dashboard.widgets.inspection import answer, more, offer_runs, open_run_page, shown_instead
from dashboard.widgets.shared_controls import hide


def nothing_yet(frame: ViewState, log: Snapshot) -> None:
    """Explain in one sentence why nothing was measured."""
    config = log.config
    if config is not None and not config.diagnostics.selection:
        not_measured(
            "Selections were not measured in this run.",
            "Start one with `--set diagnostics.selection=true` to see it here.",
        )
    elif any(event.clock.task >= 0 for event in log.events(AccuracyMeasured)):
        not_measured(
            "This method has no pool of prompts.",
            "`plastiscope methods` describes each method in one line.",
        )
        offer_runs(SelectionMeasured, key="pools", start="l2p-micro")
    elif frame.live:
        empty(
            "If this method selects from a pool, the selections of test images appear here when the first task has "
            "been learned.",
            "Follow the run",
            page="pages/run.py",
            key="pools-empty",
        )
    else:
        not_measured(
            "This run ended before its first task was learned.",
            "Runs with `diagnostics.selection` on measure after every task.",
        )


def chosen_layer(asked: int, measured: list[SelectionMeasured]) -> int:
    """Return the layer to show: the chosen one, or the nearest one with selections."""
    from dashboard.figures.selection import layers

    found = layers(measured)
    if len(found) == 1:
        hide(["layer"])
        return found[0]
    return asked if asked in found else min(found, key=lambda layer: abs(layer - asked))


def headline(now: SelectionMeasured, measured: list[SelectionMeasured], tasks: list[dict]) -> None:
    """Show the selections after the chosen task in three numbers."""
    from dashboard.figures.selection import entries_in_use, mixed, own_shares

    st.caption(f"After {literal(task_label(now.clock.task, tasks))}, on test images of all tasks learned so far.")
    with st.container(horizontal=True, gap="large", key="pools-numbers"):
        if now.accuracy is not None:
            st.metric(
                "Own entries found",
                percent(now.accuracy),
                width="content",
                help="Images whose own task's (class's) entries together have more weight than those of any other; "
                f"chance {percent(100 / max(len({o for o in now.owners if o >= 0}), 1))}",
            )
            shares = own_shares(now, tasks)
            if len(shares) > 1:
                worst = min(shares, key=lambda task: shares[task])
                st.metric(
                    "Least found",
                    f"{task_name(worst)}, {percent(shares[worst])}",
                    width="content",
                    help="The task with the smallest share of own entries",
                )
        st.metric(
            "Entries in use",
            f"{number(entries_in_use(now))} of {len(now.owners)}",
            width="content",
            help="exp of the entropy of all selections: all entries if they are used equally, 1 if all images select "
            "the same one",
        )
        if not mixed(now):
            st.metric(
                "Prompts selected per image",
                number(float(np.nanmean(np.asarray(now.counts, dtype=float).sum(axis=1)))),
                width="content",
                help="Entries that each image selects in full",
            )


def keys_and_mixtures(log: Snapshot, tasks: list[dict]) -> None:
    """Draw the measurements of a method with fixed keys and stored mixtures; nothing if there are none."""
    moved, likeness = log.events(KeysMoved), log.events(IntraClassMeasured)
    added, fits = log.events(ResidualMeasured), log.events(MixtureFitted)
    if not (moved or likeness or added or fits):
        return
    from dashboard.figures import mixtures

    st.markdown("### Keys and mixtures")
    left, right = st.columns(2)
    with left:
        show_figure("found-by-layer", log)
        show_figure("class-likeness", log)
    with right:
        show_figure("key-drift", log)
        if added:
            show_figure("residual-ratio", log)
    if fits:
        known = mixtures.fitted_classes(fits)
        named = {mixtures.class_name(label, tasks): label for label in known}
        label = named[choose_as("Class", "pools-class", list(named), str, index=len(named) - 1, width=220)]
        left, right = st.columns(2)
        with left:
            show_figure("mixture-fit", log)
        with right:
            show_figure("real-and-sampled", log, label=label)


def show() -> None:
    opened = open_run_page(
        POOLS, "Selections from a pool of prompts appear here as soon as there is a run.", key="pools"
    )
    if opened is None:
        return
    frame, log = opened
    measured = log.events(SelectionMeasured)
    plan = log.started()
    tasks = list(plan.tasks) if plan else []
    if not measured:
        if not log.trouble:
            hide(USUAL)
            nothing_yet(frame, log)
        keys_and_mixtures(log, tasks)
        return
    from dashboard.figures import selection

    task, layer = frame.task, chosen_layer(frame.layer, measured)
    learned_at_once(log)
    now = selection.at(measured, layer, task)
    if now is None:
        return
    if task is not None and now.clock.task != task:
        shown_instead(task, f"after {literal(task_label(now.clock.task, tasks))}")
    answer(own_entries_found(now, selection.own_shares(now, tasks) if now.accuracy is not None else {}))
    show_figure("selected-entries", log, layer=layer, task=now.clock.task)
    headline(now, measured, tasks)
    if not now.of:
        not_measured(
            "Entries of this pool have no owner, so no selection is right or wrong.",
            "If entries belong to tasks or classes, own entries found are drawn here.",
        )
    label = "Own entries over tasks, and use of the pool" if now.of else "Use of the pool"
    with more(label, key="pools-more") as opened_more:
        if opened_more:
            left, right = st.columns(2) if now.of else (st.container(), st.container())
            if now.of:
                with left:
                    show_figure("own-entry", log, layer=layer)
            with right:
                show_figure("pool-use", log, layer=layer, task=now.clock.task)
    keys_and_mixtures(log, tasks)


show()
