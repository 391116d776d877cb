"""Your own: pictures are looked at before they are trained on, results are seen before they are written."""

import io
import json
import os
import zipfile

import pytest
from PIL import Image

from cl_core.config import RunConfig
from cl_core.store import RunFolder, StoreError
from dashboard import uploads
from dashboard.folder_state import folder_state, stream_state
from dashboard.run_log import log_of, stream_title
from dashboard.uploads import unpack_images
from dashboard.widgets import import_results, own_pictures, starting
from dashboard.widgets.import_results import in_page_words
from dashboard.widgets.own_pictures import completions
from tests.dashboard.reading import words


def png(colour=(9, 9, 9)):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


def packed(members, **settings):
    """A ZIP of name → bytes, in memory."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **settings) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file


# ---------------------------------------------------------------- a ZIP that is dropped


def test_a_zip_of_images_becomes_a_folder_once(tmp_path):
    given = packed({"pets/cat/1.png": png(), "pets/dog/2.png": png(), "__MACOSX/x.png": b"x", "pets/run.sh": b"rm"})
    folder = unpack_images(given, "My pets.zip", tmp_path)
    assert folder.name == "pets" and folder.parent.name.startswith("My-pets-")
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert found == ["cat/1.png", "dog/2.png"]
    before = (folder / "cat" / "1.png").stat().st_mtime_ns
    assert unpack_images(given, "My pets.zip", tmp_path) == folder
    assert (folder / "cat" / "1.png").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"../out/1.png": b"x"}, "outside its folder"),
        ({"/etc/1.png": b"x"}, "outside its folder"),
        ({"a\\..\\..\\1.png": b"x"}, "outside its folder"),
        ({"C:/1.png": b"x"}, "outside its folder"),
        ({"a/readme.md": b"x"}, "holds no images"),
        ({}, "holds no images"),
    ],
)
def test_a_zip_that_leads_elsewhere_or_holds_nothing_is_refused(tmp_path, members, sentence):
    with pytest.raises(StoreError, match=sentence):
        unpack_images(packed(members), "x.zip", tmp_path / "runs")
    assert not list((tmp_path / "runs").rglob("*.png")) and not (tmp_path / "out").exists()


def test_links_bombs_and_damaged_zips_are_refused_and_leave_nothing(tmp_path, monkeypatch):
    link = zipfile.ZipInfo("cat/1.png")
    link.external_attr = 0o120777 << 16
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(StoreError, match="holds a link"):
        unpack_images(file, "x.zip", tmp_path)
    with pytest.raises(StoreError, match="not a valid ZIP"):
        unpack_images(io.BytesIO(b"PK\x03\x04 nonsense"), "x.zip", tmp_path)
    monkeypatch.setattr(uploads, "MOST_BYTES", 1000)
    bomb = packed({"cat/1.png": bytes(100_000)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(StoreError, match="at most"):
        unpack_images(bomb, "x.zip", tmp_path)
    lying = bytearray(bomb.getvalue())
    for place in range(len(lying) - 4):  # both headers say 100 bytes
        if lying[place : place + 4] == (100_000).to_bytes(4, "little"):
            lying[place : place + 4] = (100).to_bytes(4, "little")
    with pytest.raises(StoreError):
        unpack_images(io.BytesIO(bytes(lying)), "x.zip", tmp_path)
    monkeypatch.setattr(uploads, "MOST_FILES", 1)
    with pytest.raises(StoreError, match="at most 1 "):
        unpack_images(packed({"a/1.png": b"", "a/2.png": b""}), "x.zip", tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


# ---------------------------------------------------------------- folders


def test_folders_are_completed_and_their_state_follows_their_files(tmp_path):
    for name in ("birds", "bikes", "cats", ".hidden"):
        (tmp_path / name).mkdir()
    assert completions(tmp_path) == ["bikes", "birds", "cats"]
    assert completions(tmp_path / "Bi") == ["bikes", "birds"] and completions(tmp_path / "no" / "where") == []
    first = folder_state(tmp_path)
    (tmp_path / "birds" / "1.png").write_bytes(png())
    os.utime(tmp_path / "birds", ns=(first[1] + 10**9, first[1] + 10**9))  # coarse clocks
    second = folder_state(tmp_path)
    assert second != first and stream_state(f"folder:{tmp_path},{tmp_path / 'cats'}")[0] == second
    assert stream_state("split-digits") == ()


def test_titles_name_the_stream_and_not_its_path():
    assert stream_title("folder:/data/me/birds,/data/me/cars") == "birds, cars"
    assert stream_title("split-digits") == "split-digits" and stream_title("omniglot:/a/b") == "omniglot, b"


# ---------------------------------------------------------------- the page


@pytest.fixture
def pets(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "pets" / name / f"{i}.png").write_bytes(png((200, i, 0)))
    return tmp_path / "pets"


def looked(monkeypatch, answer):
    """Answers in place of a process."""
    own_pictures._look.clear()
    asked = []

    def samples(*arguments):
        asked.append(arguments)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(own_pictures, "samples_of", samples)
    return asked


def test_what_was_looked_at_is_what_is_started(monkeypatch, open_page, pets):
    answer = {"tasks": [], "notes": ["test is the test half; not used: val"], "skipped": ["cat/x.png: broken"]}
    asked, started = looked(monkeypatch, answer), []

    def start(runs, config, title):
        started.append(config)
        raise StoreError("no worker in a test")

    monkeypatch.setattr(starting.launch, "start", start)
    app = open_page("own")
    assert not any(button.key == "own-start" for button in app.button), "nothing to start yet"
    app.text_input(key="own-path").set_value(str(pets)).run()
    assert not app.exception
    assert "test is the test half" in words(app).lower() and "cat/x.png: broken" in words(app)
    ((stream, settings, *_),) = asked
    assert stream == f"folder:{pets}" and settings.tasks == 2
    assert not app.button(key="own-start").disabled
    app.run()
    assert len(asked) == 1, "asked once for one state of the folder"
    app.button(key="own-start").click().run()
    (config,) = started
    assert config.stream == stream and config.stream_settings == settings and config.method == "nsp2"
    assert "no worker in a test" in words(app).lower()


def test_how_many_pictures_each_class_has_is_said(monkeypatch, open_page, pets):
    tasks = [{"name": "", "classes": ["cat", "dog"], "found": [[12, 3], [5, 0]], "train": 2, "test": 2, "pictures": []}]
    looked(monkeypatch, {"tasks": tasks, "notes": [], "skipped": []})
    app = open_page("own")
    app.text_input(key="own-path").set_value(str(pets)).run()
    said = words(app)
    assert "cat 12 + 3, dog 5" in said and "its number of images, for training + for testing" in said


def test_what_is_refused_cannot_be_started(monkeypatch, open_page, pets):
    asked = looked(monkeypatch, StoreError("class void holds no pictures"))
    app = open_page("own")
    app.text_input(key="own-path").set_value(str(pets)).run()
    assert "class void holds no pictures" in words(app).lower() and app.button(key="own-start").disabled
    app.number_input(key="own-epochs").set_value(3).run()
    assert len(asked) == 1, "a refusal is kept as well"


def test_folders_may_be_tasks_or_pooled(monkeypatch, open_page, pets):
    asked = looked(monkeypatch, {"tasks": [], "notes": [], "skipped": []})
    app = open_page("own")
    app.text_input(key="own-path").set_value(str(pets)).run()
    app.radio(key="own-kind").set_value(own_pictures.TASK).run()
    assert asked[-1][0] == f"folder:{pets / 'cat'},{pets / 'dog'}"
    assert asked[-1][1].remainder == "refuse", "domains are not dealt"
    app.radio(key="own-kind").set_value(own_pictures.POOLED).run()
    assert asked[-1][0] == f"folder:{pets}" and asked[-1][1].subfolders == "pool"


def test_folders_are_entered_by_pills(monkeypatch, open_page, pets):
    looked(monkeypatch, {"tasks": [], "notes": [], "skipped": []})
    app = open_page("own")
    app.text_input(key="own-path").set_value(str(pets.parent)).run()
    app.button_group(key="own-inner").select("pets").run()
    assert app.text_input(key="own-path").value == str(pets)


TOLD = {
    "program": "A table", "source": "results.csv", "scenario": "class-incremental", "tasks": ["a", "b"], "losses": 3,
    "accuracy_matrix": [[90.0, None], [70.0, 80.0]], "untrained": None, "final_average_accuracy": 75.0,
    "learning_accuracy": 85.0, "forgetting": 20.0, "notes": ["Zeros (--zeros) were kept"], "not_read": ["x.log"],
}  # fmt: skip


def test_results_are_shown_before_they_are_written(monkeypatch, open_page, tmp_path):
    asked = []

    def answer(path, options):
        asked.append(list(options))
        if not any(option.startswith("--scenario") for option in options):
            raise StoreError("results.csv does not say it; say it with --scenario class-incremental")
        return {**TOLD, "run": None if "--dry-run" in options else "made"}

    monkeypatch.setattr(import_results, "import_results", answer)
    (tmp_path / "results.csv").write_text("90,\n70,80\n")
    import_results._read.clear()
    app = open_page("own")
    app.button_group(key="own-part").select("Results of another program").run()
    app.text_input(key="import-path").set_value(str(tmp_path / "results.csv")).run()
    assert "say it with Scenario" in words(app), "options are called as the fields are"
    assert not any(button.key == "import-take" for button in app.button)
    app.selectbox(key="import-scenario").set_value("class-incremental").run()
    assert not app.exception
    assert "75.0" in words(app) or any("75" in str(metric.value) for metric in app.metric)
    assert all("--dry-run" in options for options in asked), "nothing was written"
    app.selectbox(key="import-rows").set_value("evaluated on").run()
    assert "--transposed" in asked[-1] and "--dry-run" in asked[-1]


def test_a_table_is_read_and_written_by_a_process_of_its_own(tmp_path):
    from dashboard.inspect_inputs import import_results as ask

    (tmp_path / "results.csv").write_text("90.0,\n70.0,80.0\n")
    options = ["--scenario=task-incremental", f"--runs={tmp_path / 'runs'}"]
    told = ask(tmp_path / "results.csv", [*options, "--dry-run"])
    assert told["accuracy_matrix"][1] == [70.0, 80.0] and not (tmp_path / "runs").exists()
    made = ask(tmp_path / "results.csv", [*options, "--name=mine"])
    assert made["run"] == "mine"
    config = json.loads((tmp_path / "runs" / "mine" / "config.json").read_text())
    assert RunConfig.from_dict(config).trained_elsewhere
    assert log_of(RunFolder(tmp_path / "runs" / "mine")).snapshot().title == "mine"
    unnamed = ask(tmp_path / "results.csv", options)["run"]
    title = log_of(RunFolder(tmp_path / "runs" / unnamed)).snapshot().title
    assert title == "a table", "and not: on not recorded"
    with pytest.raises(StoreError, match="does not exist"):
        ask(tmp_path / "gone.csv", options)


def test_options_are_called_as_the_fields_are():
    assert in_page_words("say --scale or --keep-future") == "say Accuracies or Keep accuracies on later tasks"
    assert in_page_words("a -- b --unknown") == "a -- b --unknown"
