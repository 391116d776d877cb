"""What `cl_core.recorder` costs a training loop: the same loop bare and recorded, in turn, as a ratio.

    python -m bench.recorder [--seconds 20] [--loop "small network"] [--device cuda]

Three loops: a small network, a convolutional one, a ViT with 197 tokens. Bare and recorded take turns in blocks of as
many steps as lie between two looks at the inputs (32), for at least so many seconds and three rounds: two minutes in
all. Beside the ratio of steps: what the end of a task costs once (a pass over one batch, and spectra of all watched
modules). On a processor seconds are those of this process (`time.process_time`, one thread), so that what else runs on
the machine counts little; on CUDA they are wall time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from cl_core.recorder import Recorder

CLASSES = 10
ROUNDS = 3


def small() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, CLASSES)), (
        torch.randn(128, 256)
    )


def convolutional() -> tuple[nn.Module, Tensor]:
    blocks: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 64)):
        blocks += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(64 * 16, CLASSES)), torch.randn(64, 3, 32, 32)


def transformer() -> tuple[nn.Module, Tensor]:
    import timm

    model = timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES)
    return model, torch.randn(8, 3, 224, 224)


LOOPS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "small network": small,
    "convolutional": convolutional,
    "ViT, 197 tokens": transformer,
}


def seconds(model: nn.Module, inputs: Tensor, steps: int, say: Callable[[Tensor], None]) -> float:
    """Of so many steps of SGD on one batch."""
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    labels = torch.arange(len(inputs), device=inputs.device) % CLASSES
    started = _now(inputs)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        say(loss)
    return _now(inputs) - started


def _now(inputs: Tensor) -> float:
    if inputs.device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def measured(name: str, budget: float, device: str) -> str:
    """One line: median ratio of recorded to bare steps, its spread, and what the end of a task costs."""
    torch.manual_seed(0)
    model, inputs = LOOPS[name]()
    model, inputs = model.to(device), inputs.to(device)
    labels = torch.arange(len(inputs), device=device) % CLASSES
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings(action="ignore"):  # of few rows: one batch
        recorder = Recorder(Path(place) / "run", model, tasks=2)
        steps, ratios, bare = recorder.every, [], []
        seconds(model, inputs, 2, lambda _: None)  # warm
        began = time.perf_counter()
        while len(bare) < ROUNDS or time.perf_counter() - began < budget:
            recorder._watch.sampling = False
            bare.append(seconds(model, inputs, steps, lambda _: None))
            recorder._sample()
            ratios.append(seconds(model, inputs, steps, recorder.step) / bare[-1])
        started = _now(inputs)
        recorder.end_task(accuracies={0: 50.0}, observe=[(inputs, labels)])
        ending = _now(inputs) - started
        kept = recorder.cost()["bytes"]
        watched = len(recorder._watch.modules)
        recorder.close()
    step = 1000 * statistics.median(bare) / steps
    low, middle, high = statistics.quantiles(ratios, n=4)
    return (
        f"{name:<18} {step:8.2f} ms a step   × {middle:.3f} (quartiles {low:.3f} … {high:.3f}, {len(ratios)} rounds)   "
        f"end of a task {ending:6.2f} s, {kept / 1e6:6.1f} MB, {watched} modules"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each loop, at least")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--loop", choices=list(LOOPS), action="append")
    given = parser.parse_args()
    if given.device == "cpu":
        torch.set_num_threads(1)
    for name in given.loop or LOOPS:
        print(measured(name, given.seconds, given.device), flush=True)


if __name__ == "__main__":
    main()
