"""NSP² beside its authors' published procedure: seconds per task on the same model, stream and steps, in one process.

    python -m bench.published_nsp2 [--device cpu] [--backbone micro-vit] [--tasks N] [--unfused] [--set KEY=VALUE …]

`Published` is the procedure of Lu et al. (NeurIPS 2024, arXiv:2406.05658) as it is described, written anew and plainly:

    a step          prompts are repeated for every image and joined to its tokens; norm, queries, keys and values of
                    all N + M tokens, prompt queries included, whose outputs are dropped; Adam by hand, parameter by
                    parameter, each layer's step mapped by B̃₂ U B̃₁
    a task's end    a forward pass that forms the attention maps; per layer and batch of 100 the rows J₁ (every query
                    times its head's key matrix) and J₂ (attention paid to prompts) of all heads and tokens are
                    stacked and multiplied out; C += mean; per layer the SVD of C, the elbow by a Gaussian filter, B̃

Ours is the trainer as it is used, without diagnostics. The steps of both take turns on the same batches, so do the ends
of tasks. Both work in float32 with the same threads and batches, without augmentation; evaluation is left out on both
sides, and so is what the authors' code does besides (half precision, loading and augmenting images). Attention in the
steps is fused on both sides; `--unfused` forms the maps in the published steps as well. Both collect after the last
task, too. Settings are the authors' for CIFAR-100 in ten tasks; epochs and batch size those of our preset.

Both sides start a task with the same head and end it with the same prompts: the published ones are set to ours before
collecting (how far training had driven them apart is told), so that the projectors must agree up to rounding. They are
compared after every task.

Shapes: L blocks, M prompts, D width, H heads of width d, N image tokens, b images of a batch.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from bench.meters import add_options, apply_options, settle, timed
from bench.ratios import Course
from cl_core.config import ConfigError, DiagnosticsConfig, RunConfig
from cl_core.presets import resolve
from cl_core.streams.stream import Batch

COLLECTED = 100  # images a batch at a task's end


class Published:
    """The authors' procedure on a timm ViT, for the settings of an `NSP2Config`."""

    def __init__(self, vit: nn.Module, config: Any, prompts: Tensor, *, fused: bool = True) -> None:
        """prompts: [L, M, D], where training starts."""
        self.vit, self.config, self.fused = vit, config, fused
        self.prompts = [nn.Parameter(layer[None].clone()) for layer in prompts]  # [1, M, D] each
        self.previous = [p.detach().clone() for p in self.prompts]
        count, width = prompts.shape[1:]
        self.moments = [[prompts.new_zeros(side, side) for side in (width, count)] for _ in self.prompts]  # C₁, C₂
        self.projectors: list[list[Tensor]] = []  # B̃₁, B̃₂ per layer; empty in the first task
        self.nullities: list[list[int]] = []
        self.parts: dict[str, float] = {}  # seconds of the last task's end
        self.looking = 0.0  # of it, the forward pass

    # ------------------------------------------------------------ the forward pass

    def tokens(self, images: Tensor) -> Tensor:
        return self.vit.norm_pre(self.vit._pos_embed(self.vit.patch_embed(images)))

    def block(self, layer: int, tokens: Tensor, *, maps: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Tokens leaving a block [b, N, D], queries [b, H, N + M, d] and attention [b, H, N + M, N + M] if formed."""
        block, count = self.vit.blocks[layer], tokens.shape[1]
        attend = block.attn
        joined = torch.cat([tokens, self.prompts[layer].expand(len(tokens), -1, -1)], dim=1)
        size = joined.shape
        qkv = attend.qkv(block.norm1(joined)).reshape(*size[:2], 3, attend.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        attention = None
        if maps:
            attention = (q * attend.scale @ k.mT).softmax(dim=-1)
            mixed = attention @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, scale=attend.scale)
        out = attend.proj(mixed.transpose(1, 2).reshape(size))[:, :count]
        tokens = tokens + block.ls1(out)
        return tokens + block.ls2(block.mlp(block.norm2(tokens))), q, attention

    def features(self, images: Tensor) -> Tensor:
        tokens = self.tokens(images)
        for layer in range(len(self.prompts)):
            tokens, _, _ = self.block(layer, tokens, maps=not self.fused)
        return self.vit.forward_head(self.vit.norm(tokens), pre_logits=True)

    # ------------------------------------------------------------ a task

    def begin_task(self, head: nn.Linear, classes: range) -> None:
        self.head, self.classes = nn.Linear(head.in_features, head.out_features).to(head.weight.device), classes
        self.head.load_state_dict(head.state_dict())
        self.states = [
            (p, rate, torch.zeros_like(p), torch.zeros_like(p), place)
            for rate, parameters in (
                (self.config.prompt_rate, self.prompts),
                (self.config.head_rate, [self.head.weight, self.head.bias]),
            )
            for place, p in enumerate(parameters)
        ]
        self.count = 0

    def step(self, batch: Batch) -> None:
        logits = self.head(self.features(batch.images))
        loss = F.cross_entropy(logits / self.config.temperature, batch.labels - self.classes.start)
        if self.projectors:
            loss = loss + self.config.norm_weight * self.norm_drift()
        for parameter, *_ in self.states:
            parameter.grad = None
        loss.backward()
        self.adam()

    def norm_drift(self) -> Tensor:
        """L_LN, layer by layer."""
        total: Any = 0.0
        for prompts, old in zip(self.prompts, self.previous, strict=True):
            total = total + (prompts.mean(dim=-1) - old.mean(dim=-1)).abs().mean()
            total = total + (prompts.std(dim=-1, correction=0) - old.std(dim=-1, correction=0)).abs().mean()
        return total

    @torch.no_grad()
    def adam(self) -> None:
        """Coupled decay, moments of the unprojected gradient, then B̃₂ U B̃₁ for the prompts."""
        self.count += 1
        for parameter, rate, first, second, layer in self.states:
            gradient = parameter.grad.add(parameter, alpha=self.config.weight_decay)
            first.mul_(0.9).add_(gradient, alpha=0.1)
            second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            spread = (second.sqrt() / (1 - 0.999**self.count) ** 0.5).add_(1e-8)
            step = -rate / (1 - 0.9**self.count) * first / spread
            if self.projectors and parameter.dim() == 3:
                columns, rows = self.projectors[layer]
                step = rows @ step @ columns
            parameter.add_(step)

    # ------------------------------------------------------------ a task's end

    @torch.no_grad()
    def end_task(self, batches: Iterable[Batch]) -> None:
        device = self.prompts[0].device
        everything, _ = timed(lambda: self.collect(batches), device)
        cutting, _ = timed(self.cut, device)
        self.parts = {"forward": self.looking, "moments": everything - self.looking, "SVD and cut": cutting}
        self.previous = [p.detach().clone() for p in self.prompts]

    def collect(self, batches: Iterable[Batch]) -> None:
        """C += J₁ᵀJ₁/(b·H·N) and J₂ᵀJ₂/(b·H·N) of every batch."""
        self.looking = 0.0
        device = self.prompts[0].device
        for batch in batches:
            spent, tokens = timed(lambda batch=batch: self.tokens(batch.images), device)
            self.looking += spent
            for layer, (c1, c2) in enumerate(self.moments):
                count = tokens.shape[1]
                forward = lambda layer=layer, tokens=tokens: self.block(layer, tokens, maps=True)
                spent, (tokens, q, attention) = timed(forward, device)
                self.looking += spent
                width, heads = tokens.shape[-1], q.shape[1]
                weight = self.vit.blocks[layer].attn.qkv.weight[width : 2 * width].view(heads, -1, width)  # [H, d, D]
                rows = (q[:, :, :count] @ weight).flatten(0, 2)  # J₁ [b·H·N, D]
                c1 += rows.mT @ rows / len(rows)
                paid = attention[:, :, :count, count:].flatten(0, 2)  # J₂ [b·H·N, M]
                c2 += paid.mT @ paid / len(paid)

    def cut(self) -> None:
        etas = self.config.eta_affinity, self.config.eta_mixture
        found = [[blended(c, eta) for c, eta in zip(pair, etas, strict=True)] for pair in self.moments]
        self.projectors = [[b for b, _ in pair] for pair in found]
        self.nullities = [[r for _, r in pair] for pair in found]


def blended(moment: Tensor, eta: float) -> tuple[Tensor, int]:
    """B̃ = η Π/√R + (1 − η) I, and R by the elbow of the (from 128 values on smoothed) spectrum."""
    _, values, vectors = torch.linalg.svd(moment)
    n = len(values)
    smooth = torch.as_tensor(gaussian_filter1d(values.cpu().numpy(), sigma=10)) if n >= 128 else values.cpu()
    bends = smooth[:-2] - 2 * smooth[1:-1] + smooth[2:]  # of places 1 … n − 2
    edge = int(0.03 * n / 2) if n >= 128 else 0
    place = 1 + edge + int(bends[edge : len(bends) - edge].argmax())
    cut = int((values >= values[place]).nonzero().max())
    free = vectors[cut:]  # right singular vectors are rows
    projector = free.mT @ free
    projector = projector / projector.norm()
    return eta * projector + (1 - eta) * torch.eye(n, dtype=moment.dtype, device=moment.device), n - cut


# ------------------------------------------------------------ side by side


@dataclass
class TaskTimes:
    """Seconds of one task on both sides, (published, ours), and how far they came apart."""

    steps: tuple[float, float]
    end: tuple[float, float]  # the task's end; ours: and begin, where projectors are made again
    step_ratio: float  # median of published ÷ ours, step by step
    parts: dict[str, float]  # of the published end
    prompts_apart: float  # largest difference of prompts after training ÷ their largest entry
    projectors_apart: float  # largest difference of an entry of B̃ ÷ largest entry
    nullities_differ: int  # sides and layers with another R

    @property
    def whole(self) -> tuple[float, float]:
        return self.steps[0] + self.end[0], self.steps[1] + self.end[1]


@dataclass
class Pair:
    """Ours and the published procedure on the same run."""

    config: RunConfig
    fused: bool = True
    found: list[TaskTimes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ours = Course(self.config)
        trainer = self.ours.trainer
        self.device = trainer.device
        method = trainer.method
        self.theirs = Published(trainer.backbone.vit, method.config, method.tuning.prompts.detach(), fused=self.fused)
        self.ours.advance()  # the run's start

    def task(self) -> TaskTimes:
        """One task of both; each turn the other one is first."""
        ours, theirs, trainer = self.ours, self.theirs, self.ours.trainer
        begin, _ = ours.advance()
        task, tuning = ours.task, trainer.method.tuning
        theirs.begin_task(tuning.heads[-1], tuning.classes)
        batches, spent = ours.batches(), []
        while ours.stage == "train":
            published = lambda: timed(lambda: theirs.step(next(batches)), self.device)[0]
            if len(spent) % 2:
                pair = published(), ours.advance()[0]
            else:
                pair = (ours.advance()[0], published())[::-1]
            spent.append(pair)
        own, theirs_now = tuning.prompts.detach(), torch.cat([p.detach() for p in theirs.prompts])
        apart = float((own - theirs_now).abs().max() / own.abs().max())
        for parameter, value in zip(theirs.prompts, own, strict=True):
            parameter.data.copy_(value[None])
        images = trainer.feed.ordered(task, "train", COLLECTED)
        ended = lambda: timed(lambda: theirs.end_task(images), self.device)[0]
        end = (ended(), ours.advance()[0]) if len(self.found) % 2 else (ours.advance()[0], ended())[::-1]
        ours.advance()  # evaluation
        settle(self.device)
        steps = tuple(sum(side) for side in zip(*spent, strict=True))
        ratio = statistics.median(a / b for a, b in spent)
        times = TaskTimes(steps, (end[0], end[1] + begin), ratio, theirs.parts, apart, *self.compared())
        self.found.append(times)
        return times

    def compared(self) -> tuple[float, int]:
        """Largest difference of projectors, and how many nullities differ."""
        method, apart, differ = self.ours.trainer.method, 0.0, 0
        for layer, (columns, rows) in enumerate(self.theirs.projectors):
            for place, (found, own) in enumerate(((columns, method.columns), (rows, method.rows))):
                apart = max(apart, float((found - own[layer]).abs().max() / own[layer].abs().max()))
                side, eta = len(found), (method.config.eta_affinity, method.config.eta_mixture)[place]
                trace = float(own[layer].diagonal().sum())  # η √R + (1 − η) n
                nullity = round(((trace - (1 - eta) * side) / eta) ** 2) if eta else side
                differ += nullity != self.theirs.nullities[layer][place]
        return apart, differ


def config_of(device: str, backbone: str, settings: Iterable[str]) -> RunConfig:
    """The authors' settings, on our preset's stream, epochs and batches; nothing is measured but accuracies."""
    config = replace(resolve({"method": "nsp2", "device": device}), settings={}, preset="")
    config = replace(config, backbone=backbone, precision="float32", diagnostics=DiagnosticsConfig.off())
    return config.with_overrides(settings)


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--device", default="cpu")
    cli.add_argument("--backbone", default="micro-vit")
    cli.add_argument("--tasks", type=int, help="stop after so many (default: all of the stream)")
    cli.add_argument("--unfused", action="store_true", help="the published steps form the attention maps")
    cli.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    add_options(cli)
    arguments = cli.parse_args()
    measured = apply_options(arguments)
    try:
        pair = Pair(config_of(arguments.device, arguments.backbone, arguments.set), not arguments.unfused)
    except ConfigError as error:
        sys.exit(str(error))
    config, count = pair.config, len(pair.ours.trainer.curriculum)
    print(
        f"{measured}, {pair.device}; "
        f"{config.backbone}, {config.stream}, {config.training.epochs} epochs a task, batches of "
        f"{config.training.batch_size}, M = {pair.theirs.prompts[0].shape[1]}, published ÷ ours\n"
    )
    print("| task | steps | a step, median | end of task | whole | prompts apart | projectors apart | R that differ |")
    print("|---|---|---|---|---|---|---|---|")
    for number in range(min(count, arguments.tasks or count)):
        t = pair.task()
        cells = [f"{a:.2f} s ÷ {b:.2f} s = {a / b:.2f}" for a, b in (t.steps, t.end, t.whole)]
        apart = f"{t.prompts_apart:.1e} | {t.projectors_apart:.1e} | {t.nullities_differ}"
        print(f"| {number + 1} | {cells[0]} | {t.step_ratio:.2f} | {cells[1]} | {cells[2]} | {apart} |", flush=True)
    sums = [
        [sum(side) for side in zip(*pairs, strict=True)]
        for pairs in zip(*((t.steps, t.end, t.whole) for t in pair.found), strict=True)
    ]
    print(
        "\nall tasks: "
        + "; ".join(
            f"{what} {a:.2f} s ÷ {b:.2f} s = {a / b:.2f}"
            for what, (a, b) in zip(("steps", "ends", "whole"), sums, strict=True)
        )
    )
    parts = {name: sum(t.parts[name] for t in pair.found) for name in pair.found[0].parts}
    print("published ends: " + ", ".join(f"{name} {spent:.2f} s" for name, spent in parts.items()))
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
