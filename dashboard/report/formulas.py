"""Conversion of TeX formulas to MathML, which browsers render without a library."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from functools import lru_cache
from html import escape

from latex2mathml.converter import convert

_ARGUMENTS = {"mfrac": 2, "msub": 2, "msup": 2, "mover": 2, "munder": 2, "msubsup": 3, "munderover": 3}
ELEMENTS = {"math", "mrow", "mi", "mo", "mn", "mtext", "mspace", "msqrt", *_ARGUMENTS}
ATTRIBUTES = {"display", "mathvariant", "stretchy", "fence", "accent", "width"}


@lru_cache(maxsize=512)
def mathml(tex: str) -> str:
    """Return a formula as a `<math>` element of allowed elements and attributes, or as code if it has others.

    latex2mathml copies unknown commands and text within `\\text{}` unchanged. So its output is parsed, checked and
    serialised again; formulas that are malformed, not allowed or not understood are shown as source.
    """
    try:
        root = ElementTree.fromstring(convert(tex, xmlns=""))
    except Exception:  # the converter raises many exception classes, including IndexError
        return f"<code>{escape(tex)}</code>"
    root.attrib.pop("xmlns", None)
    if not all(_allowed(element) for element in root.iter()):
        return f"<code>{escape(tex)}</code>"
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _allowed(element: ElementTree.Element) -> bool:
    return (
        element.tag in ELEMENTS
        and element.attrib.keys() <= ATTRIBUTES
        and len(element) == _ARGUMENTS.get(element.tag, len(element))
        and not (element.tag == "mi" and (element.text or "").startswith(("\\", "}")))  # unknown command, stray brace
    )
