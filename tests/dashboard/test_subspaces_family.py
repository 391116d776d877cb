"""Task subspaces on the Spectra page: shown where a run has them, with what learning did for tasks to come."""

from __future__ import annotations

from tests import recorded_subspace_runs
from tests.dashboard.reading import figures, words

SPACES = {
    "Input embeddings of the tasks",
    "Overlap of the tasks' cores",
    "How the space is divided",
    "Where the gradients lie",
    "Change along earlier tasks' cores",
}


def test_a_run_with_subspaces_shows_them_and_the_probe(runs_folder, open_page):
    recorded_subspace_runs.written(runs_folder)
    app = open_page("spectra", run="spaces")
    assert not app.exception
    assert figures(app).keys() == SPACES | {"Probe forward transfer", "Transfer against overlap"}


def test_without_a_probe_the_page_says_how_to_get_one(runs_folder, open_page):
    recorded_subspace_runs.written(runs_folder, forward=False)
    app = open_page("spectra", run="spaces")
    assert not app.exception and figures(app).keys() == SPACES
    assert "diagnostics.forward=true" in words(app)


def test_a_probe_alone_is_shown_alone(runs_folder, open_page):
    recorded_subspace_runs.written(runs_folder, spaces=False)
    app = open_page("spectra", run="spaces")
    assert not app.exception and figures(app).keys() == {"Probe forward transfer"}
