"""Cache of a frozen model's outputs, computed once per image and keyed by the image's id in its stream.

A stream without augmentation repeats the same images in every epoch, and test images after every task. Augmented
images have no id and are computed each time. The cache is not part of a run's state: a resumed run recomputes what it
needs. To get equal bits on the CPU, images pass through the model in portions of one fixed size, padded with zeros,
because matrix products of other heights round differently. On a GPU, where equal bits are not guaranteed, all missing
images pass at once.

Shapes: B images, d width of an output.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Kept:
    """Size of the cache of a frozen model."""

    model: str
    images: int  # most images
    bytes: int  # their size


class KeptAnswers:
    """LRU cache of one model's outputs; `asked` counts computed images.

    `keep_current`: outputs used since `new_turn` are not evicted. Otherwise repeated passes over more images than fit
    would evict each image before it returns.
    """

    def __init__(self, portion: int, *, keep_current: bool = False) -> None:
        self.portion, self.asked, self.keep_current = portion, 0, keep_current
        self._kept: OrderedDict[int, Tensor] = OrderedDict()
        self._current: set[int] = set()  # ids of cached outputs that were used in this turn

    def new_turn(self) -> None:
        self._current.clear()

    @torch.no_grad()
    def __call__(self, model: Callable[[Tensor], Tensor], images: Tensor, ids: Tensor | None, limit: int) -> Tensor:
        """Return the outputs for a batch.

        Args:
            model: [portion, 3, S, S] → [portion, …], row by row.
            images: [B, 3, S, S].
            ids: [B], the images' ids; None = neither look up nor store.
            limit: largest number of cached outputs.

        Returns:
            [B, …].
        """
        if ids is None:
            return torch.stack(self._computed(model, list(images)))
        numbers = ids.tolist()
        found = {number: self._kept[number] for number in numbers if number in self._kept}
        missing = {number: image for number, image in zip(numbers, images, strict=True) if number not in found}
        found.update(zip(missing, self._computed(model, list(missing.values())), strict=True))
        for number, answer in found.items():
            if self.keep_current and number not in self._kept and not self._room(limit):
                continue
            self._kept[number] = answer
            self._kept.move_to_end(number)
            if self.keep_current:
                self._current.add(number)
        while len(self._kept) > limit:
            self._kept.popitem(last=False)
        return torch.stack([found[number] for number in numbers])

    def _room(self, limit: int) -> bool:
        """Return whether another output can be stored: there is room, or the oldest one is not of this turn."""
        return len(self._kept) < limit or next(iter(self._kept), None) not in self._current

    def _computed(self, model: Callable[[Tensor], Tensor], images: list[Tensor]) -> list[Tensor]:
        self.asked += len(images)
        answers: list[Tensor] = []
        portion = self.portion if not images or images[0].device.type == "cpu" else len(images)
        for start in range(0, len(images), portion):
            part = torch.stack(images[start : start + portion])
            filled = torch.cat([part, part.new_zeros(portion - len(part), *part.shape[1:])])
            answers += [row.clone() for row in model(filled)[: len(part)]]  # a view would keep its portion in memory
        return answers

    def __len__(self) -> int:
        return len(self._kept)
