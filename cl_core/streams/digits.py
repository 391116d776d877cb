"""Split-Digits: scikit-learn's real handwritten digits (1,797 grey images of 8×8 from the UCI set), two classes per
task.

E. Alpaydin, C. Kaynak. Optical Recognition of Handwritten Digits. UCI Machine Learning Repository, 1998. The images
come with scikit-learn, so nothing is downloaded. They are resized bilinearly to the backbone's input size and repeated
over three channels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.config import Preprocessing, StreamConfig
from cl_core.streams.digit_table import NAMES, digit_table, held_out_rows
from cl_core.streams.stream import TaskStream, Words, arrange
from cl_core.streams.synthetic_pretraining import drawn_world

WORDS = Words(
    tuple(f"the digit {name}" for name in NAMES),
    ("a photo of {}", "a handwritten photo of {}", "a picture of {}", "{}"),
)


def real_digits(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return all 1,797 digits: images [n, 3, size, size] in 0..1, labels [n] int64, mask of test images [n] bool."""
    table = digit_table()
    grey = torch.from_numpy(table[:, :-1]).float().reshape(-1, 1, 8, 8) / 16
    pictures = F.interpolate(grey, size=(size, size), mode="bilinear", align_corners=False).expand(-1, 3, -1, -1)
    labels = torch.from_numpy(table[:, -1]).long()
    test = torch.from_numpy(held_out_rows(len(labels)))
    return pictures, labels, test


def split_digits(config: StreamConfig, preparation: Preprocessing, seed: int) -> TaskStream:
    """Return ten digits in `config.tasks` tasks; `seed` orders the classes. 1,297 training and 500 test images."""
    pictures, labels, test = real_digits(preparation.size)
    stream = arrange(
        "split-digits",
        pictures,
        labels,
        test,
        NAMES,
        config=config,
        preparation=preparation,
        seed=seed,
        words=WORDS,
    )
    return replace(stream, world=drawn_world(preparation.size))
