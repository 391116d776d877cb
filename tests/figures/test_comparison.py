"""The plane and runs over each other: what the marks, lines and cells hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cl_core.sweeps import ParetoPoint
from dashboard.figures.comparison import accuracy_overlay, forgetting_overlay, matrix_difference
from dashboard.figures.frontier import plane
from dashboard.figures.labels import shortened
from dashboard.lineage import Parting
from dashboard.theme import INK, faded
from tests.figures.conftest import spots_along

NAN = np.nan
FIRST = np.array([[90, NAN, NAN], [60, 80, NAN], [50, 70, 85]], float)
SECOND = np.array([[88, NAN, NAN], [70, 80, NAN], [65, 60, NAN]], float)


def means(figure):
    return {t.name: t for t in figure.data if (t.name or "").startswith("eta") and t.mode.startswith("markers")}


def test_a_mark_is_the_mean_with_the_deviation_of_its_seeds():
    found = means(plane(spots_along(4)))
    assert list(found) == ["eta 0", "eta 1", "eta 2", "eta 3"]
    assert (found["eta 1"].x[0], found["eta 1"].y[0]) == (18.5, 88.5)
    assert found["eta 1"].error_x.array[0] == pytest.approx(0.5**0.5) == found["eta 1"].error_y.array[0]
    notes = {a.text: (a.x, a.y) for a in plane(spots_along(4)).layout.annotations}
    assert notes["1"] == (18.5, 88.5) and set(notes) == {"0", "1", "2", "3"}


def test_the_sweep_is_a_path_in_order_of_the_setting_and_every_run_is_a_small_mark():
    spots = spots_along(4)
    figure = plane(spots)
    (path,) = [t for t in figure.data if t.mode == "lines"]
    assert list(path.x) == [s.instability.mean for s in spots]
    (runs,) = [t for t in figure.data if t.name == "runs"]
    assert [row[0] for row in runs.customdata] == [run for s in spots for run in s.runs], "a click names the run"


def test_dominated_settings_are_faded_and_the_others_are_not():
    found = means(plane(spots_along(4)))
    assert [t.marker.color == INK for t in found.values()] == [True, True, True, False]
    assert found["eta 3"].marker.color == faded(INK, 0.35) and "dominated" in found["eta 3"].hovertemplate


def test_the_best_within_the_budget_is_ringed_and_said():
    figure = plane(spots_along(4), budget=17.0)
    (ring,) = [t for t in figure.data if t.name == "best within the budget"]
    assert (ring.x[0], ring.y[0]) == (16.5, 86.5) and "eta 2 learns most (86.5 ± 0.7 %)" in figure.layout.meta[
        "caption"
    ]
    none = plane(spots_along(4), budget=1.0)
    assert "No setting forgets at most 1 pp" in none.layout.meta["caption"]
    assert not [t for t in none.data if t.name == "best within the budget"]


def test_one_run_has_no_bars_and_methods_differ_by_dash_and_marker():
    one = [
        ParetoPoint(f"{m} {v}", m, str(v), (f"{m}{v}",), (0,), (start + v,), (10.0 + v,), (60.0,))
        for m, start in (("nsp2", 80.0), ("sequential", 70.0))
        for v in (0, 1)
    ]
    figure = plane(one)
    lines = [t for t in figure.data if t.mode == "lines"]
    assert len({t.line.dash for t in lines}) == 2 and {t.line.color for t in lines} == {INK}
    marks = [t for t in figure.data if t.name == "nsp2 0"]
    assert marks[0].error_x.array is None and marks[0].customdata[0][0] == "nsp20"
    assert {"nsp2", "sequential"} <= {a.text for a in figure.layout.annotations}


def single(name, learning, forgetting):
    return ParetoPoint(name, name, "", (name,), (0,), (learning,), (forgetting,), (60.0,))


def test_marks_that_coincide_are_named_together_and_far_ones_apart():
    figure = plane(
        [single("a", 80.0, 10.0), single("b", 80.0, 10.0), single("c", 80.02, 10.1), single("d", 60.0, 40.0)]
    )
    assert {a.text for a in figure.layout.annotations} == {"a, b, c", "d"}
    assert "on hover" not in figure.layout.meta["caption"]
    crowd = plane([single(f"method {i}", 80.0, 10.0) for i in range(7)] + [single("d", 60.0, 40.0)])
    assert {"method 0, method 1, method 2, method 3, 3 more", "d"} == {a.text for a in crowd.layout.annotations}
    assert "on hover" in crowd.layout.meta["caption"]


def test_overlays_hold_the_average_and_what_was_forgotten_by_then():
    matrices = {"first": FIRST, "second": SECOND}
    averages = {t.name: list(np.round(t.y, 2)) for t in accuracy_overlay(matrices).data}
    assert averages["first"] == [90.0, 70.0, pytest.approx(68.33, abs=0.01)]
    lost = {t.name: (list(t.x), list(t.y)) for t in forgetting_overlay(matrices).data}
    assert lost["first"] == ([1, 2], [30.0, 25.0]) and lost["second"][1][0] == 18.0


def test_the_difference_is_signed_and_its_scale_is_neutral_at_zero():
    figure = matrix_difference(FIRST, SECOND, names=("one", "other"))
    (cells,) = figure.data
    assert cells.zmin == -cells.zmax and cells.zmid == 0 and cells.zmax == 15
    assert cells.z[1][0] == -10 and cells.z[0][0] == 2 and np.isnan(cells.z[2][2]) and np.isnan(cells.z[0][1])
    assert "higher in 2 cells and lower in 2" in figure.layout.meta["alt"]
    again = matrix_difference(FIRST, FIRST[:2], names=("one", "part"))
    assert again.data[0].z.shape == (3, 3) and again.data[0].zmax == 5


def test_labels_lose_what_all_begin_or_end_with_and_keep_both_ends():
    labels = ["softness-eta-0-seed-0", "softness-eta-1-seed-0"]
    assert list(shortened(labels).values()) == ["0-seed-0", "1-seed-0"]
    assert shortened(["alone-run"]) == {"alone-run": "alone-run"}
    assert shortened(["x" * 40])["x" * 40] == "x" * 13 + "…" + "x" * 12
    assert list(shortened(["NSP² on digits: seed 0", "NSP² on digits: seed 1"]).values()) == ["seed 0", "seed 1"]
    assert list(shortened(["NSP² on digits", "Plain prompts on digits"]).values()) == ["NSP²", "Plain prompts"]
    assert list(shortened(["a", "a: b"]).values()) == ["a", "a: b"], "nothing is left without a name"


def test_the_caption_names_the_swept_setting():
    spots = [replace(spot, setting="eta_affinity+eta_mixture") for spot in spots_along(3)]
    assert "one setting each (beside it eta_affinity+eta_mixture), mean" in plane(spots).layout.meta["caption"]


def test_names_of_runs_are_text_and_nothing_else():
    figure = accuracy_overlay({"<b>x</b>": FIRST})
    assert "&lt;b&gt;" in figure.layout.annotations[0].text and "<b>x" not in figure.data[0].hovertemplate


def test_forgetting_of_a_run_in_training_ends_at_its_last_measured_row():
    running = np.full((4, 4), NAN)
    running[0, 0], running[1, :2] = 90, (80, 70)
    (line,) = [t for t in forgetting_overlay({"running": running}).data if t.name == "running"]
    assert (len(line.x), list(line.y)) == (1, [10.0])


PARENT = np.array([[90, NAN, NAN, NAN], [80, 80, NAN, NAN], [60, 70, 80, NAN], [50, 60, 70, 80]], float)
CHILD = np.array([[90, NAN, NAN, NAN], [80, 80, NAN, NAN], [75, 75, 75, NAN], [70, 70, 70, 70]], float)
OTHER = np.array([[90, NAN, NAN, NAN], [80, 80, NAN, NAN], [60, 70, 80, NAN], [66, 66, 66, 66]], float)
FORKS = {"child": Parting("parent", 2, "parent"), "other": Parting("parent", 3, "parent")}


def drawn(figure):
    return {t.name: (list(t.x), [round(float(y), 2) for y in t.y]) for t in figure.data}


@pytest.mark.parametrize("overlay", [accuracy_overlay, forgetting_overlay])
def test_what_forks_share_is_drawn_once_and_their_lines_begin_on_their_parents(overlay):
    figure = overlay({"parent": PARENT, "child": CHILD, "other": OTHER}, FORKS)
    lines = drawn(figure)
    alone = drawn(overlay({"child": CHILD}))["child"]
    assert lines["parent"] == drawn(overlay({"parent": PARENT}))["parent"], "the parent is whole"
    assert lines["child"][0] == [1, 2, 3] and lines["other"][0] == [2, 3]
    assert lines["child"][1] == alone[1][-3:]
    meeting = dict(zip(*lines["parent"], strict=True))
    assert lines["child"][1][0] == meeting[1] and lines["other"][1][0] == meeting[2]
    assert list(next(t for t in figure.data if t.name == "child").marker.size) == [0, 8, 8], "one mark at the meeting"
    assert lines["forks"] == ([1, 2], [meeting[1], meeting[2]]), "a ring at each fork"
    assert [s.x0 for s in figure.layout.shapes] == [1, 2]
    assert {"fork after T2", "fork after T3"} <= {note.text for note in figure.layout.annotations}
    for words in (figure.layout.meta["caption"], figure.layout.meta["alt"]):
        assert "drawn once: child leaves parent after T2; other leaves parent after T3." in words


def test_a_sibling_that_carries_the_past_of_both_is_named():
    figure = accuracy_overlay({"other": OTHER, "child": CHILD}, {"child": Parting("other", 2, "parent")})
    assert drawn(figure)["other"][0] == [0, 1, 2, 3] and drawn(figure)["child"][0] == [1, 2, 3]
    told = figure.layout.meta["caption"]
    assert "child leaves other after T2, which carries the common part from parent for both." in told


def test_a_fork_after_the_first_task_has_no_forgetting_to_begin_on():
    early = np.vstack([PARENT[:1], [[40, 60, NAN, NAN]], CHILD[2:]])
    figure = forgetting_overlay({"parent": PARENT, "early": early}, {"early": Parting("parent", 1, "parent")})
    lines = drawn(figure)
    assert lines["early"][0] == [1, 2, 3] and "forks" not in lines and [s.x0 for s in figure.layout.shapes] == [0]
    assert set(next(t for t in figure.data if t.name == "early").marker.size) == {8}


def test_a_fork_that_has_measured_nothing_of_its_own_stands_on_its_parent():
    young = np.full((4, 4), NAN)
    young[:2] = PARENT[:2]
    figure = accuracy_overlay({"parent": PARENT, "young": young}, {"young": Parting("parent", 2, "parent")})
    assert drawn(figure)["young"] == ([1], [80.0]) and "young" in {a.text for a in figure.layout.annotations}


def test_names_of_forks_are_text_and_nothing_else():
    figure = accuracy_overlay({"<i>p</i>": PARENT, "<b>c</b>": CHILD}, {"<b>c</b>": Parting("<i>p</i>", 2, "<i>p</i>")})
    ring = next(t for t in figure.data if t.name == "forks")
    assert "<b>c" not in ring.customdata[0] and "<b>c" not in figure.layout.meta["caption"]
