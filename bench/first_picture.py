"""How long a reader waits for the first picture: from the navigation to the accuracy matrix on the Start page.

    python -m bench.first_picture [--rounds 3]

Every round starts a server of its own on an empty runs folder (so that the bundled recording is shown), opens a first
tab as soon as the server has said where it is, then a later one in a profile of its own (nothing is cached in either),
and one more beside it (files are cached, as at a second visit). For pairing, each round does the same with a bare
Streamlit page that holds one Plotly chart: what the frame alone takes on this machine at this moment. Needs playwright
and a Chromium on PATH.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
MATRIX = ".accuracy-matrix td[data-measured]"  # a cell with its number
TABS = ("first tab", "later tab, another profile", "later tab, same profile")
CHART = "[data-testid=stPlotlyChart] .main-svg"

OURS = "from pathlib import Path; from dashboard.serve import serve; serve(Path('runs'), port={port}, browser=False)"
BARE = """
import plotly.graph_objects as go
import streamlit as st

st.plotly_chart(go.Figure(go.Heatmap(z=[[90, 20], [60, 95]])), key="chart")
"""


@contextmanager
def server(command: list[str], port: int, folder: Path, said: str) -> Iterator[str]:
    """A server process in `folder`; entered when it has printed `said`."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if said in line:
                break
        else:
            sys.exit("the server did not start:\n" + "".join(lines))
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium; ends the program with a sentence where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sys.exit("playwright is not installed (pip install playwright)")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        sys.exit("no Chromium on PATH (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        yield browser
        browser.close()


def waited(browser: Any, url: str, selector: str, tabs: int = 1) -> list[float]:
    """Seconds from the navigation until `selector` is visible, for tabs opened one after the other in a new profile."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    spent = []
    for _ in range(tabs):
        page = context.new_page()
        started = time.perf_counter()
        page.goto(url, wait_until="commit")
        page.locator(selector).first.wait_for(state="visible", timeout=60_000)
        spent.append(time.perf_counter() - started)
        page.wait_for_timeout(1500)  # the rest of the page is drawn before the next tab is timed
        page.close()
    context.close()
    return spent


def measure(browser: Any, kind: str, folder: Path) -> list[float]:
    """One time for each of `TABS` at a fresh server."""
    port = free_port()
    if kind == "ours":
        command, said, selector = [sys.executable, "-c", OURS.format(port=port)], "Plastiscope is at", MATRIX
    else:
        (folder / "bare.py").write_text(BARE, "utf-8")
        options = ["--server.headless=true", "--server.address=127.0.0.1", "--server.fileWatcherType=none"]
        command = [sys.executable, "-m", "streamlit", "run", "bare.py", f"--server.port={port}", *options]
        command.append("--browser.gatherUsageStats=false")
        said, selector = "URL:", CHART
    with server(command, port, folder, said) as url:
        return waited(browser, url, selector) + waited(browser, url, selector, 2)


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--rounds", type=int, default=3)
    rounds = cli.parse_args().rounds
    times: dict[str, list[list[float]]] = {"ours": [], "bare": []}
    load = os.getloadavg()[0]
    with chromium() as browser:
        waited(browser, "data:text/html,<p>ready</p>", "p")  # the browser's own first page is not counted
        for _ in range(rounds):
            for kind, found in times.items():
                with tempfile.TemporaryDirectory() as folder:
                    found.append(measure(browser, kind, Path(folder)))
    print(f"{os.cpu_count()} cores, load {load:.1f} at the start; medians of {rounds}, seconds (each value)")
    for kind, name in (("ours", "accuracy matrix on Start"), ("bare", "bare page, one Plotly chart")):
        for place, tab in enumerate(TABS):
            values = [found[place] for found in times[kind]]
            print(f"{name}, {tab}: {statistics.median(values):.2f} ({', '.join(f'{v:.2f}' for v in values)})")


if __name__ == "__main__":
    main()
