"""The bar at the foot: what it says between the press of a button and the worker's answer."""

from __future__ import annotations

from itertools import islice

import streamlit as st

from cl_core.commands import Pause, Step
from dashboard import launch
from dashboard.run_log import log_of
from dashboard.widgets.control_bar import STEPPING, give_order, pending
from tests import recorded_runs
from tests.invented_run import Plan, moments
from tests.recording import append


def test_a_step_is_answered_by_what_it_measured(runs_folder, monkeypatch):
    state: dict = {}
    monkeypatch.setattr(st, "session_state", state)
    monkeypatch.setattr(launch, "order", lambda folder, command: None)
    next_moment = next(islice(moments(Plan()), 1 + recorded_runs.moments_a_task(Plan()) + 3, None))
    folder = recorded_runs.paused(runs_folder)
    log = log_of(folder)
    give_order(log.snapshot(force=True), Step(1), STEPPING)
    assert pending(log.snapshot(force=True)) == STEPPING
    append(folder, next_moment)
    assert pending(log.snapshot(force=True)) is None
    give_order(log.snapshot(force=True), Pause(), "pausing…")
    append(folder, next_moment)
    assert pending(log.snapshot(force=True)) == "pausing…", "steps that go on do not answer it"
