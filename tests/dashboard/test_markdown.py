"""Text from runs in Markdown: nothing in it is markup. What Streamlit makes of the rest, only a browser shows
(`tests/browser/test_names.py`)."""

from __future__ import annotations

import re

import pytest

from dashboard.markdown import code, literal, sentence, without_links

HOSTILE = (
    "![](https://x.example/y)",
    "[a](https://x.example)",
    "see http://x.example/y",
    "www.x.example",
    "a@x.example",
)
AUTOMATIC = re.compile(r"https?://|www\.|\w@\w|:material/", re.IGNORECASE)  # of which Streamlit makes links and icons


@pytest.mark.parametrize("text", [*HOSTILE, ":material/home: and :red[x]", "<b>x</b> &amp; $x$ **y** `z`"])
def test_a_name_stays_the_name_it_is(text):
    for made in (literal(text), sentence(text)):
        assert not re.search(r"(?<!\\)[\[\]()<>`*$&]", made) and not AUTOMATIC.search(made)
        shown = re.sub(r"\\(.)", r"\1", made).replace("\N{WORD JOINER}", "")
        assert shown.lower().startswith(text.lower())
    assert "`" not in code(text)[1:-1]


@pytest.mark.parametrize("text", HOSTILE)
def test_our_own_markdown_stays_and_a_name_in_it_makes_no_link(text):
    made = without_links(f"*Nullity*: `a[i](x)` and $a[i](x)$, over {text}.\n\n- one")
    assert made.startswith("*Nullity*: `a[i](x)` and $a[i](x)$, over ") and made.endswith("\n\n- one")
    assert not AUTOMATIC.search(made) and not re.search(r"(?<!\\)!\[|\]\(", made.split("over ")[1])
    assert without_links("`http://x.example`") == "`http://x.example`"


@pytest.mark.parametrize("text", ["res.csv has no rows", "prompt_rate must be positive", "runs/mine is taken"])
def test_a_sentence_begins_with_a_capital_but_a_file_or_a_setting_keeps_its_spelling(text):
    assert re.sub(r"\\(.)", r"\1", sentence(text)) == f"{text}."
    assert sentence("the disk is full") == "The disk is full."
