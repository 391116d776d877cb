"""What a page under test says."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

PAGES = ("start", "run", "questions", "spectra", "attention", "pools", "gap", "forgetting", "whatif", "compare")


def words(app: AppTest) -> str:
    """All that the page says, as one text."""
    kinds = ("markdown", "caption", "error", "warning", "info", "success", "code", "metric")
    return "\n".join(f"{getattr(e, 'label', '')} {e.value}" for kind in kinds for e in getattr(app, kind))


def foot(app: AppTest):
    """The bar at the foot of the page. AppTest lists the main area alone; this is the block beside it."""
    return app._tree.children[3]
