"""How cost grows: prompted steps and the algebra between tasks, one size changed at a time.

    python -m bench.scale [--repeats 5] [--threads N]

A step: 16 images, 8 prompts in every block, forward and backward pass through a frozen, untrained ViT. The algebra: the
eigenbasis of one layer's d × d moment (NSP², GNSP, SplitLoRA), the SVD of one d × d weight (NuSA-CL), and adding one
batch's rows to a moment. Medians; the last column is the exponent p of cost ~ size^p between neighbouring rows.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Iterator
from functools import partial

import timm
import torch

from bench.meters import add_options, apply_options, timed
from cl_core.backbones.vit import ViTBackbone
from cl_core.config import Preprocessing
from cl_core.linalg import eigenbasis, gram

CPU = torch.device("cpu")
BATCH, PROMPTS, PATCH = 16, 8, 4


def vit(width: int = 192, depth: int = 6, side: int = 32) -> ViTBackbone:
    """An untrained plain ViT: (side / 4)² patches and a class token, heads of width 64."""
    shape = {"img_size": side, "patch_size": PATCH, "embed_dim": width, "depth": depth, "num_heads": width // 64}
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0, **shape)
    return ViTBackbone(model, "untrained", Preprocessing(side, (0.5,) * 3, (0.5,) * 3))


def step(**shape: int) -> Callable[[], None]:
    """One prompted forward and backward pass."""
    backbone = vit(**shape)
    side = backbone.preparation.size
    prompts = torch.rand(backbone.depth, PROMPTS, backbone.width, requires_grad=True)
    images = torch.rand(BATCH, 3, side, side)

    def once() -> None:
        backbone(images, prompts=prompts).pooled.square().sum().backward()
        prompts.grad = None

    return once


def moment(width: int) -> torch.Tensor:
    return gram(torch.randn(2 * width, width)).double()


def tables() -> Iterator[tuple[str, str, list[tuple[int, Callable[[], object]]]]]:
    """Title, what is varied, and the work at each size."""
    yield "step, depth 6, 65 tokens", "width", [(w, step(width=w)) for w in (192, 384, 768)]
    yield "step, width 192, 65 tokens", "depth", [(d, step(depth=d)) for d in (3, 6, 12)]
    sides = {(side // PATCH) ** 2 + 1: side for side in (16, 32, 56)}
    yield "step, width 192, depth 6", "tokens", [(n, step(side=side)) for n, side in sides.items()]
    widths = (192, 384, 768, 1536, 3072)
    yield "eigenbasis of a moment", "d", [(d, partial(eigenbasis, moment(d))) for d in widths]
    yield "SVD of a weight", "d", [(d, partial(torch.linalg.svd, torch.randn(d, d))) for d in widths[:-1]]
    yield "a batch of 1,040 rows into a moment", "d", [(d, partial(gram, torch.randn(1040, d))) for d in widths]


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--repeats", type=int, default=5)
    add_options(cli)
    arguments = cli.parse_args()
    print(apply_options(arguments))
    for title, varied, points in tables():
        print(f"\n{title}\n| {varied} | ms | exponent |\n|---|---|---|")
        before: tuple[int, float] | None = None
        for size, work in points:
            repeats = arguments.repeats if size < 3072 else 1
            work()  # the first pays for buffers and threads
            spent = statistics.median(timed(work, CPU)[0] for _ in range(repeats))
            power = f"{math.log(spent / before[1]) / math.log(size / before[0]):.1f}" if before else "–"
            print(f"| {size} | {1e3 * spent:,.1f} | {power} |", flush=True)
            before = size, spent


if __name__ == "__main__":
    main()
