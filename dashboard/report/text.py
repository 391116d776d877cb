"""What figures say of themselves (a little Markdown with formulas) as HTML. All else in it is text: nothing from a run
becomes markup."""

from __future__ import annotations

import re
from html import escape

from dashboard.report.formulas import mathml

_KEPT = re.compile(r"\$(?P<tex>[^$\n]+)\$|`(?P<code>[^`\n]+)`")
_LOOKS = (
    (re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*"), r"<strong>\1</strong>"),
    (re.compile(r"(?<!\*)\*(?=\S)(.+?)(?<=\S)\*(?!\*)"), r"<em>\1</em>"),
)
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()<>#+!|~$:-])")


def html_of(markdown: str) -> str:
    """Paragraphs and lists, **bold**, *emphasis*, `code` and $formulas$; no links, no pictures, no HTML."""
    blocks = []
    for block in re.split(r"\n\s*\n", markdown.strip()):
        lines = block.splitlines()
        if lines and all(line.lstrip().startswith("- ") for line in lines):
            items = "".join(f"<li>{inline(line.lstrip()[2:])}</li>" for line in lines)
            blocks.append(f"<ul>{items}</ul>")
        else:
            blocks.append(f"<p>{inline(' '.join(lines))}</p>")
    return "\n".join(blocks)


def inline(markdown: str) -> str:
    """The same within a line."""
    kept: list[str] = []

    def keep(html: str) -> str:
        kept.append(html)
        return f"\0{len(kept) - 1}\0"

    text = markdown.replace("\0", "")
    text = _KEPT.sub(lambda m: keep(mathml(m["tex"]) if m["tex"] else f"<code>{escape(m['code'])}</code>"), text)
    text = escape(_ESCAPED.sub(lambda m: keep(escape(m[1])), text))
    for pattern, look in _LOOKS:
        text = pattern.sub(look, text)
    return re.sub("\0(\\d+)\0", lambda m: kept[int(m[1])], text)
