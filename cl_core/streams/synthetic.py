"""Coloured bars drawn in memory: ten classes that differ in hue and slant. For tests and first steps only; no result
uses it."""

from __future__ import annotations

from dataclasses import replace

import torch

from cl_core.config import Preprocessing, StreamConfig
from cl_core.streams.stream import (
    MULTI_DOMAIN,
    General,
    Pairs,
    Split,
    TaskStream,
    Words,
    arrange,
    mixed_seed,
)

NAMES = tuple(
    f"{slant} {hue}" for hue in ("red", "yellow", "green", "blue", "violet") for slant in ("upright", "lying")
)
WORDS = Words(
    tuple(f"{'an' if name.startswith('u') else 'a'} {name} bar" for name in NAMES), ("a photo of {}", "a picture of {}")
)
TRAIN, TEST = 20, 10  # images per class


def synthetic_domains(config: StreamConfig, preparation: Preprocessing, seed: int) -> TaskStream:
    """Return the bars as a multi-domain stream with all optional parts: known tasks at test time, pairs for training,
    and a general set (bars of the stream itself, because this distribution has nothing else)."""
    stream = synthetic(config, preparation, seed)
    every = synthetic(replace(config, tasks=1, evaluate_on="test"), preparation, 0)[0]
    captions = WORDS.texts(0)
    names = [NAMES.index(name) for name in every.names]  # arrival → original id
    original = torch.tensor(names)[every.train.labels]

    def pairs(rows: torch.Tensor) -> Pairs:
        labels = original[rows]
        return Pairs(every.train.pictures[rows], tuple(captions[c][0] for c in labels.tolist()), labels)

    def references(task: int, count: int) -> Pairs:
        generator = torch.Generator().manual_seed(mixed_seed("references", task))
        return pairs(torch.randperm(len(original), generator=generator)[:count])

    one_each = torch.stack([torch.nonzero(original == c)[0, 0] for c in range(len(NAMES))])
    general = General(pairs(one_each), Split(every.test.pictures, torch.tensor(names)[every.test.labels]), WORDS)
    tasks = tuple(replace(task, domain=f"Bars {task.index + 1}") for task in stream)
    return TaskStream("synthetic-domains", MULTI_DOMAIN, tasks, general, references, stream.world)


def synthetic(config: StreamConfig, preparation: Preprocessing, seed: int) -> TaskStream:
    """Return ten classes in `config.tasks` tasks; `seed` orders the classes and does not affect the images."""
    count, size = TRAIN + TEST, preparation.size
    labels = torch.arange(len(NAMES)).repeat_interleave(count)
    pictures = _bars(labels, size, torch.Generator().manual_seed(20))
    test = torch.arange(len(labels)) % count >= TRAIN
    stream = arrange(
        "synthetic",
        pictures,
        labels,
        test,
        NAMES,
        config=config,
        preparation=preparation,
        seed=seed,
        words=WORDS,
    )
    return replace(stream, world=lambda count: _other_bars(count, size))


def _other_bars(count: int, size: int) -> torch.Tensor:
    """Draw bars, alternating classes, that are in no task, as images of the pre-training distribution."""
    return _bars(torch.arange(count) % len(NAMES), size, torch.Generator().manual_seed(21))


def _bars(labels: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """Draw one image per label [n]: [n, 3, size, size] in 0..1."""
    hues = torch.tensor([[1, 0.1, 0.1], [0.9, 0.9, 0.1], [0.1, 0.8, 0.2], [0.1, 0.3, 1], [0.6, 0.1, 0.9]])
    place = torch.rand(len(labels), 1, 1, generator=generator) * 2 - 1
    axis = torch.linspace(-1, 1, size)
    along = torch.where((labels % 2 == 0)[:, None, None], axis.view(1, 1, -1), axis.view(1, -1, 1)).expand(
        -1, size, size
    )
    bar = ((along - 0.6 * place).abs() < 0.35).float().unsqueeze(1)  # [n, 1, S, S]
    pictures = bar * hues[labels // 2][:, :, None, None]
    return (pictures + 0.15 * torch.randn(pictures.shape, generator=generator)).clamp(0, 1)
