"""What a page under test says."""

from __future__ import annotations

import re
import time
from typing import Any

from streamlit.testing.v1 import AppTest

from cl_core.store import RunFolder
from dashboard.widgets.liveplot import figure_of
from tests.recording import Moment, append

PAGES = (
    "start",
    "run",
    "questions",
    "spectra",
    "attention",
    "pools",
    "gap",
    "forgetting",
    "measurements",
    "whatif",
    "compare",
    "learn",
    "export",
)


def words(app: AppTest) -> str:
    """All that the page says, as a browser shows it: without the signs that keep names from being markup."""
    kinds = ("markdown", "caption", "error", "warning", "info", "success", "code", "metric")
    return shown("\n".join(f"{getattr(e, 'label', '')} {e.value}" for kind in kinds for e in getattr(app, kind)))


def shown(markdown: str) -> str:
    """Markdown without the signs that keep names from being markup."""
    return re.sub(r"\\([^A-Za-z0-9\s])", r"\1", markdown).replace("\N{WORD JOINER}", "")


def foot(app: AppTest):
    """The bar at the foot of the page. AppTest lists the main area alone; this is the block beside it."""
    return app._tree.children[3]


def drawn(app: AppTest) -> list[dict[str, Any]]:
    """What the browser is given to draw, in the page's order: figures, and what other components show."""
    return [figure_of(e.proto.bytes) for e in app.get("bidi_component") if e.proto.bytes]


def figures(app: AppTest) -> dict[str, dict[str, Any]]:
    """Title → figure, in the page's order."""
    return {f["layout"]["meta"]["title"]: f for f in drawn(app) if "title" in f.get("layout", {}).get("meta", {})}


def opened(app: AppTest, *keys: str) -> AppTest:
    """The page with these of its parts opened."""
    for key in keys:
        app.session_state[key] = True
    app.run()
    assert not app.exception, [e.value for e in app.exception]
    return app


def numbers(app: AppTest) -> dict[str, str]:
    """Label → value of the page's headline numbers."""
    return {m.label: m.value for m in app.metric}


def when_it_says(app: AppTest, folder: RunFolder, *moments: Moment) -> None:
    """Draw the page once more, when the run it shows has said something new."""
    append(folder, *moments)
    time.sleep(0.3)  # longer than a status is good for
    app.run()
    assert not app.exception
