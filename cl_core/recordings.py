"""The bundled recordings: settings, title and description of each. No torch.

`python -m bench.recordings` makes them all; the two Playground recordings have Playground settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cl_core.config import RunConfig
from cl_core.playground.settings import PlaygroundConfig
from cl_core.presets import resolve
from cl_core.readouts import STORED


@dataclass(frozen=True)
class Recording:
    """A bundled run: `title` names it, `shows` describes in one sentence what to see in it."""

    title: str
    shows: str
    record: Mapping[str, Any] = field(default_factory=dict)  # what `presets.resolve` completes
    playground: PlaygroundConfig | None = None  # instead of a record

    def config(self) -> RunConfig:
        """Its settings, with statistics recomputed and heads refitted after every task for comparison with stored
        ones."""
        diagnostics = {**self.record.get("diagnostics", {}), "readout_control": "every"}
        return resolve({**self.record, "diagnostics": diagnostics})


_TWO_TASKS = {"stream_settings": {"tasks": 2}, "diagnostics": {"headline": STORED}}
# Domains have many test images: the answers to 60 evenly spaced ones per domain are kept.
_FEWER = {"diagnostics": {"images": 360}}
BEST_RATE, AS_GNSP, AS_NUSA = 1e-4, 7e-5, 5e-5  # of fine-tuning: its best; with each method's learning accuracy

RECORDINGS: dict[str, Recording] = {
    "nsp2-split-digits": Recording(
        "NSP² on digits",
        "Statistics stored for earlier digits still classify them at the end: no column fades.",
        {"preset": "nsp2-micro"},
    ),
    "sequential-split-digits": Recording(
        "Unprotected prompts on digits",
        "Every older column fades: features move away from the stored statistics.",
        {"preset": "sequential-micro"},
    ),
    "gpm-permuted-digits": Recording(
        "GPM on permuted digits",
        "One network of the curve above, at ε = 0.92. Free directions run out layer by layer: ten tasks leave the "
        "first layer a fifth of its directions, the last more than half.",
        playground=PlaygroundConfig(energy=0.92),
    ),
    "none-permuted-digits": Recording(
        "Unprotected network on permuted digits",
        "Each task is learned, and each is forgotten while the next ones are learned.",
        playground=PlaygroundConfig(rule="none"),
    ),
    "split-lora-camouflage": Recording(
        "SplitLoRA on camouflaged shapes",
        "Adaptation helps, then is lost: while T2 is learned, T1 falls below frozen features with stored "
        "statistics; with recomputed statistics its shapes are still separated better than by frozen features.",
        {"preset": "split-lora-camouflage", **_TWO_TASKS},
    ),
    "frozen-camouflage": Recording(
        "Frozen features on camouflaged shapes",
        "The reference for SplitLoRA: nothing moves, so stored and recomputed statistics give the same accuracy.",
        {"preset": "frozen-camouflage", **_TWO_TASKS},
    ),
    "nusa-cl-micro-mtil": Recording(
        "NuSA-CL on six domains",
        "CLIP learns in directions that its weights hardly use; fewer are left with every domain.",
        {"preset": "nusa-cl-micro", **_FEWER},
    ),
    "gnsp-micro-mtil": Recording(
        "GNSP on six domains",
        "Gradients avoid the directions used by earlier domains: accuracy on learned domains hardly falls.",
        {"preset": "gnsp-micro", **_FEWER},
    ),
    "finetune-micro-mtil": Recording(
        "CLIP fine-tuned at too high a rate",
        "GNSP's rate with nothing protected: accuracy falls on all domains, including those not learned yet.",
        {"preset": "finetune-eager-micro", **_FEWER},
    ),
    "finetune-best-micro-mtil": Recording(
        f"CLIP fine-tuned at its own best rate, {BEST_RATE:g}",
        "The fair comparison: small steps alone keep most of CLIP's ability.",
        {"preset": "finetune-micro", "settings": {"rate": BEST_RATE}, **_FEWER},
    ),
    "finetune-as-gnsp-micro-mtil": Recording(
        f"CLIP fine-tuned to learn as much as GNSP, rate {AS_GNSP:g}",
        "Matched plasticity: each domain is learned as well as by GNSP, so only retention differs.",
        {"preset": "finetune-micro", "settings": {"rate": AS_GNSP}, **_FEWER},
    ),
    "finetune-as-nusa-micro-mtil": Recording(
        f"CLIP fine-tuned to learn as much as NuSA-CL, rate {AS_NUSA:g}",
        "Matched plasticity: each domain is learned as well as by NuSA-CL, so only retention differs.",
        {"preset": "finetune-micro", "settings": {"rate": AS_NUSA}, **_FEWER},
    ),
}
