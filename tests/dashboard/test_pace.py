"""How often a tab is drawn again: by what the browser says, and by what drawing costs the server."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dashboard.widgets import pace


@pytest.mark.parametrize(
    ("state", "interval"),
    [
        ({}, 1.0),
        ({"pace": {"pace": 1.0}}, 1.0),
        ({"pace": {"pace": 4.0}}, 4.0),  # a busy browser
        ({"pace": {"pace": 0.0}}, None),  # hidden
        ({"pace": {"pace": 1.0}, "_redraw": 0.02}, 1.0),
        ({"pace": {"pace": 1.0}, "_redraw": 0.15}, 3.0),  # 5 % of a core
        ({"pace": {"pace": 8.0}, "_redraw": 2.0}, pace.MOST),
        ({"pace": {"pace": 0.0}, "_redraw": 2.0}, None),
    ],
)
def test_a_tab_is_redrawn_as_often_as_it_is_worth(monkeypatch, state, interval):
    monkeypatch.setattr(pace, "st", SimpleNamespace(session_state=state))
    assert pace.every(1.0) == pytest.approx(interval)


def test_what_a_redraw_costs_the_server_is_counted(monkeypatch):
    state = {}
    monkeypatch.setattr(pace, "st", SimpleNamespace(session_state=state))
    with pace.counted():
        sum(range(200_000))
    assert 0 < state["_redraw"] < 5
