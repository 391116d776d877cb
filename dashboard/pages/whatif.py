"""What if: move the threshold, read the predicted free directions, passed share and interference, then train it."""

from __future__ import annotations

import math

import streamlit as st

from cl_core.events import SpectrumMeasured
from cl_core.whatif import (
    RULES,
    Boundary,
    Prediction,
    Threshold,
    best,
    own_threshold,
    positions,
    predict,
    rules_for,
    takes,
)
from dashboard.run_log import log_of
from dashboard.runs import runs_index
from dashboard.theme import change, layer_name, percent, task_name
from dashboard.verdicts import THRESHOLD, threshold_moved
from dashboard.view_state import (
    USUAL,
    ViewState,
    called,
    choose,
    choose_named_run,
    empty,
    learned_at_once,
    literal,
    not_measured,
    show_plot,
)
from dashboard.widgets.inspection import answer, more, offer_runs, open_run_page, shown_instead
from dashboard.widgets.shared_controls import hide
from dashboard.widgets.threshold_fork import stored, try_it

NOBODY = "none"


def nothing_yet(frame: ViewState) -> None:
    """Explain in one sentence why there is no threshold to move."""
    if frame.live:
        empty(
            f"The threshold can be moved here when {task_name(0)} has been learned; the share that would have passed "
            f"is known when {task_name(1)} has been learned, too.",
            "Follow the run",
            page="pages/run.py",
            key="whatif-empty",
        )
    else:
        not_measured(
            "This run has no spectra, so there is no threshold to move.",
            "Methods that protect directions have them with `--set diagnostics.spectra=true` (moments) or "
            "`--set diagnostics.weights=true` (weights), both on by default.",
        )
        offer_runs(SpectrumMeasured, key="whatif")


def spelled(space: str) -> str:
    """Return the spelling of a space in the control and the URL."""
    from dashboard.figures.spectra import button

    return button(space).replace(".", " ")


def choose_space(found: list[Boundary]) -> str:
    names = {spelled(b.space): b.space for b in found}
    if len(names) < 2:
        return next(iter(names.values()))
    return names[choose("Spectrum of", "space", list(names), next(iter(names)))]


def choose_threshold(boundary: Boundary) -> tuple[Threshold, list[float]]:
    """Draw rule, strictness and limit, without the slider; return the threshold and the slider's positions."""
    from dashboard.figures.whatif import in_percent, tick

    own = own_threshold(boundary)
    known = {RULES[name].title: name for name in rules_for(boundary.kind)}
    if boundary.width < 3:
        known.pop(RULES["elbow"].title, None)
    usual = own.rule if own is not None and own.rule in known.values() else "energy"
    start = own or Threshold("energy", RULES["energy"].usual)
    with st.container(horizontal=True, gap="large", key="whatif-rule"):
        rule = known[choose("Rule", "rule", list(known), RULES[usual].title)]
        eta, most = start.eta, start.most
        if f"eta_{boundary.space}" in takes(boundary):
            options = [tick(v) for v in sorted({*(i / 20 for i in range(21)), start.eta})]
            said = choose("Strictness η (1 strict, 0 off)", "eta", options, tick(start.eta), slider=True)
            eta = _value(said, start.eta)
        if boundary.kind == "weights" and boundary.used and rule != "free":
            usual_most = start.most or boundary.width
            options = [str(v) for v in sorted({*_counts(boundary.width), usual_most})]
            most = int(choose("r_max, directions written to at most", "rmax", options, str(usual_most), slider=True))
            most = None if start.most is None and most == boundary.width else most
    mine = own.value if own is not None and own.rule == rule else None
    steps = positions(rule, mine)
    if not steps:
        return Threshold(rule, math.nan, eta, start.scale, most), []
    begin: float | None = mine
    if begin is None and rule == "free":
        recorded = predict(boundary, start, nullity=boundary.recorded)
        begin = round(float(in_percent(recorded, boundary, "nullity").mean())) / 100
    wanted = RULES[rule].usual if begin is None or not math.isfinite(begin) else begin
    begin = min(steps, key=lambda v: abs(v - wanted))
    key = "tau"
    chosen = choose(RULES[rule].says.capitalize(), key, [tick(v) for v in steps], tick(begin), slider=True)
    value = next((v for v in steps if tick(v) == chosen), begin)
    return Threshold(rule, value, eta, start.scale, most), steps


def _value(text: str, exact: float) -> float:
    """Return the number of a slider position; for the run's own value, with all its digits."""
    from dashboard.figures.whatif import tick

    return exact if text == tick(exact) else float(text)


def _counts(width: int) -> list[int]:
    """Return about fifty slider positions for r_max."""
    step = max(1, width // 48)
    return sorted({1, *range(step, width + 1, step), width})


def bars(boundary: Boundary, threshold: Threshold, steps: list[float]) -> None:
    """Draw the bars with the draggable threshold; its value is the plain slider's value."""
    from dashboard.figures.whatif import LABEL, said_of, slider_table, tick
    from dashboard.widgets.thresholdbars import thresholdbars

    texts = [tick(v) for v in steps] or ["knee"]
    record = {
        "steps": texts,
        "at": steps.index(threshold.value) if steps else 0,
        "says": RULES[threshold.rule].says or "cut at the elbow of each spectrum: nothing to move",
        "layers": [layer_name(layer) for layer in boundary.layers],
        "width": boundary.width,
        "recorded": boundary.recorded.tolist(),
        **slider_table(boundary, threshold, steps or [math.nan]),
    }

    def chosen(text: str) -> None:
        st.session_state["tau"] = text

    with st.container(border=True, key="panel-whatif-bars", gap="xsmall"):
        st.markdown("**Directions left free, layer by layer**")
        thresholdbars(record, key=f"bars-{threshold.rule}", on_choose=chosen)
        with st.container(horizontal=True, vertical_alignment="top", gap="small"):
            with st.container(width="stretch"):
                st.caption("Bar: directions left free, the rest is protected; dotted: the run's own threshold.")
            with st.popover("More", type="tertiary", icon=":material/more_horiz:", key="menu-whatif-bars"):
                st.markdown(
                    f"{LABEL} {said_of(boundary)}"
                    + (" The bars update as you drag; the rest of the page updates on release." if steps else "")
                )


def headline(boundary: Boundary, threshold: Threshold) -> None:
    """Show means over layers at the chosen threshold, compared with the run's own threshold."""
    from dashboard.figures.whatif import in_percent

    own = own_threshold(boundary)
    now = predict(boundary, threshold)
    then = predict(boundary, own, nullity=boundary.recorded) if own is not None else None

    def mean(predicted: Prediction, field: str) -> float:
        return float(in_percent(predicted, boundary, field).mean())

    def means(predicted: Prediction) -> dict[str, float]:
        return {field: mean(predicted, field) for field in ("nullity", "interference")}

    chosen, run = means(now), means(then) if then is not None else None
    at = f"a cut at {'the ' if threshold.rule == 'elbow' else ''}{threshold.text()}"
    answer(threshold_moved(chosen, run, task=boundary.task, at=at))
    if run is not None and own == threshold and abs(chosen["nullity"] - run["nullity"]) >= 1:
        st.caption(
            "The run used the same value, but its rule accumulates a cut in every task instead of cutting this "
            "spectrum at once."
        )
    notes = {
        "nullity": ("Left free", "Directions left free, share of all, mean over layers (nullity)"),
        "passed": ("Share passed", "Share of the recorded update's energy that would have passed, mean over layers"),
        "interference": (
            "Interference",
            "Interference with old tasks, as a share of the unprotected interference, mean over layers",
        ),
    }
    with st.container(horizontal=True, gap="large", key="whatif-numbers"):
        for field, (label, note) in notes.items():
            value, before = mean(now, field), mean(then, field) if then is not None else math.nan
            differs = math.isfinite(value - before) and round(abs(value - before), 1) > 0
            moved = change(value - before) + " compared with the run" if differs else None
            st.metric(label, percent(value), moved, delta_color="off", width="content", help=note)
        if boundary.kind == "moments" and threshold.scale != "plain":
            gain = now.mean("gain")
            st.metric(
                "Factor on free directions",
                f"{gain:.3f}" if math.isfinite(gain) else "–",
                width="content",
                help="This rule shortens every step, more so the more directions are free: η/√R + 1 − η. The shares "
                "shown are relative to a free direction.",
            )


def others(boundary: Boundary, name: str | None) -> list[tuple[str, Boundary]]:
    """Draw the choice of another run to compare with; return its name and boundary, or an empty list."""
    index = runs_index()
    options = [NOBODY, *(n for n in index.names if n != name)][:200]
    if len(options) < 2:
        return []
    chosen = choose_named_run(
        "Compare with run", "beside", options, index=0, help="Another run on the same axis", width=320
    )
    folder = index.find(chosen)
    if chosen == NOBODY or folder is None:
        return []
    log = log_of(folder).snapshot()
    found = stored(log)
    there = best(found, boundary.space) or best(found)
    if there is None or there.energies is None:
        st.caption(f"{literal(called(chosen))} has no stored update to compare; run it again to record one.")
        return []
    return [(called(chosen), there)]


def show() -> None:
    opened = open_run_page(THRESHOLD, "A threshold to move appears here as soon as there is a run.", key="whatif")
    if opened is None:
        return
    frame, log = opened
    found = stored(log)
    if not found:
        if not log.trouble:
            hide(USUAL)
            nothing_yet(frame)
        return
    from dashboard.figures.whatif import LABEL, against_threshold, at_equal_freedom, now, when

    task, layer, space = frame.task, frame.layer, choose_space(found)
    learned_at_once(log)
    chosen = best(found, space, task)
    boundary = chosen or best(found, space) or found[-1]
    if chosen is None and task is not None:
        shown_instead(task, when(boundary))
    learning = f", {task_name(boundary.task + 1)} is next" if boundary.energies is not None else ""
    st.markdown(f":material/calculate: **{LABEL}** The spectrum {when(boundary)}{learning}.")
    if boundary.energies is None:
        known = any(b.energies is not None for b in found)
        st.info(
            "No later update is stored here: no task has been learned after this one. Directions left free "
            "are still exact; for shares and interference choose an earlier task."
            if known
            else "No later update is stored in this run: either no later task has been learned yet, or it was "
            "recorded before updates were stored by direction; run it again to record them. Directions left free are "
            "exact all the same.",
            icon=":material/visibility_off:",
        )
    if not boundary.used:
        st.caption("Training in this run used no threshold: the spectra were measured for comparison.")
    threshold, steps = choose_threshold(boundary)
    headline(boundary, threshold)
    bars(boundary, threshold, steps)
    try_it(frame, boundary, threshold)
    with more("Against the threshold, and at equal freedom", key="whatif-more") as opened_more:
        if opened_more:
            if steps:
                show_plot(against_threshold, boundary, threshold, layer=layer, key="whatif-curves")
            if boundary.energies is not None:
                beside = others(boundary, frame.run)
                show_plot(at_equal_freedom, boundary, threshold, beside, key="whatif-freedom")
    with st.expander("All numbers", key="whatif-numbers-table"):
        st.dataframe(now(boundary, threshold), hide_index=True)
        st.caption(f"{LABEL} At {threshold.text()}.")


show()
