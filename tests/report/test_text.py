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
        assert made.startswith("<math "), tex
        ElementTree.fromstring(made)


@pytest.mark.parametrize(
    ("tex", "made"),
    [
        (r"\frac12", "<mfrac><mn>1</mn><mn>2</mn></mfrac>"),
        (r"x_i^2", "<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup>"),
        (r"a - b", "<mi>a</mi><mo>−</mo><mi>b</mi>"),
        (r"\eta", "<mi>η</mi>"),
        (r"\{a\}", '<mo stretchy="false">{</mo><mi>a</mi><mo stretchy="false">}</mo>'),
    ],
)
def test_formulas(tex, made):
    assert mathml(tex) == f'<math display="inline"><mrow>{made}</mrow></math>'


@pytest.mark.parametrize("tex", [r"\unheard{x}", "{", "x_", r"a}b", r"\frac1", r"x_\unheard"])
def test_what_is_not_understood_is_shown_as_it_is_written(tex):
    assert mathml(tex) == f"<code>{tex}</code>"


@pytest.mark.parametrize(
    "tex",
    [
        r"\href{javascript:alert(1)}{x}",
        r"\style{background:url(//x.example)}{x}",
        r"\class{plot}{x}",
        r"\text{<script>alert(1)</script>}",
        r"\text{<mi onclick='alert(1)'>x</mi>}",
        r"\text{<mi>x</mi><!-- ]]> -->}",
        r"\text{&amp;<img src=x>}",
    ],
)
def test_a_formula_makes_no_markup(tex):
    made = mathml(tex)
    assert not re.search(r"<(?!/?(code|m[a-z]+)\b)", made)
    assert not re.search(r"<[^>]*\b(href|style|class|on\w+)=", made)


def test_markup_in_a_text_is_text():
    said = inline("<script>x</script> **bold** *soft* `<b>` $<$ [a](http://x) ![i](http://x) <http://x> &amp; \\*no\\*")
    assert "<strong>bold</strong>" in said and "<em>soft</em>" in said and "*no*" in said
    assert "<code>&lt;b&gt;</code>" in said and "<mo>&lt;</mo>" in said
    assert not re.search(r"<(script|a|img)\b", said), "a name became markup"
    assert "[a](http://x) ![i](http://x) &lt;http://x&gt; &amp;amp;" in said


def test_paragraphs_lists_and_indented_formulas():
    assert re.sub(r"\n", "", html_of("one\n\n- a\n- b")) == "<p>one</p><ul><li>a</li><li>b</li></ul>"
    assert html_of("one\n\n    R[i, j] < 1") == "<p>one</p>\n<pre><code>R[i, j] &lt; 1\n</code></pre>"
    assert html_of("# a\n> b\n| c |") == "<p># a\n&gt; b\n| c |</p>", "headings, quotes and tables are text"
