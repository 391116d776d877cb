"""Methods, streams and backbones of one's own: loaded where somebody names them, never by a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from cl_core import plugins
from cl_core.cli import main
from cl_core.config import ConfigError, RunConfig
from cl_core.registry import BACKBONES, FIGURES, METHODS, OBSERVERS, STREAMS
from cl_core.store import create_run
from cl_core.training.factory import check

METHOD = """
from dataclasses import dataclass
from cl_core.config import setting
from cl_core.methods.sequential import Sequential
from cl_core.plugins import method

@dataclass(frozen=True)
class Settings(Sequential.Config):
    keep: float = setting(0.5, low=0.0, high=1.0, help="what is kept")

@method("my_prompts", about="prompts of mine", needs="vit")
class Mine(Sequential):
    Config = Settings
"""
FORGETFUL = (
    METHOD
    + """
    steps = 0

    def loss(self, backbone, batch):
        loss = super().loss(backbone, batch)
        self.steps += 1
        sign = 1 if self.steps % 3 else -1
        loss.parts.update({name: sign * value for name, value in loss.parts.items()})
        return loss
"""
)
STREAM = """
from cl_core.plugins import stream
from cl_core.streams.synthetic import synthetic

@stream("my-bars", about="bars of mine")
def bars(config, preparation, seed):
    return synthetic(config, preparation, seed)
"""
FIGURE = """
from cl_core.plugins import figure

@figure("mine", about="?", needs=["StepEnded"])
def mine(run):
    return None
"""


@pytest.fixture(autouse=True)
def tables_as_they_were(monkeypatch):
    tables = (METHODS, STREAMS, BACKBONES, OBSERVERS, FIGURES, plugins._LOADED)
    for table in tables:
        for name in list(table):
            monkeypatch.setitem(table, name, table[name])  # put back, and what comes is taken away
    monkeypatch.setenv(plugins.VARIABLE, "")  # deleting what is not there would restore nothing afterwards
    monkeypatch.delenv(plugins.VARIABLE)
    known = [set(table) for table in tables]
    yield
    for table, names in zip(tables, known, strict=True):
        for name in set(table) - names:
            del table[name]


@pytest.fixture
def put(tmp_path):
    def write(text, name="my_method.py"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_a_plugin_is_held_to_the_contract(put, capsys):
    assert main(["check-plugin", put(METHOD)]) == 0
    said = capsys.readouterr().out
    assert "method my_prompts: ok" in said and "stopped and resumed without a difference" in said


def test_what_a_resume_would_lose_is_found(put, capsys):
    assert main(["check-plugin", put(FORGETFUL)]) == 1
    assert "a run stopped in the middle and resumed ends elsewhere" in capsys.readouterr().out


def test_a_stream_of_ones_own_is_listed_and_checked(put, capsys):
    assert main(["check-plugin", put(STREAM), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["did"] == ["2 tasks, 200 training images"]
    assert main(["streams", "--plugin", put(STREAM)]) == 0
    assert "my-bars" in capsys.readouterr().out


def test_a_run_names_its_plugin_and_says_so_where_it_is_missing(put, tmp_path):
    file = put(METHOD)
    plugins.load(file)
    folder = create_run(tmp_path / "runs", RunConfig("my_prompts", name="mine"))
    (origin,) = folder.config().plugins
    assert origin.startswith("my_method.py (sha256 ")
    del METHODS["my_prompts"]
    with pytest.raises(ConfigError, match=r"method my_prompts comes from the plug-in my_method.py .* --plugin"):
        check(folder.config())
    assert create_run(tmp_path / "runs", RunConfig("sequential", name="ours")).config().plugins == ()


def test_a_server_is_told_the_names_and_runs_only_files_with_figures(put):
    code = (
        "import sys; from cl_core import plugins; from cl_core.registry import METHODS; plugins.announce(); "
        "from dashboard.figures.catalogue import plugged; "
        "print(METHODS['my_prompts'].about, *plugged(), len(plugins._LOADED), 'torch' in sys.modules)"
    )
    named = os.pathsep.join((put(METHOD), put(FIGURE, "my_figure.py")))
    environment = {**os.environ, plugins.VARIABLE: named}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "prompts of mine mine 1 False"


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("x = 1", "registers nothing; put @method"),
        ("import nothing_like_this", "does not load: ModuleNotFoundError"),
        (METHOD.replace("my_prompts", "nsp2"), "brings a method nsp2, and there is one of that name"),
        (METHOD.replace("my_prompts", "../up"), "is called by letters"),
    ],
)
def test_a_plugin_that_does_not_do_is_refused_in_one_sentence(put, text, sentence, capsys):
    assert main(["methods", "--plugin", put(text)]) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1


def test_a_missing_file_and_a_name_that_nobody_installed(tmp_path, capsys):
    assert main(["methods", "--plugin", str(tmp_path / "no.py")]) == 2
    assert "cannot read plug-in" in capsys.readouterr().err
    os.environ.pop(plugins.VARIABLE)
    assert main(["methods", "--plugin", "nobodys"]) == 2
    assert "give a file ending in .py, or the name of an installed one" in capsys.readouterr().err
    os.environ.pop(plugins.VARIABLE)


OBSERVER = """
from cl_core.events import PluginMeasured
from cl_core.observers.observer import Observer
from cl_core.plugins import observer

@observer("norms", about="how large the trained parameters are after each task")
class Norms(Observer):
    def task_learned(self, view):
        norms = {name: float(p.norm()) for name, p in view.method.named_parameters()}
        return [PluginMeasured(view.clock, "parameter norms", norms)]
"""


def test_an_observer_of_a_plug_in_watches_a_run_and_is_drawn_by_itself(tmp_path, monkeypatch):
    from contextlib import closing

    from cl_core.config import StreamConfig, TrainingConfig
    from cl_core.events import PluginMeasured
    from cl_core.store import RunReader
    from cl_core.training.worker import drive
    from dashboard.figures import generic

    (tmp_path / "norms.py").write_text(OBSERVER)
    plugins.load(str(tmp_path / "norms.py"))
    config = RunConfig(
        "sequential", "random-vit", "synthetic", device="cpu", stream_settings=StreamConfig(tasks=2),
        training=TrainingConfig(epochs=1, batch_size=50), name="watched",
    )  # fmt: skip
    folder = create_run(tmp_path / "runs", config)
    assert folder.config().plugins[0].startswith("norms.py (sha256 ")
    drive(folder)
    with closing(RunReader(folder)) as reader:
        told = [stored.event for stored in reader.since(kinds=("PluginMeasured",))]
    assert [event.clock.task for event in told] == [0, 1] and all(isinstance(e, PluginMeasured) for e in told)
    assert told[0].values and min(told[0].values.values()) >= 0
    assert generic.parts(told) == ["values (parameter norms)"]
    assert generic.draw(told, "values (parameter norms)", tasks=2).data


def test_an_observer_is_held_to_what_the_engine_expects(tmp_path, capsys):
    (tmp_path / "norms.py").write_text(OBSERVER)
    assert main(["check-plugin", str(tmp_path / "norms.py")]) == 0
    out = capsys.readouterr().out
    assert "2 measurements" in out and "the same with and without it" in out
    broken = OBSERVER.replace("float(p.norm())", "1 / 0").replace('"norms"', '"broken"')
    (tmp_path / "broken.py").write_text(broken)
    assert main(["check-plugin", str(tmp_path / "broken.py")]) == 1
    assert "it failed and was disabled: ZeroDivisionError" in capsys.readouterr().out


def test_an_observer_that_changes_training_or_is_none_is_found_out(tmp_path, capsys):
    meddling = OBSERVER.replace("norms = {", "[p.mul_(0.9) for p in view.method.parameters()]; norms = {")
    (tmp_path / "meddling.py").write_text(meddling.replace('"norms"', '"meddling"'))
    assert main(["check-plugin", str(tmp_path / "meddling.py")]) == 1
    assert "it changes training" in capsys.readouterr().out
    none = OBSERVER.replace("class Norms(Observer)", "class Norms").replace('"norms"', '"none"')
    (tmp_path / "none.py").write_text(none)
    plugins._LOADED.clear()
    OBSERVERS.clear()
    assert main(["check-plugin", str(tmp_path / "none.py")]) == 1
    assert "is no subclass of" in capsys.readouterr().out
