"""Micro-MTIL: balanced domains in the asked order, said in known words, the same pictures every time."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from cl_core.config import ConfigError, Preprocessing, StreamConfig
from cl_core.streams import micro_mtil as module
from cl_core.streams.digits import split_digits
from cl_core.streams.micro_mtil import ORDERS, TEST, TRAIN, micro_mtil, micro_mtil_long
from cl_core.streams.stream import MULTI_DOMAIN
from cl_core.synthetic_world import KINDS, SHAPE_KINDS, Scenes, is_held_out, known_words

USUAL = Preprocessing(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLASSES = {"Digits": 10, "Letters": 26, "Shapes": 12, "Textures": 6, "Colours": 12, "Counts": 4}


def stream(tasks=6, seed=0, preparation=USUAL, **settings):
    return micro_mtil(StreamConfig(tasks=tasks, **settings), preparation, seed)


@pytest.fixture(scope="module")
def first():
    return stream()


@pytest.fixture(scope="module")
def second():
    return stream(order="II", seed=1)


def rows(pictures):
    return [picture.contiguous().numpy().tobytes() for picture in pictures]


def domains(made):
    return {task.domain: task for task in made}


def everything_said(made):
    words = [made.general.words, *(task.words for task in made)]
    sentences = [sentence for w in words for per_class in w.texts() for sentence in per_class]
    return [*sentences, *made.general.pairs.captions, *made.references(1, 96).captions]


def test_six_domains_of_which_a_test_picture_names_its_own(first):
    assert first.scenario == MULTI_DOMAIN and first.task_is_known and len(first) == 6
    assert {task.title: len(task.classes) for task in first} == CLASSES
    assert [c for task in first for c in task.classes] == list(range(70))


def test_every_class_of_a_domain_has_equally_many_pictures(first):
    for task in first:
        for part, total in ((task.train, TRAIN), (task.test, TEST)):
            per_class = Counter(part.labels.tolist())
            assert per_class == {c: total // len(task.classes) for c in task.classes}
            assert part.pictures.shape == (len(part), 3, 32, 32)


def test_pictures_lie_between_zero_and_one(first):
    general, references = first.general, first.references(0, 96)
    parts = [part for task in first for part in (task.train, task.test)] + [general.test, general.pairs, references]
    for part in parts:
        assert part.pictures.min() >= 0 and part.pictures.max() <= 1 and part.pictures.isfinite().all()
        assert part.pictures.std() > 0.03, "something is to be seen"


def test_no_picture_is_both_learned_and_evaluated(first):
    learned = {row for task in first for row in rows(task.train.pictures)}
    evaluated = [row for task in first for row in rows(task.test.pictures)]
    evaluated += rows(first.general.test.pictures) + rows(first.general.pairs.pictures)
    assert not learned & set(evaluated)
    referred = {row for index in range(6) for row in rows(first.references(index, 48).pictures)}
    assert not referred & (learned | set(evaluated))


def test_the_second_order_is_another_permutation_of_the_same_domains_and_pictures(first, second):
    assert [task.domain.lower() for task in first] == list(ORDERS["I"])
    assert [task.domain.lower() for task in second] == list(ORDERS["II"])
    assert sorted(ORDERS["I"]) == sorted(ORDERS["II"]) and ORDERS["I"] != ORDERS["II"]
    assert [c for task in second for c in task.classes] == list(range(70))
    for name, task in domains(first).items():
        other = domains(second)[name]
        assert task.names == other.names and task.words == other.words
        for split in ("train", "test"):
            here, there = getattr(task, split), getattr(other, split)
            assert torch.equal(here.pictures, there.pictures)
            assert torch.equal(here.labels - task.classes.start, there.labels - other.classes.start)


def test_the_same_stream_comes_out_again_whatever_happened_before(first):
    torch.manual_seed(9)
    again = stream(tasks=2, seed=3)
    for task, other in zip(first, again, strict=False):
        assert torch.equal(task.train.pictures, other.train.pictures)
        assert torch.equal(task.test.pictures, other.test.pictures)
    assert torch.equal(first.general.test.pictures, again.general.test.pictures)
    assert torch.equal(first.general.pairs.pictures, again.general.pairs.pictures)
    assert first.general.pairs.captions == again.general.pairs.captions


def test_fewer_tasks_are_the_first_domains_and_more_than_six_are_refused():
    assert [task.domain for task in stream(tasks=3, order="II")] == ["Colours", "Textures", "Counts"]
    with pytest.raises(ConfigError, match=r"micro-mtil has 6 domains.* must be 1 … 6, got 7$"):
        stream(tasks=7)


def test_validation_holds_out_every_fifth_training_image_of_a_class(first):
    for plain, task in zip(first, stream(tasks=3, evaluate_on="validation"), strict=False):
        assert plain.domain == task.domain
        learned, evaluated = Counter(rows(task.train.pictures)), Counter(rows(task.test.pictures))
        assert learned + evaluated == Counter(rows(plain.train.pictures))
        for c in task.classes:
            whole = plain.train.pictures[plain.train.labels == c]
            assert torch.equal(task.test.pictures[task.test.labels == c], whole[4::5])


def test_there_is_one_phrase_a_class_and_all_is_said_in_words_of_the_micro_world(first):
    for task in first:
        assert len(task.words.phrases) == len(set(task.words.phrases)) == len(task.names) == len(task.classes)
        assert 3 <= len(task.words.templates) <= 4 and task.words.templates[0] == "a photo of {}"
    assert set(" ".join(everything_said(first)).split()) <= known_words()


def test_classes_are_said_with_their_article(first):
    said = {task.domain: dict(zip(task.names, task.words.phrases, strict=True)) for task in first}
    assert said["Digits"]["three"] == "the digit three" and said["Letters"]["K"] == "the letter k"
    assert said["Shapes"]["star"] == "a star" and said["Shapes"]["arrow"] == "an arrow"
    assert said["Textures"]["striped"] == "a striped shape"
    assert said["Colours"]["red"] == "a red shape" and said["Colours"]["orange"] == "an orange shape"
    assert list(said["Counts"].values()) == ["a shape", "two shapes", "three shapes", "four shapes"]


def test_the_digits_are_real_and_keep_their_side_of_the_fixed_division(first):
    (whole,) = split_digits(StreamConfig(tasks=1), USUAL, 0)
    names = dict(zip(whole.classes, whole.names, strict=True))
    task = domains(first)["Digits"]
    for split in ("train", "test"):
        real = getattr(whole, split)
        known = {row: names[c] for row, c in zip(rows(real.pictures), real.labels.tolist(), strict=True)}
        part = getattr(task, split)
        for row, label in zip(rows(part.pictures), part.labels.tolist(), strict=True):
            assert known[row] == task.names[label - task.classes.start]


def test_drawn_scenes_keep_what_is_asked_and_no_combination_is_held_out(monkeypatch):
    drawn: list[Scenes] = []

    def watched(scenes, generator):
        drawn.append(scenes)
        return torch.zeros(len(scenes), 3, 32, 32)

    monkeypatch.setattr(module, "draw", watched)
    made = stream(tasks=6)
    *of_domains, general, pairs = drawn
    parts = [(task, part) for task in made if task.domain != "Digits" for part in (task.train, task.test)]
    for (task, part), scenes in zip(parts, of_domains, strict=True):
        name = task.domain
        assert not is_held_out(scenes.kind, scenes.colour, scenes.texture).any()
        assert (scenes.style == 0).all() and (scenes.colour != scenes.background).all()
        attribute = {"Textures": "texture", "Colours": "colour", "Counts": "count"}.get(name, "kind")
        shown = getattr(scenes, attribute)
        assert torch.equal(shown - shown.min(), part.labels - task.classes.start)
        if name in ("Textures", "Colours", "Counts"):
            assert (scenes.kind < SHAPE_KINDS.stop).all()
        if name != "Counts":
            assert (scenes.count == 0).all() and (scenes.size > 0).all()
    assert not is_held_out(general.kind, general.colour, general.texture).any()
    assert is_held_out(pairs.kind, pairs.colour, pairs.texture).all() and (pairs.style == 0).all()


def test_the_general_test_shows_ten_of_every_kind_and_its_pairs_are_told_apart(first):
    general = first.general
    assert len(general.words.phrases) == len(KINDS) == 48
    assert Counter(general.test.labels.tolist()) == dict.fromkeys(range(48), 10)
    assert len(general.pairs) == len(set(general.pairs.captions)) == 300
    assert general.pairs.labels.tolist() == list(range(300)) and len(general.pairs.pictures) == 300


def test_references_name_their_kind_and_show_every_kind_in_turn(first):
    pairs = first.references(2, 100)
    assert len(pairs) == len(pairs.pictures) == len(pairs.labels) == 100
    assert pairs.labels.tolist() == [place % 48 for place in range(100)]
    phrases = first.general.words.phrases
    assert pairs.captions == tuple(f"a photo of {phrases[label]}" for label in pairs.labels.tolist())
    assert "a photo of an arrow" in pairs.captions and "a photo of the letter k" in pairs.captions


def test_references_are_the_same_for_a_domain_in_both_orders_and_differ_between_domains(first, second):
    place = {task.domain: task.index for task in second}
    found = []
    for task in first:
        pairs = first.references(task.index, 50)
        assert torch.equal(pairs.pictures, first.references(task.index, 50).pictures)
        assert torch.equal(pairs.pictures, second.references(place[task.domain], 50).pictures)
        found.append(pairs.pictures)
    assert not any(torch.equal(a, b) for a, b in pairwise(found))


def test_another_side_length_shows_the_same_pictures_resized(first):
    small = stream(tasks=2, preparation=replace(USUAL, size=16))
    for task, whole in zip(small, first, strict=False):
        assert task.train.pictures.shape[2:] == task.test.pictures.shape[2:] == (16, 16)
        coarse = torch.nn.functional.avg_pool2d(whole.train.pictures, 2)
        assert (task.train.pictures - coarse).abs().mean() < 0.1
    assert small.general.test.pictures.shape[2:] == small.general.pairs.pictures.shape[2:] == (16, 16)
    assert small.references(0, 8).pictures.shape == (8, 3, 16, 16)


def test_every_domain_shows_its_style(first):
    pictures = {name: task.train.pictures for name, task in domains(first).items()}
    assert torch.equal(pictures["Digits"][:, 0], pictures["Digits"][:, 2]), "scans are gray"
    assert pictures["Letters"].flatten(1).median(dim=1).values.min() > 0.75, "light paper"
    assert (pictures["Letters"].amin((1, 2, 3)) < 0.5).all(), "dark lines"
    steps = pictures["Textures"] * 5
    assert torch.allclose(steps, steps.round(), atol=1e-5), "six levels"
    changes = (pictures["Textures"].diff(dim=3) != 0).any(1).any(1).sum(1)  # columns at which anything changes
    assert changes.max() <= module.BLOCKS - 1
    assert pictures["Colours"].max() <= 0.45
    speckled = pictures["Counts"].amax(1) == pictures["Counts"].amin(1)
    extreme = speckled & ((pictures["Counts"][:, 0] == 0) | (pictures["Counts"][:, 0] == 1))
    assert extreme.flatten(1).float().mean(1).median() == pytest.approx(0.12, abs=0.02)


def test_inverted_shapes_are_dark_where_plain_ones_are_light_and_twisted_in_the_middle():
    half = torch.zeros(4, 3, 32, 32)
    half[..., 16:] = 0.8
    negative = module.inverted(half, torch.Generator().manual_seed(1))
    corners = negative[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    torch.testing.assert_close(corners, torch.tensor([[1.0, 0.2, 1.0, 0.2]]).expand(4, -1))
    assert (negative[:, 1:] <= negative[:, :1] + 1e-6).all(), "the film's base only takes green and blue away"
    assert (negative[:, 0, 8, 14] - negative[:, 0, 24, 17]).abs().min() > 0.1, "the edge is no longer upright"


# ---------------------------------------------------------------- the long stream: domains cut in halves


def long_stream(tasks=12, **settings):
    return micro_mtil_long(StreamConfig(tasks=tasks, **settings), USUAL, 0)


@pytest.fixture(scope="module")
def adjacent():
    return long_stream()


@pytest.fixture(scope="module")
def apart():
    return long_stream(order="II")


def test_the_long_stream_has_the_halves_of_a_domain_beside_each_other_or_six_tasks_apart(adjacent, apart):
    domains_in_turn = [name.capitalize() for name in ORDERS["I"]]
    assert [task.title for task in adjacent] == [f"{name} {half}" for name in domains_in_turn for half in "ab"]
    assert [task.title for task in apart] == [f"{name} {half}" for half in "ab" for name in domains_in_turn]
    assert adjacent.name == "micro-mtil-long" and adjacent.task_is_known and len(adjacent) == len(apart) == 12


def test_two_halves_are_the_whole_domain_in_the_same_pictures_and_words(first, adjacent, apart):
    for long in (adjacent, apart):
        assert [c for task in long for c in task.classes] == list(range(70))
        halves = {task.title: task for task in long}
        for task in first:
            a, b = halves[f"{task.domain} a"], halves[f"{task.domain} b"]
            assert len(a.classes) == len(b.classes) == len(task.classes) / 2
            assert a.names + b.names == task.names
            assert a.words.phrases + b.words.phrases == task.words.phrases
            assert a.words.templates == b.words.templates == task.words.templates
            for part in ("train", "test"):
                whole = getattr(task, part)
                assert torch.equal(torch.cat([getattr(h, part).pictures for h in (a, b)]), whole.pictures)
                renumbered = [
                    getattr(h, part).labels - h.classes.start + i * len(a.classes) for i, h in enumerate((a, b))
                ]
                assert torch.equal(torch.cat(renumbered), whole.labels - task.classes.start)


def test_references_of_a_half_are_those_of_its_domain(first, adjacent, apart):
    for long in (adjacent, apart):
        for task in long:
            domain = task.domain.rpartition(" ")[0].lower()
            wanted = first.references(ORDERS["I"].index(domain), 48)
            assert torch.equal(long.references(task.index, 48).pictures, wanted.pictures)


def test_the_long_stream_is_cut_short_held_out_and_refused_like_the_other(adjacent):
    few = long_stream(tasks=2, evaluate_on="validation")
    assert [task.title for task in few] == ["Digits a", "Digits b"]
    for task, plain in zip(few, adjacent, strict=False):
        assert Counter(rows(task.train.pictures)) + Counter(rows(task.test.pictures)) == Counter(
            rows(plain.train.pictures)
        )
    with pytest.raises(ConfigError, match=r"micro-mtil-long has 12 halves.* must be 1 … 12, got 13$"):
        long_stream(tasks=13)
