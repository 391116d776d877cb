"""Accuracy of a model over a loader, without side effects on training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

Answer = Callable[[nn.Module, Any], tuple[Tensor, Tensor]]


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode without gradients; restore every module's mode and the random state afterwards."""
    modes = {module: module.training for module in model.modules()}
    cpu, device = torch.get_rng_state(), device_of(model)
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)


def device_of(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def logits_and_labels(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """Return the logits [n, classes] and labels [n] of a batch (inputs, labels, …)."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise ValueError(
            "a batch of the loader is not (inputs, labels); give Recorder(answer=function) that takes the model and a "
            "batch and returns logits [n, classes] and labels [n]"
        )
    device = device_of(model)
    answer = model(batch[0].to(device))
    answer = getattr(answer, "logits", answer)
    return answer, batch[1].to(device)


def accuracy(model: nn.Module, loader: Iterable[Any], answer: Answer) -> float:
    """Return the accuracy over the loader in percent. Raises ValueError for an empty loader."""
    right: int | Tensor = 0
    count = 0
    with untouched(model):
        for batch in loader:
            logits, labels = answer(model, batch)
            right = right + (logits.argmax(dim=-1) == labels).sum()
            count += len(labels)
    if count == 0:
        raise ValueError("the loader gave no batch; is its data set empty, or an iterator that was used up before?")
    return 100 * float(right) / count
