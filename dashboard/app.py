"""The web application: the pages and the plot library of their figures. `streamlit run` finds `app` here."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

if str(Path(__file__).resolve().parents[1]) not in sys.path:  # started by path from a checkout
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dashboard.guard import Guard


def plot_library() -> Path:
    """Return the path of plotly.js in Plotly's Python package."""
    from importlib.util import find_spec

    found = find_spec("plotly")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / "package_data" / "plotly.min.js"


async def send_plot_library(request: Request) -> FileResponse:
    return FileResponse(plot_library(), media_type="text/javascript", headers={"Cache-Control": "max-age=86400"})


app = st.App(
    Path(__file__).resolve().parent / "entry" / "navigation.py",
    routes=[Route("/live/plotly.min.js", send_plot_library)],
    middleware=[Middleware(Guard)],
)
