"""Attention figures by the data in their traces."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest

from cl_core.events import AttentionCompared, Clock
from dashboard.figures import attention
from dashboard.figures.event_arrays import compared_later
from dashboard.theme import task_colour

LAYERS, HEADS, GRID, PROMPTS = 2, 2, (2, 3), 3
TOKENS = GRID[0] * GRID[1] + 1


def compared(task, probe, moved=0.1, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.random((1, LAYERS, HEADS, TOKENS + PROMPTS))
    weights = (weights / weights.sum(-1, keepdims=True)).astype(np.float16)
    return AttentionCompared(
        Clock(task, 0, task),
        probe,
        np.full(LAYERS, moved / 2, np.float32),
        np.full(LAYERS, moved, np.float32),
        np.zeros(LAYERS, np.float32),
        np.full(LAYERS, 0.25, np.float32),
        moved / 10,
        weights,
    )


def on_image(before, after, image=None):
    image = np.zeros((8, 12, 3), np.uint8) if image is None else image
    return attention.attention_on_image(
        image,
        before,
        after,
        grid=GRID,
        layer=0,
        head=None,
        probe_task=0,
        moments=("after T1", "after T2"),
        name="three",
    )


def test_patches_lie_row_by_row_over_the_image_and_prompts_apart():
    row = np.zeros(TOKENS + PROMPTS, np.float32)
    row[0], row[1 + 4], row[TOKENS + 2] = 0.2, 0.5, 0.3  # itself, second row and column, last prompt
    maps = [t for t in on_image(row, row).data if t.type == "heatmap"]
    patches, strip = maps[0], maps[1]
    np.testing.assert_allclose(patches.z, [[0, 0, 0], [0, 50, 0]], atol=1e-5)
    np.testing.assert_allclose(strip.z, [[20, 0, 0, 30]], atol=1e-5)
    assert (patches.dx, patches.dy, patches.x0, patches.y0) == (4, 4, 1.5, 1.5)  # patch centres in pixels
    assert strip.x[0] == "itself"


def test_both_maps_share_a_scale_and_the_difference_is_centred_at_zero():
    before, after = np.full(TOKENS + PROMPTS, 0.1, np.float32), np.full(TOKENS + PROMPTS, 0.1, np.float32)
    after[1], after[2] = 0.18, 0.02
    figure = on_image(before, after)
    first, second, difference = [t for t in figure.data if t.type == "heatmap"][::2]
    assert (first.zmin, first.zmax) == (second.zmin, second.zmax)
    assert difference.zmin == -difference.zmax
    np.testing.assert_allclose(difference.z[0][:2], [8, -8], atol=1e-4)
    assert "Moved: 8.0 % of the attention" in figure.layout.meta["caption"]


def test_tiny_differences_are_not_blown_up():
    row = np.full(TOKENS + PROMPTS, 0.1, np.float32)
    after = row.copy()
    after[1] += 1e-6
    difference = [t for t in on_image(row, after).data if t.type == "heatmap"][4]
    assert difference.zmax == pytest.approx(0.5)  # percentage points
    strips = [t for t in on_image(row, after).data if t.type == "heatmap"][5]
    assert set(strips.text[0]) == {"0"}


def test_heads_are_averaged_unless_one_is_named():
    event = compared(0, 0)
    every, one = (attention.class_token_row(event, image=0, layer=1, head=h) for h in (None, 1))
    np.testing.assert_allclose(every, event.class_attention[0, 1].astype(np.float32).mean(0), rtol=1e-3)
    np.testing.assert_allclose(one, event.class_attention[0, 1, 1].astype(np.float32))
    assert every.dtype == np.float32


def test_the_picture_is_the_image():
    from PIL import Image

    image = np.random.default_rng(0).integers(0, 255, (6, 5, 3), dtype=np.uint8)
    address = attention.picture(image)
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",", 1)[1]))))
    np.testing.assert_array_equal(decoded, image)


def test_consistency_has_a_line_for_each_later_task_and_skips_the_moment_compared_with():
    events = [compared(0, 0, 0.0), compared(1, 0, 0.1), compared(1, 1, 0.0), compared(2, 0, 0.3), compared(2, 1, 0.2)]
    figure = attention.consistency_by_layer(events, probe_task=0, tasks=3)
    assert [t.name for t in figure.data] == ["after T2", "after T3"] * 2
    np.testing.assert_allclose(figure.data[1].y, [15, 15], rtol=1e-5)  # this layer's prompts alone
    np.testing.assert_allclose(figure.data[3].y, [30, 30], rtol=1e-5)  # end to end
    assert figure.data[3].line.color == task_colour(2, 3)


def test_a_single_stage_has_nothing_to_compare_with():
    joint = [compared(2, probe) for probe in range(3)]
    assert compared_later(joint) == []
    assert len(attention.consistency_by_layer(joint, probe_task=1).data) == 0


def test_lines_over_tasks_take_the_last_measurement_of_each_task_and_the_probes_colour():
    events = [compared(0, 0, 0.0), compared(1, 0, 0.5), compared(1, 0, 0.2), compared(1, 1, 0.0)]
    figure = attention.consistency_over_tasks(events, layer=1, tasks=2)
    np.testing.assert_allclose(figure.data[0].y, [0, 20], rtol=1e-5)
    assert [t.line.color for t in figure.data] == [task_colour(0, 2), task_colour(1, 2)]


def test_a_quiet_run_looks_quiet():
    events = [compared(0, 0, 0.0), compared(1, 0, 1e-5)]
    assert attention.consistency_over_tasks(events, layer=0).layout.yaxis.range[1] >= 1.0
    assert attention.feature_drift(events).layout.yaxis.range[1] >= 0.01
