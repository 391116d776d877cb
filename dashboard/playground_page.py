"""Export of a frontier as one HTML file whose slider works without a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cl_core.playground.frontier import neutral, points
from cl_core.playground.settings import RULES, STREAMS, PlaygroundConfig, at_strength, slider_of
from cl_core.playground.training import Outcome
from dashboard.widgets.playground_board import board_page, board_record


def frontier_page(outcomes: Sequence[Outcome]) -> str:
    """Return the page of networks that differ in strength and seed."""
    return page_of(outcomes[0].config, points(outcomes))


def page_of(config: PlaygroundConfig, found: Sequence[dict[str, Any]]) -> str:
    """Return the page of a frontier's points. The slider starts at the best one and has no other positions."""
    slider = slider_of(config)
    if slider is not None and len(found) > 1:
        top = max(found, key=lambda p: p["after"][-1]["final"])
        config = at_strength(config, float(top["text"]))
        record = board_record(config, stored=found, trains=False)
        texts = [p["text"] for p in found]
        record |= {"texts": texts, "at": texts.index(top["text"])}
    else:
        record = board_record(config, trains=False)
        record |= {"live": {**found[0], "text": record["texts"][0]} if found else None}
    changed = {k: v for k, v in neutral(config).items() if k not in ("rule", "stream", "tasks") and _differs(k, v)}
    said = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in changed.items())
    seeds = sorted({seed for p in found for seed in p["seeds"]})
    return board_page(
        record,
        title="The price of remembering",
        about=f"A small network learns {config.tasks} tasks one after another ({config.stream.replace('-', ' ')}: "
        f"{STREAMS[config.stream]}). Its rule: {RULES[config.rule]}. Move the slider: what does the network still "
        "learn, and what does it forget?",
        note=f"Every mark is a trained network; seeds {', '.join(map(str, seeds))}, bars are sample standard "
        "deviations. Real handwritten digits (E. Alpaydin, C. Kaynak, UCI Machine Learning Repository). "
        + (f"Settings: {said}. " if said else "")
        + "Made with Plastiscope.",
    )


def _differs(key: str, value: Any) -> bool:
    return value != PlaygroundConfig.__dataclass_fields__[key].default
