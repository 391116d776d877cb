"""The README's tables: methods and controls on an embedded stream, several seeds, mean ± sd.

    python -m bench.table [--stream split-digits | camouflage | micro-mtil] [--seeds 0,1,2,3,4] [--runs runs/table]
        [--rows SGP NESS] [--set epochs=5]

Runs that are finished in the folder are read, not repeated, so an interrupted table goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.recorded import finished, mean_sd
from cl_core.config import RunConfig
from cl_core.events import ModalityGapMeasured, RunStarted, TaskEnded
from cl_core.presets import resolve
from cl_core.questions.reporting import events
from cl_core.readouts import RECOMPUTED, STORED, TASK_INCREMENTAL
from cl_core.store import RunFolder
from cl_core.summary import Summary, measures

Row = tuple[str, dict[str, Any], tuple[str, ...]]  # title, record for `resolve`, overrides


@dataclass(frozen=True)
class Table:
    """`cells` gives a row's numbers from its runs, one a seed."""

    title: str
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    cells: Callable[[list[Summary]], list[str]]
    note: str


def seconds(found: list[Summary]) -> str:
    return f"{sum(s.seconds for s in found) / len(found):.0f}"


def digits_cells(found: list[Summary]) -> list[str]:
    def of(readout: str, measure: str) -> str:
        return mean_sd([measures(s.readouts[readout])[measure] if readout in s.readouts else None for s in found])

    return [
        mean_sd([s.final_average_accuracy for s in found]),
        mean_sd([s.forgetting for s in found]),
        mean_sd([s.learning_accuracy for s in found]),
        of(TASK_INCREMENTAL, "final_average_accuracy"),
        of(TASK_INCREMENTAL, "forgetting"),
        of(STORED, "final_average_accuracy"),
        of(RECOMPUTED, "final_average_accuracy"),
        *sizes(found[0]),
        seconds(found),
    ]


def domains_cells(found: list[Summary]) -> list[str]:
    gaps = [joint_space(s) for s in found]
    before, after = [first for first, _ in gaps], [last for _, last in gaps]

    def change(value: Callable[[Any], float]) -> str:
        return mean_sd([value(b) - value(a) for a, b in gaps])

    def lost(s: Summary) -> float:  # before learning, as Transfer averages: tasks 2 … N
        return s.transfer - sum(s.zero_shot[1:]) / (len(s.zero_shot) - 1)

    return [
        mean_sd([s.transfer for s in found]),
        mean_sd([lost(s) for s in found]),
        mean_sd([s.average for s in found]),
        mean_sd([s.last for s in found]),
        mean_sd([s.learning_accuracy for s in found]),
        mean_sd([s.forgetting for s in found]),
        f"{before[0].general_accuracy:.1f} → {mean_sd([e.general_accuracy for e in after])}",
        change(lambda e: e.image_to_text["1"]),
        change(lambda e: e.text_to_image["1"]),
        f"{before[0].length:.2f} → {sum(e.length for e in after) / len(after):.2f}",
        *sizes(found[0]),
        seconds(found),
    ]


def joint_space(summary: Summary) -> tuple[Any, Any]:
    """The first and the last measurement of the modality gap of a run."""
    measured = events(RunFolder(Path(summary.folder)), ModalityGapMeasured)
    return measured[0], measured[-1]


def sizes(summary: Summary) -> list[str]:
    """Parameters trained in the first task, in thousands; bytes kept after the last one, in MB (10⁶)."""
    folder = RunFolder(Path(summary.folder))
    trained, kept = events(folder, RunStarted)[0].trainable_parameters, events(folder, TaskEnded)[-1].kept_bytes
    return [f"{trained / 1e3:.1f} k", f"{kept / 1e6:.2f} MB"]


def _on_camouflage(method: str, *settings: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Record and overrides of a row that starts from `<method>-camouflage`."""
    return {"preset": f"{method.replace('_', '-')}-camouflage"}, settings


CLASS_INCREMENTAL = (
    "final, CIL",
    "forgetting, CIL",
    "learning, CIL",
    "final, task known",
    "forgetting, task known",
    "LDA, stored statistics",
    "LDA, recomputed",
    "trained",
    "kept",
    "seconds",
)

TABLES = {
    "split-digits": Table(
        "split-digits, micro-vit",
        (
            ("joint (upper reference)", {"method": "joint"}, ()),
            ("frozen features, heads only", {"method": "sequential"}, ("prompt_length=0",)),
            ("sequential", {"method": "sequential"}, ()),
            ("NSP², shrink-only control", {"preset": "nsp2-elbow-shrink-micro"}, ()),
            ("NSP²", {"preset": "nsp2-elbow-micro"}, ()),
            ("NSP², strict, energy rule", {"preset": "nsp2-micro"}, ()),
            ("LwF", {"method": "lwf"}, ()),
            ("EWC", {"method": "ewc"}, ()),
            ("replay, 200 images", {"method": "replay"}, ()),
            ("L2P", {"method": "l2p"}, ()),
            ("DualPrompt", {"method": "dualprompt"}, ()),
            ("CODA-Prompt", {"method": "coda_prompt"}, ()),
            ("Fwd-Prompt (vision adaptation)", {"method": "fwd_prompt"}, ()),
            ("Fwd-Prompt, random directions", {"method": "fwd_prompt"}, ("projection=random",)),
            ("SplitLoRA", {"method": "split_lora"}, ()),
            ("CODE-CL (adapted)", {"method": "code_cl"}, ()),
            ("GPM (on keys and values)", {"method": "gpm"}, ()),
            ("SGP (on keys and values)", {"method": "sgp"}, ()),
            ("NESS (on keys and values)", {"method": "ness"}, ()),
            ("NSP²++", {"method": "nsp2pp"}, ()),
            ("SLCA (keys and values)", {"method": "slca"}, ()),
            ("RanPAC", {"method": "ranpac"}, ()),
            ("FeCAM", {"method": "fecam"}, ()),
            ("STAR-Prompt (with micro-clip)", {"method": "star_prompt"}, ()),
            ("STAR-Prompt without CLIP", {"method": "star_prompt"}, ("companion=none",)),
        ),
        CLASS_INCREMENTAL,
        digits_cells,
        "class-incremental (CIL) unless said otherwise",
    ),
    "camouflage": Table(
        "camouflage, micro-vit",
        (
            ("joint, prompts", *_on_camouflage("joint")),
            ("joint, keys and values", *_on_camouflage("split_lora", "stream.tasks=1")),
            ("frozen features, heads only", *_on_camouflage("sequential", "prompt_length=0")),
            ("sequential", *_on_camouflage("sequential")),
            ("NSP²", *_on_camouflage("nsp2")),
            ("SplitLoRA", *_on_camouflage("split_lora")),
            ("SplitLoRA, rate 3e-3", *_on_camouflage("split_lora", "rate=3e-3")),
            ("SplitLoRA, nothing protected", *_on_camouflage("split_lora", "alpha=1e6")),
            ("DualPrompt", *_on_camouflage("dualprompt")),
            ("EWC", *_on_camouflage("ewc")),
            ("replay, 200 images", *_on_camouflage("replay")),
        ),
        CLASS_INCREMENTAL,
        digits_cells,
        "class-incremental (CIL) unless said otherwise; joint rows see all classes at once",
    ),
    "micro-mtil": Table(
        "micro-mtil, micro-clip",
        (
            ("zero-shot", {"method": "zero_shot"}, ()),
            ("fine-tuning", {"method": "finetune"}, ()),
            ("fine-tuning, rate 5e-5", {"method": "finetune"}, ("rate=5e-5",)),
            ("fine-tuning, rate 5e-4", {"method": "finetune"}, ("rate=5e-4",)),
            ("LoRA, sequential", {"method": "lora_sequential"}, ()),
            ("GNSP", {"method": "gnsp"}, ()),
            ("GNSP, rate 3e-4", {"method": "gnsp"}, ("rate=3e-4",)),
            ("GNSP, update projected", {"method": "gnsp"}, ("project=update",)),
            ("GNSP, no projection", {"method": "gnsp"}, ("project=none",)),
            ("GNSP, distillation alone", {"method": "gnsp"}, ("project=none", "alignment=0")),
            ("GNSP, alignment alone", {"method": "gnsp"}, ("project=none", "distillation=0")),
            ("NuSA-CL", {"method": "nusa_cl"}, ()),
            ("NuSA-CL, random directions", {"method": "nusa_cl"}, ("directions=random",)),
            ("NuSA-CL, random directions, rate 5e-3", {"method": "nusa_cl"}, ("directions=random", "rate=0.005")),
            ("MG-CLIP (on domains: our reading)", {"method": "mg_clip"}, ()),
            ("KeepLoRA", {"method": "keeplora"}, ()),
            ("CLIP-NSP²", {"method": "clip_nsp2"}, ()),
            ("CLIP-NSP², nothing projected", {"method": "clip_nsp2"}, ("projection=none", "norm_weight=0")),
            ("CLIP-Refine, then fine-tuning, rate 5e-4", {"method": "clip_refine"}, ()),
        ),
        (
            "Transfer",
            "against zero-shot",
            "Average",
            "Last",
            "learning",
            "forgetting",
            "general, zero-shot",
            "R@1 image → text",
            "R@1 text → image",
            "gap",
            "trained",
            "kept",
            "seconds",
        ),
        domains_cells,
        "task known at test; R@1 as change in points from before training to the end; order I",
    ),
}


def config_of(record: dict[str, Any], seed: int, settings: tuple[str, ...], everywhere: list[str]) -> RunConfig:
    return resolve({**record, "seed": seed}).with_overrides([*settings, *everywhere])


def name_of(record: dict[str, Any], seed: int, settings: tuple[str, ...]) -> str:
    """The folder of a row's run, another for every row of a table."""
    return "-".join([record.get("preset") or record["method"], *(s.replace("=", "-") for s in settings), f"seed{seed}"])


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--stream", choices=TABLES, default="split-digits")
    cli.add_argument("--seeds", default="0,1,2,3,4")
    cli.add_argument("--runs", type=Path, default=Path("runs/table"))
    cli.add_argument("--rows", nargs="+", metavar="TITLE", help="these rows alone, by the beginning of their titles")
    cli.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every row")
    arguments = cli.parse_args()
    seeds, table = [int(s) for s in arguments.seeds.split(",")], TABLES[arguments.stream]
    wanted = tuple(arguments.rows or ("",))
    unknown = [start for start in wanted if not any(title.startswith(start) for title, _, _ in table.rows)]
    if unknown:
        raise SystemExit(f"no row of {arguments.stream} begins with {', '.join(map(repr, unknown))}")
    print(f"| {table.title} | {' | '.join(table.columns)} |\n|{'---|' * (len(table.columns) + 1)}")
    for title, record, settings in (row for row in table.rows if row[0].startswith(wanted)):
        found = []
        for seed in seeds:
            config = config_of(record, seed, settings, arguments.set)
            found.append(finished(config, name_of(record, seed, settings), arguments.runs))
        print(f"| {title} | {' | '.join(table.cells(found))} |", flush=True)
    print(
        f"\nPercent, mean ± sample sd over seeds {arguments.seeds}; {table.note}. trained: parameters in the first "
        "task; kept: bytes of state after the last task, moments and stored images included, without what is only "
        "displayed."
    )


if __name__ == "__main__":
    main()
