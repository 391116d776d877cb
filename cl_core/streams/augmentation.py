"""Augmentation of training images on their device.

All random numbers are drawn on the CPU from one seed per batch, so a batch is a pure function of (seed, task, epoch,
number): a resumed epoch sees the same pixels, and a GPU gets the same draws as the CPU.

The order follows torchvision's recipes: AutoAugment on the stored image (Cubuk et al., CVPR 2019, arXiv:1805.09501;
torchvision's, bilinear), then a random resized crop, then a horizontal flip. Difference: crops use continuous
coordinates in one operation for the whole batch, so that a crop's edge is interpolated with its real neighbours,
whereas torchvision cuts at whole pixels and repeats the outermost ones. No smoothing is needed: images are never
stored larger than the backbone reads them, so crops are only enlarged.
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

TRIES = 10  # draws of a crop's shape before the whole image is used, as in torchvision
RATIO = 4 / 3  # largest width : height; its inverse is the smallest


@dataclass(frozen=True)
class Augmentation:
    """Augmentation settings. `policy`: "none", or AutoAugment's for "cifar10" or "imagenet"; `crop`: smallest share of
    an image's area (1 = whole images); `flip`: mirror half of the images."""

    policy: str = "none"
    crop: float = 1.0
    flip: bool = False

    @classmethod
    def of(cls, training: TrainingConfig) -> Augmentation | None:
        """Return the augmentation of the settings; None if there is none."""
        wanted = cls(training.auto_augment, training.random_crop, training.flip)
        return None if wanted == cls() else wanted

    def __call__(self, pictures: Tensor, size: int, seed: int) -> Tensor:
        """Augment [n, 3, s, s] in 0..1 or uint8 → [n, 3, s', s'] in 0..1 on the same device; s' is `size` with crops,
        else s."""
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
    """Draw crop boxes [count, 4]: left, top, width, height as shares of the side.

    Area a ~ U(smallest, 1), ratio log r ~ U(log 3/4, log 4/3); width √(a r), height √(a / r), redrawn if one
    exceeds the side, the whole image after ten tries; the position is uniform among those that fit.
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
    """Crop images [n, 3, s, s] and enlarge them (bicubic) to [n, 3, size, size], within 0..1."""
    corner, sides = boxes[:, :2], boxes[:, 2:]
    centre = 2 * corner + sides - 1  # in −1..1 across the image
    where = torch.cat([torch.diag_embed(sides), centre[:, :, None]], dim=2)
    grid = F.affine_grid(where, [len(pictures), pictures.shape[1], size, size], align_corners=False)
    return F.grid_sample(pictures, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)


def _by_policy(name: str, pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Apply a separate AutoAugment sub-policy to each image [3, s, s]; uint8 in 0..255."""
    stored = pictures if pictures.dtype == torch.uint8 else (pictures * 255).round().byte()
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the CPU's global generator
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reset the GPU's
        return torch.stack([_policy(name)(picture) for picture in stored])


@functools.cache
def _policy(name: str) -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2  # takes two seconds to import, so only on request

    policies = {"cifar10": v2.AutoAugmentPolicy.CIFAR10, "imagenet": v2.AutoAugmentPolicy.IMAGENET}
    return v2.AutoAugment(policies[name], interpolation=v2.InterpolationMode.BILINEAR)
