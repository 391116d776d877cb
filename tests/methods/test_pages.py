"""Every method has its page, and pages name files that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "methods").glob("*.md"))
SOURCES = {path.name for folder in ("cl_core", "bench") for path in (ROOT / folder).rglob("*.py")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_a_page_names_are_there(page):
    named = {Path(name).name for name in re.findall(r"`([\w/]+\.py)`", page.read_text("utf-8"))}
    assert named and named <= SOURCES, named - SOURCES


def test_every_method_is_told_on_a_page():
    told = "\n".join(page.read_text("utf-8") for page in PAGES)
    methods = {path.stem for path in (ROOT / "cl_core" / "methods").glob("[a-z]*.py")} - {"method"}
    assert {name for name in methods if f"{name}.py" not in told} == set()
