"""All measurements: every kind of event of the run with its figures; kinds without a figure get generic plots."""

from __future__ import annotations

import streamlit as st

from dashboard.run_log import Snapshot
from dashboard.verdicts import MEASURED
from dashboard.view_state import choose, code, empty, literal, show_figure
from dashboard.widgets.inspection import answer, open_run_page


def table(log: Snapshot) -> None:
    """Show a table of the run's events and the pages that draw them."""
    from dashboard.figures.catalogue import FIGURES, plugged

    entries = [*FIGURES.values(), *plugged().values()]
    kinds = sorted(log.kinds(), key=lambda kind: kind.__name__)
    drawn = {kind: [f.title for f in entries if kind in (*f.needs, *f.also)] for kind in kinds}
    st.dataframe(
        {
            "event": [kind.__name__ for kind in kinds],
            "stored": [log.count(kind) for kind in kinds],
            "what it says": [" ".join((kind.__doc__ or "").replace("`", "").split()) for kind in kinds],
            "figures": [", ".join(drawn[kind]) for kind in kinds],
        },
        hide_index=True,
        width="stretch",
        height="content",
        key="measurements-table",
        alt=f"{len(kinds)} kinds of events of this run",
    )


def of_plugins(log: Snapshot) -> None:
    """Draw the figures of plug-ins, with their controls and origins."""
    from dashboard.figures.catalogue import plugged
    from dashboard.figures.plugged import shown

    entries = plugged()
    if not entries:
        return
    st.markdown("### Figures of plug-ins")
    there = {id: entry for id, entry in entries.items() if entry.there(log)}
    if there:
        titles = {entry.title: id for id, entry in there.items()}
        id = titles[choose("Figure", "plugin_figure", list(titles), next(iter(titles)))]
        controls = {}
        for name, values in there[id].choices(log).items():
            offered = {shown(name, value): value for value in values}
            label = name.replace("_", " ").capitalize()
            controls[name] = offered[choose(label, f"plugin_{id}_{name}", list(offered), next(iter(offered)))]
        st.caption(f"From the plug-in {code(there[id].origin)}.")  # its question is shown below the figure
        show_figure(id, log, **controls)
    for id, entry in entries.items():
        if id not in there:
            needed = ", ".join(kind.__name__ for kind in entry.needs)
            st.caption(
                f"{literal(entry.title)}, from {code(entry.origin)}: this run lacks the required events ({needed})."
            )


def show() -> None:
    opened = open_run_page(
        MEASURED, "Everything that a run measures is listed here as soon as there is one.", key="measurements"
    )
    if opened is None:
        return
    log = opened[1]
    if log.started() is None:
        empty(
            "Nothing has been measured yet; every kind of measurement is listed here while the run trains.",
            "Follow the run",
            page="pages/run.py",
            key="measurements-empty",
        )
        return
    from dashboard.figures.catalogue import figures_of, unclaimed
    from dashboard.figures.generic import words

    names = {words(kind.__name__): kind for kind in unclaimed(log)}
    found = log.kinds()
    answer(
        f"{len(found)} kinds of events, {sum(log.count(kind) for kind in found):,} in all. "
        + (
            f"{len(names)} of the kinds have no dedicated figure."
            if names
            else "Every measurement of this run has a figure on one of the other pages."
        )
    )
    if names:
        st.markdown("Drawn directly from the stored events, because there is no dedicated figure for them:")
        chosen = names[choose("Measurement", "measurement", list(names), next(iter(names)))]
        mine = [figure for figure in figures_of(log).values() if figure.needs == (chosen,) and not figure.origin]
        columns = st.columns(2)
        for place, figure in enumerate(mine):
            with columns[place % 2]:
                show_figure(figure.id, log)
        if not mine:
            st.markdown("It contains no numbers to draw.")
    of_plugins(log)
    st.markdown("### Events of this run")
    table(log)


show()
