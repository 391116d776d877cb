"""A buffer in which each of the images seen so far stands with the same chance.

Vitter. Random sampling with a reservoir. ACM Transactions on Mathematical Software 11, 1985.
Shapes: B images kept, n seen; images [B, 3, s, s].

    image number n (from 0) goes to place n while n < B, then to place r ~ U{0 … n} if r < B:
    after n images each is kept with probability min(1, B/n)

Draws come from generators of their own, by seed and number of images seen: a resumed run draws what the uninterrupted
one does. Images are kept in the shape and type that they are offered in: a replayed picture is bit for bit the one that
was seen, and bytes stay bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cl_core.streams.stream import mixed_seed


@dataclass(frozen=True)
class Drawn:
    """images [b, 3, s, s]; labels [b]; logits [b, C] as they were when the image was kept; known [b]: how many of the C
    classes had been seen then."""

    images: Tensor
    labels: Tensor
    logits: Tensor
    known: Tensor

    def __len__(self) -> int:
        return len(self.labels)


class Reservoir(nn.Module):
    """A component that a method owns; all of it is state."""

    images: Tensor
    labels: Tensor
    logits: Tensor
    known: Tensor
    seen: Tensor

    def __init__(self, places: int, size: int, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.register_buffer("images", torch.zeros(places, 3, size, size))
        self.register_buffer("labels", torch.zeros(places, dtype=torch.int64))
        self.register_buffer("logits", torch.zeros(places, 0))
        self.register_buffer("known", torch.zeros(places, dtype=torch.int64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def keep_as(self, side: int, dtype: torch.dtype) -> None:
        """Images of another side or type than that of the constructor, float32; before the first is offered."""
        self.images = torch.zeros(len(self.labels), 3, side, side, dtype=dtype, device=self.labels.device)

    def __len__(self) -> int:
        """Images it holds."""
        return min(int(self.seen), len(self.labels))

    def widen(self, classes: int) -> None:
        """Room for the logits of so many classes."""
        new = self.logits.new_zeros(len(self.logits), classes - self.logits.shape[1])
        self.logits = torch.cat([self.logits, new], dim=1)

    def offer(self, images: Tensor, labels: Tensor, logits: Tensor | None = None) -> None:
        """One batch, image by image; `logits` [B, classes seen]."""
        generator, before = self._generator("offer"), int(self.seen)
        for i in range(len(labels)):
            n = before + i
            place = n if n < len(self.labels) else int(torch.randint(n + 1, (), generator=generator))
            if place < len(self.labels):
                self.images[place], self.labels[place] = images[i], labels[i]
                if logits is not None:
                    self.known[place] = logits.shape[1]
                    self.logits[place, : logits.shape[1]] = logits[i]
        self.seen += len(labels)

    def draw(self, count: int, purpose: str) -> Drawn:
        """At most `count` different images, each with the same chance. Independent draws have different purposes."""
        chosen = torch.randperm(len(self), generator=self._generator(purpose))[:count].to(self.labels.device)
        return Drawn(self.images[chosen], self.labels[chosen], self.logits[chosen], self.known[chosen])

    def _generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(mixed_seed(self.seed, "reservoir", purpose, int(self.seen)))
