"""The Playground's waiting times: slider let go to new picture, and the frontier, in a real browser.

    python -m bench.playground [--moves 20]

Starts a server on an empty runs folder, opens the page, and moves the slider to positions that nobody has trained, one
after the other: the clock runs in the page, from the slider's change to the board that shows the trained network (ten
tasks, default network). Then the same positions once more, which the server remembers, and *Draw the frontier*. Without
a browser: the engine alone, one network and a frontier of 9 thresholds × 3 seeds. Needs playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.first_picture import OURS, chromium, free_port, server
from cl_core.playground import PlaygroundConfig, train
from cl_core.playground.frontier import row_of

BOARD = ".playground[data-draws]"
# Sets the slider as a hand would and resolves, in milliseconds, when the board shows the network trained there.
MOVE = """async at => {
    const board = document.querySelector('.playground[data-draws]'), input = board.querySelector('.pg-input');
    const started = performance.now();
    input.value = at; input.dispatchEvent(new Event('input')); input.dispatchEvent(new Event('change'));
    const wanted = board.dataset.at;
    while (!(board.dataset.at === wanted && board.dataset.kind === 'live')) await new Promise(requestAnimationFrame);
    return performance.now() - started;
}"""


def told(name: str, milliseconds: list[float]) -> str:
    seconds = sorted(value / 1000 for value in milliseconds)
    return f"{name}: median {statistics.median(seconds):.2f} s, worst {seconds[-1]:.2f} s ({len(seconds)} moves)"


def in_a_browser(browser: Any, url: str, moves: int) -> list[str]:
    page = browser.new_context(viewport={"width": 1360, "height": 900}).new_page()
    page.goto(f"{url}playground?seed=1")  # no recorded run has this seed
    page.wait_for_function(f"document.querySelector('{BOARD}')?.dataset.kind === 'live'", timeout=60_000)
    page.wait_for_timeout(2000)
    positions = int(page.locator(".pg-input").get_attribute("max"))
    places = [(7 * step + 3) % positions for step in range(moves)]
    fresh = [page.evaluate(MOVE, place) for place in places]
    again = [page.evaluate(MOVE, place) for place in places]
    page.goto(f"{url}playground?seed=1&width=63")  # the default frontier is recorded; nobody has drawn this one
    page.wait_for_function(f"document.querySelector('{BOARD}')?.dataset.kind === 'live'", timeout=60_000)
    started = time.perf_counter()
    page.get_by_role("button", name="Draw the frontier").click()
    page.wait_for_function("document.querySelectorAll('.pg-profile circle.pg-mark').length > 20", timeout=120_000)
    frontier = time.perf_counter() - started
    return [
        told("slider let go to new picture, trained", fresh),
        told("the same position again, remembered", again),
        f"Draw the frontier, 9 thresholds × 3 seeds, ten tasks: {frontier:.1f} s",
    ]


def engine() -> list[str]:
    lines = []
    for name, configs in (
        ("one network, ten tasks", [PlaygroundConfig()]),
        ("frontier, 9 thresholds × 3 seeds", row_of(PlaygroundConfig())),
    ):
        train([replace(c, tasks=2, epochs=1) for c in configs])
        times = []
        for _ in range(5 if len(configs) == 1 else 1):
            started = time.perf_counter()
            train(configs)
            times.append(time.perf_counter() - started)
        lines.append(f"engine alone, {name}: {statistics.median(times):.2f} s")
    return lines


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--moves", type=int, default=20)
    moves = cli.parse_args().moves
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    print("\n".join(engine()), flush=True)
    port = free_port()
    command = [sys.executable, "-c", OURS.format(port=port)]
    with (
        chromium() as browser,
        tempfile.TemporaryDirectory() as folder,
        server(command, port, Path(folder), "Plastiscope is at") as url,
    ):
        print("\n".join(in_a_browser(browser, url, moves)))


if __name__ == "__main__":
    main()
