"""The recordings that travel with the program: what each is made from, and what it shows. No torch.

`python -m bench.recordings` makes them all; the playground's two have settings of their own kind.
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
    """A bundled run: `title` names it, `shows` is what to see in it at a first look, one sentence."""

    title: str
    shows: str
    record: Mapping[str, Any] = field(default_factory=dict)  # what `presets.resolve` completes
    playground: PlaygroundConfig | None = None  # instead of a record

    def config(self) -> RunConfig:
        """Its settings: statistics recomputed and heads refitted after every task, so that what the features still hold
        stands beside what can be read from what was stored."""
        diagnostics = {**self.record.get("diagnostics", {}), "readout_control": "every"}
        return resolve({**self.record, "diagnostics": diagnostics})


_TWO_TASKS = {"stream_settings": {"tasks": 2}, "diagnostics": {"headline": STORED}}
# Every domain's test images are many: of 60 evenly spaced ones each answer is kept.
_FEWER = {"diagnostics": {"images": 360}}
BEST_RATE, AS_GNSP, AS_NUSA = 1e-4, 7e-5, 5e-5  # of fine-tuning: its own best; learns as much as each method

RECORDINGS: dict[str, Recording] = {
    "nsp2-split-digits": Recording(
        "NSP² on digits",
        "What is stored of earlier digits still reads them at the end: no column pales.",
        {"preset": "nsp2-micro"},
    ),
    "sequential-split-digits": Recording(
        "Unprotected prompts on digits",
        "Every older column pales: features move away from what was stored of them.",
        {"preset": "sequential-micro"},
    ),
    "gpm-permuted-digits": Recording(
        "GPM on permuted digits",
        "One network of the curve above, at ε = 0.92. Room runs out layer by layer: ten tasks leave the first layer a "
        "fifth of its directions, the last more than half.",
        playground=PlaygroundConfig(energy=0.92),
    ),
    "none-permuted-digits": Recording(
        "Unprotected network on permuted digits",
        "Each task is learned, and each is forgotten while the next ones are learned.",
        playground=PlaygroundConfig(rule="none"),
    ),
    "split-lora-camouflage": Recording(
        "SplitLoRA on camouflaged shapes",
        "Adapting pays and is lost: while T2 is learned, T1 falls below frozen features, by what was stored of it; "
        "read anew, its shapes are still told apart better than they can.",
        {"preset": "split-lora-camouflage", **_TWO_TASKS},
    ),
    "frozen-camouflage": Recording(
        "Frozen features on camouflaged shapes",
        "The reference of the run beside it: nothing moves, so stored and recomputed statistics read the same.",
        {"preset": "frozen-camouflage", **_TWO_TASKS},
    ),
    "nusa-cl-micro-mtil": Recording(
        "NuSA-CL on six domains",
        "CLIP learns in directions that its weights hardly use; these become fewer with every domain.",
        {"preset": "nusa-cl-micro", **_FEWER},
    ),
    "gnsp-micro-mtil": Recording(
        "GNSP on six domains",
        "Gradients keep out of what earlier domains used: hardly a domain falls once it is learned.",
        {"preset": "gnsp-micro", **_FEWER},
    ),
    "finetune-micro-mtil": Recording(
        "CLIP fine-tuned at too high a rate",
        "GNSP's rate with nothing protected: domains fall, those not learned yet as well.",
        {"preset": "finetune-eager-micro", **_FEWER},
    ),
    "finetune-best-micro-mtil": Recording(
        f"CLIP fine-tuned at its own best rate, {BEST_RATE:g}",
        "The fair rival: small steps alone keep most of what CLIP could do.",
        {"preset": "finetune-micro", "settings": {"rate": BEST_RATE}, **_FEWER},
    ),
    "finetune-as-gnsp-micro-mtil": Recording(
        f"CLIP fine-tuned to learn as much as GNSP, rate {AS_GNSP:g}",
        "Matched plasticity: each domain is learned as well as by GNSP, so what differs is what is kept.",
        {"preset": "finetune-micro", "settings": {"rate": AS_GNSP}, **_FEWER},
    ),
    "finetune-as-nusa-micro-mtil": Recording(
        f"CLIP fine-tuned to learn as much as NuSA-CL, rate {AS_NUSA:g}",
        "Matched plasticity: each domain is learned as well as by NuSA-CL, so what differs is what is kept.",
        {"preset": "finetune-micro", "settings": {"rate": AS_NUSA}, **_FEWER},
    ),
}
