"""`plastiscope pretrain micro-vit | micro-clip`: train the bundled weights from a seed."""

from __future__ import annotations

import argparse
import functools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl_core.cli.options import named_path

if TYPE_CHECKING:
    from cl_core.pretraining.trainer import Progress

EXAMPLE = """example:
  plastiscope pretrain micro-vit --seed 0 --folder ./pretraining
  plastiscope pretrain micro-vit --seed 0 --folder ./pretraining --resume
  plastiscope pretrain micro-clip --seed 0 --folder ./pretraining-clip

About an hour each on two processor cores. The folder receives the checkpoint, the weights (safetensors), their
description (JSON) and their card (README.md); the weights that come with Plastiscope are left alone. micro-clip starts
from the micro-vit that comes with Plastiscope.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.description = "Train the bundled weights on procedural images; no network, no data set."
    parser.epilog = EXAMPLE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", choices=["micro-vit", "micro-clip"], help="which weights to remake")
    parser.add_argument("--images", type=_positive, default=None, metavar="N", help="images to train on")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="decides weights, scenes and order")
    parser.add_argument(
        "--folder", type=named_path, default=Path("pretraining"), metavar="DIR", help="checkpoint, weights"
    )
    parser.add_argument(
        "--export", type=named_path, default=None, metavar="DIR", help="weights and card (default: --folder)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=_positive, default=None, metavar="N", help="processor threads to use")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def execute(arguments: argparse.Namespace) -> int:
    """Run the command; 0 when the weights are written, 1 with one sentence when they could not be."""
    try:
        return _pretrain(arguments)
    except ModuleNotFoundError as error:
        told = "reinstall Plastiscope" in str(error)
        advice = "" if told else "; reinstall Plastiscope, which includes it"
        print(f"cannot pre-train: {error}{advice}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nstopped; go on with --resume", file=sys.stderr)
    except (OSError, ValueError, FloatingPointError) as error:
        print(f"pre-training failed: {error}", file=sys.stderr)
    return 1


def _pretrain(arguments: argparse.Namespace) -> int:
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device is available; use --device cpu")
    chosen: dict[str, Any] = {"seed": arguments.seed} | ({"images": arguments.images} if arguments.images else {})
    export_to = arguments.export or arguments.folder
    if arguments.model == "micro-vit":
        from cl_core.pretraining import micro_vit

        pretrained, told = functools.partial(micro_vit.pretrain, micro_vit.MicroVitSettings(**chosen)), _vit_told
    else:
        from cl_core.pretraining import micro_clip

        pretrained, told = functools.partial(micro_clip.pretrain, micro_clip.MicroClipSettings(**chosen)), _clip_told

    card = pretrained(
        arguments.folder,
        device=device,
        on_progress=ProgressLine(),
        export_to=export_to,
        resume=arguments.resume,
    )
    assert card is not None  # not stopped early
    where = export_to / card["weights_file"]
    print(f"\nwrote {where} ({card['weights_bytes'] / 1e6:.1f} MB): {told(card['accuracy_percent'])}")
    return 0


def _vit_told(measured: dict[str, Any]) -> str:
    return (
        f"kind {measured['seen']['kind']} % on seen, {measured['held_out']['kind']} % on held-out combinations, "
        f"real digits by a linear probe {measured['digits_probe']['class_token']} %"
    )


def _clip_told(measured: dict[str, Any]) -> str:
    zero_shot = measured["zero_shot"]
    return (
        f"zero-shot kind {zero_shot['seen']['kind']} % on seen, {zero_shot['held_out']['kind']} % on held-out "
        f"combinations, real digits {measured['real_digits']['one_template']} %"
    )


class ProgressLine:
    """One line that is rewritten on a terminal, or a new one every ten seconds elsewhere."""

    def __init__(self) -> None:
        self.terminal = sys.stdout.isatty()
        self.next = 0.0
        self.loss: float | None = None

    def __call__(self, progress: Progress) -> None:
        if progress.loss is not None:
            self.loss = progress.loss
        if progress.summary is not None:
            newline = chr(10) if self.terminal else ""
            print(f"{newline}after {progress.images:,} images: {progress.summary}", flush=True)
        now = time.monotonic()
        if now < self.next and progress.step < progress.steps:
            return
        self.next = now + (0.3 if self.terminal else 10.0)
        share = progress.step / progress.steps
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        bar = "█" * round(24 * share) + "░" * (24 - round(24 * share))
        loss = "" if self.loss is None else f"loss {self.loss:.3f}  "
        text = (
            f"{bar} {share:4.0%}  {progress.images:,} images  {loss}"
            f"{progress.images_per_second:.0f} images/s  {minutes}:{seconds:02d} left"
        )
        print(f"\r{text}   " if self.terminal else text, end="" if self.terminal else "\n", flush=True)
