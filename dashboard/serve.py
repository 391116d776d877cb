"""Serve the dashboard on this machine until Ctrl-C. Workers are separate processes and continue."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from dashboard import changes, guard

HOST = "127.0.0.1"
EVERYWHERE = ("0.0.0.0", "::")
FIRST_PORT = 8501  # tried first if no port is given
# Modules loaded ahead.
FIGURES = ("matrix_table", "catalogue")
SETTINGS: dict[str, object] = {  # passed in code, so that configuration files in the working folder cannot weaken them
    "server.address": HOST,
    "server.headless": True,
    "server.allowedHosts": ["localhost", HOST],
    "server.enableCORS": True,
    "server.enableXsrfProtection": True,
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": False,
    "client.toolbarMode": "viewer",
    "client.showErrorDetails": "type",
    "client.showErrorLinks": False,
    "runner.postScriptGC": False,  # a full collection after each refresh costs 15 % of a core
    "runner.magicEnabled": False,
    "logger.hideWelcomeMessage": True,  # `serve` prints the address itself
}


def settings() -> dict[str, object]:
    """Return Streamlit's settings: those of the bundled configuration file, overridden by the above."""
    beside = Path(__file__).resolve().parent  # an installed wheel has the file here, a checkout one level up
    for file in (beside / ".streamlit" / "config.toml", beside.parent / ".streamlit" / "config.toml"):
        if file.is_file():
            return {**_flat(tomllib.loads(file.read_text("utf-8"))), **SETTINGS}
    return dict(SETTINGS)


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, object]:
    """Flatten nested tables to dotted names."""
    found: dict[str, object] = {}
    for key, value in table.items():
        found.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return found


def serve(
    runs: Path,
    *,
    port: int | None = None,
    browser: bool = True,
    start: str | None = None,
    code: str = "",
    host: str = HOST,
    view_only: bool = False,
) -> int:
    """Serve the pages for the runs below `runs`; return an exit status.

    Args:
        runs: folder of runs; it need not exist yet.
        port: None = the first free one from 8501.
        browser: whether to open a browser tab when the server answers.
        start: name of the run to show first.
        code: required in the address; "" = allow everybody who reaches the server.
        host: address to listen on; a loopback address cannot be reached from other machines.
        view_only: refuse all changes on this machine.
    """
    if not _reaches(host):
        print(f"this machine has no address {host}; name one of its own with --host", file=sys.stderr)
        return 1
    chosen = free_port(host=host) if port is None else port
    if port is not None and not _free(port, host):
        print(f"port {port} is taken; choose another with --port or leave it out", file=sys.stderr)
        return 1
    os.environ["PLASTISCOPE_RUNS"] = str(Path(runs).expanduser().resolve())
    asked = {name: value for name, value in (("code", code), ("run", start)) if value}
    named = own_addresses(host)
    url = f"http://{_in_url(named[0])}:{chosen}/" + (f"?{urlencode(asked)}" if asked else "")
    guard.require_code(code)
    guard.serve_at(f"http://{_in_url(named[0])}:{chosen}/" if host != HOST else "")
    changes.view_only(view_only)

    from dashboard.app import app

    # Imported here, because Streamlit's import creates Plotly objects, and Plotly fails while a thread imports pandas.
    threading.Thread(target=_greet, args=(url, host, chosen, browser), daemon=True).start()
    # Streamlit resolves relative names against this file.
    arguments, sys.argv = sys.argv, [str(Path(__file__).with_name("app.py"))]
    try:
        found = settings() | {"server.port": chosen, "server.address": host}
        app.run(config=found | {"server.allowedHosts": list(dict.fromkeys(["localhost", HOST, *named]))})
    except KeyboardInterrupt:
        pass
    finally:
        sys.argv = arguments
    return 0


def own_addresses(host: str) -> list[str]:
    """Return this machine's addresses for a server that listens on `host`, the most likely first."""
    if host not in EVERYWHERE:
        return [host]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.suppress(OSError):
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None, family)]
        if outside := [
            address for address in dict.fromkeys(found) if not address.startswith("127.") and address != "::1"
        ]:
            return outside
    return [HOST]


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _reaches(host: str) -> bool:
    """Return whether `host` is an address of this machine."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def free_port(first: int = FIRST_PORT, tries: int = 50, host: str = HOST) -> int:
    """Return the first unused port from `first`."""
    for port in range(first, first + tries):
        if _free(port, host):
            return port
    raise OSError(f"no free port between {first} and {first + tries - 1}; name one with --port")


def _free(port: int, host: str = HOST) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _risk(*, code: bool) -> str:
    """Return a warning about what others who reach this server can do."""
    who = (
        "whoever has the code"
        if code
        else "anyone who can reach this address; --code restricts access to visitors with a code"
    )
    may = "look at your runs" if changes.viewing() else "start, stop and delete your runs; --view-only prevents that"
    return f"It answers {who}. They may {may}. Traffic is not encrypted."


def _load_ahead() -> None:
    """Import what pages need and read the recordings in advance; while a browser loads, this takes much longer."""
    for name in ("pandas", "pyarrow", *(f"dashboard.figures.{part}" for part in FIGURES)):
        with contextlib.suppress(ImportError):  # reported by the page that needs it
            importlib.import_module(name)
    with contextlib.suppress(Exception):  # a page reads them again and reports the error
        from dashboard.run_log import log_of
        from dashboard.runs import runs_index, summary

        for folder in runs_index().recordings.values():
            log_of(folder).advance()
            summary(folder)


def _greet(url: str, host: str, port: int, browser: bool) -> None:
    """Print the dashboard's address and open it, as soon as it answers and is warmed up."""
    _load_ahead()
    for _ in range(300):
        try:
            at = HOST if host == "0.0.0.0" else "::1" if host == "::" else host
            with urllib.request.urlopen(f"http://{_in_url(at)}:{port}/_stcore/health", timeout=1):
                break
        except urllib.error.HTTPError:  # it answers, but requires a code
            break
        except OSError:
            time.sleep(0.1)
    print(f"Plastiscope is at {url}  (Ctrl-C stops it; training continues)", flush=True)
    if host != HOST:
        print(_risk(code="code=" in url), flush=True)
    if browser:
        webbrowser.open(url)
