"""Access control of the server: only pages from its own address, and, with a code, only users who know the code.

By default the server listens only on this machine, but every page in a browser on it can send requests to it. Pages
from other addresses are recognised by two headers: `Host` is the name that the browser used (a foreign name that
resolves to this machine is refused), `Origin` the requesting page. Websockets, which carry all content and input, need
both.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from dashboard import changes

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
REFUSED = 4403  # close code of a websocket; before it is accepted, the browser sees 403

_code = ""
_base = ""


def require_code(code: str) -> None:
    """Require `code` from now on; "" = allow everybody on this machine."""
    global _code
    _code = code


def serve_at(base: str) -> None:
    """Set the address at which others reach this server, as in "http://192.0.2.5:8501/"; "" if they cannot."""
    global _base
    _base = base


def invitation(path: str, query: Mapping[str, str]) -> str:
    """Return a page's address for others, with the code if one is required; "" if they cannot reach this server."""
    if not _base:
        return ""
    asked = {**query, **({"code": _code} if _code else {})}
    return f"{_base}{path}" + (f"?{urlencode(asked)}" if asked else "")


class Guard:
    """Middleware in front of all routes of the server."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        ours = own_addresses(scope.get("server"))
        if (reason := foreign(headers, ours, websocket=scope["type"] == "websocket")) is not None:
            await _refuse(scope, receive, send, reason)
            return
        if changes.viewing() and scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            await _refuse(scope, receive, send, changes.REFUSED)  # an upload
            return
        port = (scope.get("server") or ("", 0))[1]
        if not _code or _known(headers.get("cookie", ""), port):
            await self.app(scope, receive, send)
            return
        asked = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in asked if name == "code"]
        if scope["type"] == "http" and scope["method"] == "GET" and given and _equal(given[-1]):
            rest = urlencode([(name, value) for name, value in asked if name != "code"])
            answer = RedirectResponse("/" + scope["path"].lstrip("/") + (f"?{rest}" if rest else ""), 303)
            answer.set_cookie(_cookie(port), _code, httponly=True, samesite="lax")
            await answer(scope, receive, send)
            return
        await _refuse(scope, receive, send, "this server was started with a code; open the address that it printed")


def own_addresses(server: tuple[str, int | None] | None) -> set[str]:
    """Return the valid `Host` values: address and port at which the connection arrived."""
    host, port = server or ("", None)
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    names = {*(LOOPBACK if local else ()), f"[{host}]" if ":" in host else host}
    return {f"{name}:{port}" for name in names} | (names if port == 80 else set())


def foreign(headers: dict[str, str], ours: set[str], *, websocket: bool) -> str | None:
    """Return why a request is refused, or None. `headers`: lower-case names."""
    if headers.get("host", "").lower() not in ours:
        return "this server answers under its own address only"
    origin = headers.get("origin")
    if origin is None:
        return "a websocket needs an Origin" if websocket else None
    if origin.lower() not in {f"http://{name}" for name in ours}:
        return "this server answers its own pages only"
    return None


def _cookie(port: int | None) -> str:
    return f"plastiscope-{port}"  # cookies are shared by all ports of an address


def _known(header: str, port: int | None) -> bool:
    try:
        found = SimpleCookie(header).get(_cookie(port))
    except CookieError:
        return False
    return found is not None and _equal(found.value)


def _equal(given: str) -> bool:
    return hmac.compare_digest(given.encode(), _code.encode())


async def _refuse(scope: Scope, receive: Receive, send: Send, reason: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": REFUSED, "reason": reason})
        return
    await PlainTextResponse(f"Refused: {reason}.\n", 403)(scope, receive, send)
