"""TeX as the figures write it → MathML, which browsers draw by themselves: the report needs no formula library.

Only what *How is this computed?* uses; what is not known here is shown as it is written.
"""

from __future__ import annotations

import re
from html import escape

_LETTERS = {
    "Delta": "Δ", "Pi": "Π", "alpha": "α", "epsilon": "ε", "eta": "η", "lambda": "λ", "mu": "μ", "pi": "π",
    "rho": "ρ", "sigma": "σ", "theta": "θ", "tau": "τ", "beta": "β", "gamma": "γ", "delta": "δ", "Sigma": "Σ",
    "Lambda": "Λ", "omega": "ω", "phi": "φ", "ell": "ℓ",
}  # fmt: skip
_SIGNS = {
    "cdot": "·", "le": "≤", "ge": "≥", "ne": "≠", "in": "∈", "odot": "⊙", "wedge": "∧", "vee": "∨", "top": "⊤",
    "times": "×", "to": "→", "infty": "∞", "approx": "≈", "pm": "±", "ll": "≪", "dots": "…", "mid": "|",
    "{": "{", "}": "}", "#": "#", "|": "‖", "%": "%",
}  # fmt: skip
_WORDS = {"min", "max", "cos", "sin", "exp", "ln", "log", "arg", "mean", "tr"}
_SPACES = {",": "0.17em", ";": "0.28em", " ": "0.3em", "!": "0em", "quad": "1em"}
_OVER = {"overline": "¯", "bar": "¯", "hat": "^", "tilde": "~"}
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|\s+|.", re.DOTALL)
_FENCES, _FIXED = set("()[]|‖{}"), ' stretchy="false"'


def mathml(tex: str) -> str:
    """A formula as MathML; as code if it holds what this cannot read."""
    try:
        tokens = [t for t in _TOKEN.findall(tex) if not t.isspace()]
        parts, rest = _row(tokens)
        if rest:
            raise ValueError(f"unbalanced braces in {tex!r}")
    except (ValueError, IndexError):
        return f"<code>{escape(tex)}</code>"
    return f"<math>{''.join(parts)}</math>"


def _row(tokens: list[str]) -> tuple[list[str], list[str]]:
    """Elements up to a closing brace or the end, and what is left behind it."""
    parts: list[str] = []
    while tokens and tokens[0] != "}":
        base, tokens = _atom(tokens)
        below = above = ""
        while tokens and tokens[0] in ("_", "^", "'"):
            if tokens[0] == "'":
                above, tokens = above + "<mo>′</mo>", tokens[1:]
                continue
            sign = tokens[0]
            made, tokens = _argument(tokens[1:])
            if sign == "_":
                below += made
            else:
                above += made
        parts.append(_scripts(base, below, above))
    return parts, tokens


def _scripts(base: str, below: str, above: str) -> str:
    if below and above:
        return f"<msubsup>{base}<mrow>{below}</mrow><mrow>{above}</mrow></msubsup>"
    if below:
        return f"<msub>{base}<mrow>{below}</mrow></msub>"
    return f"<msup>{base}<mrow>{above}</mrow></msup>" if above else base


def _atom(tokens: list[str]) -> tuple[str, list[str]]:
    """One element and what follows it."""
    token, rest = tokens[0], tokens[1:]
    if token == "{":
        parts, rest = _row(rest)
        return f"<mrow>{''.join(parts)}</mrow>", rest[1:] if rest else _missing("}")
    if token in ("}", "_", "^"):
        raise ValueError(f"{token} has nothing to belong to")
    if token.startswith("\\"):
        return _command(token[1:], rest)
    if token[0].isdigit():
        return f"<mn>{token}</mn>", rest
    if token.isalpha():
        return f"<mi>{escape(token)}</mi>", rest
    return _sign("−" if token == "-" else token), rest


def _argument(tokens: list[str]) -> tuple[str, list[str]]:
    """What a command or script takes: one element; of a number without braces its first digit, as in \\frac12."""
    if tokens[0][0].isdigit() and len(tokens[0]) > 1:
        return f"<mn>{tokens[0][0]}</mn>", [tokens[0][1:], *tokens[1:]]
    return _atom(tokens)


def _command(name: str, rest: list[str]) -> tuple[str, list[str]]:
    if name in _SPACES:
        return f'<mspace width="{_SPACES[name]}"></mspace>', rest
    if name in ("frac", "sqrt", *_OVER):
        first, rest = _argument(rest)
        if name == "sqrt":
            return f"<msqrt>{first}</msqrt>", rest
        if name in _OVER:
            return f'<mover accent="true">{first}<mo stretchy="true">{_OVER[name]}</mo></mover>', rest
        second, rest = _argument(rest)
        return f"<mfrac>{first}{second}</mfrac>", rest
    if name in ("mathrm", "text", "operatorname"):
        if not rest or rest[0] != "{" or "}" not in rest:
            return _missing("{…}"), rest
        end = rest.index("}")
        return f'<mi mathvariant="normal">{escape("".join(rest[1:end]))}</mi>', rest[end + 1 :]
    if name == "sum":
        return "<mo>∑</mo>", rest
    if name in _WORDS:
        apart = rest[:1] and rest[0] not in ("_", "^", "(", "\\{", "\\|", "\\,", "\\ ", "}")
        return f'<mi mathvariant="normal">{name}</mi>' + ('<mspace width="0.17em"></mspace>' if apart else ""), rest
    if name in _LETTERS:
        return f"<mi>{_LETTERS[name]}</mi>", rest
    if name in _SIGNS:
        return _sign(_SIGNS[name]), rest
    raise ValueError(f"\\{name} is not known")


def _sign(sign: str) -> str:
    return f"<mo{_FIXED if sign in _FENCES else ''}>{escape(sign)}</mo>"


def _missing(what: str) -> str:
    raise ValueError(f"{what} is missing")
