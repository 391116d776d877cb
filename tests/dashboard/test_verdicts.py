"""The sentence that answers a page's question, against events whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from cl_core.events import AttentionCompared, Clock, ModalityGapMeasured, SpectrumMeasured
from dashboard.verdicts import attention_kept, joint_space_kept, room_left


def spectrum(task: int, layer: int, left: int, width: int = 20) -> SpectrumMeasured:
    values = np.linspace(1, 0, width, dtype=np.float32)
    return SpectrumMeasured(Clock(task, 0, task), layer, "kv", values, left, "energy 0.95", True, 0.95, 4.0, 1.0, 0.0)


def compared(task: int, probe: int, *moved: float) -> AttentionCompared:
    values = np.array(moved, dtype=np.float32)
    nothing = np.zeros_like(values)
    return AttentionCompared(
        Clock(task, 0, task), probe, values, values, nothing, nothing, 0.0, np.zeros((1, len(moved), 1, 4), np.float16)
    )


def gap(task: int, length: float, recall: float, general: float) -> ModalityGapMeasured:
    none, at = np.zeros(2, np.float32), {"1": recall, "5": recall}
    points = np.zeros((1, 2), np.float16)
    return ModalityGapMeasured(
        Clock(task, 0, task), length, 1.0, 0.1, 0.1, 1.0, none, none, none, 0.3, 0.0, 1.0, 0.9, 99.0, at, at, 40,
        general, points, points,
    )  # fmt: skip


def plain(said: str) -> str:
    return said.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("measured", "task", "said"),
    [
        ([], None, ""),
        ([spectrum(0, 0, 15)], None, "After T1 15 of 20 directions (75 %) are left."),
        (
            [spectrum(0, 0, 15), spectrum(0, 1, 15), spectrum(1, 0, 15), spectrum(1, 1, 15)],
            None,
            "After T2 every layer has 15 of 20 directions (75 %) left: none has been taken since T1.",
        ),
        (
            [spectrum(0, 0, 18), spectrum(0, 1, 16), spectrum(1, 0, 9), spectrum(1, 1, 12)],
            None,
            "After T2 layer 1 has least left, 9 of 20 directions (45 %); since T1 it lost most, 9 directions.",
        ),
        (
            [spectrum(0, 0, 18), spectrum(0, 1, 16), spectrum(1, 0, 9), spectrum(1, 1, 12)],
            0,
            "After T1 layer 2 has least left, 16 of 20 directions (80 %).",
        ),
        (
            [spectrum(0, 0, 5), spectrum(0, 1, 6), spectrum(1, 0, 7), spectrum(1, 1, 6)],
            None,
            "After T2 layer 2 has least left, 6 of 20 directions (30 %); no layer has fewer than after T1.",
        ),
    ],
)
def test_room_left(measured, task, said):
    assert plain(room_left(measured, task)) == said


def test_attention_kept():
    assert attention_kept([]) == "" and attention_kept([compared(0, 0, 0.0, 0.0)]) == ""
    events = [compared(0, 0, 0, 0), compared(1, 1, 0, 0), compared(1, 0, 0.001, 0.002)]
    assert attention_kept(events).endswith("is what it was when they were learned.")
    events += [compared(2, 0, 0.1, 0.2), compared(2, 1, 0.4, 0.1)]
    assert plain(attention_kept(events)) == (
        "After T3 20.0 % of the attention on images of earlier tasks lies elsewhere than when they were learned; most "
        "on T2 in layer 1, 40.0 %."
    )
    assert attention_kept(events, 1).startswith("After T2 ")


def test_joint_space_kept():
    first, second = gap(-1, 0.8, 60.0, 70.0), gap(0, 0.9, 40.0, 75.0)
    assert joint_space_kept([]) == joint_space_kept([first]) == joint_space_kept([first, second], -1) == ""
    assert plain(joint_space_kept([first, second])) == (
        "After T1 the gap is 0.9, before training 0.8; R@1 changed by −20.0 pp, general accuracy by +5.0 pp."
    )
