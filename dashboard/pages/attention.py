"""Attention and prompts: attention of the class token on old images before and after a task, and paths of prompts."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cl_core.events import (
    AttentionCompared,
    FeaturesCompared,
    PredictionsMade,
    ProbesChosen,
    PromptsDrifted,
    UpdateMeasured,
)
from dashboard.run_log import Snapshot
from dashboard.theme import number, task_name
from dashboard.verdicts import ATTENTION, WEIGHTS, attention_kept, weights_moved
from dashboard.view_state import (
    ViewState,
    choose,
    current,
    empty,
    learned_at_once,
    literal,
    not_measured,
    run_title,
    show_figure,
)
from dashboard.widgets.inspection import answer, more, offer_runs, open_run_page
from dashboard.widgets.shared_controls import hide

ALL_HEADS = "all"
LOOKED_AT = (AttentionCompared, FeaturesCompared, PromptsDrifted)
LEARNED, PREVIOUS = "just learned", "the task before"


def answers(log: Snapshot, probe: int, image: int) -> str:
    """One sentence with the model's answer for one probe image after each task."""
    plan = log.started()
    names = [str(name) for part in (plan.tasks if plan else []) for name in part.get("classes", [])]
    said = []
    newest = {e.clock.task: e for e in log.events(PredictionsMade) if e.evaluated == probe}
    for task, event in sorted(newest.items()):
        if image < len(event.predicted):
            k, margin = int(event.predicted[image]), float(event.margin[image])
            name = literal(names[k]) if 0 <= k < len(names) else f"class {k + 1}"
            said.append(
                f"after {task_name(task)} {'**' + name + '**' if margin > 0 else name + ' (wrong)'}, margin "
                f"{number(margin)}"
            )
    return "The model's answer: " + "; ".join(said) + "." if said else ""


def images_part(frame: ViewState, log: Snapshot) -> None:
    """Draw one probe image: attention before and after, and the difference."""
    compared = log.events(AttentionCompared)
    probes = {e.clock.task: e for e in log.events(ProbesChosen)}
    known = sorted({e.probe_task for e in compared if e.probe_task in probes})
    if not known:
        not_measured(
            "No probe images were stored in this run, so there is nothing to draw attention on.",
            "Start one with `--set diagnostics.attention=true`.",
        )
        return
    plan = log.started()
    heads = int(plan.backbone.get("heads", 1)) if plan else 1
    task, layer = frame.task, frame.layer
    probe = frame.probe if frame.probe in known else known[0]
    found = probes[probe]
    image = min(frame.image, len(found.images) - 1)
    with st.container(horizontal=True, gap="large", key="attention-controls"):
        head = choose("Head", "head", [ALL_HEADS, *(str(h + 1) for h in range(heads))], ALL_HEADS)
        against = choose("Compared with", "against", [LEARNED, PREVIOUS], LEARNED)
    with st.container(horizontal=True, gap="small", key="attention-thumbnails"):
        for i, picture in enumerate(found.images):
            st.image(
                picture,
                width=56,
                caption=f"{i + 1} {literal(found.names[i])}" if i < len(found.names) else str(i + 1),
                alt=f"Probe image {i + 1} of {task_name(probe)}",
            )
    mine = {e.clock.task: e for e in compared if e.probe_task == probe}
    after_task = max(mine) if task is None else task
    learned = min(mine)  # when attention on them was first measured
    before_task = learned if against == LEARNED else max(after_task - 1, learned)
    if after_task < learned:
        st.info(
            f"Attention on images of {task_name(probe)} was first measured after {task_name(learned)}: choose that "
            "or a later task above, or images of an earlier one.",
            icon=":material/info:",
        )
        return
    if after_task not in mine or before_task not in mine:
        missing = task_name(after_task if after_task not in mine else before_task)
        st.info(
            f"Attention on these images after {missing} has not been measured" + (" yet." if len(mine) else "."),
            icon=":material/info:",
        )
        return
    which = None if head == ALL_HEADS else int(head) - 1
    grid = tuple(plan.backbone.get("patch_grid", ())) if plan else ()
    if len(grid) != 2 or grid[0] * grid[1] + 1 > mine[after_task].class_attention.shape[-1]:
        not_measured(
            "This backbone's tokens do not form a grid of patches, so attention cannot be drawn on the image.",
            "The figures below do not need one.",
        )
        return
    chosen: dict[str, Any] = {"probe": probe, "image": image, "layer": layer, "head": which}
    show_figure("attention-on-image", log, **chosen, before=before_task, after=after_task)
    said = answers(log, probe, image)
    if said:
        st.caption(said + " Margin: logit of the true class minus the best other.")


def attention_part(frame: ViewState, log: Snapshot) -> None:
    """Draw the attention on images, then its consistency over layers."""
    from dashboard.figures.event_arrays import compared_later

    compared = log.events(AttentionCompared)
    st.markdown("### Attention on old images")
    if not compared and log.count(FeaturesCompared):
        st.markdown("Attention was not recorded in this run, only the drift of the features of probe images.")
        show_figure("recorded-feature-drift", log)
        return
    if not compared:
        if log.config is not None and not log.config.diagnostics.attention:
            not_measured(
                "Attention was not recorded in this run.",
                "Start one with `--set diagnostics.attention=true` to see it here.",
            )
        elif frame.live:
            st.markdown(f"Attention maps of old images appear here when {task_name(0)} has been learned.")
        else:
            not_measured(
                "This run has no attention: its network computes none."
                if log.tasks_ended()
                else "This run has no attention: it ended before its first task was measured.",
                "Runs on a vision transformer with `diagnostics.attention` on have it.",
            )
            offer_runs(AttentionCompared, key="attention")
        return
    images_part(frame, log)
    plan, layer = log.started(), frame.layer
    later = compared_later(compared)
    if not later:
        if plan is not None and plan.trained_tasks == 1:
            st.markdown("This run has a single stage of training: there is no earlier attention to compare with.")
        else:
            st.markdown(
                "The consistency of attention is drawn here once a second task has been learned; until then there "
                "is nothing to compare with."
            )
        return
    probe = frame.probe if any(e.probe_task == frame.probe for e in later) else later[0].probe_task
    left, right = st.columns([3, 2])
    with left:
        show_figure("consistency-by-layer", log, probe=probe, layer=layer)
    with right:
        show_figure("consistency-over-tasks", log, layer=layer)
    with more("Attention paid to prompts, and drift of the features", key="attention-more") as opened:
        if opened:
            left, right = st.columns([3, 2])
            prompted = any(share > 0 for e in compared for share in e.prompt_mass)
            if prompted:
                with left:
                    show_figure("prompt-mass", log, layer=layer, height=340)
            with right if prompted else left:
                show_figure("feature-drift", log)


def prompts_part(frame: ViewState, log: Snapshot, layer: int) -> None:
    """Draw how the prompt tokens, or the weights, have moved."""
    drifted, updates = log.events(PromptsDrifted), log.events(UpdateMeasured)
    has_prompts = bool(drifted) or not updates or log.config is None or not log.config.diagnostics.drift
    st.markdown("### Prompts" if has_prompts else "### Change of the weights")
    if not drifted and not updates:
        if log.config is not None and not log.config.diagnostics.drift:
            not_measured(
                "Prompt tokens were not recorded in this run.",
                "Start one with `--set diagnostics.drift=true` to see them here.",
            )
        elif frame.live:
            st.markdown("Paths of the prompt tokens appear here after the first epoch.")
        else:
            not_measured(
                "This run has no prompt tokens: its method uses none, or it ended before the first epoch.",
                "Runs of a prompt method with `diagnostics.drift` on have them.",
            )
        return
    if drifted and layer >= len(drifted[-1].means):
        not_measured(f"Only the first {len(drifted[-1].means)} layers have prompts.", "Choose one of them above.")
        return
    if drifted:
        together = st.toggle(
            "From a common start",
            value=True,
            key="common-start",
            bind="query-params",
            help="On: direction and distance of each prompt's movement. Off: position of each prompt.",
        )
        left, right = st.columns([3, 2])
        with left, st.container(key="attention-paths"):
            show_figure("prompt-paths", log, key=f"prompt-paths-{together}", layer=layer, common_start=together)
        with right:
            if updates:
                show_figure("movement", log)
        with more("Mean and spread of the prompts", key="prompts-more") as opened:
            if opened:
                left, right = st.columns(2)
                with left:
                    show_figure("prompt-statistics", log, layer=layer)
                with right:
                    show_figure("statistics-drift", log)
    else:
        show_figure("movement", log)


def show() -> None:
    chosen = current().log
    weights_alone = chosen is not None and chosen.count(UpdateMeasured) and not any(map(chosen.count, LOOKED_AT))
    opened = open_run_page(
        WEIGHTS if weights_alone else ATTENTION,
        "Attention on old images and the paths of the prompts appear here as soon as there is a run.",
        key="attention",
    )
    if opened is None:
        return
    frame, log = opened
    if log.started() is None:
        empty(
            f"Nothing has been measured in {run_title(log)} yet; attention and prompts appear here while it trains.",
            "Follow the run",
            page="pages/run.py",
            key="attention-empty",
        )
        return
    learned_at_once(log)
    if not log.count(AttentionCompared):
        hide(["task", "probe", "image"] if log.count(PromptsDrifted) else ["task", "layer", "probe", "image"])
    if weights_alone:
        answer(weights_moved(log.events(UpdateMeasured)))
        show_figure("movement", log)
        attention_part(frame, log)
        return
    answer(attention_kept(log.events(AttentionCompared), frame.task))
    attention_part(frame, log)
    prompts_part(frame, log, frame.layer)


show()
