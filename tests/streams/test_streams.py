"""Streams deal classes and images to tasks: completely, without overlap, and the same way every time."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch

from cl_core.config import ConfigError, Preprocessing, StreamConfig
from cl_core.registry import STREAMS, load
from cl_core.streams.digits import split_digits
from cl_core.streams.stream import class_order, mixed_seed
from cl_core.streams.synthetic import synthetic

SMALL = Preprocessing(16, (0.5, 0.4, 0.3), (0.5, 0.25, 0.2))
EMBEDDED = [name for name in STREAMS if ":" not in name and name in ("split-digits", "camouflage", "synthetic")]


@pytest.fixture(scope="module", params=EMBEDDED)
def stream_of(request):
    make = load(STREAMS, request.param, "stream")
    return lambda seed=0, **settings: make(StreamConfig(**{"tasks": 5, **settings}), SMALL, seed)


def rows(split):
    """Every image as a hashable value, with its class name left out."""
    return [picture.numpy().tobytes() for picture in split.pictures.contiguous()]


def by_name(stream, split):
    """Class name → multiset of images: what does not depend on the order of arrival."""
    found = {}
    for task in stream:
        part = getattr(task, split)
        for picture, label in zip(part.pictures, part.labels.tolist(), strict=True):
            found.setdefault(stream.class_names[label], Counter())[picture.contiguous().numpy().tobytes()] += 1
    return found


def test_split_digits_has_1297_training_and_500_test_images_about_fifty_a_class():
    stream = split_digits(StreamConfig(tasks=5), SMALL, 0)
    assert sum(len(task.train) for task in stream) == 1297
    assert sum(len(task.test) for task in stream) == 500
    per_class = Counter(label for task in stream for label in task.test.labels.tolist())
    assert len(per_class) == 10 and all(48 <= count <= 52 for count in per_class.values())


def test_the_digits_are_scikit_learns_in_its_stratified_split_and_need_no_import_of_it(monkeypatch):
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    from cl_core.streams import digit_table, digits

    known = load_digits()
    _, rows = train_test_split(range(1797), test_size=500, stratify=known.target, random_state=0)
    for there in (True, False):  # the file, and the way through scikit-learn
        if not there:
            monkeypatch.setattr(digit_table.importlib.util, "find_spec", lambda name: None)
        pictures, labels, test = digits.real_digits(8)
        assert torch.equal(pictures[:, 0], torch.from_numpy(known.images).float() / 16)
        assert torch.equal(labels, torch.from_numpy(known.target).long())
        assert set(test.nonzero()[:, 0].tolist()) == set(rows)
    # Nor does anything else that every run starts with: it takes as long to import as torch.
    code = (
        "import sys, cl_core.training.factory; from cl_core.streams import digits; digits.real_digits(8);"
        "sys.exit(', '.join({'sklearn', 'scipy', 'pandas'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=120, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr


def test_split_digits_shows_the_digits_as_they_are_named():
    from sklearn.datasets import load_digits

    digits = load_digits()
    stream = split_digits(StreamConfig(tasks=2), replace(SMALL, size=8), 3)
    known = {image.astype("float32").tobytes(): label for image, label in zip(digits.images / 16, digits.target)}
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    task = stream[1]
    for picture, label in zip(task.train.pictures[:50], task.train.labels[:50].tolist(), strict=True):
        assert torch.equal(picture[0], picture[1])
        assert names[known[picture[0].contiguous().numpy().tobytes()]] == stream.class_names[label]


def test_the_split_into_training_and_test_images_is_the_same_for_every_seed(stream_of):
    first, second = stream_of(seed=0), stream_of(seed=1)
    assert first.class_names != second.class_names
    assert by_name(first, "test") == by_name(second, "test")
    assert by_name(first, "train") == by_name(second, "train")


def test_no_image_is_both_learned_and_evaluated_and_no_class_comes_twice(stream_of):
    stream = stream_of()
    learned = {row for task in stream for row in rows(task.train)}
    evaluated = {row for task in stream for row in rows(task.test)}
    assert learned and evaluated and not learned & evaluated
    assert len(set(stream.class_names)) == len(stream.class_names) == 10


@pytest.mark.parametrize("tasks", [1, 2, 5, 10])
def test_class_ids_are_renumbered_in_order_of_arrival(stream_of, tasks):
    stream = stream_of(tasks=tasks)
    assert len(stream) == tasks
    assert [c for task in stream for c in task.classes] == list(range(10))
    for index, task in enumerate(stream):
        assert task.index == index and len(task.names) == len(task.classes)
        for part in (task.train, task.test):
            assert set(part.labels.tolist()) == set(task.classes)


def test_the_seed_orders_the_classes_and_nothing_else_does(stream_of):
    names = {seed: stream_of(seed=seed).class_names for seed in (0, 1)}
    alphabet = stream_of.__call__(seed=0, tasks=1).class_names
    assert names[0] == alphabet, "dealing into other tasks keeps the order of arrival"
    original = [None] * 10
    for place, c in enumerate(class_order(10, 0)):
        original[c] = names[0][place]
    assert names[1] == tuple(original[c] for c in class_order(10, 1))


def test_words_follow_the_classes_of_their_task_whatever_the_seed(stream_of):
    known = dict(pair for task in stream_of(seed=0) for pair in zip(task.names, task.words.phrases, strict=True))
    assert len(set(known.values())) == 10
    for task in stream_of(seed=1, tasks=2):
        assert task.words.phrases == tuple(known[name] for name in task.names)
        assert all(name in phrase for name, phrase in zip(task.names, task.words.phrases, strict=True))
        assert all(sentences[0].startswith("a photo of ") for sentences in task.words.texts())


def test_validation_takes_a_fifth_of_the_training_images_and_never_touches_the_test_images(stream_of):
    usual, held = stream_of(), stream_of(evaluate_on="validation")
    tested = {row for task in usual for row in rows(task.test)}
    for plain, task in zip(usual, held, strict=True):
        learned, evaluated = Counter(rows(task.train)), Counter(rows(task.test))
        assert not tested & (set(learned) | set(evaluated))
        assert learned + evaluated == Counter(rows(plain.train))
        for c in task.classes:
            total = int((plain.train.labels == c).sum())
            assert int((task.test.labels == c).sum()) == total // 5


def test_tasks_that_do_not_divide_the_classes_are_refused_with_those_that_do(stream_of):
    with pytest.raises(ConfigError, match=r"10 classes, which do .* into 3 .*be 1, 2, 5, 10; stream\.remainder"):
        stream_of(tasks=3)
    with pytest.raises(ConfigError, match="do not divide into 20"):
        stream_of(tasks=20)


def test_an_epoch_shows_every_training_image_once_and_keeps_the_short_last_batch(stream_of):
    task = stream_of()[1]
    batches = list(task.batches(7, seed=0, epoch=0))
    assert len(batches) == task.steps(7) == -(-len(task.train) // 7)
    assert [len(batch.labels) for batch in batches[:-1]] == [7] * (len(batches) - 1)
    shown = Counter(image.numpy().tobytes() for batch in batches for image in batch.images)
    assert shown == Counter(image.numpy().tobytes() for image in task.prepare(task.train.pictures))


def test_batches_are_a_function_of_seed_task_and_epoch_and_can_be_taken_up_anywhere(stream_of):
    stream = stream_of()
    task = stream[0]

    def order(task, **where):
        return [(b.images, b.labels) for b in task.batches(6, **{"seed": 0, "epoch": 0, "repeats": 2, **where})]

    def same(first, second):
        return len(first) == len(second) and all(
            torch.equal(a, b) and torch.equal(c, d) for (a, c), (b, d) in zip(first, second, strict=True)
        )

    whole = order(task)
    torch.manual_seed(5)
    assert same(order(task), whole)
    for start in (1, len(whole) - 1, len(whole)):
        assert same(order(task, start=start), whole[start:])
    assert not same(order(task, seed=1), whole)
    assert not same(order(task, epoch=1), whole)


def test_repeats_show_every_image_that_often_in_one_epoch(stream_of):
    task = stream_of()[0]
    batches = list(task.batches(9, seed=0, epoch=0, repeats=3))
    assert len(batches) == task.steps(9, 3) == -(-3 * len(task.train) // 9)
    shown = Counter(image.numpy().tobytes() for batch in batches for image in batch.images)
    once = Counter(image.numpy().tobytes() for image in task.prepare(task.train.pictures))
    assert shown == Counter({image: 3 * count for image, count in once.items()})


def test_images_stay_with_their_labels_through_shuffling(stream_of):
    task = stream_of()[0]
    known = {}
    for image, label in zip(task.prepare(task.train.pictures), task.train.labels.tolist(), strict=True):
        known.setdefault(image.numpy().tobytes(), set()).add(label)
    for batch in task.batches(8, seed=0, epoch=0):
        for image, label in zip(batch.images, batch.labels.tolist(), strict=True):
            assert label in known[image.numpy().tobytes()]


def test_ordered_batches_show_each_image_once_in_stored_order(stream_of):
    task = stream_of()[2]
    for split in ("train", "test"):
        part = getattr(task, split)
        images = torch.cat([batch.images for batch in task.ordered(split, 7)])
        assert torch.equal(images, task.prepare(part.pictures))
        assert torch.equal(torch.cat([batch.labels for batch in task.ordered(split, 7)]), part.labels)


def test_pictures_lie_between_zero_and_one_and_are_prepared_channel_by_channel(stream_of):
    task = stream_of()[0]
    assert task.train.pictures.min() >= 0 and task.train.pictures.max() <= 1
    assert task.train.pictures.shape[1:] == (3, 16, 16)
    prepared = task.prepare(task.train.pictures)
    for channel, (mean, std) in enumerate(zip(SMALL.mean, SMALL.std, strict=True)):
        torch.testing.assert_close(prepared[:, channel], (task.train.pictures[:, channel] - mean) / std)


def test_joined_holds_all_tasks_at_once_under_the_last_ones_index(stream_of):
    stream = stream_of()
    (whole,) = stream.joined()
    assert whole.index == 4 and whole.classes == range(10) and whole.names == stream.class_names
    for split in ("train", "test"):
        together = Counter(row for task in stream for row in rows(getattr(task, split)))
        assert Counter(rows(getattr(whole, split))) == together
        assert set(getattr(whole, split).labels.tolist()) == set(range(10))


def test_probes_are_fixed_test_images_with_classes_in_turn(stream_of):
    task = stream_of()[1]
    probes = task.probes(5)
    assert probes.labels.tolist() == [2, 3, 2, 3, 2]
    assert set(rows(probes)) <= set(rows(task.test)) and len(set(rows(probes))) == 5
    again = stream_of()[1].probes(5)
    assert torch.equal(again.pictures, probes.pictures) and torch.equal(again.labels, probes.labels)
    assert torch.equal(task.probes(3).pictures, probes.pictures[:3])
    assert len(task.probes(10_000)) == len(task.test)


def test_synthetic_classes_can_be_told_apart_by_eye_and_by_the_nearest_mean():
    stream = synthetic(StreamConfig(tasks=1), SMALL, 0)
    (task,) = stream
    means = torch.stack([task.train.pictures[task.train.labels == c].mean(dim=0) for c in task.classes]).flatten(1)
    nearest = torch.cdist(task.test.pictures.flatten(1), means).argmin(dim=1)
    assert (nearest == task.test.labels).float().mean() > 0.6


def test_seeds_of_different_draws_do_not_meet():
    seeds = [mixed_seed(s, "batches", t, e) for s in range(4) for t in range(4) for e in range(4)]
    assert len(set(seeds)) == 64 and all(0 <= seed < 2**63 for seed in seeds)
    assert mixed_seed(1, "batches", 2) == mixed_seed(1, "batches", 2) != mixed_seed(1, "probes", 2)
