"""What if: drag the threshold, read what it would have left free, let through and touched; then try it for real."""

from __future__ import annotations

import math

import streamlit as st

from cl_core.config import ConfigError
from cl_core.events import AccuracyMeasured, SpectrumMeasured, UpdateByDirection, WeightSpectrumMeasured
from cl_core.store import RunFolder, StoreError, fork_of
from cl_core.store import boundaries as checkpoints
from cl_core.summary import headline_readout, matrix_of, measures
from cl_core.whatif import (
    RULES,
    Boundary,
    Threshold,
    best,
    boundaries,
    own_threshold,
    positions,
    predict,
    rules_for,
    settings_of,
    takes,
    threshold_from,
)
from dashboard import launch
from dashboard.frame import Frame, choose, code, empty, literal, not_measured, panel, show_run
from dashboard.runs import runs_index
from dashboard.tail import Log, log_of
from dashboard.theme import layer_name, percent, points, task_name
from dashboard.widgets.inspection import inspected, task_and_layer
from dashboard.widgets.starting import can_train, say_trouble

NOBODY = "none"
FORKS_SHOWN = 30  # newest runs that are asked whose fork they are


def stored(log: Log) -> list[Boundary]:
    """All boundaries of a run."""
    return boundaries(log.events(SpectrumMeasured), log.events(WeightSpectrumMeasured), log.events(UpdateByDirection))


def nothing_yet(frame: Frame) -> None:
    """Why there is nothing to move."""
    if frame.live:
        empty(
            f"The threshold can be moved here when {task_name(0)} has been learned; what would have passed is known "
            f"when {task_name(1)} has been, too.",
            "Follow the run",
            page="pages/run.py",
            key="whatif-empty",
        )
    else:
        not_measured(
            "This run holds no spectra, so there is no threshold to move.",
            "Methods that protect directions have them with `--set diagnostics.spectra=true` (moments) or "
            "`--set diagnostics.weights=true` (weights), both on by default.",
        )


def spelled(space: str) -> str:
    """A space as the control and the URL spell it."""
    from dashboard.figures.spectra import button

    return button(space).replace(".", " ")


def choose_space(found: list[Boundary]) -> str:
    names = {spelled(b.space): b.space for b in found}
    if len(names) < 2:
        return next(iter(names.values()))
    return names[choose("Spectrum of", "space", list(names), next(iter(names)))]


def choose_threshold(boundary: Boundary) -> tuple[Threshold, list[float]]:
    """Rule, softness and limit; the slider comes after. The threshold as chosen, and the positions of its slider."""
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
            said = choose("Softness η (1 strict, 0 off)", "eta", options, tick(start.eta), slider=True)
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
    begin = mine
    if begin is None and rule == "free":
        recorded = predict(boundary, start, nullity=boundary.recorded)
        begin = round(float(in_percent(recorded, boundary, "nullity").mean())) / 100
    begin = RULES[rule].usual if begin is None or not math.isfinite(begin) else begin
    begin = min(steps, key=lambda v: abs(v - begin))
    key = "tau"
    chosen = choose(RULES[rule].says.capitalize(), key, [tick(v) for v in steps], tick(begin), slider=True)
    value = next((v for v in steps if tick(v) == chosen), begin)
    return Threshold(rule, value, eta, start.scale, most), steps


def _value(text: str, exact: float) -> float:
    """A position's number; the run's own value with all its digits."""
    from dashboard.figures.whatif import tick

    return exact if text == tick(exact) else float(text)


def _counts(width: int) -> list[int]:
    """Positions of the slider of r_max: about fifty."""
    step = max(1, width // 48)
    return sorted({1, *range(step, width + 1, step), width})


def bars(boundary: Boundary, threshold: Threshold, steps: list[float]) -> None:
    """The bars that follow the pointer; what is chosen there is what the plain slider shows."""
    from dashboard.figures.whatif import LABEL, said_of, slider_table, tick
    from dashboard.widgets.thresholdbars import thresholdbars

    texts = [tick(v) for v in steps] or ["knee"]
    record = {
        "steps": texts,
        "at": steps.index(threshold.value) if steps else 0,
        "says": RULES[threshold.rule].says or "cut at the knee of each spectrum: nothing to move",
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
        st.caption(
            f"{LABEL} Drag: the bars follow the pointer; the figures below follow when you let go. Bar: directions "
            f"left free, the rest is protected; dotted: as the run had it. {said_of(boundary)}"
        )


def headline(boundary: Boundary, threshold: Threshold) -> None:
    """Means over layers at the chosen threshold, against those at the run's own."""
    from dashboard.figures.whatif import in_percent

    own = own_threshold(boundary)
    now = predict(boundary, threshold)
    then = predict(boundary, own, nullity=boundary.recorded) if own is not None else None

    def mean(predicted, field: str) -> float:
        return float(in_percent(predicted, boundary, field).mean())

    notes = {
        "nullity": ("Left free", "Directions left free, share of all, mean over layers (nullity)"),
        "passed": ("Share passed", "Share of the recorded update's energy that would have passed, mean over layers"),
        "interference": (
            "Interference",
            "What old tasks would feel of it, as a share of what they would feel unprotected, mean over layers",
        ),
    }
    with st.container(horizontal=True, gap="large", key="whatif-numbers"):
        for field, (label, note) in notes.items():
            value, before = mean(now, field), mean(then, field) if then is not None else math.nan
            differs = math.isfinite(value - before) and round(abs(value - before), 1) > 0
            moved = points(value - before) + " against the run" if differs else None
            st.metric(label, percent(value), moved, delta_color="off", width="content", help=note)
        if boundary.kind == "moments" and threshold.scale != "plain":
            gain = now.mean("gain")
            st.metric(
                "Factor on free directions",
                f"{gain:.3f}" if math.isfinite(gain) else "–",
                width="content",
                help="This rule shortens every step, more so the more directions are free: η/√R + 1 − η. The shares "
                "beside are relative to a free direction.",
            )


def others(boundary: Boundary, name: str | None) -> list[tuple[str, Boundary]]:
    """Another run beside this one on the common axis, if the reader names one."""
    index = runs_index()
    options = [NOBODY, *(n for n in index.names if n != name)][:200]
    if len(options) < 2:
        return []
    chosen = st.selectbox("Beside it", options, key="whatif-beside", help="Another run on the same axis", width=320)
    folder = index.find(chosen)
    if chosen == NOBODY or folder is None:
        return []
    log = log_of(folder)
    log.advance()
    found = stored(log)
    there = best(found, boundary.space) or best(found)
    if there is None or there.energies is None:
        st.caption(f"{code(chosen)} has no stored update to compare; run it again to record one.")
        return []
    return [(chosen, there)]


# ---------------------------------------------------------------- try it for real


def why_not(frame: Frame, boundary: Boundary, threshold: Threshold, folder: RunFolder) -> tuple[str, dict]:
    """(why there is no fork to make, or "", and the settings of one)."""
    log, after = frame.log, boundary.task + 1
    try:
        settings = settings_of(boundary, threshold)
    except ConfigError as error:
        return str(error), {}
    if own_threshold(boundary) == threshold:
        return "this is the threshold that the run had: move it first", settings
    plan = log.started() if log else None
    if plan is not None and after >= plan.trained_tasks:
        return f"no task is left to train after {task_name(boundary.task)}: choose an earlier one", settings
    if frame.recording:
        return "a recording has no checkpoints to go on from: start the same run live on the Run page", settings
    if not after:
        return "before the first task there is nothing to go on from: start a new run with this setting", settings
    if after not in _checkpoints(folder):
        return f"there is no checkpoint after {task_name(boundary.task)}", settings
    return "", settings


def _checkpoints(folder: RunFolder) -> dict:
    try:
        return checkpoints(folder)
    except StoreError:
        return {}


def try_it(frame: Frame, boundary: Boundary, threshold: Threshold) -> None:
    """The button that makes a fork of it."""
    folder = runs_index().find(frame.run)
    if folder is None or not can_train():
        return
    reason, settings = why_not(frame, boundary, threshold, folder)
    said = ", ".join(f"{name}={value}" for name, value in settings.items())
    with st.container(horizontal=True, vertical_alignment="center", key="whatif-try"):
        st.button(
            "Try it for real",
            key="whatif-fork",
            type="primary",
            icon=":material/fork_right:",
            disabled=bool(reason),
            on_click=_fork,
            args=(folder, boundary.task + 1, settings),
            help="Trains the remaining tasks again from this boundary, with this threshold, as a new run",
        )
        st.caption(
            f"Not here: {literal(reason)}."
            if reason
            else f"Forks {code(folder.name)} after {task_name(boundary.task)} with {code(said)} and trains the rest."
        )
    say_trouble("whatif")


def _fork(folder: RunFolder, after_task: int, settings: dict) -> None:
    st.session_state.pop("_trouble-whatif", None)
    try:
        made = launch.fork(folder, after_task, settings)
        runs_index(fresh=True)
        st.session_state["_whatif_made"] = made.name
    except (StoreError, ConfigError) as error:
        st.session_state["_trouble-whatif"] = str(error)


def forks(name: str, after_task: int) -> list[RunFolder]:
    """Forks of a run at a boundary, newest first."""
    found = []
    for folder in list(runs_index().own.values())[:FORKS_SHOWN]:
        try:
            fork = fork_of(folder)
        except StoreError:
            continue
        if fork is not None and fork.parent == name and fork.after_task == after_task:
            found.append(folder)
    return found


def judged(frame: Frame, boundary: Boundary) -> None:
    """For a fork at this boundary: what was predicted, and what came."""
    if frame.log is None or frame.run is None:
        return
    known = {folder.name: folder for folder in forks(frame.run, boundary.task + 1)}
    if not known:
        return
    st.markdown("#### How far the prediction was off")
    names = list(known)
    made, name = st.session_state.get("_whatif_made"), names[0]
    if len(names) > 1:
        first = names.index(made) if made in names else 0
        name = st.selectbox("Fork", names, index=first, key="whatif-fork-shown", width=320)
    folder = known.get(name) or known[names[0]]
    fork, log = fork_of(folder), log_of(folder)
    log.advance()
    changed = {key: new for key, (_, new) in fork.changed.items()}
    said = ", ".join(f"{key} {old} → {new}" for key, (old, new) in fork.changed.items()) or "nothing changed"
    with st.container(horizontal=True, vertical_alignment="center", key="whatif-fork-line"):
        st.markdown(
            f"{code(folder.name)}, forked after {task_name(boundary.task)}: {literal(said)}; {log.status().state}"
        )
        if st.button("Open the fork", key="whatif-open", type="tertiary", on_click=show_run, args=(folder.name,)):
            st.rerun()
    elsewhere = {name for other in stored(frame.log) for name in takes(other)}
    try:
        threshold = threshold_from(boundary, changed, elsewhere=elsewhere)
    except ConfigError as error:
        st.caption(f"Not compared: {literal(str(error))}.")
        return
    rows = comparison(frame.log, log, boundary, threshold, changed, elsewhere)
    from dashboard.figures.whatif import predicted_and_measured

    if rows:
        panel(predicted_and_measured, rows, key=f"whatif-judged-{folder.name}")
    else:
        st.caption(f"Numbers appear when {task_name(boundary.task + 1)} has been learned in the fork.")
    accuracies(frame.log, log)


def comparison(
    parent: Log, fork: Log, boundary: Boundary, threshold: Threshold, changed: dict, elsewhere: set[str]
) -> list[tuple[str, float, float, float]]:
    """(quantity, in the parent, predicted, measured in the fork) in percent, means over layers."""
    from dashboard.figures.whatif import in_percent

    own, rows = own_threshold(boundary), []
    learned = task_name(boundary.task + 1)
    there = best(stored(fork), boundary.space, boundary.task)
    if there is not None and there.energies is not None and boundary.energies is not None:
        before = predict(boundary, own, nullity=boundary.recorded) if own is not None else None
        expected, came = predict(boundary, threshold), predict(there, threshold)
        for field, said in (("passed", "Share passed in"), ("interference", "Interference in")):
            values = [
                float(in_percent(p, boundary, field).mean()) if p is not None else math.nan
                for p in (before, expected, came)
            ]
            rows.append((f"{said} {learned}", *values))
    later = {b.task: b for b in stored(parent) if b.space == boundary.space and b.task > boundary.task}
    for measured in (b for b in stored(fork) if b.space == boundary.space and b.task in later):
        here = later[measured.task]
        try:
            moved = threshold_from(here, changed, elsewhere=elsewhere)
        except ConfigError:
            continue
        shares = [100 * float(free.mean()) / here.width for free in (
            here.recorded, predict(here, moved).nullity, measured.recorded
        )]  # fmt: skip
        rows.append((f"Left free after {task_name(measured.task)}", *shares))
    return rows


def accuracies(parent: Log, fork: Log) -> None:
    """What no spectrum predicts: accuracy and forgetting of both, as measured."""
    found = {"parent": _measures(parent), "fork": _measures(fork)}
    if not all(found.values()):
        return
    with st.container(horizontal=True, gap="large", key="whatif-accuracy"):
        for name, label in (
            ("final_average_accuracy", "Final average accuracy"),
            ("learning_accuracy", "Learning accuracy"),
            ("forgetting", "Forgetting"),
        ):
            value, before = found["fork"][name], found["parent"][name]
            if value is not None and before is not None:
                st.metric(
                    label,
                    percent(value) if name != "forgetting" else points(value),
                    points(value - before) + " against the parent",
                    delta_color="off",
                    width="content",
                    help="Measured in the fork; no prediction is made of it",
                )


def _measures(log: Log) -> dict[str, float | None]:
    """Measures of a run that has measured all its tasks; empty before."""
    measured = [e for e in log.events(AccuracyMeasured) if e.clock.task >= 0]
    if not measured:
        return {}
    readout = headline_readout(e.readout for e in measured)
    rows = {e.clock.task: e.row for e in measured if e.readout == readout}
    tasks = len(next(iter(rows.values())))
    return measures(matrix_of(rows, tasks)) if len(rows) == tasks else {}


# ---------------------------------------------------------------- the page


def show() -> None:
    opened = inspected("What if", "A threshold to move appears here as soon as there is a run.", key="whatif")
    if opened is None:
        return
    frame, log = opened
    found = stored(log)
    if not found:
        if not log.trouble:
            nothing_yet(frame)
        return
    from dashboard.figures.whatif import LABEL, against_threshold, at_equal_freedom, now, when

    task, layer, (space,) = task_and_layer(log, lambda: choose_space(found), key="whatif")
    boundary = best(found, space, task)
    if boundary is None:
        boundary = best(found, space)
        st.info(
            f"Nothing was measured after {task_name(task)}; shown instead: {when(boundary)}.", icon=":material/info:"
        )
    learning = f", {task_name(boundary.task + 1)} comes next" if boundary.energies is not None else ""
    st.markdown(f":material/calculate: **{LABEL}** The spectrum {when(boundary)}{learning}.")
    if boundary.energies is None:
        known = any(b.energies is not None for b in found)
        st.info(
            "What a later task wanted is not stored here: none has been learned after this one. Directions left free "
            "are exact all the same; for shares and interference choose an earlier task."
            if known
            else "What a later task wanted is not stored in this run: either none has been learned yet, or it was "
            "recorded before updates were stored by direction; run it again to record them. Directions left free are "
            "exact all the same.",
            icon=":material/visibility_off:",
        )
    if not boundary.used:
        st.caption("Training in this run obeyed no threshold: the spectra were measured for comparison.")
    threshold, steps = choose_threshold(boundary)
    headline(boundary, threshold)
    bars(boundary, threshold, steps)
    try_it(frame, boundary, threshold)
    if steps:
        panel(against_threshold, boundary, threshold, layer=layer, key="whatif-curves")
    if boundary.energies is not None:
        beside = others(boundary, frame.run)
        panel(at_equal_freedom, boundary, threshold, beside, key="whatif-freedom")
    with st.expander("All numbers", key="whatif-numbers-table"):
        st.dataframe(now(boundary, threshold), hide_index=True)
        st.caption(f"{LABEL} At {threshold.text()}.")
    judged(frame, boundary)


show()
