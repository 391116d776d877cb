"""What people's folders look like: read as they are meant, or asked back in one sentence that names the way out."""

import csv
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cl_core.config import RunConfig, StreamConfig
from cl_core.store import RunFolder, create_run
from cl_core.streams.class_folders import scan
from tests.streams.test_folder import SMALL, paint, refused, stream

ONE = StreamConfig(tasks=1, class_order="name")


def shades(task, split):
    """Class → the red values of its images: each image of these tests has its own."""
    part = getattr(task, split)
    found: dict[str, set[int]] = {}
    for image, label in zip(part.pictures, part.labels.tolist(), strict=True):
        found.setdefault(task.names[label - task.classes.start], set()).add(int(image[0, 0, 0]))
    return found


def fill(folder: Path, shades, suffix="png"):
    """An image a shade."""
    for shade in shades:
        paint(folder / f"{shade:03}.{suffix}", (shade, 0, 0))


# ---------------------------------------------------------------- order of classes


def test_numbered_classes_come_in_natural_order(tmp_path):
    names = ["0", "1", "2", "10", "11", "a2", "a10", "b"]
    for name in names:
        fill(tmp_path / "n" / name, (1, 2))
    assert list(stream(tmp_path / "n", ONE).class_names) == names
    first = stream(tmp_path / "n", replace(ONE, reading_rules=1))
    assert list(first.class_names) == sorted(names), "runs that were begun before keep their order"


def test_a_run_from_before_keeps_its_order_and_one_from_now_has_the_new(tmp_path):
    for name in ("1", "2", "10"):
        fill(tmp_path / "n" / name, (1, 2))
    config = RunConfig("nsp2", stream=f"folder:{tmp_path / 'n'}", name="old", stream_settings=ONE)
    made = create_run(tmp_path / "runs", config)
    record = json.loads(made.config_file.read_text())
    assert record["stream_settings"]["reading_rules"] == 2 and made.config() == config.completed()
    later = ("first_task", "remainder", "subfolders", "allow_empty", "label_column", "white", "ground", "reading_rules")
    for name in later:
        del record["stream_settings"][name]
    made.config_file.write_text(json.dumps(record))
    old = RunFolder(made.path).config()
    assert old.stream_settings.reading_rules == 1 and old.fingerprint() != config.fingerprint()
    assert list(stream(tmp_path / "n", old.stream_settings).class_names) == ["1", "10", "2"]
    record["stream"] = "split-digits"
    made.config_file.write_text(json.dumps(record))
    embedded = RunFolder(made.path).config()
    assert embedded.fingerprint() == replace(config, stream="split-digits").fingerprint(), "the same run as before"


# ---------------------------------------------------------------- halves


@pytest.mark.parametrize(
    ("first", "second"), [("train", "test"), ("training", "testing"), ("Train", "Validation"), ("train", "eval")]
)
def test_halves_by_any_of_their_names_are_the_split(tmp_path, first, second):
    fill(tmp_path / first / "cat", (1, 2)), fill(tmp_path / second / "cat", (3,))
    found = stream(tmp_path, ONE)
    assert shades(found[0], "train") == {"cat": {1, 2}} and shades(found[0], "test") == {"cat": {3}}
    assert found.notes == (() if second == "test" else (f"{second} is the test half",))


@pytest.mark.parametrize(("begin", "first", "second"), [("seg_", "train", "test"), ("Pets-", "Training", "valid")])
def test_halves_after_a_common_beginning_are_the_split(tmp_path, begin, first, second):
    for key, shade in (("cat", 1), ("dog", 10)):
        for half, more in ((first, (0, 1)), (second, (2,))):
            fill(tmp_path / f"{begin}{half}" / f"{begin}{half}" / key, [shade + m for m in more])
    fill(tmp_path / f"{begin}pred" / f"{begin}pred", (90, 91))
    found = stream(tmp_path, ONE)
    assert shades(found[0], "train") == {"cat": {1, 2}, "dog": {10, 11}}
    assert shades(found[0], "test") == {"cat": {3}, "dog": {12}}
    halves = f"{begin}{first} is the training half and {begin}{second} the test half"
    assert found.notes == (f"{halves}, by their names; not used: {begin}pred",)
    pooled = stream(tmp_path, replace(ONE, subfolders="pool"))
    assert len(pooled.class_names) == 3, "asked for, every folder is a class, as before"


def test_a_half_within_a_folder_of_its_name_is_read(tmp_path):
    for half, shade in (("train", 1), ("test", 2)):
        fill(tmp_path / half / half / "cat", (shade,)), fill(tmp_path / half / half / "dog", (shade,))
    assert shades(stream(tmp_path, ONE)[0], "test") == {"cat": {2}, "dog": {2}}


def test_classes_and_domains_that_end_like_halves_stay_what_they_are(tmp_path):
    fill(tmp_path / "flat" / "bus_train", (1, 2)), fill(tmp_path / "flat" / "bus_test", (3, 4))
    assert stream(tmp_path / "flat", ONE).class_names == ("bus test", "bus train")
    for part in ("cats_train", "cats_test", "dogs_train", "dogs_test"):
        fill(tmp_path / "several" / part / "a", (1,)), fill(tmp_path / "several" / part / "b", (2,))
    assert "may be domains or tasks" in refused(tmp_path / "several", ONE)


def test_of_val_and_test_one_serves_and_the_other_is_said(tmp_path):
    for half, shade in (("train", 1), ("val", 2), ("test", 3)):
        fill(tmp_path / half / "cat", (shade,))
    found = stream(tmp_path, ONE)
    assert shades(found[0], "test") == {"cat": {3}}
    assert found.notes == ("test is the test half; not used: val",)


def test_halves_within_every_class_are_the_split_and_never_pooled(tmp_path):
    for key in ("cat", "dog"):
        fill(tmp_path / key / "train", (1, 2)), fill(tmp_path / key / "test", (3,)), fill(tmp_path / key / "val", (4,))
    found = stream(tmp_path, ONE)
    assert shades(found[0], "train")["dog"] == {1, 2} and shades(found[0], "test")["dog"] == {3}
    assert "train and test folders of its own" in found.notes[0] and "not used: val" in found.notes[0]
    pooled = stream(tmp_path, replace(ONE, subfolders="pool"))
    assert shades(pooled[0], "test")["dog"] == {3}, "nor where other folders would be"
    fill(tmp_path / "owl", (1, 2))
    assert "is it a split?" in refused(tmp_path, ONE)
    (tmp_path / "owl" / "001.png").unlink(), (tmp_path / "owl" / "002.png").unlink()
    fill(tmp_path / "owl" / "train", (1,))
    assert "class owl" in refused(tmp_path, ONE) and "alone" in refused(tmp_path, ONE)


def test_halves_without_class_folders_or_beside_other_folders_are_asked_back(tmp_path):
    fill(tmp_path / "flat" / "train", (1, 2)), fill(tmp_path / "flat" / "test", (3, 4))
    assert "hold images without class folders" in refused(tmp_path / "flat", ONE)
    fill(tmp_path / "mixed" / "train" / "cat", (1, 2)), fill(tmp_path / "mixed" / "dog", (3, 4))
    sentence = refused(tmp_path / "mixed", ONE)
    assert "holds train beside folder dog" in sentence and str(tmp_path / "mixed" / "train") in sentence
    fill(tmp_path / "two" / "train" / "cat", (1,)), fill(tmp_path / "two" / "training" / "cat", (1,))
    assert "remove or rename" in refused(tmp_path / "two", ONE)


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path / "train", (1, 2)), fill(tmp_path / "bus", (3, 4))
    assert stream(tmp_path, ONE).class_names == ("bus", "train")


# ---------------------------------------------------------------- folders within class folders


def test_domains_and_tasks_are_not_taken_for_classes(tmp_path):
    for domain in ("clipart", "sketch", "real"):
        fill(tmp_path / "net" / domain / "clock", (1, 2)), fill(tmp_path / "net" / domain / "bird", (3, 4))
    sentence = refused(tmp_path / "net", ONE)
    assert "may be domains or tasks" in sentence and "clipart holds folders bird, clock" in sentence
    offered = sentence.split("a task with ")[1].split(",…")[0].split(", or set")[0]
    assert stream(offered.removeprefix("folder:"), replace(ONE, class_order="seed"))[0].names == ("bird", "clock")
    fill(tmp_path / "tasks" / "task1" / "a", (1, 2)), fill(tmp_path / "tasks" / "task2" / "c", (1, 2))
    assert f"folder:{tmp_path}/tasks/task1,{tmp_path}/tasks/task2" in refused(tmp_path / "tasks", ONE)
    pooled = stream(tmp_path / "net", replace(ONE, subfolders="pool"))
    assert pooled.class_names == ("clipart", "real", "sketch") and len(pooled[0].train) + len(pooled[0].test) == 12


def test_a_root_of_one_folder_names_what_to_use(tmp_path):
    fill(tmp_path / "images" / "001.Albatross", (1, 2)), fill(tmp_path / "images" / "002.Auklet", (3, 4))
    (tmp_path / "attributes").mkdir()
    (tmp_path / "attributes" / "list.txt").write_text("1")
    sentence = refused(tmp_path, ONE)
    assert str(tmp_path / "images") in sentence and "001.Albatross" in sentence
    assert len(stream(tmp_path / "images", ONE).class_names) == 2


def test_one_folder_of_the_same_name_in_every_class_is_no_domain(tmp_path):
    fill(tmp_path / "n01" / "images", (1, 2)), fill(tmp_path / "n02" / "images", (3, 4))
    assert stream(tmp_path, ONE).class_names == ("n01", "n02")


def test_what_systems_leave_in_folders_is_neither_class_nor_image(tmp_path):
    fill(tmp_path / "cat", (1, 2))
    for junk in ("@eaDir", "@Recycle", "__MACOSX", ".ipynb_checkpoints", "lost+found", "$RECYCLE.BIN"):
        fill(tmp_path / junk, (9,)), fill(tmp_path / "cat" / junk, (9,))
    for file in (".DS_Store", "Thumbs.db", "._001.png"):
        (tmp_path / "cat" / file).write_bytes(b"junk")
    found = stream(tmp_path, ONE)
    assert found.class_names == ("cat",) and found.skipped == ()
    assert {s for half in ("train", "test") for s in shades(found[0], half)["cat"]} == {1, 2}


def test_pictures_without_an_ending_are_named_with_the_way_out(tmp_path):
    for key in ("cat", "dog"):
        fill(tmp_path / key, (1, 2))
        (tmp_path / key / "LICENSE").write_text("free")
    (tmp_path / "dog" / "001.png").rename(tmp_path / "dog" / "001")
    said = "not read: a file without an ending is a picture by content (dog/001): give names an ending, such as .jpg"
    assert scan(tmp_path).notes == (said,)
    (tmp_path / "dog" / "002.png").rename(tmp_path / "dog" / "002")
    sentence = refused(tmp_path, ONE)
    assert "class dog" in sentence and "2 files without an ending are pictures by content (dog/001, …)" in sentence


def test_test_pictures_that_are_also_in_training_are_said_once(tmp_path):
    for half, shades_ in (("train", (1, 2, 3)), ("test", (4, 5))):
        fill(tmp_path / half / "cat", shades_), fill(tmp_path / half / "dog", [50 + s for s in shades_])
    assert stream(tmp_path, ONE).notes == (), "of the same size, and others"
    paint(tmp_path / "test" / "dog" / "again.png", (2, 0, 0))
    one = "1 test picture is byte for byte also in training (test/dog/again.png is train/cat/002.png): "
    assert stream(tmp_path, ONE).notes == (one + "accuracy on it is not generalisation",)
    large = bytes(9000)
    files = [tmp_path / half / "cat" / "large.png" for half in ("train", "test")]
    for file, end in zip(files, (b"a", b"b"), strict=True):
        file.write_bytes((tmp_path / "train" / "cat" / "001.png").read_bytes() + large + end)
    assert len(stream(tmp_path, ONE).notes) == 1 and stream(tmp_path, ONE).notes[0].startswith(one), "ends differ"
    files[1].write_bytes(files[0].read_bytes())
    assert stream(tmp_path, ONE).notes[0].startswith("2 test pictures are byte for byte also in training")


def test_empty_classes_are_left_out_where_that_is_allowed(tmp_path):
    fill(tmp_path / "cat", (1, 2))
    (tmp_path / "void").mkdir()
    assert "stream.allow_empty=true" in refused(tmp_path, ONE)
    found = stream(tmp_path, replace(ONE, allow_empty=True))
    assert found.class_names == ("cat",) and "class void" in found.notes[0]
    for half in ("train", "test"):
        fill(tmp_path / "cut" / half / "cat", (1,)), (tmp_path / "cut" / half / "dog").mkdir()
    fill(tmp_path / "cut" / "train" / "dog", (1,))
    assert stream(tmp_path / "cut", replace(ONE, allow_empty=True)).class_names == ("cat",)


# ---------------------------------------------------------------- tables


def write_csv(file: Path, rows, columns):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(columns)
        writer.writerows(rows)


def write_table(file: Path, rows):
    """`rows` in the form that the file's name asks for."""
    if file.suffix == ".csv":
        write_csv(file, [list(row.values()) for row in rows], list(rows[0]))
    elif file.suffix == ".jsonl":
        file.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), file)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_a_table_labels_a_flat_folder(tmp_path, name):
    fill(tmp_path, (1, 2, 3, 4, 5))
    rows = [{"file_name": f"{shade:03}.png", "label": "cat" if shade < 3 else "dog"} for shade in (1, 2, 3, 4)]
    rows += [{"file_name": "gone.png", "label": "dog"}, {"file_name": "../../etc/passwd", "label": "dog"}]
    write_table(tmp_path / name, rows)
    found = stream(tmp_path, ONE)
    seen = {key: shades(found[0], "train")[key] | shades(found[0], "test")[key] for key in ("cat", "dog")}
    assert seen == {"cat": {1, 2}, "dog": {3, 4}}
    assert any(line.startswith("gone.png: named in") for line in found.skipped)
    assert any("outside its folder" in line for line in found.skipped)
    assert found.notes == (f"1 image not named in {name}: not used",)


def test_a_table_divides_by_its_column_or_by_first_folders(tmp_path):
    fill(tmp_path / "a", (1, 2, 3, 4))
    rows = [(f"{s:03}.png", "c", "train" if s < 3 else "validation") for s in (1, 2, 3, 4)]
    write_csv(tmp_path / "a" / "metadata.csv", rows, ("file_name", "label", "split"))
    found = stream(tmp_path / "a", ONE)
    assert shades(found[0], "train") == {"c": {1, 2}} and shades(found[0], "test") == {"c": {3, 4}}
    fill(tmp_path / "b" / "train", (1, 2)), fill(tmp_path / "b" / "test", (3,))
    rows = [("train/001.png", "c"), ("train/002.png", "c"), ("test/003.png", "c")]
    write_csv(tmp_path / "b" / "metadata.csv", rows, ("image_file_name", "label"))
    found = stream(tmp_path / "b", ONE)
    assert shades(found[0], "train") == {"c": {1, 2}} and shades(found[0], "test") == {"c": {3}}
    for half, shade in (("train", 5), ("test", 6)):
        fill(tmp_path / "c" / half, (shade,))
        write_csv(tmp_path / "c" / half / "metadata.csv", [(f"{shade:03}.png", 7)], ("file_name", "label"))
    assert shades(stream(tmp_path / "c", ONE)[0], "test") == {"7": {6}}


def test_a_table_that_cannot_be_meant_is_asked_back(tmp_path):
    fill(tmp_path, (1, 2))
    table = tmp_path / "metadata.csv"
    write_csv(table, [("001.png", "a cat on a mat"), ("002.png", "a dog")], ("file_name", "text"))
    assert "set stream.label_column, for example text" in refused(tmp_path, ONE)
    assert "no column 'breed'" in refused(tmp_path, replace(ONE, label_column="breed"))
    write_csv(table, [("001.png", "cat"), ("001.png", "dog")], ("file_name", "label"))
    assert "both cat and dog" in refused(tmp_path, ONE)
    write_csv(table, [("001.png", "cat")], ("path", "label"))
    assert "no column file_name" in refused(tmp_path, ONE)
    table.write_text("")
    assert "no column file_name" in refused(tmp_path, ONE)
    (tmp_path / "metadata.jsonl").write_text("")
    assert "leave one of them" in refused(tmp_path, ONE)
    table.unlink()
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "001.png", "label": ["a", "b"]}')
    assert "several labels" in refused(tmp_path, ONE)
    (tmp_path / "metadata.jsonl").write_text("[" * 100_000)
    assert "cannot read" in refused(tmp_path, ONE)


def test_a_table_that_names_no_picture_of_its_folder_says_so(tmp_path):
    fill(tmp_path / "pictures", (1, 2)), (tmp_path / "lists").mkdir()
    table = tmp_path / "lists" / "metadata.csv"
    write_csv(table, [(f"../pictures/{s:03}.png", "cat") for s in (1, 2)], ("file_name", "label"))
    sentence = refused(tmp_path / "lists", ONE)
    assert f"none of the 2 pictures that {table} names lies in its folder" in sentence
    assert "the first is ../pictures/001.png" in sentence and "put the table above the pictures" in sentence
    write_csv(table, [("gone.png", "cat")], ("file_name", "label"))
    assert "names is there (the first is gone.png)" in refused(tmp_path / "lists", ONE)
    fill(tmp_path / "lists" / "owl", (1, 2))
    found = stream(tmp_path / "lists", ONE)
    assert found.class_names == ("owl",) and "the folders name the classes" in found.notes[0]


def test_a_table_without_labels_leaves_them_to_the_folders(tmp_path):
    fill(tmp_path / "cat", (1, 2)), fill(tmp_path / "dog", (3, 4))
    write_csv(tmp_path / "metadata.csv", [("cat/001.png", "a cat")], ("file_name", "text"))
    found = stream(tmp_path, ONE)
    assert found.class_names == ("cat", "dog") and "names no class" in found.notes[0]


# ---------------------------------------------------------------- ImageNet's and Tiny-ImageNet's validation halves


def test_tiny_imagenet_as_it_is_unpacked(tmp_path):
    for key, start in (("n01", 10), ("n02", 20)):
        fill(tmp_path / "train" / key / "images", (start, start + 1), "JPEG")
        (tmp_path / "train" / key / f"{key}_boxes.txt").write_text("x")
    fill(tmp_path / "val" / "images", (100, 160), "JPEG")
    (tmp_path / "val" / "val_annotations.txt").write_text("100.JPEG\tn01\t0\t0\t62\t62\n160.JPEG\tn02\t0\t0\t62\t62\n")
    fill(tmp_path / "test" / "images", (200,), "JPEG")
    (tmp_path / "words.txt").write_text("n01\tkit fox, Vulpes macrotis\nn02\tsea lion\nn03\tnobody\n")
    found = stream(tmp_path, ONE)
    assert found.class_names == ("kit fox", "sea lion")
    assert [len(part) for part in (found[0].train, found[0].test)] == [4, 2]
    tested = shades(found[0], "test")
    assert abs(min(tested["kit fox"]) - 100) < 3 and abs(min(tested["sea lion"]) - 160) < 3  # JPEG moves them a little
    assert any("val_annotations.txt labels" in note for note in found.notes)
    assert any("val is the test half; not used: test" in note for note in found.notes)


@pytest.mark.parametrize("how", ["kaggle", "synsets"])
def test_imagenets_flat_validation_half_takes_its_labels_from_a_list(tmp_path, how):
    fill(tmp_path / "train" / "n01", (1, 2)), fill(tmp_path / "train" / "n02", (3, 4))
    for number, shade in ((1, 50), (2, 60)):
        paint(tmp_path / "val" / f"ILSVRC2012_val_{number:08}.JPEG", (shade, 0, 0))
    sentence = refused(tmp_path, ONE)
    assert "without class folders" in sentence and "LOC_val_solution.csv" in sentence
    if how == "kaggle":
        rows = [("ILSVRC2012_val_00000001", "n02 1 1 9 9 n02 2 2 3 3"), ("ILSVRC2012_val_00000002", "n01 1 1 9 9 ")]
        write_csv(tmp_path / "LOC_val_solution.csv", rows, ("ImageId", "PredictionString"))
    else:
        (tmp_path / "val" / "synset_labels.txt").write_text("n02\nn01\n")
    tested = shades(stream(tmp_path, ONE)[0], "test")
    assert abs(min(tested["n02"]) - 50) < 3 and abs(min(tested["n01"]) - 60) < 3  # JPEG moves a shade a little


# ---------------------------------------------------------------- shards


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


def write_tar(file: Path, members, mode="w"):
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, mode) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def sample(key: str, shade: int, label: str):
    return [(f"{key}.png", png(shade)), (f"{key}.cls", label.encode())]


def test_webdataset_shards_are_read_where_they_lie(tmp_path):
    write_tar(tmp_path / "train-0000.tar", [*sample("a/0", 1, "0"), *sample("a/1", 2, "1"), ("a/2.txt", b"x")])
    write_tar(tmp_path / "train-0001.tar", [("7.PNG", png(3)), ("7.json", b'{"label": 1}'), ("8.png", png(9))])
    write_tar(tmp_path / "val-0000.tar", [*sample("0", 4, "0"), *sample("1", 5, "1")])
    (tmp_path / "classnames.txt").write_text("house cat\nsea lion\n")
    found = stream(tmp_path, ONE)
    assert shades(found[0], "train") == {"house cat": {1}, "sea lion": {2, 3}}
    assert shades(found[0], "test") == {"house cat": {4}, "sea lion": {5}}
    assert any("a/2: a sample without an image" in line for line in found.skipped)
    assert any("8: a sample without a label" in line for line in found.skipped)


def test_shards_in_folders_of_halves_are_read(tmp_path):
    write_tar(tmp_path / "train" / "0.tar", [*sample("0", 1, "cat"), *sample("1", 2, "cat")])
    write_tar(tmp_path / "test" / "0.tar", sample("0", 3, "cat"))
    assert shades(stream(tmp_path, ONE)[0], "test") == {"cat": {3}}


def test_shards_that_cannot_be_meant_are_refused(tmp_path):
    write_tar(tmp_path / "a" / "x.tar", [*sample("0", 1, "0"), ("0.PNG", png(1))])
    assert "twice" in refused(tmp_path / "a", ONE)
    write_tar(tmp_path / "b" / "x.tar", [*sample("0", 1, "0"), ("0.jpg", png(1))])
    assert "several images" in refused(tmp_path / "b", ONE)
    write_tar(tmp_path / "c" / "x.tar.gz", sample("0", 1, "0"), "w:gz")
    assert "compressed" in refused(tmp_path / "c", ONE)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x.tar").write_bytes(b"no tar" * 200)
    assert "cannot read" in refused(tmp_path / "d", ONE)


def write_parquet(file: Path, rows, names=("cat", "dog")):
    import pyarrow as pa
    import pyarrow.parquet as pq

    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(
        [{"image": {"bytes": png(shade), "path": f"{shade}.png"}, "label": label} for shade, label in rows]
    )
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    told = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(told), file)


def test_parquet_with_images_inside_is_read(tmp_path):
    write_parquet(tmp_path / "data" / "train-00000-of-00002.parquet", [(1, 0), (2, 1)])
    write_parquet(tmp_path / "data" / "train-00001-of-00002.parquet", [(3, 0)])
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", [(4, 0), (5, 1)])
    found = stream(tmp_path, ONE)
    assert shades(found[0], "train") == {"cat": {1, 3}, "dog": {2}}
    assert shades(found[0], "test") == {"cat": {4}, "dog": {5}}
    write_table(tmp_path / "none" / "x.parquet", [{"a": 1}]) if (tmp_path / "none").mkdir() is None else None
    assert "holds no images" in refused(tmp_path / "none", ONE)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.parquet").write_bytes(b"PAR1 nonsense")
    assert "cannot read" in refused(tmp_path / "bad", ONE)


def test_parquet_larger_than_memory_allows_is_refused_before_it_is_read(tmp_path, monkeypatch):
    from cl_core.streams import shards

    write_parquet(tmp_path / "x.parquet", [(1, 0), (2, 0)])
    monkeypatch.setattr(shards, "memory_bound", lambda: 100)
    assert "set aside" in refused(tmp_path, ONE)


def test_an_archive_or_a_table_instead_of_a_folder_says_what_to_do(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK")
    assert "unpack an archive first" in refused(tmp_path / "x.zip", ONE)


# ---------------------------------------------------------------- Omniglot


def omniglot(root, config):
    from cl_core.registry import STREAMS, load

    return load(STREAMS, f"omniglot:{root}", "stream")(config, SMALL, 0)


@pytest.mark.parametrize("part", ["omniglot-py/images_background", "images_background", "images_background_small1"])
def test_omniglots_alphabets_are_tasks_in_torchvisions_layout(tmp_path, part):
    for alphabet, characters in (("Greek", 2), ("Early_Aramaic", 3)):
        for c in range(1, characters + 1):
            for drawer in range(1, 6):
                paint(tmp_path / part / alphabet / f"character{c:02}" / f"{c:04}_{drawer:02}.png", size=(10, 10))
    found = omniglot(tmp_path, StreamConfig(tasks=2, class_order="name"))
    assert [task.title for task in found] == ["Early Aramaic", "Greek"] and classes_of(found) == [3, 2]
    assert found[1].names == ("Greek character01", "Greek character02") and found[1].classes == range(3, 5)
    assert (len(found[1].train), len(found[1].test)) == (8, 2) and found.scenario == "class-incremental"
    one = omniglot(tmp_path, StreamConfig(tasks=1))
    assert classes_of(one) in ([2], [3])


def test_omniglot_that_is_packed_or_not_there_says_what_to_do(tmp_path):
    from cl_core.config import ConfigError

    with pytest.raises(ConfigError, match="omniglot-py/images_background"):
        omniglot(tmp_path, ONE)
    (tmp_path / "images_background_small1.zip").write_bytes(b"PK")
    with pytest.raises(ConfigError, match="still packed: unpack"):
        omniglot(tmp_path, ONE)
    (tmp_path / "images_background" / "Greek" / "character01").mkdir(parents=True)
    with pytest.raises(ConfigError, match="1 alphabets"):
        omniglot(tmp_path, StreamConfig(tasks=2))


# ---------------------------------------------------------------- how classes are dealt


def classes_of(found):
    return [len(task.names) for task in found]


def test_a_larger_first_task_and_a_remainder(tmp_path):
    for i in range(15):
        fill(tmp_path / f"c{i}", (2 * i, 2 * i + 1))
    assert "stream.remainder='last task'" in refused(tmp_path, StreamConfig(tasks=4))
    found = stream(tmp_path, StreamConfig(tasks=4, remainder="last task"))
    assert classes_of(found) == [4, 4, 4, 3] and found.notes == ("tasks have 4, 4, 4, 3 classes, in order",)
    assert found[3].classes == range(12, 15)
    assert classes_of(stream(tmp_path, StreamConfig(tasks=6, first_task=5))) == [5, 2, 2, 2, 2, 2]
    assert classes_of(stream(tmp_path, StreamConfig(tasks=1, first_task=15))) == [15]
    uneven = StreamConfig(tasks=4, first_task=8, remainder="last task")
    assert classes_of(stream(tmp_path, uneven)) == [8, 3, 3, 1]
    assert "after the first 8" in refused(tmp_path, StreamConfig(tasks=4, first_task=8))
    assert "left for the other" in refused(tmp_path, StreamConfig(tasks=4, first_task=13))
    assert "use stream.tasks=" in refused(tmp_path, StreamConfig(tasks=10, remainder="last task"))
    assert "every domain is a task" in refused(f"{tmp_path / 'c1'},{tmp_path / 'c2'}", StreamConfig(first_task=1))


def test_embedded_streams_deal_a_larger_first_task_too():
    from cl_core.config import ConfigError
    from cl_core.registry import STREAMS, load

    found = load(STREAMS, "synthetic", "stream")(StreamConfig(tasks=4, first_task=4), SMALL, 0)
    assert classes_of(found) == [4, 2, 2, 2] and [t.classes.start for t in found] == [0, 4, 6, 8]
    for task in found:
        assert set(task.train.labels.tolist()) == set(task.classes)
    with pytest.raises(ConfigError, match="every domain is a task"):
        load(STREAMS, "micro-mtil", "stream")(StreamConfig(tasks=2, first_task=4), SMALL, 0)


def test_scanning_a_split_opens_no_image(tmp_path, monkeypatch):
    fill(tmp_path / "train" / "cat", (1,)), fill(tmp_path / "test" / "cat", (2,))
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("an image was opened"))
    (only,) = scan(tmp_path).classes
    assert (len(only.train), len(only.test or ())) == (1, 1)
    assert np.all([file.suffix == ".png" for file in only.train])


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_table_of_a_spreadsheet_is_read_whatever_separates_its_columns(tmp_path, mark):
    fill(tmp_path, range(4))
    lines = [mark.join(("file_name", "label", "note"))]
    lines += [mark.join((f"{shade:03}.png", "ab"[shade % 2], "one, two")) for shade in range(4)]
    (tmp_path / "metadata.csv").write_text("\n".join(lines), "utf-8")
    assert [item.key for item in scan(tmp_path).classes] == ["a", "b"]
