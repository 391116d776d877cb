"""Forgetting: from a cell of the accuracy matrix to the cause of its loss, its images, and the trace of one image.

In the URL the cell is `from` and `to`, the traced image `image` (`trace` in older links), the layer `layer`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import streamlit as st

from cl_core.analysis import measured_later
from cl_core.analysis.ledger import (
    COMPETE,
    MATTERS,
    OUTDATED,
    STALE,
    Images,
    Rows,
    answers_of,
    images,
    ledger,
    with_later,
    worst_cell,
)
from cl_core.analysis.ledger import LOST as FEATURES
from cl_core.analysis.verdict import (
    HOW_TO_REFIT,
    block_found,
    by_headline,
    near_means,
    verdict,
    where,
    why_image,
    why_two,
)
from cl_core.events import (
    AccuracyMeasured,
    AttentionCompared,
    ImagesClassified,
    ImagesStored,
    OldTasksMeasured,
    PredictionsMade,
    ProbesChosen,
    RunStarted,
    SpectrumMeasured,
    WeightSpectrumMeasured,
)
from cl_core.readouts import TASK_INCREMENTAL, ZERO_SHOT
from cl_core.store import StoreError, boundaries
from cl_core.summary import headline_readout, measures
from dashboard import launch
from dashboard.figures.catalogue import ledger_rows
from dashboard.figures.diagnosis import image_path, interpolation, layers_recovered, probe_place, shared_classes
from dashboard.figures.event_arrays import accuracies, readouts, zero_shot
from dashboard.menu import PAGES, layers_of
from dashboard.run_log import Snapshot
from dashboard.theme import percent, points, task_label, task_name
from dashboard.verdicts import FORGOTTEN
from dashboard.view_state import (
    NO_IMAGE,
    begin_with,
    choose,
    choose_as,
    current,
    empty,
    go_to,
    literal,
    not_measured,
    sentence,
    show_figure,
    show_plot,
)
from dashboard.widgets.alerts import show_alerts
from dashboard.widgets.inspection import answer, open_run_page
from dashboard.widgets.pace import every

SPECTRA = next(entry for entry in PAGES if entry.page == "spectra")
SIDE = 96  # screen pixels of an image
SHOWN = 24  # images drawn at most
LOST, WON, NEVER, ALL = "lost", "became right", "wrong from the start", "all"
PINNED = 6  # images at most
MEASURES = (
    "final_average_accuracy",
    "average_incremental_accuracy",
    "learning_accuracy",
    "forgetting",
    "backward_transfer",
)
MEASURES_FROM_THE_START = ("transfer", "average", "last")  # where tasks are also evaluated before they are learned


def cell_choice(matrix: np.ndarray, untrained: np.ndarray | None, own: Rows) -> tuple[int, int]:
    """Return the opened cell as (after training on, evaluated on), kept in the URL as `from` and `to`; −1 = before
    training. Default: the task that lost most in the matrix shown, or, if none did, by the method's own heads."""
    rows, columns = matrix.shape
    newest = int(max(np.flatnonzero(np.isfinite(matrix).any(axis=1)), default=-1 if untrained is not None else 0))
    fallen = [matrix[j, j] - matrix[newest, j] if j <= newest < rows else -np.inf for j in range(columns)]
    worst = int(np.argmax(np.where(np.isfinite(fallen), fallen, -np.inf)))
    if fallen[worst] < MATTERS and (cell := worst_cell(own, max(newest, 0))) is not None:
        worst = cell[0]
    after, on = [task_name(i) for i in range(rows)], [task_name(j) for j in range(columns)]
    if untrained is not None:
        after.insert(0, ZERO_SHOT)
    with st.container(horizontal=True, gap="large"):
        chosen_after = choose("After training on", "from", after, _row_name(newest), spell_out=True)
        chosen_on = choose("Evaluated on", "to", on, task_name(worst), spell_out=True)
    return -1 if chosen_after == ZERO_SHOT else int(chosen_after[1:]) - 1, int(chosen_on[1:]) - 1


def _row_name(row: int) -> str:
    return ZERO_SHOT if row < 0 else task_name(row)


def _open_cell(point: dict[str, Any]) -> None:
    st.session_state["from"], st.session_state["to"] = (
        _row_name(round(float(point["y"]))),
        task_name(round(float(point["x"]))),
    )


def move_cell(matrix: np.ndarray, untrained: np.ndarray | None, after: int, on: int) -> None:
    """Draw four buttons that move the opened cell; the arrow keys press them."""
    rows, columns = matrix.shape
    first = -1 if untrained is not None else 0
    moves = (("Left", 0, -1), ("Right", 0, 1), ("Up", -1, 0), ("Down", 1, 0))
    names = {"Left": "Task before", "Right": "Task after", "Up": "Row above", "Down": "Row below"}
    with st.container(horizontal=True, gap="xsmall", key="forgetting-moves"):
        for key, down, across in moves:
            row, column = after + down, on + across
            st.button(
                names[key],
                key=f"forgetting-{key.lower()}",
                shortcut=key,
                type="tertiary",
                disabled=not (first <= row < rows and 0 <= column < columns),
                on_click=_open_cell,
                args=({"x": column, "y": row},),
            )


@dataclass(frozen=True)
class Opened:
    """The opened cell, read once for all parts of the page: row `after` (−1 = before training), column `on`."""

    after: int
    on: int
    later: dict[str, Any] | None  # measured on request, from checkpoints
    images: Images | None  # None: not stored


def opened_cell(log: Snapshot, after: int, on: int) -> Opened:
    if not 0 <= on <= after:
        return Opened(after, on, None, None)
    later, stored = measured_later.read(log.folder, on, after), stored_images(log, on)
    if stored is None:
        return Opened(after, on, later, None)
    answers = answers_of(log.events(ImagesClassified), on)
    return Opened(after, on, later, images(answers, np.asarray(stored.labels), on, after, later))


def cell(log: Snapshot, plan: RunStarted, matrix: np.ndarray, untrained: np.ndarray | None, opened: Opened) -> None:
    """Show the numbers of the opened cell."""
    after, on = opened.after, opened.on
    if after < 0:
        value = untrained[on] if untrained is not None else np.nan
    else:
        value = matrix[after, on] if after < len(matrix) else np.nan
    title = literal(task_label(on, plan.tasks))
    when = "before training" if after < 0 else f"after training on {literal(task_label(after, plan.tasks))}"
    st.markdown(f"### {title} {when}")
    classes = ", ".join(map(str, plan.tasks[on].get("classes", [])[:12]))
    if classes:
        st.caption(f"{title}: {literal(classes)}")
    if not np.isfinite(value):
        st.markdown(
            "Not measured: " + (f"{task_name(on)} is learned later." if on > after else "the run has not got that far.")
        )
        return
    learned = matrix[on, on] if on < len(matrix) else np.nan
    early = after < on
    with st.container(horizontal=True, gap="medium"):
        st.metric("Accuracy", percent(value), width="content")
        st.metric(
            "When just learned",
            percent(learned),
            width="content",
            help="a(j, j), the learning accuracy of this task: right after it was trained",
        )
        if early and after >= 0 and untrained is not None:
            st.metric(
                "Change since zero-shot",
                points(value - untrained[on]),
                width="content",
                help="a(i, j) minus the accuracy before any training, in percentage points: what learning other tasks "
                "did to one not learned yet",
            )
        elif not early:
            st.metric(
                "Change since",
                points(value - learned),
                width="content",
                help="a(i, j) − a(j, j), in percentage points",
            )
    if early:
        st.markdown(f"{title} had not been learned yet: this is the zero-shot accuracy.")
        return
    rows = with_later(ledger_rows(log), on, after, opened.later)
    fallen, headline = ledger(rows, on, after), headline_readout(log.events(AccuracyMeasured))
    said = [verdict(fallen, rows, opened.images, class_names(plan))]
    if headline != fallen.readout:  # the matrix and the numbers beside it use another readout
        st.caption(f"By {headline}, this run's default readout.")
        by_heads = f"By its own trained heads ({fallen.readout}): {said[0]}"
        said = [by_headline(headline, rows, on, after, float(learned), float(value)), by_heads]
        said.append(why_two(headline, fallen.readout) if on < after else "")
    answer(" ".join(filter(None, said)))


def stored_images(log: Snapshot, task: int) -> ImagesStored | None:
    return next((event for event in log.events(ImagesStored) if event.clock.task == task), None)


def class_names(plan: RunStarted) -> list[str]:
    return [str(name) for task in plan.tasks for name in task.get("classes", [])]


# ---------------------------------------------------------------- the cause


def cause(log: Snapshot, opened: Opened) -> None:
    """Draw the parts of the cell's loss; a click on a part shows its images."""
    after, on, later = opened.after, opened.on, opened.later
    cell = ledger(with_later(ledger_rows(log), on, after, later), on, after)
    if cell.drop is None:
        return
    left, right = st.columns(2)
    with left:
        fitted: dict[str, Any] = {name: tuple(later[name]) for name in ("refit", "recomputed") if later and later[name]}
        show_figure("forgetting-ledger", log, on_pick=_open_part, task=on, after=after, **fitted)
        if None in cell.levels["R"] and log.config is not None and not log.config.trained_elsewhere:
            st.caption(f"A refitted head was not measured in this cell: {HOW_TO_REFIT}.")
        if log.count(OldTasksMeasured):
            show_figure("old-tasks-within", log)
    with right:
        layers(log, opened)


def _wait(at_work: Callable[[], bool], *, key: str) -> None:
    """Say that a worker is measuring, and redraw the page when it has ended."""

    def body() -> None:
        if at_work():
            st.markdown("Measuring from checkpoints, in a separate process …")
        else:
            st.rerun()

    st.fragment(body, run_every=every(2.0), key=key)()


def layers(log: Snapshot, opened: Opened) -> None:
    """Draw the recovered accuracy per layer, or offer to compute it and the other measurements from checkpoints."""
    after, on, found = opened.after, opened.on, opened.later
    if on == after:
        return
    if found is not None:
        show_plot(layers_recovered, found, on_pick=_open_layer, task=on, after=after, key="layers-recovered")
        st.markdown(f"**{literal(where(found))}**")
        block = block_found(found)
        measured = log.count(SpectrumMeasured) + log.count(WeightSpectrumMeasured)
        there = measured and block is not None and block - 1 in layers_of(SPECTRA, log)
        if there and st.button(f"Layer {block} on Spectra", key="to-spectra", icon=":material/arrow_outward:"):
            go_to("pages/spectra.py", task=task_name(after), layer=str(block))
        if current().recording or found["answers"] is not None:
            return
    with st.container(border=True, key="panel-layers"):
        st.markdown(f"**Which layer lost {task_name(on)}**" if found is None else "**Measured by an earlier version**")
        at_work = partial(launch.locating, log.folder, on, after)
        if at_work():
            _wait(at_work, key="wait-layers")
            return
        known, frame = boundaries(log.folder), current()
        missing = [task_name(task) for task in (on, after) if task + 1 not in known]
        if frame.recording or missing:
            why = (
                "a recording has no checkpoints" if frame.recording else f"there is none after {' and '.join(missing)}"
            )
            st.markdown(f"Not measured, and not possible here: it needs the checkpoints after both tasks, and {why}.")
            return
        if words := launch.locating_failed(log.folder, on, after):
            st.error(sentence(words), icon=":material/error:")
        then, now = task_name(on), task_name(after)
        st.markdown(
            f"Loads the checkpoints after {then} and after {now} in a separate process, inserts blocks of the old "
            "model into the current one, one at a time, and measures the recovered accuracy. It also computes the "
            f"missing parts (heads and statistics refitted to the features at both times) and the path of every "
            f"test image of {then} among the classes. Takes some seconds on a small model."
        )
        ask = partial(launch.locate, log.folder, on, after)
        st.button("Measure from checkpoints", key="find-layer", on_click=_started, args=(ask,))
        if refused := st.session_state.pop("_locate-refused", ""):
            st.error(sentence(refused), icon=":material/error:")


UNTOUCHED = "before training"


def line_between_weights(log: Snapshot, plan: RunStarted, after: int) -> None:
    """Draw accuracies along the line between two states of the weights, if a method changes a CLIP's weights."""
    if "joint_width" not in plan.backbone or not log.count(WeightSpectrumMeasured) or after < 0:
        return
    with st.container(border=True, key="panel-line"):
        starts = [UNTOUCHED, *(task_name(task) for task in range(after))]
        chosen = choose("From the weights", "line", starts, UNTOUCHED)
        start = measured_later.UNTOUCHED if chosen == UNTOUCHED else int(chosen[1:]) - 1
        found = measured_later.read_line(log.folder, start, after)
        if found is not None:
            alpha = st.slider(
                f"Share of the way to {task_name(after)}", 0.0, 1.0, 1.0, 0.1, key="line-alpha", bind="query-params"
            )
            show_plot(interpolation, found, alpha=alpha, key="interpolation", border=False)
            return
        st.markdown("**Between two states of the weights**")
        at_work = partial(launch.interpolating, log.folder, start, after)
        if at_work():
            _wait(at_work, key="wait-line")
            return
        needed = [task for task in (start, after) if task >= 0]
        known = () if current().recording else boundaries(log.folder)
        if missing := [task_name(task) for task in needed if task + 1 not in known]:
            where_not = " and ".join(missing)
            st.markdown(f"Not measured, and not possible here: there is no checkpoint after {where_not}.")
            return
        if words := launch.interpolating_failed(log.folder, start, after):
            st.error(sentence(words), icon=":material/error:")
        st.markdown(
            "New accuracy against retained zero-shot accuracy, at 11 interpolations of the weights (WiSE-FT). Loads "
            "the checkpoints in a separate process and classifies all test images at each point."
        )
        ask = partial(launch.interpolate, log.folder, start, after)
        st.button("Measure the line", key="measure-line", on_click=_started, args=(ask,))


def _started(ask: Callable[[], None]) -> None:
    try:
        ask()
    except StoreError as error:
        st.session_state["_locate-refused"] = str(error)


def _open_layer(point: dict[str, object]) -> None:
    st.session_state["layer"] = str(round(float(point["x"])))  # type: ignore[arg-type]


def _open_part(point: dict[str, object]) -> None:
    name = str((point.get("custom") or [""])[0])  # type: ignore[index]
    st.session_state["images-shown"] = st.session_state["_to_images"] = name or LOST


# ---------------------------------------------------------------- images of the cell


TAKEN_FOR = " taken for "


def confused_pair(shown: str, names: list[str]) -> tuple[int, int] | None:
    """Return (class, predicted class) if `shown` names a group of confused images, else None."""
    known = {_class(names, k): k for k in range(len(names))}
    true, _, said = shown.partition(TAKEN_FOR)
    return (known[true], known[said]) if true in known and said in known else None


def groups_of(
    found: Images, confused: tuple[int, int] | None, labels: np.ndarray, names: list[str]
) -> dict[str, np.ndarray]:
    """Map group names to positions of images, largest loss of margin first; empty groups are left out."""
    then, now = found.right[found.own]
    order = np.argsort(found.margins[1] - found.margins[0], kind="stable")
    chosen = {LOST: found.lost, WON: ~then & now, NEVER: ~then & ~now}
    for part in (COMPETE, OUTDATED, FEATURES, STALE):
        share = found.of_part(part)
        if len(share):
            chosen[part] = share > 0
    if confused is not None:
        a, b = confused
        chosen[f"{_class(names, a)}{TAKEN_FOR}{_class(names, b)}"] = (labels == a) & (found.predicted == b)
    chosen[ALL] = np.ones(len(now), dtype=bool)
    return {name: order[mask[order]] for name, mask in chosen.items() if mask.any()}


def images_part(log: Snapshot, plan: RunStarted, opened: Opened) -> None:
    """Draw thumbnails of the cell's images; one can be chosen for tracing."""
    after, on, found = opened.after, opened.on, opened.images
    stored, names = stored_images(log, on), class_names(plan)
    if stored is None or found is None:
        not_measured(
            f"Predictions for each test image of {task_name(on)} were not stored in this run.",
            "Runs started with `diagnostics.images` above 0 (10,000 unless changed) have it.",
        )
        lost_images(log, plan, after, on)
        return
    labels = np.asarray(stored.labels)
    state = st.session_state
    wanted = state.get("images-shown") or st.query_params.get("images-shown") or ""
    groups = groups_of(found, confused_pair(wanted, names), labels, names)
    if "images-shown" in state and wanted not in groups:  # belongs to another cell
        state["images-shown"] = next(iter(groups))
    st.container(key="its-images").markdown("### Its images")
    if (clicked := state.pop("_to_images", None)) is not None:
        bring_into_view("its-images", clicked)
    shown = choose_as(
        "Images",
        "images-shown",
        list(groups),
        lambda name: f"{name} ({len(groups[name])})",
        buttons=True,
        label_visibility="collapsed",
        required=True,
    )
    places = groups[shown or next(iter(groups))]
    with st.container(horizontal=True, gap="small", key="forgetting-images"):
        for i in places[:SHOWN].tolist():
            with st.container(width=SIDE + 24, gap=None, key=f"forgetting-image-{i}"):
                st.image(_enlarged(stored.images[i]), width=SIDE, alt=f"Test image {i + 1} of {task_name(on)}")
                st.button(
                    f"{i + 1}: {literal(_class(names, found.predicted[i]))}",
                    key=f"trace-{on}-{i}",
                    type="tertiary",
                    help=f"a {literal(_class(names, labels[i]))}; margin {_path(found, i)}",
                    on_click=_trace,
                    args=(i,),
                )
    words = f"{min(len(places), SHOWN)} of {len(places)}, largest loss of margin first; below each its "
    words += f"predicted class after {task_name(after)}. Choose one to trace it."
    if len(labels) < stored.total:
        words += f" Stored are {len(labels)} of {stored.total} test images, evenly spaced."
    st.caption(words)


def _path(found: Images, image: int) -> str:
    then, now = (float(margin[image]) for margin in found.margins)
    return f"{then:+.1f} → {now:+.1f}".replace("-", "−")


def _trace(image: int) -> None:
    st.session_state["image"] = str(image + 1)
    st.session_state["_to_traced"] = image


def bring_into_view(key: str, clicked: object) -> None:
    """Scroll to the part `key` after a click elsewhere on the page has changed it. `clicked` must differ from click to
    click, because a browser runs a script again only if its text has changed."""
    mark = "".join(character for character in str(clicked) if character.isalnum())
    move = f"document.querySelector('.st-key-{key}')?.scrollIntoView({{block: 'start'}})"
    st.html(f"<script>/* {mark} */ requestAnimationFrame(() => {move})</script>", unsafe_allow_javascript=True)


def _open_confused(plan: RunStarted, point: dict[str, object]) -> None:
    """Open the images behind a cell of the confusion matrix, in the accuracy cell of their task."""
    custom = point.get("custom")
    if not isinstance(custom, list) or len(custom) != 5:
        return
    true, said = int(custom[3]), int(custom[4])
    task_of = [index for index, task in enumerate(plan.tasks) for _ in task.get("classes", [])]
    names, whole = class_names(plan), str(custom[0]) == task_name(true)  # with many classes, rows are tasks
    st.session_state["to"] = task_name(true if whole else task_of[true])
    if not whole:
        shown = f"{_class(names, true)}{TAKEN_FOR}{_class(names, said)}"
        st.session_state["images-shown"] = st.session_state["_to_images"] = shown


# ---------------------------------------------------------------- trace of one image


def trace_part(log: Snapshot, plan: RunStarted, opened: Opened) -> None:
    """Draw one image after every task: prediction, margin, readouts, attention; pinned images beside it."""
    after, on, found = opened.after, opened.on, opened.images
    stored, names = stored_images(log, on), class_names(plan)
    if stored is None or found is None:
        return
    labels, state = np.asarray(stored.labels), st.session_state
    if state.get("_traced_of", on) != on and state.get("image") == state.get("_image_before"):
        state["image"] = NO_IMAGE  # refers to an image of another task
    state["_traced_of"] = on
    options = [NO_IMAGE, *(str(i + 1) for i in range(len(labels)))]
    chosen, layer = choose("Image", "image", options, NO_IMAGE), current().layer
    pinned = pins(log)
    here = None if chosen == NO_IMAGE else (on, int(chosen) - 1)
    traced = list(dict.fromkeys([*([here] if here else []), *pinned]))
    if not traced:
        return
    st.container(key="traced").markdown("### Traced")
    if (clicked := state.pop("_to_traced", None)) is not None:
        bring_into_view("traced", clicked)
    left, right = st.columns([2, 5], gap="medium")
    with left:
        if here is not None:
            image = here[1]
            st.image(_enlarged(stored.images[image]), width=2 * SIDE, alt=f"Test image {image + 1} of {task_name(on)}")
            st.markdown(literal(why_image(found, image, names, int(labels[image]))))
            st.markdown(readouts_of(log, on, after, image, names))
            st.button(
                "Unpin" if here in pinned else "Pin",
                key="pin",
                icon=":material/keep:",
                disabled=here not in pinned and len(pinned) >= PINNED,
                help=f"Pinned images stay, at most {PINNED}, also in other runs of the same stream and seed.",
                on_click=_pin,
                args=(stream_of(log), here),
            )
        if pinned:
            st.caption("Pinned: " + ", ".join(f"{task_name(task)} image {image + 1}" for task, image in pinned))
    with right:
        show_figure("image-margins", log, traced=tuple(traced))
        if here is not None:
            path_of(plan, int(stored.rows[here[1]]), int(labels[here[1]]), opened)
            attention_of(log, stored, here[1], layer, after, on)


def path_of(plan: RunStarted, row: int, true: int, opened: Opened) -> None:
    """Draw how one image moved among the stored class means; `row` is its index among the task's test images."""
    if opened.on == opened.after:
        return
    later, names = opened.later, class_names(plan)
    if (mine := measured_later.path_of(later, row)) is None:
        why = (
            "*Measure from checkpoints* above computes it for all images of this cell"
            if later is None or later["answers"] is None
            else "no class means are stored in streams where the task is known"
            if later["paths"] is None
            else f"only {len(later['paths']['rows'])} evenly spaced images of this task were followed"
        )
        st.caption(f"Nearest class means, and the path of its features among the classes: not measured; {why}.")
        return
    if mine["path"] is not None:
        show_plot(image_path, mine, true=true, names=names, tasks=plan.tasks, key="image-path")
    st.markdown("  \n".join(map(literal, near_means(later, row, names))))


def readouts_of(log: Snapshot, task: int, after: int, image: int, names: list[str]) -> str:
    """List every readout's prediction for an image, one per line."""
    answers = answers_of(log.events(ImagesClassified), task)
    lines = []
    for readout in answers[after].readouts:
        said = []
        for moment in dict.fromkeys((task, after)):
            event = answers[moment]
            if readout in event.readouts:
                row = event.readouts.index(readout)
                margin = f"{float(event.margins[row][image]):+.1f}".replace("-", "−")
                name = literal(_class(names, int(event.predicted[row][image])))
                said.append(f"{name} ({margin}) after {task_name(moment)}")
        lines.append(f"- {readout}: " + ", ".join(said))
    return "\n".join(lines)


def attention_of(log: Snapshot, stored: ImagesStored, image: int, layer: int, after: int, on: int) -> None:
    """Draw attention on the image then and now, if it is a probe image of the task, with a link to the page."""
    probes = next((event for event in log.events(ProbesChosen) if event.clock.task == on), None)
    place = None if probes is None else probe_place(np.asarray(stored.labels), image, len(probes.labels), stored.total)
    compared = {event.clock.task for event in log.events(AttentionCompared) if event.probe_task == on}
    if place is None or not {on, after} <= compared:
        st.caption("Attention is recorded for a task's first test images of each class, its probe images.")
        return
    show_figure("attention-on-image", log, probe=on, image=place, layer=layer, head=None, before=on, after=after)
    if st.button("Open on Attention and prompts", key="to-attention"):
        there = {"probe": task_name(on), "task": task_name(after), "image": str(place + 1), "layer": str(layer + 1)}
        go_to("pages/attention.py", **there)


def stream_of(log: Snapshot) -> tuple[str, int | None]:
    """Return the stream and seed, which two runs must share for their test images to be the same."""
    return (log.config.stream, log.config.seed) if log.config is not None else ("", None)


def pins(log: Snapshot) -> list[tuple[int, int]]:
    """Return (task, image) of the pinned images that this run also has."""
    sizes = {event.clock.task: len(event.labels) for event in log.events(ImagesStored)}
    mine = [pinned for stream, pinned in st.session_state.get("_pinned", []) if stream == stream_of(log)]
    return [(task, image) for task, image in mine if image < sizes.get(task, 0)]


def _pin(stream: tuple[str, int | None], image: tuple[int, int]) -> None:
    kept: list[tuple[tuple[str, int | None], tuple[int, int]]] = st.session_state.setdefault("_pinned", [])
    if (stream, image) in kept:
        kept.remove((stream, image))
    else:
        kept.append((stream, image))


# ---------------------------------------------------------------- runs without stored predictions


def lost_images(log: Snapshot, plan: RunStarted, after: int, on: int) -> None:
    """Draw a task's probe images that were correct when it had just been learned and are wrong now, if any."""
    probes = next((e for e in log.events(ProbesChosen) if e.clock.task == on), None)
    said = {e.clock.task: e for e in log.events(PredictionsMade) if e.evaluated == on}
    if probes is None or after not in said or on not in said:
        return
    labels = np.asarray(probes.labels)
    then, now = (np.asarray(said[task].predicted) == labels for task in (on, after))
    names = [str(name) for task in plan.tasks for name in task.get("classes", [])]
    if after == on:
        st.markdown(f"{int(now.sum())} of {len(labels)} probe images are correct; the task was just learned.")
        chosen, word = np.flatnonzero(~now), "Wrong from the start"
    else:
        chosen, word = np.flatnonzero(then & ~now), "Lost since"
        won = int((~then & now).sum())
        st.markdown(
            f"Of {len(labels)} probe images {int(then.sum())} were correct when {task_name(on)} had just been learned; "
            f"{len(chosen)} of these {'is' if len(chosen) == 1 else 'are'} wrong now"
            + (f", {won} other{'s' if won > 1 else ''} became correct." if won else ".")
        )
    if not len(chosen):
        return
    st.markdown(f"**{word}**")
    margins = {task: np.asarray(event.margin) for task, event in said.items()}
    with st.container(horizontal=True, gap="small"):
        for i in chosen[:SHOWN]:
            path = [f"{float(margins[t][i]):+.1f}".replace("-", "−") for t in sorted(margins) if on <= t <= after]
            with st.container(width=SIDE + 8, gap=None):
                picture = _enlarged(np.asarray(probes.images[i]))
                st.image(picture, width=SIDE, alt=f"Probe image {i + 1} of {task_name(on)}")
                st.caption(
                    f"{literal(probes.names[i])}, classified as {literal(_class(names, said[after].predicted[i]))}  \n"
                    + " → ".join(path if len(path) < 3 else [path[0], path[-1]])
                )
    st.caption(
        "Below each image its margin when just learned and now: score of the true class minus the best other. "
        "Below zero the image is lost; a shrinking margin warns earlier than the accuracy."
    )


def _enlarged(image: np.ndarray) -> np.ndarray:
    """Enlarge small images with hard pixel edges, so that the browser does not blur them."""
    factor = max(1, 2 * SIDE // image.shape[0])
    return np.kron(image, np.ones((factor, factor, 1), dtype=np.uint8)) if factor > 1 else image


def _class(names: list[str], identity: int) -> str:
    return names[int(identity)] if 0 <= int(identity) < len(names) else f"class {int(identity) + 1}"


def numbers(log: Snapshot, live: bool) -> None:
    """Show a table of the run's measures for every readout."""
    measured = log.events(AccuracyMeasured)
    found = {readout: measures(accuracies(measured, readout).tolist()) for readout in readouts(measured)}
    columns = [*MEASURES, *(MEASURES_FROM_THE_START if any(f["transfer"] is not None for f in found.values()) else ())]
    table: dict[str, list[str]] = {"readout": list(found)}
    for name in columns:
        say = {"forgetting": lambda v: points(v).lstrip("+"), "backward_transfer": points}.get(name, percent)
        table[name.replace("_", " ")] = [say(numbers[name]) for numbers in found.values()]
    st.markdown("**In numbers" + (", so far" if live else "") + "**")
    st.dataframe(table, hide_index=True, width="stretch", key="forgetting-numbers", alt="Numbers of each readout")
    st.caption(
        "Forgetting: mean over earlier tasks of the best earlier accuracy minus the accuracy now, without the newest "
        "row among the earlier ones. Backward transfer: mean of a(n, j) − a(j, j), signed."
        + (
            " Transfer: accuracy before learning, per task first; average: all cells; last: the newest row, all tasks."
            if len(columns) > len(MEASURES)
            else ""
        )
    )


def _older_link() -> None:
    """Accept older links, which name the image `trace`."""
    if (image := st.query_params.get("trace")) is not None:
        begin_with("image", image)
        del st.query_params["trace"]


def show() -> None:
    opened = open_run_page(
        FORGOTTEN,
        "Open a cell of the accuracy matrix to see which images were lost. This page needs a run.",
        key="forgetting",
    )
    if opened is None:
        return
    frame, log = opened
    measured, plan = log.events(AccuracyMeasured), log.started()
    matrix, untrained = accuracies(measured, rows=plan.trained_tasks if plan else None), zero_shot(measured)
    if plan is not None and untrained is not None and not matrix.size:
        matrix = np.full((plan.trained_tasks, len(untrained)), np.nan)
    if plan is None or not (np.isfinite(matrix).any() or (untrained is not None and matrix.size)):
        if not log.trouble:
            empty(
                "The accuracy matrix appears here when the first task has been learned.",
                "Follow it on the Run page",
                page="pages/run.py",
            )
        return
    joint = plan.trained_tasks == 1 < len(plan.tasks)
    _older_link()
    show_alerts(log)
    after, on = 0, 0
    left, right = st.columns([5, 4], gap="medium")
    with right:
        if joint:
            st.markdown(
                "All tasks were learned at once: there is nothing earlier to forget. "
                "This run is the upper reference for the others."
            )
        else:
            after, on = cell_choice(matrix, untrained, ledger_rows(log))
            move_cell(matrix, untrained, after, on)
            chosen = opened_cell(log, after, on)
            cell(log, plan, matrix, untrained, chosen)
    with left:
        show_figure("accuracy-matrix", log, on_pick=None if joint else _open_cell)
    if not joint and 0 <= on <= after < len(matrix) and np.isfinite(matrix[after, on]):
        cause(log, chosen)
        images_part(log, plan, chosen)
        trace_part(log, plan, chosen)
    st.markdown("### All tasks")
    if not joint:
        line_between_weights(log, plan, after)
    if log.count(ImagesClassified):
        left, right = st.columns(2)
        with left:
            pick = None if joint or shared_classes(plan.tasks) else partial(_open_confused, plan)
            show_figure("confusion", log, on_pick=pick, after=_answered(log, after, joint))
        with right:
            show_figure("class-accuracy", log)
            if not joint:
                show_figure("image-flow", log, task=on)
    left, right = st.columns(2)
    if not joint:
        with left:
            show_figure("learned-and-kept", log)
        with right:
            show_figure("accuracy-over-time", log)
    if len(readouts(measured)) > 1:
        left, right = st.columns(2)
        with left:
            show_figure("readout-comparison", log)
        with right:
            show_figure("readout-bars", log)
    elif headline_readout(measured) != TASK_INCREMENTAL:  # if the task is known, there is only one readout
        not_measured(
            "Other readouts were not recorded.",
            "Switch *readout* on under *Measured besides accuracy* when starting a run.",
        )
    if readouts(measured):
        numbers(log, frame.live)


def _answered(log: Snapshot, after: int, joint: bool) -> int:
    """Return the chosen task if predictions were stored after it, else the newest task with predictions."""
    known = sorted({event.clock.task for event in log.events(ImagesClassified)})
    return after if after in known and not joint else known[-1]


show()
