"""A real server on a free port and a real browser. With `E2E_REQUIRED=1` a missing browser is a failure.

One server and one browser profile serve all tests of a worker: `server` points it at the test's own folder of runs, and
`page` is a new tab whose storage is emptied afterwards. `own_server` is for a test that ends its server.
"""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser():
    missing = pytest.fail if os.environ.get("E2E_REQUIRED") else pytest.skip
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed (pip install playwright)")
    wanted = os.environ.get("E2E_CHROMIUM")
    names = (wanted,) if wanted else ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if not program:
        missing("no Chromium on this machine (apt-get install chromium)")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        yield running
        running.close()


@dataclass
class Server:
    """A dashboard that answers at `url`, looking at `runs`."""

    url: str
    runs: Path
    process: subprocess.Popen


@contextmanager
def serving(folder: Path, program: str, host: str = "127.0.0.1") -> Iterator[Server]:
    """A server that looks at `folder`/runs.

    Args:
        folder: where it is started: not the checkout, settings must come from the program and not from its folder.
        program: Python that serves at `port`.
        host: where it listens.
    """
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    runs, log = folder / "runs", folder / "server.log"
    runs.mkdir()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", f"port = {port}\n{program}"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url, end = f"http://{host}:{port}", time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
                break
        except urllib.error.HTTPError:  # it answers, to those with a code
            break
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > end:
                process.kill()
                pytest.fail("the server did not start:\n" + log.read_text("utf-8", "replace")[-2000:])
            time.sleep(0.2)
    yield Server(url, runs, process)
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# Every line on its standard input names another folder of runs to look at; it ends with whoever started it.
DASHBOARD = """
import os, sys, threading
from pathlib import Path
from dashboard.serve import serve

def follow():
    for line in sys.stdin:
        os.environ["PLASTISCOPE_RUNS"] = line.strip()
        print("looks at", line.strip(), flush=True)
    os._exit(0)

threading.Thread(target=follow, daemon=True).start()
serve(Path("runs"), port=port, browser=False)
"""


@pytest.fixture(scope="session")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The dashboard on the bundled recordings, one for all tests."""
    with serving(tmp_path_factory.mktemp("dashboard"), DASHBOARD) as running:
        yield running


@pytest.fixture
def server(dashboard: Server, tmp_path: Path) -> Server:
    """The same, looking at runs of this test's own."""
    runs, log = tmp_path / "runs", dashboard.runs.parent / "server.log"
    runs.mkdir()
    assert dashboard.process.stdin is not None
    dashboard.process.stdin.write(f"{runs}\n".encode())
    dashboard.process.stdin.flush()
    end = time.monotonic() + 20
    while f"looks at {runs}\n" not in log.read_text("utf-8", "replace"):
        assert dashboard.process.poll() is None and time.monotonic() < end, "the server does not answer"
        time.sleep(0.02)
    return Server(dashboard.url, runs, dashboard.process)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, DASHBOARD) as running:
        yield running


@pytest.fixture(scope="session")
def profile(browser):
    """A browser profile: what it has loaded once it need not load again."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    yield context
    context.close()


@pytest.fixture
def page(profile):
    """A new tab without anything stored; fails on script errors and on requests to any other host."""
    opened = profile.new_page()
    opened.set_default_timeout(60_000)
    errors, foreign = [], set()
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda request: foreign.add(urlparse(request.url).hostname))
    yield opened
    with suppress(Exception):  # a page from a file has none
        opened.evaluate("localStorage.clear(), sessionStorage.clear()")
    opened.close()
    profile.clear_cookies()
    assert errors == []
    assert foreign <= {"127.0.0.1", "", None}


def visit(page, *way: str) -> None:
    """Click through the bar at the top: a page, or a group and a page in it."""
    for name in way[:-1]:
        page.get_by_test_id("stTopNavSection").filter(has_text=name).first.click()
    page.get_by_role("menuitem" if way[:-1] else "link", name=way[-1]).first.click()


_TURN = """url => { const app = document.querySelector('[data-testid=stApp]');
    window.left = document.querySelector('.stMain h2')?.innerText;
    window.ran = false;
    new MutationObserver(() => { if (app.dataset.testScriptState === 'running') window.ran = true; })
      .observe(app, { attributes: true, attributeFilter: ['data-test-script-state'] });
    History.prototype.pushState.call(history, null, '', url);
    window.dispatchEvent(new PopStateEvent('popstate')); }"""


def turn_to(page, url: str) -> None:
    """Another address in the tab where the app is open, as Back and Forward do it: nothing is loaded again, which is
    most of the time of a visit. Waits until the page was drawn anew."""
    from playwright.sync_api import TimeoutError

    page.evaluate(_TURN, url)
    with suppress(TimeoutError):  # a page drawn within one frame was never seen running, and may have the same heading
        page.wait_for_function("window.ran || document.querySelector('.stMain h2')?.innerText !== left", timeout=10_000)
    page.wait_for_function("document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'")


# The inside of a drawn figure is hidden from assistive technology and would take axe most of its time.
_FOUND = """async only => (await axe.run({ exclude: [['.main-svg']] }, {
    resultTypes: ['violations'],
    ...(only ? { runOnly: [only] } : { rules: { 'target-size': { enabled: true } } }),
  })).violations.filter(v => ['serious', 'critical'].includes(v.impact) || v.id === 'heading-order')
    .flatMap(v => v.nodes.map(n => `${v.id} (${v.impact}): ${n.html.slice(0, 200)} ${n.failureSummary}`))"""


def violations(page, only: str | None = None) -> list[str]:
    """What axe-core calls serious or critical on a page, and headings out of order.

    Args:
        only: name of one rule; None = all.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(gzip.decompress((Path(__file__).parent / "data" / "axe.min.js.gz").read_bytes()).decode())
    found = page.evaluate(_FOUND, only)
    for _ in range(3):  # what a page still draws is no fault of it
        if not found:
            break
        page.wait_for_timeout(1500)
        found = page.evaluate(_FOUND, only)
    return found
