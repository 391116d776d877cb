"""Recorded and imported runs on the pages: no page knows them by name, and none offers what cannot be done there."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cl_core.config import RunConfig
from cl_core.interop import Asked, read, write
from cl_core.recorder import Recorder
from cl_core.store import create_run
from dashboard.notebook import report
from dashboard.view_state import page_file

PAGES = ("start", "run", "spectra", "forgetting", "attention", "whatif", "compare", "export")


@pytest.fixture
def recorded(runs_folder):
    """Two tasks of a network of two watched widths, with everything that a recorder measures."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    data = [(torch.randn(40, 8), torch.arange(40) % 2 + 2 * task) for task in range(2)]
    recorder = Recorder(
        runs_folder / "mine",
        model,
        tasks=["cats", "dogs"],
        every=1,
        weights=True,
        probes={"cats": data[0][0][:4]},
        optimizer=optimizer,
        method="plain SGD",
    )
    recorder.project(optimizer)
    recorder.untrained(evaluate=[[data[0]], [data[1]]])
    for task in range(2):
        for _ in range(4):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(data[task][0]), data[task][1])
            loss.backward()
            optimizer.step()
            recorder.step(loss)
        recorder.end_task(task, evaluate=[[part] for part in data])
    return recorder.folder


@pytest.fixture
def imported(tmp_path, runs_folder):
    file = tmp_path / "results.csv"
    file.write_text("cats,dogs,birds\n97,,\n80,95,\n61,77,93\n")
    return write(read(file, Asked("class-incremental")), runs_folder, name="theirs", method="DER", stream="pets")


def texts(shown):
    return " ".join(str(e.value) for kind in (shown.markdown, shown.caption, shown.info, shown.error) for e in kind)


def opened(open_page, run):
    """Page → what it shows of a run, to one visitor of all pages."""
    app = open_page(PAGES[0], run=run)
    for page in PAGES:
        app.switch_page(str(page_file(f"pages/{page}.py"))).run()
        assert not app.exception and not app.error, page
        yield page, app


def test_every_page_opens_a_recorded_run(open_page, recorded):
    for page, shown in opened(open_page, "mine"):
        if page == "run":
            assert "Not trained by Plastiscope: recorded from a custom training loop" in texts(shown)
            assert not [b for b in shown.button if b.key in ("bar-go-on", "resume-here")]


def test_every_page_opens_an_imported_run(open_page, imported):
    for page, shown in opened(open_page, "theirs"):
        if page == "run":
            assert "This run has no losses" in texts(shown) and "first step" not in texts(shown)
        if page == "start":
            assert "imported from results.csv" in texts(shown) and "theirs" in texts(shown)
        if page in ("forgetting", "spectra", "gap", "attention"):
            said = [info.value for info in shown.info]
            assert said and not [text for text in said if "diagnostics" in text or "Measured besides" in text], page
            assert len([text for text in said if "your own training loop" in text]) == len(said), page


def test_spectra_follow_the_layer_whatever_its_width(open_page, recorded):
    for layer, width in (("1", 8), ("2", 6)):
        shown = open_page("spectra", run="mine", layer=layer)
        assert f"inputs of the watched modules that are {width} wide" in texts(shown)
        assert "has no such matrix" not in texts(shown)


def test_the_report_of_either_says_where_it_comes_from(recorded, imported, tmp_path):
    for folder, words in ((recorded, "recorded from a custom training loop"), (imported, "imported from results.csv")):
        page = report(folder.path, tmp_path / f"{folder.name}.html").read_text()
        assert words in page and "not trained by Plastiscope" in page
        assert "milestones" not in page  # settings of our own training


def test_a_run_whose_plugin_is_missing_opens_and_says_so(open_page, runs_folder):
    config = RunConfig("somebodys_method", name="theirs", plugins=("their.py (sha256 0123)",))
    create_run(runs_folder, config)
    shown = open_page("run", run="theirs")
    assert "comes from the plug-in their.py" in texts(shown) and "which is not loaded here" in texts(shown)
