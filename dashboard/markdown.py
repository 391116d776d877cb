"""Text from runs, files and URLs inside Markdown: in pages it goes through here and never becomes a link or an image.

A backslash alone does not do: after it has parsed the text, Streamlit makes links of addresses and icons of `:names:`
in what is left. There a word joiner, which is not seen, breaks the pattern.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

FIRST = re.compile(r"([.!?])\s+(?=[A-Z])")  # where the first sentence of a caption ends

_JOINER = "\N{WORD JOINER}"
_AUTOMATIC = re.compile(r":(?=[/\w])|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)
_SIGNS = re.compile(r"[\\`*_{}\[\]()<>#+!|~$:&]")
_AS_WRITTEN = re.compile(r"(`[^`\n]*`|\$[^$\n]*\$)")
_NAME = re.compile(r"\S*[./_]\S")
_MARKUP = re.compile(r"(?<=\])[(\[:]|!(?=\[)|<(?=[/!\w])")


def code(text: Any) -> str:
    """`text` as code."""
    return "`" + str(text).replace("`", "'").replace("\n", " ") + "`"


def literal(text: Any) -> str:
    """`text` as it is, inside a sentence."""
    return _SIGNS.sub(r"\\\g<0>", _apart(str(text).replace("\n", " ")))


def sentence(text: Any) -> str:
    """A message of the store or a worker as a sentence of the page."""
    words = str(text).strip()
    if not _NAME.match(words):  # a file, a path or a setting keeps its spelling
        words = words[:1].upper() + words[1:]
    return literal(words) + ("" if words.endswith((".", "!", "?")) else ".")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "∣") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def without_links(markdown: str) -> str:
    """Our own Markdown (emphasis, code, formulas, lists) with names from a run in it: links and images become text."""
    parts = _AS_WRITTEN.split(markdown)
    parts[::2] = [_MARKUP.sub(r"\\\g<0>", _apart(part)) for part in parts[::2]]
    return "".join(parts)


def _apart(text: str) -> str:
    """What would be taken for an address or an icon, with a word joiner in it."""
    return _AUTOMATIC.sub(lambda found: found[0] + _JOINER, text)
