"""Conversion of figure texts (a subset of Markdown, with formulas) to HTML. Nothing from a run becomes markup."""

from __future__ import annotations

from functools import cache

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markupsafe import Markup

from dashboard.report.formulas import mathml

ALLOWED = ("emphasis", "backticks", "escape", "newline", "list", "code")  # no links, images, HTML, entities, headings


def html_of(markdown: str) -> Markup:
    """Convert paragraphs and lists with **bold**, *emphasis*, `code` and $formulas$."""
    return Markup(_parser().render(markdown).strip())


def inline(markdown: str) -> Markup:
    """Convert a single line."""
    return Markup(_parser().renderInline(markdown))


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("zero", {"html": False}).enable(ALLOWED)
    parser.inline.ruler.before("escape", "formula", _formula)
    parser.add_render_rule("formula", lambda self, tokens, index, options, env: mathml(tokens[index].content))
    return parser


def _formula(state: StateInline, silent: bool) -> bool:
    """Rule of markdown-it for inline `$…$`."""
    start = state.pos + 1
    end = state.src.find("$", start)
    if state.src[state.pos] != "$" or end <= start or "\n" in state.src[start:end]:
        return False
    if not silent:
        state.push("formula", "", 0).content = state.src[start:end]
    state.pos = end + 1
    return True
