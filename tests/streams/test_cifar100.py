"""CIFAR-100: where it is looked for, how its pictures become tasks. The files are large: a stand-in reads none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cl_core.config import ConfigError, Preprocessing, StreamConfig
from cl_core.hf_cache import DOWNLOAD
from cl_core.registry import STREAMS, load
from cl_core.streams import cifar100 as module
from cl_core.streams.stream import class_order

LARGE = Preprocessing(64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
NAMES = ["apple", "aquarium_fish", "bed", "oak_tree"]
asked = []


class Shelf:
    """Stands for torchvision's reader: 12 training and 4 test pictures a class whose grey is 10 × class + number."""

    def __init__(self, root, train, download):
        asked.append((root, download))
        count = 12 if train else 4
        self.classes, self.targets = NAMES, [c for _ in range(count) for c in range(4)]
        greys = [10 * c + i // 4 + (0 if train else 100) for i, c in enumerate(self.targets)]
        self.data = np.stack([np.full((32, 32, 3), grey, dtype=np.uint8) for grey in greys])


def stream(config, seed=0, name="cifar100"):
    return load(STREAMS, name, "stream")(config, LARGE, seed)


def test_where_it_was_looked_for_is_said_and_nothing_is_fetched(tmp_path, monkeypatch):
    monkeypatch.delenv(DOWNLOAD, raising=False)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("something went over the network"))
    for name, root in ((f"cifar100:{tmp_path}/here", "here"), ("cifar100", "there")):
        monkeypatch.setenv("PLASTISCOPE_DATA", str(tmp_path / "there"))
        with pytest.raises(ConfigError, match=f"CIFAR-100 is not in {tmp_path / root} .*{DOWNLOAD}=1; split-digits"):
            stream(StreamConfig(), name=name)
    assert list(tmp_path.iterdir()) == []


def test_pictures_stay_small_and_classes_come_in_the_published_order(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "CIFAR100", Shelf)
    asked.clear()
    found = stream(StreamConfig(tasks=2), seed=2024, name=f"cifar100:{tmp_path}")
    assert asked == [(tmp_path, False)] * 2
    assert found.class_names == tuple(NAMES[c].replace("_", " ") for c in class_order(4, 2024))
    task = found[1]
    assert (len(task.train), len(task.test)) == (24, 8) and task.train.pictures.shape[1:] == (3, 32, 32)
    assert task.train.pictures.dtype == torch.uint8 and task.prepare(task.train.pictures[:1]).shape == (1, 3, 64, 64)
    for split, shift in (("train", 0), ("test", 100)):
        part = getattr(task, split)
        for picture, label in zip(part.pictures, part.labels.tolist(), strict=True):
            original = NAMES.index(task.names[label - task.classes.start].replace(" ", "_"))
            assert 0 <= int(picture[0, 0, 0]) - shift - 10 * original < 12


def test_limits_and_validation(monkeypatch):
    monkeypatch.setattr(module, "CIFAR100", Shelf)
    few = stream(StreamConfig(tasks=2, per_class=5, per_class_test=2))
    assert {(len(task.train), len(task.test)) for task in few} == {(10, 4)}
    held_out = stream(replace(StreamConfig(tasks=2), evaluate_on="validation"))
    assert {(len(task.train), len(task.test)) for task in held_out} == {(20, 4)}
    assert int(held_out[0].test.pictures.max()) < 100, "test pictures are not touched"
    named = stream(StreamConfig(classes=[["bed"], ["apple", "oak_tree"]], class_names={"bed": "a bed"}))
    assert [task.names for task in named] == [("a bed",), ("apple", "oak tree")]
