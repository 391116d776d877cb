"""Your own pictures: what may lie in a folder, what is refused in one sentence, what is left out by name."""

import json
import os
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cl_core.config import ConfigError, Preprocessing, RunConfig, StreamConfig
from cl_core.registry import STREAMS, load
from cl_core.streams import folder as folder_module
from cl_core.streams.class_folders import scan
from cl_core.streams.images import picture
from cl_core.streams.stream import MULTI_DOMAIN

SMALL = Preprocessing(8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
TWO = StreamConfig(tasks=2)
COLOURS = {"cat": (200, 30, 30), "dog": (30, 200, 30), "owl": (30, 30, 200), "yak": (200, 200, 30)}


def paint(file: Path, colour=(90, 90, 90), size=(8, 8)) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file)
    return file


@pytest.fixture
def root(tmp_path):
    """Four classes of five pictures, one colour a class, shades within it."""
    for name, colour in COLOURS.items():
        for i in range(5):
            paint(tmp_path / "pics" / name / f"{i}.png", tuple(min(255, c + i) for c in colour))
    return tmp_path / "pics"


def stream(root, config=TWO, seed=0, preparation=SMALL):
    return load(STREAMS, f"folder:{root}", "stream")(config, preparation, seed)


def refused(root, config=TWO, preparation=SMALL) -> str:
    """The sentence with which a folder is refused."""
    with pytest.raises(ConfigError) as caught:
        stream(root, config, preparation=preparation)
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 600
    return sentence


def colours_of(task, split):
    part = getattr(task, split)
    return {
        task.names[int(label) - task.classes.start]: tuple(picture[:, 0, 0].tolist())
        for picture, label in zip(part.pictures, part.labels, strict=True)
    }


def test_every_picture_is_learned_or_tested_once_under_its_class(root):
    found = stream(root)
    assert [len(t.names) for t in found] == [2, 2] and sorted(found.class_names) == sorted(COLOURS)
    assert found.scenario == "class-incremental" and found.skipped == ()
    shades = set()
    for task in found:
        assert (len(task.train), len(task.test)) == (8, 2)
        for split in ("train", "test"):
            part = getattr(task, split)
            for shown, label in zip(part.pictures, part.labels, strict=True):
                name = task.names[int(label) - task.classes.start]
                pixel = shown[:, 3, 3].tolist()
                assert np.abs(np.array(pixel) - COLOURS[name]).max() <= 5
                shades.add((name, tuple(pixel)))
    assert len(shades) == 20, "none twice, none lost"


def test_the_runs_seed_orders_classes_and_leaves_the_split_alone(root):
    first, second = stream(root, seed=0), stream(root, seed=3)
    assert first.class_names != second.class_names

    def tested(found):
        return {name: pixel for task in found for name, pixel in colours_of(task, "test").items()}

    assert tested(first) == tested(second)
    assert tested(stream(root, replace(TWO, split_seed=1))) != tested(first)


def test_train_and_test_folders_are_the_split(root, tmp_path):
    for name, colour in COLOURS.items():
        paint(tmp_path / "cut" / "train" / name / "a.png", colour)
        paint(tmp_path / "cut" / "val" / name / "b.png", tuple(c // 2 for c in colour))
    found = stream(tmp_path / "cut")
    for task in found:
        assert colours_of(task, "train") == {name: COLOURS[name] for name in task.names}
        assert colours_of(task, "test") == {name: tuple(c // 2 for c in COLOURS[name]) for name in task.names}
    paint(tmp_path / "cut" / "train" / "gnu" / "a.png")
    assert "class gnu" in refused(tmp_path / "cut") and "one half only" in refused(tmp_path / "cut")


def test_classes_come_in_the_order_that_is_listed(root):
    assert stream(root, replace(TWO, classes=("yak", "cat", "owl", "dog"))).class_names == ("yak", "cat", "owl", "dog")
    uneven = stream(root, StreamConfig(classes=[["owl"], ["yak", "cat"]]))
    assert [task.names for task in uneven] == [("owl",), ("yak", "cat")]
    assert [task.classes for task in uneven] == [range(1), range(1, 3)]
    assert stream(root, replace(TWO, class_order="name")).class_names == ("cat", "dog", "owl", "yak")
    config = RunConfig("nsp2", stream_settings=StreamConfig(classes=[["owl"], ["yak", "cat"]]))
    assert RunConfig.from_dict(config.to_dict()) == config and config.stream_settings.tasks == 2


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"classes": ("cat", "cow")}, "names 'cow'.*no such class folder"),
        ({"classes": ("cats", "dog")}, "did you mean cat"),
        ({"classes": ("cat", "cat")}, "names 'cat' twice"),
        ({"tasks": 3}, "4 classes, which do not divide into 3 equal tasks; stream.tasks may be 1, 2, 4"),
        ({"class_names": ("cow=Cow",)}, "cow"),
        ({"class_names": ("cat=pet", "dog=pet")}, "both called 'pet'"),
        ({"order": "II"}, "in the order of their paths"),
        ({"evaluate_on": "validation"}, "needs 5"),
    ],
)
def test_what_cannot_be_meant_is_refused(root, config, sentence):
    import re

    assert re.search(sentence, refused(root, replace(TWO, **config)))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"classes": (["cat"], "dog")}, "not both"),
        ({"classes": (3,)}, "takes names"),
        ({"class_names": ("cat",)}, '"folder=name"'),
        ({"templates": ("a photo",)}, "holds one {}"),
        ({"templates": ("a {} of {}",)}, "holds one {}"),
        ({"templates": ("a {name} {}",)}, "holds one {}"),
        ({"templates": ("a } {}",)}, "holds one {}"),
        ({"per_class": -1}, "per_class must lie in"),
    ],
)
def test_settings_of_a_stream_are_checked_before_anything_is_read(config, sentence):
    with pytest.raises(ConfigError, match=sentence):
        StreamConfig(**config)


def test_an_embedded_stream_refuses_settings_for_folders():
    for name in ("synthetic", "micro-mtil"):
        with pytest.raises(ConfigError, match=r"stream\.per_class is for folder:"):
            load(STREAMS, name, "stream")(StreamConfig(tasks=1, per_class=3), SMALL, 0)


def test_classes_are_called_what_a_person_says(root):
    (root / "classes.json").write_text(json.dumps({"cat": "a cat from the file", "owl": "Eule"}))
    (root / "templates.json").write_text(json.dumps(["a drawing of {}"]))
    config = StreamConfig(tasks=1, class_order="name", class_names={"cat": "house cat", "yak": "yak {bull}"})
    (task,) = stream(root, config)
    assert task.names == ("house cat", "dog", "Eule", "yak {bull}")
    assert task.words.texts(0)[3] == ["a drawing of yak {bull}"]
    (own,) = stream(root, replace(config, templates=("{}, drawn", "my {}")))
    assert own.words.texts()[1] == ["dog, drawn", "my dog"]
    (root / "templates.json").write_text("{")
    assert "templates.json" in refused(root)


def test_limits_take_the_same_few_pictures_whatever_else_is_there(root):
    few = stream(root, replace(TWO, per_class=2, per_class_test=1))
    assert {len(task.train) for task in few} == {4}
    alone = stream(root, StreamConfig(tasks=1, classes=("cat",), per_class=2))
    task = next(task for task in few if "cat" in task.names)
    mine = task.train.pictures[task.train.labels == task.classes.start + task.names.index("cat")]
    assert torch.equal(mine, alone[0].train.pictures)


def test_several_folders_are_domains_that_are_known_at_test(root, tmp_path):
    for name in ("red", "blue"):
        for i in range(4):
            paint(tmp_path / "hues" / name / f"{i}.png")
    found = stream(f"{root},{tmp_path / 'hues'}")
    assert found.scenario == MULTI_DOMAIN and found.task_is_known
    assert [task.title for task in found] == ["pics", "hues"]
    assert [task.classes for task in found] == [range(4), range(4, 6)]
    assert found[1].train.labels.unique().tolist() == [4, 5]
    assert "two domains are called pics" in refused(f"{root},{root}")
    assert "several paths" in refused(f"{root},{tmp_path / 'hues'}", replace(TWO, classes=("cat",)))


def test_references_are_drawn_anew_for_every_task_and_said_in_words(root, tmp_path):
    for name in ("kit_fox", "sea_lion"):
        for i in range(6):
            paint(tmp_path / "world" / name / f"{i}.png", (i, 0 if name == "kit_fox" else 250, 0))
    found = stream(root, replace(TWO, references=str(tmp_path / "world")))
    first, again, second = found.references(0, 5), found.references(0, 5), found.references(1, 5)
    assert len(first) == 5 and torch.equal(first.pictures, again.pictures)
    assert not torch.equal(first.pictures, second.pictures)
    for shown, caption, label in zip(first.pictures, first.captions, first.labels.tolist(), strict=True):
        name = "sea lion" if shown[1, 0, 0] > 100 else "kit fox"
        assert caption == f"a photo of a {name}." and label == ["kit fox", "sea lion"].index(name)
    with pytest.raises(ConfigError, match="holds 12 pictures that can be read, and 13 are asked for"):
        found.references(0, 13)
    assert stream(root).references is None


# ---------------------------------------------------------------- hostile folders


def test_a_truncated_picture_and_a_text_called_png_are_left_out_by_name(root):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "cat" / "broken.jpg")
    whole = (root / "cat" / "broken.jpg").read_bytes()
    (root / "cat" / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "dog" / "notes.png").write_text("not a picture")
    (root / "dog" / "empty.png").write_bytes(b"")
    (root / "dog" / "readme.txt").write_text("never looked at")
    found = stream(root)
    assert len(found.skipped) == 3 and sum(len(t.train) + len(t.test) for t in found) == 20, "the rest is used"
    named = "\n".join(found.skipped)
    assert "cat/broken.jpg: cannot be read" in named and "truncated" in named.lower()
    assert "dog/notes.png: not a picture" in named and "dog/empty.png" in named and "readme" not in named


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("name", ["bad.png", "bad.jpg", "bad.tif"])
def test_postscript_is_given_to_nobody_whatever_it_is_called(root, monkeypatch, name):
    from PIL import EpsImagePlugin

    asked = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **others: asked.append(arguments))
    Image.init()  # all formats that Pillow knows
    (root / "cat" / name).write_bytes(POSTSCRIPT)
    assert any(f"cat/{name}: not a picture" in line for line in stream(root).skipped) and not asked


def test_a_small_file_of_very_many_pixels_is_left_out_by_name_before_it_is_unpacked(root):
    file = root / "cat" / "huge.png"
    Image.new("1", (13_000, 13_000)).save(file)
    assert file.stat().st_size < 500_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert any("huge.png" in line and "13000×13000 pixels" in line for line in stream(root).skipped)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


def test_names_nested_too_deeply_are_refused(root):
    for name in ("classes.json", "templates.json"):
        (root / name).write_text("[" * 100_000)
        with pytest.raises(ConfigError, match=r"cannot read .*deep"):
            stream(root)
        (root / name).unlink()


def test_reference_pictures_that_cannot_be_read_are_said(root, capsys):
    for file in (root / "cat").iterdir():
        file.write_text("no picture")
    draw = folder_module.references_of(StreamConfig(references=str(root)), 8)
    assert len(draw(0, 15).labels) == 15 and "not a picture" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"15 pictures that can be read .left out: cat"):
        draw(0, 20)


def test_what_was_left_out_is_said_by_the_run(root):
    from cl_core.events import PicturesSkipped
    from cl_core.training.factory import build

    (root / "dog" / "notes.png").write_text("not a picture")
    config = RunConfig("nsp2", backbone="random-vit", stream=f"folder:{root}", device="cpu", stream_settings=TWO)
    (said,) = [event for event in next(build(config).run()) if isinstance(event, PicturesSkipped)]
    assert said.count == 1 and said.files == ["dog/notes.png: not a picture, whatever it is called"]


def test_a_class_without_a_readable_picture_is_refused_with_the_first_reason(root):
    for file in (root / "owl").iterdir():
        file.write_bytes(b"GIF89a nonsense")
    sentence = refused(root)
    assert "class owl" in sentence and "(owl/" in sentence and "stream.classes" in sentence


def test_a_class_of_one_picture_is_refused_unless_the_split_is_given(root, tmp_path):
    paint(root / "elk" / "only.png")
    sentence = refused(root, StreamConfig(tasks=1))
    assert "class elk" in sentence and "one picture" in sentence
    assert len(stream(root, replace(TWO, classes=("cat", "dog")))) == 2, "and can be left out"
    for half in ("train", "test"):
        for name in ("elk", "cat"):
            paint(tmp_path / "cut" / half / name / "only.png")
    assert [len(task.train) for task in stream(tmp_path / "cut")] == [1, 1]


def test_empty_and_duplicate_classes_are_refused(root):
    (root / "void").mkdir()
    (root / "void" / "readme.txt").write_text("")
    assert "class void" in refused(root) and "no pictures" in refused(root)
    (root / "void" / "readme.txt").unlink()
    (root / "void").rmdir()
    paint(root / "Cat" / "1.png")
    if len(list(root.iterdir())) == 5:  # a file system that tells cases apart
        assert "differ only in case" in refused(root)
    paint(root / "twin" / "1.png")


def test_one_letter_stored_in_two_ways_is_one_class(root):
    paint(root / "caf\u00e9" / "1.png")
    paint(root / "cafe\u0301" / "1.png")
    if len(list(root.iterdir())) == 6:  # a file system that keeps names as they were written
        assert "differ only in case or in how their letters are stored" in refused(root)


def test_names_in_any_script_are_kept_and_bytes_that_are_no_text_are_shown(tmp_path):
    names = ["Äpfel", "日本", "قطة", "a b'\"<c>", "emoji🙂"]
    for name in names:
        for i in range(2):
            paint(tmp_path / "pics" / name / f"{i}.png")
    odd = os.fsencode(tmp_path / "pics") + b"/caf\xe9\n"
    try:
        os.mkdir(odd)
    except OSError:
        odd = None  # a file system that keeps text alone
    if odd:
        for i in range(2):
            Image.new("RGB", (8, 8)).save(os.fsdecode(odd) + f"/{i}.png")
    found = stream(tmp_path / "pics", StreamConfig(tasks=1))
    shown = set(found.class_names)
    assert set(names) <= shown and len(shown) == 5 + bool(odd)
    assert json.dumps(sorted(shown)).encode() and all(name.encode() and name.isprintable() for name in shown)


def test_links_are_followed_to_a_class_and_never_in_circles(root, tmp_path):
    for i in range(2):
        paint(tmp_path / "elsewhere" / f"{i}.png")
    (root / "elk").symlink_to(tmp_path / "elsewhere")
    (root / "up").symlink_to(root)
    (root / "round").symlink_to(root / "about")
    (root / "about").symlink_to(root / "round")
    (root / "cat" / "again").symlink_to(root)
    (root / "cat" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "dog" / "self.png").symlink_to(root / "dog" / "self.png")
    found = stream(root, StreamConfig(tasks=1))
    assert sorted(found.class_names) == sorted([*COLOURS, "elk"])
    assert len(found[0].train) + len(found[0].test) == 22
    assert len(found.skipped) == 6, found.skipped
    (root / "twin").symlink_to(root / "cat")
    assert "are the same folder" in refused(root)


def test_two_thousand_classes_are_dealt(tmp_path):
    root = tmp_path / "many"
    data = paint(tmp_path / "one.png", size=(4, 4)).read_bytes()
    for i in range(2000):
        (root / f"c{i:04}").mkdir(parents=True)
        for j in range(2):
            (root / f"c{i:04}" / f"{j}.png").write_bytes(data)
    found = stream(root, StreamConfig(tasks=10))
    assert [len(task.names) for task in found] == [200] * 10 and len(found[3].train) == len(found[3].test) == 200
    assert found[9].train.labels.max() == 1999


def test_pictures_that_would_not_fit_are_refused_with_a_limit_that_fits(root, monkeypatch):
    monkeypatch.setattr(folder_module, "memory_bound", lambda: 2500)
    sentence = refused(root)
    assert "20 pictures" in sentence and "8×8" in sentence
    limit = int(sentence.split("stream.per_class=")[1].split()[0])
    assert len(stream(root, replace(TWO, per_class=limit, per_class_test=1))) == 2


def test_a_folder_that_is_not_there_or_holds_no_classes(root, tmp_path):
    assert "there is no folder" in refused(tmp_path / "none")
    (tmp_path / "bare").mkdir()
    assert "holds no class folders" in refused(tmp_path / "bare")
    paint(tmp_path / "half" / "train" / "cat" / "1.png")
    assert "holds train alone" in refused(tmp_path / "half")


# ---------------------------------------------------------------- one picture


def test_a_picture_is_resized_by_its_shorter_side_and_cut_in_the_middle(tmp_path):
    wide = np.zeros((10, 40, 3), dtype=np.uint8)
    wide[:, 15:25] = 250  # the middle is white, the sides are black
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert picture(tmp_path / "wide.png", 10).shape == (10, 10, 3) and picture(tmp_path / "wide.png", 10).min() > 240
    assert picture(tmp_path / "wide.png", 64).shape == (10, 10, 3), "small ones stay small"
    assert picture(tmp_path / "wide.png", 5).shape == (5, 5, 3)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16", "F"])
def test_every_kind_of_picture_becomes_rgb(tmp_path, mode):
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 128 * 256, dtype=np.uint16))
    else:
        image = Image.new("L", (8, 8), 128).convert(mode)
    file = tmp_path / ("x.tif" if mode in ("CMYK", "F") else "x.png")
    image.save(file)
    shown = picture(file, 8)
    assert shown.shape == (8, 8, 3) and shown.dtype == np.uint8
    assert mode == "1" or abs(int(shown.mean()) - 128) <= 2


def test_a_picture_taken_sideways_is_turned_upright(tmp_path):
    image = Image.new("RGB", (8, 8))
    image.paste((255, 255, 255), (0, 0, 8, 4))  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "x.png", exif=exif)
    assert picture(tmp_path / "x.png", 8)[:, -1].min() == 255


def test_small_pictures_are_kept_small_and_enlarged_for_the_backbone(root):
    large = Preprocessing(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    task = stream(root, preparation=large)[0]
    assert task.train.pictures.dtype == torch.uint8 and task.train.pictures.shape[1:] == (3, 8, 8)
    batch = next(task.batches(3, seed=0, epoch=0))
    assert batch.images.shape == (3, 3, 32, 32)
    expected = (task.train.pictures[0, :, 0, 0] / 255 - 0.5) / 0.25
    torch.testing.assert_close(task.prepare(task.train.pictures[:1])[0, :, 16, 16], expected, atol=1e-4, rtol=0)
    probes = task.probes(2).pictures
    assert probes.dtype == torch.float32 and probes.min() >= 0 and probes.max() <= 1


def test_scanning_opens_no_picture(root, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("a picture was opened"))
    assert [item.key for item in scan(root).classes] == sorted(COLOURS)


def test_archives_in_a_folder_are_named(root):
    (root / "more.zip").write_bytes(b"PK")
    (root / "cat" / "old.7z").write_bytes(b"7z")
    found = stream(root)
    assert any(note.startswith("not read: the archive more.zip; unpack") for note in found.notes)
    assert "cat/old.7z: an archive, which is not opened; unpack it" in found.skipped


def test_a_folder_of_nothing_but_archives_says_what_to_do(tmp_path):
    for name in ("cats.zip", "dogs.zip"):
        (tmp_path / name).write_bytes(b"PK")
    assert "It holds the archives cats.zip, dogs.zip, which" in (said := refused(tmp_path)) and said.endswith(
        "unpack first"
    )


def test_the_files_of_each_class_are_counted_before_any_are_left_out(root):
    (root / "cat" / "4.png").unlink()
    found = stream(root, StreamConfig(tasks=1, per_class=2))
    assert dict(zip(found[0].names, found.found[0], strict=True)) == {
        "cat": (4, 0),
        "dog": (5, 0),
        "owl": (5, 0),
        "yak": (5, 0),
    }
    divided = root.parent / "divided"
    for half in ("train", "test"):
        for name in ("cat", "dog"):
            paint(divided / half / name / "0.png")
    paint(divided / "train" / "dog" / "1.png")
    assert stream(divided, StreamConfig(tasks=1)).found == (((1, 1), (2, 1)),)
