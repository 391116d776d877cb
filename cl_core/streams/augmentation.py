"""Augmentation of training images on their device.

Every random number comes from the CPU and from one seed a batch, so a batch is a pure function of (seed, task,
epoch, number): a resumed epoch sees the same pixels, and a GPU draws what the CPU draws.

In the order of torchvision's recipes: AutoAugment on the picture as it is stored (Cubuk et al., CVPR 2019,
arXiv:1805.09501; torchvision's, bilinear), then a random resized crop, then a mirror image. Departure: crops are taken
by continuous coordinates in one operation for the whole batch, so that a crop's edge sees its real neighbours, where
torchvision cuts whole pixels and repeats the outermost ones. No smoothing is needed: pictures are never stored larger
than the backbone reads them, so a crop is only ever enlarged.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from cl_core.config import TrainingConfig

TRIES = 10  # draws of a crop's shape before the whole picture is taken, as in torchvision
RATIO = 4 / 3  # widest width : height, and its inverse the narrowest


@dataclass(frozen=True)
class Augmentation:
    """`policy`: "none", or AutoAugment's for "cifar10" or "imagenet"; `crop`: smallest share of a picture's area (1:
    whole pictures); `flip`: half of the pictures are mirrored."""

    policy: str = "none"
    crop: float = 1.0
    flip: bool = False

    @classmethod
    def of(cls, training: TrainingConfig) -> Augmentation | None:
        """What the settings ask for; None where pictures are shown as they are."""
        wanted = cls(training.auto_augment, training.random_crop, training.flip)
        return None if wanted == cls() else wanted

    def __call__(self, pictures: Tensor, size: int, seed: int) -> Tensor:
        """[n, 3, s, s] in 0..1 or uint8 → [n, 3, s', s'] in 0..1 on the same device; s' is `size` where crops are
        taken, else s."""
        generator = torch.Generator().manual_seed(seed)
        if self.policy != "none":
            pictures = _by_policy(self.policy, pictures, generator)
        pictures = pictures.float() / 255 if pictures.dtype == torch.uint8 else pictures
        count, device = len(pictures), pictures.device
        if self.crop < 1:
            boxes = crops(count, self.crop, generator).to(device)
            pictures = cut(pictures, boxes, size)
        if self.flip:
            mirrored = (torch.rand(count, generator=generator) < 0.5).to(device)
            pictures = torch.where(mirrored[:, None, None, None], pictures.flip(-1), pictures)
        return pictures


def crops(count: int, smallest: float, generator: torch.Generator) -> Tensor:
    """Boxes [count, 4]: left, top, width, height as shares of the side.

    Area a ~ U(smallest, 1), ratio log r ~ U(log 3/4, log 4/3); width √(a r), height √(a / r), drawn anew where one
    exceeds the side, the whole picture after ten tries; the place uniform among those that fit.
    """
    area = torch.empty(TRIES, count).uniform_(smallest, 1, generator=generator)
    ratio = torch.empty(TRIES, count).uniform_(-math.log(RATIO), math.log(RATIO), generator=generator).exp()
    sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=-1)  # [tries, count, 2]
    fits = (sides <= 1).all(dim=-1)
    first = fits.int().argmax(dim=0)
    chosen = torch.where(fits.any(dim=0)[:, None], sides[first, torch.arange(count)], torch.ones(count, 2))
    place = torch.rand(count, 2, generator=generator) * (1 - chosen)
    return torch.cat([place, chosen], dim=1)


def cut(pictures: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Crops of pictures [n, 3, s, s], enlarged (bicubic) to [n, 3, size, size], within 0..1."""
    corner, sides = boxes[:, :2], boxes[:, 2:]
    centre = 2 * corner + sides - 1  # in −1..1 across the picture
    where = torch.cat([torch.diag_embed(sides), centre[:, :, None]], dim=2)
    grid = F.affine_grid(where, [len(pictures), pictures.shape[1], size, size], align_corners=False)
    return F.grid_sample(pictures, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)


def _by_policy(name: str, pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture [3, s, s] by an AutoAugment sub-policy of its own; uint8 in 0..255."""
    stored = pictures if pictures.dtype == torch.uint8 else (pictures * 255).round().byte()
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the CPU's one generator
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would begin the GPU's anew as well
        return torch.stack([_policy(name)(picture) for picture in stored])


@functools.cache
def _policy(name: str) -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2  # two seconds to import: only where it is asked for

    policies = {"cifar10": v2.AutoAugmentPolicy.CIFAR10, "imagenet": v2.AutoAugmentPolicy.IMAGENET}
    return v2.AutoAugment(policies[name], interpolation=v2.InterpolationMode.BILINEAR)
