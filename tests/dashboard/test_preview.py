"""Looking first: what the Run page says of a backbone and a stream before anything is started."""

import base64
import io
import sys
from dataclasses import replace
from subprocess import CompletedProcess

import pytest
from PIL import Image

from cl_core.cli import main
from cl_core.config import RunConfig, StreamConfig, TrainingConfig
from cl_core.store import StoreError
from dashboard import inspect_inputs
from dashboard.inspect_inputs import about_backbone, samples_of
from dashboard.widgets import preview
from tests.dashboard.reading import words


@pytest.fixture
def pictures(tmp_path):
    """Two classes, one colour each, and a file that is no picture."""
    for name, colour in (("red", (250, 0, 0)), ("green, light", (0, 250, 0))):
        (tmp_path / "hues" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (10, 10), colour).save(tmp_path / "hues" / name / f"{i}.png")
    (tmp_path / "hues" / "red" / "notes.png").write_text("no picture")
    return tmp_path / "hues"


@pytest.fixture
def asked_here(monkeypatch, capsys):
    """What is asked of a process of its own is answered in this one: starting torch takes seconds each time. That there
    is such a process, the first test shows."""

    def run(command, **_):
        assert command[:3] == [sys.executable, "-m", "cl_core"]
        status = main(command[3:])
        told = capsys.readouterr()
        return CompletedProcess(command, status, told.out.encode(), told.err.encode())

    monkeypatch.setattr(inspect_inputs.subprocess, "run", run)


def test_samples_of_a_folder_come_from_a_process_of_their_own(pictures):
    settings = StreamConfig(tasks=2, classes=("green, light", "red"), class_names=("red=deep red",))
    told = samples_of(f"folder:{pictures}", settings, TrainingConfig(), 0)
    assert [task["classes"] for task in told["tasks"]] == [["green, light"], ["deep red"]]
    for task, channel in zip(told["tasks"], (1, 0), strict=True):
        shown = Image.open(io.BytesIO(base64.b64decode(task["pictures"][0]["png"])))
        pixel = shown.getpixel((20, 20))
        assert pixel[channel] > 240 and sum(pixel) < 260
        assert "changed" not in task["pictures"][0]
    assert told["skipped"] == ["red/notes.png: not a picture, whatever it is called"]


def test_with_augmentation_samples_come_also_as_training_may_show_them(tmp_path, asked_here):
    half = Image.new("RGB", (12, 12), (0, 0, 250))
    half.paste((250, 0, 0), (0, 0, 6, 12))  # red on the left
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(4):
            half.save(tmp_path / name / f"{i}.png")
    told = samples_of(f"folder:{tmp_path}", StreamConfig(tasks=1), TrainingConfig(flip=True), 0)
    red = {True: 0, False: 0}  # on the left still, or on the right
    for picture in told["tasks"][0]["pictures"]:
        as_it_is, changed = (Image.open(io.BytesIO(base64.b64decode(picture[k]))) for k in ("png", "changed"))
        assert as_it_is.getpixel((10, 30))[0] > 240
        red[changed.getpixel((10, 30))[0] > 240] += 1
    assert red[True] and red[False]


def test_what_cannot_be_looked_at_is_said_in_one_sentence(pictures, asked_here):
    with pytest.raises(StoreError, match="2 classes, which do not divide into 5 equal tasks"):
        samples_of(f"folder:{pictures}", StreamConfig(), TrainingConfig(), 0)


def test_an_answer_that_never_comes_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(inspect_inputs, "PATIENCE", 0.01)
    with pytest.raises(StoreError, match="took longer than"):
        about_backbone(RunConfig("nsp2"), 2)


def test_the_estimate_of_memory_knows_the_method_and_its_settings(asked_here):
    config = RunConfig("lora_sequential", backbone="random-clip", settings={"rank": 4})
    few, many = (about_backbone(config, texts) for texts in (2, 200))
    wide = about_backbone(replace(config, settings={"rank": 16}), 2)
    assert few["method_counted"] and few["memory"] == sum(few["parts"].values())
    assert many["parts"]["activations"] > few["parts"]["activations"]
    assert wide["parts"]["training"] == 4 * few["parts"]["training"]
    with pytest.raises(StoreError, match="cannot use backbone random-clip"):
        about_backbone(RunConfig("nsp2", backbone="random-clip"), 2)


def test_the_run_page_shows_samples_and_what_is_missing(monkeypatch, open_page):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 9, 9)).save(file, "PNG")
    picture = {"class": "seven", "png": base64.b64encode(file.getvalue()).decode()}
    tasks = [{"name": "T1", "classes": ["seven", "two"], "train": 6, "test": 2, "pictures": [picture]}]
    stream = {"name": "split-digits", "scenario": "class-incremental", "tasks": tasks, "skipped": ["a.png: broken"]}
    sizes = {"parameters": 2.7e6, "depth": 6, "width": 192, "tokens": 17, "image_size": 32, "memory": 1e8}
    sizes |= {"parts": {"backbone": 11_000_000, "activations": 68_000_000}, "method_counted": True}
    asked = []
    missing = "the weights are not on this machine"

    def told(config, texts):
        asked.append((config.backbone, texts))
        return {"name": config.backbone, **sizes, "missing": missing}

    monkeypatch.setattr(preview, "about_backbone", told)
    monkeypatch.setattr(preview, "samples_of", lambda *_: stream)
    app = open_page("run")
    assert missing not in words(app), "nothing is asked before somebody wants to look"
    app.toggle(key="launch-look").set_value(True).run()
    assert not app.exception
    page = words(app)
    assert "2.7 million parameters" in page and "seven, two" in page
    assert "about 79.0 MB, by an estimate" in page.replace("\\", "") and "68.0 MB for activations" in page
    assert asked == [("micro-vit", 2)], "two classes a task are two texts"
    assert "weights are not on this machine" in page.lower() and "a.png: broken" in page
    assert "with random augmentation" not in page
    picture["changed"] = picture["png"]
    preview._samples.clear()
    app.run()
    assert "with random augmentation" in words(app)


def test_what_the_answers_do_not_depend_on_asks_nothing_anew(monkeypatch, open_page):
    asked = []
    sizes = {"parameters": 1e6, "depth": 6, "width": 192, "tokens": 17, "image_size": 32, "missing": ""}
    sizes |= {"parts": {"backbone": 1e8, "activations": 1e7}, "method_counted": True}
    stream = {"name": "split-digits", "scenario": "class-incremental", "tasks": [], "skipped": []}
    monkeypatch.setattr(
        preview, "about_backbone", lambda config, texts: asked.append("model") or {"name": config.backbone, **sizes}
    )
    monkeypatch.setattr(preview, "samples_of", lambda *_: asked.append("stream") or stream)
    preview._samples.clear()
    preview._backbone.clear()
    app = open_page("run")
    app.toggle(key="launch-look").set_value(True).run()
    assert sorted(asked) == ["model", "stream"]
    epochs = next(field for field in app.number_input if field.label == "Epochs")
    epochs.set_value(7).run()
    assert not app.exception and sorted(asked) == ["model", "stream"], "longer training looks no different"
    app.number_input(key="launch-seed").set_value(5).run()
    assert sorted(asked) == ["model", "stream", "stream"], "another seed deals other classes to the same model"
