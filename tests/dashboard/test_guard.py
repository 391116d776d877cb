"""Requests of other addresses are refused, whatever they ask for; with a code, everybody without it."""

from __future__ import annotations

import pytest

from dashboard import changes, guard
from dashboard.guard import Guard


async def everything(scope, receive, send):
    """An application that answers all."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"secret"})


def ask(kind="http", server=("127.0.0.1", 8501), path="/", query=b"", method="GET", **headers):
    """(status or websocket message, headers) of one request."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b""}

    scope = {
        "type": kind,
        "server": server,
        "path": path,
        "query_string": query,
        "method": method,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    with pytest.raises(StopIteration):  # nothing here waits; an event loop may be running already, a browser test's
        Guard(everything)(scope, receive, send).send(None)
    return sent[0].get("status", sent[0]["type"]), dict(sent[0].get("headers", ()))


OWN = "127.0.0.1:8501"


@pytest.mark.parametrize("host", [OWN, "localhost:8501", "LOCALHOST:8501", "[::1]:8501"])
def test_its_own_pages_are_answered(host):
    assert ask(host=host)[0] == 200
    assert ask(host=host, origin=f"http://{host}")[0] == 200
    assert ask("websocket", host=host, origin=f"http://{host}")[0] == "websocket.accept"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8501", "127.0.0.1:8502", "127.0.0.1", "", "10.0.0.1:8501"]
)
@pytest.mark.parametrize("path", ["/", "/_stcore/health", "/live/plotly.min.js"])
def test_another_host_is_refused_on_every_path(host, path):
    assert ask(host=host, path=path)[0] == 403
    assert ask("websocket", host=host, origin=f"http://{OWN}")[0] == "websocket.close"


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://localhost:3000", "http://127.0.0.1:8502", "https://127.0.0.1:8501", "null"],
)
def test_another_origin_is_refused(origin):
    assert ask(host=OWN, origin=origin)[0] == 403
    assert ask("websocket", host=OWN, origin=origin)[0] == "websocket.close"


def test_a_websocket_without_an_origin_is_refused():
    assert ask("websocket", host=OWN)[0] == "websocket.close"


def test_a_server_on_another_address_is_called_by_that_address():
    there = {"server": ("192.168.1.5", 80), "host": "192.168.1.5"}
    assert ask(**there)[0] == 200 and ask(**{**there, "host": "localhost"})[0] == 403


def test_with_a_code_only_who_was_given_it_is_answered(monkeypatch):
    monkeypatch.setattr(guard, "_code", "s3cret")
    assert ask(host=OWN)[0] == 403 and ask(host=OWN, query=b"code=other")[0] == 403
    assert ask("websocket", host=OWN, origin=f"http://{OWN}")[0] == "websocket.close"
    status, headers = ask(host=OWN, path="/learn", query=b"code=s3cret&run=a%26b")
    assert status == 303 and headers[b"location"] == b"/learn?run=a%26b"
    cookie = headers[b"set-cookie"].decode()
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie
    kept = cookie.split(";")[0]
    assert ask(host=OWN, cookie=kept)[0] == 200
    assert ask("websocket", host=OWN, origin=f"http://{OWN}", cookie=kept)[0] == "websocket.accept"
    assert ask(host="127.0.0.1:8502", server=("127.0.0.1", 8502), cookie=kept)[0] == 403, "another server's code"
    assert ask(host="evil.example", cookie=kept)[0] == 403


def test_a_redirect_stays_on_the_server(monkeypatch):
    monkeypatch.setattr(guard, "_code", "s3cret")
    assert ask(host=OWN, path="//evil.example/", query=b"code=s3cret")[1][b"location"] == b"/evil.example/"


def test_the_application_stands_behind_the_guard():
    from dashboard.app import app

    assert any(layer.cls is Guard for layer in app._user_middleware)


def test_an_address_of_its_own_is_answered_and_an_upload_to_a_viewers_server_is_not(monkeypatch):
    lan = ("192.0.2.5", 8501)
    assert ask(server=lan, host="192.0.2.5:8501")[0] == 200
    assert ask(server=lan, host="127.0.0.1:8501")[0] == 403
    assert ask(server=("127.0.0.2", 8501), host="127.0.0.2:8501")[0] == 200
    monkeypatch.setattr(changes, "_viewing", True)
    assert ask(host=OWN)[0] == 200
    for method in ("POST", "PUT", "DELETE"):
        assert ask(host=OWN, method=method, path="/_stcore/upload_file/1")[0] == 403
