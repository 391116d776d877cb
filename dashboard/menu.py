"""The navigation bar: pages grouped by use, and which of them the chosen run has data for. No streamlit.

Pages without data for the run stay in the bar, because they say how to record it; their entries are marked.
"""

from __future__ import annotations

from dataclasses import dataclass

from cl_core.events import (
    AccuracyMeasured,
    AttentionCompared,
    ConceptorMeasured,
    Event,
    FeaturesCompared,
    ForwardTransferMeasured,
    KeysMoved,
    MixtureFitted,
    ModalityGapMeasured,
    PromptsDrifted,
    SelectionMeasured,
    SimilaritiesMeasured,
    SpectrumMeasured,
    SubspaceMeasured,
    UpdateMeasured,
    WeightSpectrumMeasured,
)
from dashboard.run_log import Snapshot

LOOK_AT, COMPARE, ELSEWHERE = "Look at", "Compare", "elsewhere"


@dataclass(frozen=True)
class Entry:
    """A page: its place in the bar and the events it needs."""

    page: str  # file below pages/ and path in the URL
    title: str
    icon: str
    group: str = ""  # "" = in the bar itself, ELSEWHERE = reached from the run's menu
    needs: tuple[type[Event], ...] = ()  # one of these must have been measured
    shares: tuple[str, ...] = ()  # shared controls that it shows
    layers: tuple[type[Event], ...] = ()  # its Layer control offers layers with these events; () = all


PAGES = (
    Entry("start", "Start", "home"),
    Entry("playground", "Playground", "toys"),
    Entry("run", "Run", "monitoring"),
    Entry("learn", "Learn", "school"),
    Entry("forgetting", "Forgetting", "grid_on", LOOK_AT, (AccuracyMeasured,), ("layer",)),
    Entry(
        "spectra",
        "Spectra",
        "stacked_line_chart",
        LOOK_AT,
        (SpectrumMeasured, WeightSpectrumMeasured, SubspaceMeasured, ForwardTransferMeasured, ConceptorMeasured),
        ("task", "layer"),
        (SpectrumMeasured, ConceptorMeasured),
    ),
    Entry(
        "attention",
        "Attention and prompts",
        "center_focus_strong",
        LOOK_AT,
        (AttentionCompared, FeaturesCompared, PromptsDrifted, UpdateMeasured),
        ("task", "layer", "probe", "image"),
    ),
    Entry(
        "pools",
        "Prompt pools",
        "grain",
        LOOK_AT,
        (SelectionMeasured, KeysMoved, MixtureFitted),
        ("task", "layer"),
        (SelectionMeasured,),
    ),
    Entry("gap", "Image and text", "join_inner", LOOK_AT, (ModalityGapMeasured, SimilaritiesMeasured), ("task",)),
    Entry("compare", "Runs", "compare_arrows", COMPARE),
    Entry(
        "whatif",
        "What if",
        "tune",
        COMPARE,
        (SpectrumMeasured, WeightSpectrumMeasured),
        ("task", "layer"),
        (SpectrumMeasured, WeightSpectrumMeasured),
    ),
    Entry("questions", "Questions", "help_center", COMPARE),
    Entry("own", "Your own", "upload", ELSEWHERE),  # reached from Start
    Entry("export", "Export", "ios_share", ELSEWHERE),
    Entry("measurements", "All measurements", "dataset", ELSEWHERE),
)


def lacking(entry: Entry, log: Snapshot | None, *, live: bool) -> str:
    """Return in a few words why `entry` has nothing to show for a run; "" if it has, or if no run is chosen."""
    if log is None or not entry.needs or any(log.count(kind) for kind in entry.needs):
        return ""
    return "not yet" if live else "not in this run"


def layers_of(entry: Entry, log: Snapshot) -> list[int]:
    """Return the layers (from 0) for the page's Layer control: those with its events, or all layers of the model if the
    page draws all or nothing was measured yet."""
    measured = {layer for kind in entry.layers for event in log.events(kind) for layer in _layers(event)}
    plan = log.started()
    return sorted(measured) or list(range(int(plan.backbone.get("depth", 0)) if plan else 0))


def _layers(event: Event) -> tuple[int, ...]:
    if isinstance(event, WeightSpectrumMeasured):  # "image.3.query"
        block = event.name.split(".")[1:2]
        return tuple(int(text) for text in block if text.isdigit())
    layer = getattr(event, "layer", -1)
    return (layer,) if layer >= 0 else ()  # below zero: the whole model
