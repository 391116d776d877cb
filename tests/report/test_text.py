"""Markdown and formulas of figures as HTML."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import dashboard.figures
from dashboard.report.formulas import mathml
from dashboard.report.text import html_of, inline


def written_formulas():
    """Every formula in the sources of the figures; what is filled in there stands as X."""
    found = set()
    for file in Path(dashboard.figures.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(v.value) if isinstance(v, ast.Constant) else "X" for v in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            found |= set(re.findall(r"\$([^$\n]+)\$", text))
    return sorted(found)


def test_every_formula_that_figures_write_becomes_well_formed_mathml():
    formulas = written_formulas()
    assert len(formulas) > 100
    for tex in formulas:
        made = mathml(tex)
        assert made.startswith("<math>"), tex
        ElementTree.fromstring(made)


@pytest.mark.parametrize(
    ("tex", "made"),
    [
        (r"\frac12", "<mfrac><mn>1</mn><mn>2</mn></mfrac>"),
        (r"x_i^2", "<msubsup><mi>x</mi><mrow><mi>i</mi></mrow><mrow><mn>2</mn></mrow></msubsup>"),
        (r"\sqrt{k}", "<msqrt><mrow><mi>k</mi></mrow></msqrt>"),
        (r"k'", "<msup><mi>k</mi><mrow><mo>′</mo></mrow></msup>"),
        (r"a - b", "<mi>a</mi><mo>−</mo><mi>b</mi>"),
        (r"\mathrm{tr}\,C", '<mi mathvariant="normal">tr</mi><mspace width="0.17em"></mspace><mi>C</mi>'),
    ],
)
def test_formulas(tex, made):
    assert mathml(tex) == f"<math>{made}</math>"


@pytest.mark.parametrize("tex", [r"\unheard{x}", "{", "x_", r"a}b", r"\frac1"])
def test_what_is_not_understood_is_shown_as_it_is_written(tex):
    assert mathml(tex).startswith("<code>")


def test_markup_in_a_text_is_text():
    said = inline("<script>x</script> **bold** *soft* `<b>` $<$ [a](http://x) \\*no\\*")
    assert "<script" not in said and "<strong>bold</strong>" in said and "<em>soft</em>" in said
    assert "<code>&lt;b&gt;</code>" in said and "<mo>&lt;</mo>" in said and "*no*" in said and "href" not in said


def test_paragraphs_and_lists():
    assert html_of("one\ntwo\n\n- a\n- b") == "<p>one two</p>\n<ul><li>a</li><li>b</li></ul>"
