"""Batches on the device: the same whichever way they take."""

from __future__ import annotations

import pytest
import torch

from cl_core.config import Preprocessing
from cl_core.streams.augmentation import Augmentation
from cl_core.streams.stream import Split, Task, TaskStream
from cl_core.training.data_loader import AHEAD, SHARE, Feed

from .elsewhere import DEVICE, Elsewhere

CPU = torch.device("cpu")
CHANGED = Augmentation("cifar10", 0.3, True)
DEVICES = [CPU, *([torch.device("cuda")] if torch.cuda.is_available() else [])]


@pytest.fixture
def stream(seeded):
    """One task of 23 training and 9 test pictures of 6×6, uint8, for a backbone that reads 8×8."""

    def split(count, seed):
        pictures = torch.randint(256, (count, 3, 6, 6), generator=seeded(seed), dtype=torch.uint8)
        return Split(pictures, torch.arange(count) % 4)

    preparation = Preprocessing(8, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    task = Task(0, range(4), tuple("abcd"), split(23, 0), split(9, 1), preparation)
    return TaskStream("squares", "class-incremental", (task,))


def bytes_of(stream):
    return sum(split.nbytes for task in stream for split in (task.train, task.test))


def free_for(way, stream):
    """So much free memory that the stream goes this way."""
    return None if way == "in place" else int(bytes_of(stream) / SHARE) + (1 if way == "resident" else -8)


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("way", ["in place", "resident", "loaded"])
def test_every_way_gives_the_same_images_in_the_same_order(way, device, stream):
    if way == "in place" and device.type != "cpu":
        pytest.skip("pictures lie on the CPU")
    (task,), feed = stream, Feed([stream], device, free_for(way, stream))
    assert feed.way == way
    for found, wanted in (
        (feed.batches(task, 5, seed=3, epoch=1), task.batches(5, seed=3, epoch=1)),
        (
            feed.batches(task, 5, seed=3, epoch=1, repeats=2, start=4),
            task.batches(5, seed=3, epoch=1, repeats=2, start=4),
        ),
        (
            feed.batches(task, 5, seed=3, epoch=1, start=2, augmentation=CHANGED),
            task.batches(5, seed=3, epoch=1, start=2, augmentation=CHANGED),
        ),
        (feed.ordered(task, "train", 7), task.ordered("train", 7)),
        (feed.ordered(task, "test", 4), task.ordered("test", 4)),
    ):
        for one, other in zip(found, wanted, strict=True):
            assert one.images.device.type == one.labels.device.type == device.type
            torch.testing.assert_close(one.images.cpu(), other.images, atol=1e-4, rtol=0)
            assert torch.equal(one.labels.cpu(), other.labels)


def test_a_small_stream_is_moved_once_and_as_it_is_stored(stream):
    (task,) = stream
    with Elsewhere():
        feed = Feed([stream], DEVICE, free_for("resident", stream))
        first, again = (feed._here(task) for _ in range(2))
        assert first.train is again.train and first.test is again.test
        assert first.train.pictures.device == DEVICE and first.train.pictures.dtype == torch.uint8
        plain, changed = (
            torch.cat([batch.images.cpu() for batch in feed.batches(task, 5, seed=0, epoch=0, augmentation=how)])
            for how in (None, CHANGED)
        )
    for found, how in ((plain, None), (changed, CHANGED)):
        wanted = torch.cat([batch.images for batch in task.batches(5, seed=0, epoch=0, augmentation=how)])
        torch.testing.assert_close(found, wanted)


def test_a_stream_is_resident_up_to_a_share_of_what_is_free_and_counts_once_however_often_it_is_named(stream):
    whole = bytes_of(stream)
    assert whole == (23 + 9) * 3 * 6 * 6
    assert Feed([stream, stream], CPU, int(whole / SHARE)).way == "resident"
    assert Feed([stream], CPU, int(whole / SHARE) - 8).way == "loaded"
    assert Feed([stream, stream.joined()], CPU, int(whole / SHARE)).way == "loaded", "a joint task is a copy"


def test_a_loader_gathers_no_more_than_it_is_ahead_and_ends_with_its_reader(stream, monkeypatch):
    (task,), feed = stream, Feed([stream], CPU, 0)
    asked = []
    intact = Task.portions

    def portions(self, *arguments, **others):
        for rows in intact(self, *arguments, **others):
            asked.append(len(rows))
            yield rows

    monkeypatch.setattr(Task, "portions", portions)
    batches = feed.batches(task, 2, seed=0, epoch=0)
    next(batches)
    assert len(asked) == 1 + AHEAD
    next(batches)
    assert len(asked) == 2 + AHEAD
    batches.close()


def test_an_error_while_gathering_reaches_whoever_reads(stream, monkeypatch):
    (task,), feed = stream, Feed([stream], CPU, 0)
    broken = iter([torch.tensor([0]), torch.tensor([99])])
    monkeypatch.setattr(Task, "portions", lambda self, *arguments, **others: broken)
    batches = feed.batches(task, 2, seed=0, epoch=0)
    with pytest.raises(IndexError):
        list(batches)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_what_is_loaded_waits_in_pinned_memory(stream, monkeypatch):
    (task,), pinned = stream, []
    intact = torch.Tensor.pin_memory
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(1) or intact(self))
    list(Feed([stream], torch.device("cuda"), 0).batches(task, 5, seed=0, epoch=0))
    assert len(pinned) == 2 * task.steps(5)
