"""What a frozen model says of images, computed once an image and kept under the image's content.

A stream without augmentation shows the same images in every epoch, and test images after every task. With it, training
images are new each time: they are computed each time, and push the oldest answers out. What is kept is no state of a
run: a resumed run computes what it needs anew. That it then finds the same numbers takes two things. Images are
recognised by their content, not by where they come from; and they pass through the model in portions of one fixed size,
filled up with zeros, because a matrix product of another height rounds differently: the arithmetic of one image does
not depend on which others were missing too.

On a GPU, where equal bits are not promised, all that is missing passes at once, and images are recognised by a sum over
their bits (`teacher_table`): only the sums are copied, not the images.

Shapes: B images, d width of an answer.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from cl_core.methods.teacher_table import image_keys


class AnswersByContent:
    """Answers of one model, the least recently used going first; `asked` counts images that were computed."""

    def __init__(self, portion: int) -> None:
        self.portion, self.asked = portion, 0
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()

    @torch.no_grad()
    def __call__(self, model: Callable[[Tensor], Tensor], images: Tensor, limit: int) -> Tensor:
        """model: [portion, 3, S, S] → [portion, d], row by row; images [B, 3, S, S] → [B, d]; at most `limit` answers
        are kept."""
        names = _names(images)
        found = {name: self._kept[name] for name in names if name in self._kept}
        missing = {name: image for name, image in zip(names, images, strict=True) if name not in found}
        found.update(zip(missing, self._computed(model, list(missing.values())), strict=True))
        for name, answer in found.items():
            self._kept[name] = answer
            self._kept.move_to_end(name)
        while len(self._kept) > limit:
            self._kept.popitem(last=False)
        return torch.stack([found[name] for name in names])

    def _computed(self, model: Callable[[Tensor], Tensor], images: list[Tensor]) -> list[Tensor]:
        self.asked += len(images)
        answers: list[Tensor] = []
        portion = self.portion if not images or images[0].device.type == "cpu" else len(images)
        for start in range(0, len(images), portion):
            part = torch.stack(images[start : start + portion])
            filled = torch.cat([part, part.new_zeros(portion - len(part), *part.shape[1:])])
            answers += model(filled)[: len(part)].clone()
        return answers

    def __len__(self) -> int:
        return len(self._kept)


def _names(images: Tensor) -> Sequence[Hashable]:
    """What each image of a batch is known by."""
    if images.device.type == "cpu":
        return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in images.detach().numpy()]
    return image_keys(images).tolist()
