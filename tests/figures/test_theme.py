"""Colours that work on both grounds and for everybody; numbers as people read them."""

from __future__ import annotations

import tomllib
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from dashboard import theme

ROOT = Path(__file__).resolve().parents[2]
# Machado, Oliveira, Fernandes 2009, severity 1, on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def oklab(colour: str, deficiency: str = "none") -> np.ndarray:
    """Perceptual coordinates of a colour as somebody with `deficiency` sees it."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(DEFICIENCIES[deficiency]) @ linear, 0, 1)
    cones = np.cbrt(
        np.array(
            [
                [0.4122214708, 0.5363325363, 0.0514459929],
                [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005],
            ]
        )
        @ linear
    )
    return (
        np.array(
            [
                [0.2104542553, 0.7936177850, -0.0040720468],
                [1.9779984951, -2.4285922050, 0.4505937099],
                [0.0259040371, 0.7827717662, -0.8086757660],
            ]
        )
        @ cones
    )


def test_single_colours_stand_out_on_both_grounds():
    ramp = [theme.task_colour(task, 40) for task in range(40)]
    for colour in (*theme.TASK_COLOURS, *ramp, theme.INK):
        for ground in theme.GROUNDS:
            assert theme.contrast(colour, ground) >= 3, (colour, ground)


def test_the_grounds_are_those_of_the_configuration():
    found = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text("utf-8"))["theme"]
    assert tuple(found[mode]["backgroundColor"].upper() for mode in ("light", "dark")) == tuple(
        ground.upper() for ground in theme.GROUNDS
    )


@pytest.mark.parametrize(("tasks", "least"), [(5, 0.1), (10, 0.05)])
@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_tasks_differ_for_every_kind_of_eye(deficiency, tasks, least):
    if deficiency == "tritan":
        least *= 0.7  # rare (1 in 10 000); line ends carry the task's name as well
    places = [oklab(colour, deficiency) for colour in theme.TASK_COLOURS[:tasks]]
    assert min(np.linalg.norm(a - b) for a, b in combinations(places, 2)) >= least


def test_scales_are_light_at_low_and_neutral_in_the_middle():
    lightness = [oklab(colour)[0] for colour in theme.SEQUENTIAL]
    steps = np.diff(lightness)
    assert (steps < 0).all() and steps.min() > 2.2 * steps.mean()
    middle = oklab(theme.DIVERGING[len(theme.DIVERGING) // 2])
    assert np.hypot(middle[1], middle[2]) < 0.01 and len(theme.DIVERGING) % 2 == 1


@pytest.mark.parametrize(("colours", "ground", "outwards"), [(theme.DIVERGING, 0, -1), (theme.DIVERGING_DARK, 1, 1)])
def test_zero_is_near_the_ground_and_both_signs_leave_it_alike(colours, ground, outwards):
    half = len(colours) // 2
    assert len(colours) == 2 * half + 1
    assert 1.1 < theme.contrast(colours[half], theme.GROUNDS[ground]) < 1.5, "quiet, and not an empty cell"
    assert min(theme.contrast(end, theme.GROUNDS[ground]) for end in (colours[0], colours[-1])) > 6
    lightness = np.array([oklab(colour)[0] for colour in colours])
    assert (outwards * np.diff(lightness[half:]) > 0).all() and (outwards * np.diff(lightness[half::-1]) > 0).all()
    assert np.abs(lightness - lightness[::-1]).max() < 0.11, "as strong on either side"
    middle = oklab(colours[half])
    assert np.hypot(middle[1], middle[2]) < 0.01


def test_a_difference_carries_the_scale_of_the_dark_page_and_nothing_else_does():
    from dashboard.figures.comparison import matrix_difference
    from dashboard.figures.layer_map import layer_map
    from dashboard.widgets.liveplot import figure_of, to_bytes

    cells = np.array([[1.0, np.nan], [2.0, 3.0]])
    (trace,) = figure_of(to_bytes(matrix_difference(cells, cells[::-1], names=("a", "b")), file="x"))["data"]
    assert trace["meta"] == {"dark": theme.scale(theme.DIVERGING_DARK)}
    assert trace["colorscale"] == theme.scale(theme.DIVERGING), "what is saved stays on white"
    plain = layer_map(cells, None, across="task", hover="", bar="", high=3)
    assert "meta" not in figure_of(to_bytes(plain, file="x"))["data"][0]


def test_a_task_keeps_its_colour_and_many_tasks_follow_an_ordered_ramp():
    assert theme.task_colour(3, 5) == theme.task_colour(3, 10) == theme.TASK_COLOURS[3]
    ramp = [theme.task_colour(task, 20) for task in range(20)]
    assert len(set(ramp)) == 20
    assert theme.task_colour(0, 20) != theme.task_colour(19, 20)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (theme.percent(81.25), "81.2 %"),
        (theme.percent(None), "–"),
        (theme.percent(float("nan")), "–"),
        (theme.points(-3.21), "−3.2 pp"),
        (theme.points(0.01), "0.0 pp"),
        (theme.points(2.0), "+2.0 pp"),
        (theme.signed(-0.04), "0.0"),
        (theme.signed(-3.21), "−3.2"),
        (theme.signed(3.6, 0), "+4"),
        (theme.signed(float("nan")), ""),
        (theme.directions(212, 768), "212 of 768, 28 %"),
        (theme.seconds(0.43), "0.4 s"),
        (theme.seconds(59.9), "1:00 min"),
        (theme.seconds(75), "1:15 min"),
        (theme.seconds(7380), "2:03 h"),
        (theme.megabytes(5_400_000), "5.4 MB"),
        (theme.megabytes(900), "0.9 kB"),
        (theme.spread([80.0]), "80.0 %"),
        (theme.spread([80.0, 82.0]), "81.0 ± 1.4 % (2 seeds)"),
        (theme.task_name(0), "T1"),
        (theme.number(-0.01234), "−0.0123"),
    ],
)
def test_numbers_read_as_agreed(said, wanted):
    assert said == wanted
