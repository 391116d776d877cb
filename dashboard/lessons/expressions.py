"""Text with facts in it: Jinja's `{{ … }}` and `{% if … %}`, of which a lesson may use calls of facts, comparisons and
arithmetic, and nothing else. A lesson can come from anybody: it reaches no attribute, no loop and no file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dashboard.lessons.facts import FACTS, Number
from dashboard.markdown import literal
from dashboard.run_log import Snapshot

ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.Name, nodes.Const, nodes.Call, nodes.Keyword,
    nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.Neg,
    nodes.CondExpr,
)  # fmt: skip
_SIGNS = {nodes.Getattr: ".", nodes.Getitem: "[ ]", nodes.Filter: "|", nodes.For: "for", nodes.Pow: "**"}


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset("*+")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if not all(isinstance(value, (int, float)) for value in (left, right)):
            raise LookupError(f"{operator} is for numbers")
        return super().call_binop(context, operator, left, right)


class Text:
    """Markdown with facts. Raises SyntaxError (with `lineno`) for what it does not understand."""

    def __init__(self, source: str, line: int, runs: tuple[str, ...]) -> None:
        self.source, self.line, self._runs = source, line, runs
        _check(source, line, runs)

    def filled(self, runs: Mapping[str, Snapshot]) -> str:
        """The Markdown. Raises LookupError where a run does not have a fact."""
        return str(_environment().from_string(self.source).render(_context(runs)))

    def __bool__(self) -> bool:
        return bool(self.source)


class Expression:
    """A condition or a number, `forgetting(plain) > 10`."""

    def __init__(self, source: str, line: int, runs: tuple[str, ...]) -> None:
        self.source, self.line = source, line
        _check("{{ " + source + " }}", line, runs)

    def value(self, runs: Mapping[str, Snapshot]) -> Any:
        """Raises LookupError where a run does not have a fact."""
        return _environment().compile_expression(self.source, undefined_to_none=False)(**_context(runs))


def expressions(source: str) -> list[str]:
    """What stands between `{{` and `}}` in a text."""
    found, tokens = [], list(_environment().lex(source))
    for place, (_, kind, _) in enumerate(tokens):
        if kind == "variable_begin":
            end = next(i for i in range(place, len(tokens)) if tokens[i][1] == "variable_end")
            found.append("".join(token for _, _, token in tokens[place + 1 : end]).strip())
    return found


@cache
def _environment() -> _Environment:
    return _Environment(undefined=StrictUndefined, finalize=_printed, autoescape=False, keep_trailing_newline=False)


def _printed(value: Any) -> str:
    """A fact in a text: names from a run are no markup."""
    return str(Number(value)) if type(value) is float else str(value) if not isinstance(value, str) else literal(value)


def _context(runs: Mapping[str, Snapshot]) -> dict[str, Any]:
    return {**{name: _explained(name) for name in FACTS}, **runs}


@cache
def _explained(name: str) -> Any:
    """The fact, whose failures are sentences."""

    def fact(*values: Any, **options: Any) -> Any:
        try:
            return FACTS[name](*values, **options)
        except (TypeError, ValueError, IndexError, AttributeError, KeyError) as error:
            raise LookupError(f"{name} cannot be computed ({error}); it takes {_signature(name)}") from error

    return fact


def _signature(name: str) -> str:
    from inspect import signature

    return ", ".join(signature(FACTS[name]).parameters) or "nothing"


def _check(source: str, line: int, runs: tuple[str, ...]) -> None:
    try:
        tree = _environment().parse(source)
    except TemplateSyntaxError as error:
        raise _error(error.message or "this is not understood", line + error.lineno - 1) from error
    for node in tree.find_all(nodes.Node):
        if not isinstance(node, ALLOWED):
            used = next((sign for kind, sign in _SIGNS.items() if isinstance(node, kind)), type(node).__name__)
            raise _error(f"'{used}' cannot be used in a lesson", line + node.lineno - 1)
        if isinstance(node, nodes.Call) and not (isinstance(node.node, nodes.Name) and node.node.name in FACTS):
            name = node.node.name if isinstance(node.node, nodes.Name) else "this"
            raise _error(f"there is no fact '{name}'{near(name, FACTS)}", line + node.lineno - 1)
        if isinstance(node, nodes.Name) and node.name not in (*FACTS, *runs):
            known = near(node.name, (*FACTS, *runs)) or (f"; its runs are {', '.join(runs)}" if runs else "")
            raise _error(f"'{node.name}' is neither a fact nor a run of this lesson{known}", line + node.lineno - 1)


def near(name: str, known: Any) -> str:
    """A hint at a name that is nearly the same, or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{found[0]}'?" if found else ""


def _error(message: str, line: int) -> SyntaxError:
    error = SyntaxError(message)
    error.lineno = line
    return error
