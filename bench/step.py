"""How much our loop costs over the bare one, measured side by side in one process.

    python -m bench.step [--method nsp2] [--set KEY=VALUE] [--pairs 60] [--steps-only] [--threads N]

step ÷ bare step: for prompt methods the bare loop is the same prompted forward and backward pass with torch's Adam and
nothing else, on its own copy of the parameters. For CLIP methods it is open_clip's own forward pass and AdamW on the
weights that the method changes (q, k, v, o of both towers beside branches, else the trained matrices themselves), with
class texts embedded once where the method's text tower stands still. Steps alternate ours, bare, ours, bare, … on the
same batches; the figure is the median of the paired ratios.

run ÷ run without diagnostics: trainers that differ only in their DiagnosticsConfig advance in lockstep, moment by
moment; the figure is the ratio of summed times. The stored-statistics readout is an evaluation (it adds rows to the
accuracy table), so it is also shown apart.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
import time
from dataclasses import replace

import torch
import torch.nn.functional as F

from cl_core.build import build
from cl_core.config import DiagnosticsConfig, parse_value
from cl_core.engine.trainer import Trainer
from cl_core.presets import resolve


def at_second_task(trainer: Trainer) -> Trainer:
    """Advance until the second task has begun: projections are on from there."""
    for _ in trainer.run():
        if trainer.cursor.task == 1 and trainer.cursor.stage == "train":
            return trainer
    raise SystemExit("the run has only one task; nothing is projected")


class BareLoop:
    """Prompted forward, masked cross-entropy, backward, Adam: what any prompt tuning pays."""

    def __init__(self, trainer: Trainer) -> None:
        tuning = trainer.method.tuning
        self.backbone, self.start = trainer.backbone, tuning.classes.start
        self.prompts = tuning.prompts.detach().clone().requires_grad_()
        self.weight, self.bias = (p.detach().clone().requires_grad_() for p in tuning.heads[-1].parameters())
        self.adam = torch.optim.Adam(
            [{"params": [self.prompts], "lr": 1e-3}, {"params": [self.weight, self.bias], "lr": 1e-3}]
        )

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        logits = F.linear(self.backbone(images, prompts=self.prompts).pooled, self.weight, self.bias)
        loss = F.cross_entropy(logits, labels - self.start)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.adam.step()


class BareClip:
    """open_clip's forward, cross-entropy over the task's classes, backward, AdamW: what any fine-tuning pays."""

    def __init__(self, trainer: Trainer) -> None:
        method, backbone = trainer.method, trainer.backbone
        self.clip, self.start = copy.deepcopy(backbone.clip), method.classes.start
        trained = {name for group in method.groups() for name in group.parameters}
        names = {n for n in backbone.parameter_names() if f"clip.{n.replace('.', '/')}" in trained}
        names = names or {backbone.linear_map(n).parameter for n in backbone.attention_maps()}  # branches beside these
        for name, parameter in self.clip.named_parameters():
            parameter.requires_grad_(name in names)
        self.tokens = method._training_tokens[method.classes.start : method.classes.stop]
        self.smoothing, self.texts = method.config.label_smoothing, None
        if not method.text_is_trained:
            with torch.no_grad():
                self.texts = self.clip.encode_text(self.tokens, normalize=True)
        self.adamw = torch.optim.AdamW([p for p in self.clip.parameters() if p.requires_grad], lr=1e-6)

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        texts = self.clip.encode_text(self.tokens, normalize=True) if self.texts is None else self.texts
        logits = self.clip.logit_scale.exp() * self.clip.encode_image(images, normalize=True) @ texts.mT
        loss = F.cross_entropy(logits, labels - self.start, label_smoothing=self.smoothing)
        self.adamw.zero_grad(set_to_none=True)
        loss.backward()
        self.adamw.step()


def step_ratio(record: dict, pairs: int) -> None:
    trainer, method = at_second_task(build(resolve(record))), record["method"]
    method += "".join(f" {key}={value}" for key, value in record.get("settings", {}).items())
    bare = BareLoop(trainer) if hasattr(trainer.method, "tuning") else BareClip(trainer)
    task = trainer.curriculum[1]
    batches = [b for b in task.batches(64, seed=0, epoch=0) if len(b.labels) == 64]
    ours_times, bare_times = [], []
    for count, batch in enumerate(itertools.islice(itertools.cycle(batches), pairs + 5)):
        started = time.perf_counter()
        trainer._step(batch)
        between = time.perf_counter()
        bare.step(batch.images, batch.labels)
        ended = time.perf_counter()
        if count >= 5:  # the first ones warm caches and threads
            ours_times.append(between - started)
            bare_times.append(ended - between)
    ratios = [a / b for a, b in zip(ours_times, bare_times, strict=True)]
    low, mid, high = (sorted(ratios)[int(q * (len(ratios) - 1))] for q in (0.25, 0.5, 0.75))
    print(
        f"{method} step ÷ bare step: {mid:.3f} (quartiles {low:.3f} … {high:.3f}; {pairs} pairs, batch 64; "
        f"medians {1e3 * statistics.median(ours_times):.1f} and {1e3 * statistics.median(bare_times):.1f} ms)"
    )


def diagnostics_ratio(record: dict) -> None:
    kinds = {
        "nothing but accuracies": DiagnosticsConfig.off(),
        "spectra, attention, drift": DiagnosticsConfig(readout=False, gap=False),
        "and the statistics readout, or the modality gap": DiagnosticsConfig(),
    }
    config, method = resolve(record), record["method"]
    runs = {name: build(replace(config, diagnostics=kind)).run() for name, kind in kinds.items()}
    seconds = dict.fromkeys(runs, 0.0)
    order = list(runs)
    while True:
        moments = []
        for name in order:
            started = time.perf_counter()
            moments.append(next(runs[name], None))
            seconds[name] += time.perf_counter() - started
        order = order[1:] + order[:1]  # nobody is always first
        if all(m is None for m in moments):
            break
    base = seconds["nothing but accuracies"]
    for name, spent in seconds.items():
        print(f"{method} run with {name}: {spent:.1f} s, ÷ without diagnostics {spent / base:.3f}")


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--method", default="nsp2")
    cli.add_argument("--backbone", help="default: the one of the method's preset")
    cli.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the method")
    cli.add_argument("--steps-only", action="store_true", help="leave out the run with and without diagnostics")
    cli.add_argument("--pairs", type=int, default=60)
    cli.add_argument("--threads", type=int, help="default: torch's own choice")
    arguments = cli.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    settings = {key: parse_value(value) for key, _, value in (pair.partition("=") for pair in arguments.set)}
    record = {"method": arguments.method, "settings": settings}
    if arguments.backbone:
        record["backbone"] = arguments.backbone
    step_ratio(record, arguments.pairs)
    if not arguments.steps_only:
        diagnostics_ratio(record)


if __name__ == "__main__":
    main()
