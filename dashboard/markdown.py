"""Escaping of text from runs, files and URLs in Markdown, so that it never becomes a link or an image.

Backslashes do not suffice: after parsing, Streamlit turns URLs into links and `:names:` into icons. An invisible word
joiner breaks these patterns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

FIRST = re.compile(r"([.!?])\s+(?=[A-Z])")  # end of the first sentence of a caption

_JOINER = "\N{WORD JOINER}"
_AUTOMATIC = re.compile(r":(?=[/\w])|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)
_SIGNS = re.compile(r"[\\`*_{}\[\]()<>#+!|~$:&]")
_AS_WRITTEN = re.compile(r"(`[^`\n]*`|\$[^$\n]*\$)")
_NAME = re.compile(r"\S*[./_]\S")
_MARKUP = re.compile(r"(?<=\])[(\[:]|!(?=\[)|<(?=[/!\w])")


def code(text: Any) -> str:
    """Return `text` as inline code."""
    return "`" + str(text).replace("`", "'").replace("\n", " ") + "`"


def literal(text: Any) -> str:
    """Escape `text` for use in a sentence."""
    return _SIGNS.sub(r"\\\g<0>", _apart(str(text).replace("\n", " ")))


def sentence(text: Any) -> str:
    """Format a message of the store or a worker as a sentence."""
    words = str(text).strip()
    if not _NAME.match(words):  # a file, a path or a setting keeps its spelling
        words = words[:1].upper() + words[1:]
    return literal(words) + ("" if words.endswith((".", "!", "?")) else ".")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of cells that already are Markdown."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "∣") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def without_links(markdown: str) -> str:
    """Neutralise links and images in our own Markdown (emphasis, code, formulas, lists) with names of a run in it."""
    parts = _AS_WRITTEN.split(markdown)
    parts[::2] = [_MARKUP.sub(r"\\\g<0>", _apart(part)) for part in parts[::2]]
    return "".join(parts)


def _apart(text: str) -> str:
    """Insert a word joiner into text that would become a link or an icon."""
    return _AUTOMATIC.sub(lambda found: found[0] + _JOINER, text)
