"""What open tabs cost a run in training: its time and processor time beside a real browser, against nobody watching.

    python -m bench.viewers [--epochs 20] [--rounds 2]

Each round trains the same run four times: without a tab, with one that is seen, with three, and with one that is
hidden; server and browser are the same for all. Ratios are against the run of the same round that nobody watched. The
last column is what server and browser took while the run trained, in cores. Measure on an idle machine of two cores.
Needs playwright and a Chromium on PATH.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.first_picture import OURS, ROOT, chromium, free_port, server
from bench.meters import table
from cl_core.presets import resolve
from cl_core.store import RunReader, create_run

TABS = {"nobody": 0, "one tab": 1, "three tabs": 3, "one hidden tab": 1}
HIDE = """() => { Object.defineProperty(document, 'hidden', { configurable: true, get: () => true });
  document.dispatchEvent(new Event('visibilitychange')); }"""
TICK = os.sysconf("SC_CLK_TCK")


def spent_below(pid: int, but: int = 0) -> float:
    """Processor seconds of a process and of all that it has started, but for one of these."""
    children: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
            used[int(entry.name)] = sum(map(int, fields[11:13])) / TICK
    todo, total = [pid], 0.0
    while todo:
        one = todo.pop()
        if one != but:
            total += used.get(one, 0.0)
            todo += children.get(one, [])
    return total


def watched(kind: str, epochs: int, runs: Path, url: str, browser: Any) -> tuple[float, float, float]:
    """(seconds between first and last event, processor seconds of the training, cores used by those who watch)."""
    config = resolve({"preset": "nsp2-micro", "name": kind.replace(" ", "-"), "training": {"epochs": epochs}})
    folder = create_run(runs, config)
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    for _ in range(TABS[kind]):
        page = context.new_page()
        page.goto(f"{url}run?run={folder.name}", wait_until="commit")
        page.locator("[data-testid=stApp][data-test-connection-state=CONNECTED]").wait_for()
        page.wait_for_timeout(3000)  # what a page loads once is not the matter here
        if "hidden" in kind:
            page.evaluate(HIDE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    trainer = subprocess.Popen([sys.executable, "-m", "cl_core", "work", str(folder.path)], env=environment)
    before, began = spent_below(os.getpid(), trainer.pid), time.perf_counter()
    _, status, used = os.wait4(trainer.pid, 0)
    others = (spent_below(os.getpid(), trainer.pid) - before) / (time.perf_counter() - began)
    context.close()
    if status:
        raise SystemExit(f"the run of '{kind}' failed: {folder.path}")
    with closing(RunReader(folder)) as reader:
        return reader.worked_seconds(), used.ru_utime + used.ru_stime, others


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--epochs", type=int, default=20)
    cli.add_argument("--rounds", type=int, default=2)
    arguments = cli.parse_args()
    found: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in TABS}
    load = os.getloadavg()[0]
    with chromium() as browser:
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as temporary:
                folder, port = Path(temporary), free_port()
                command = [sys.executable, "-c", OURS.format(port=port)]
                with server(command, port, folder, "Plastiscope is at") as url:
                    for kind, times in found.items():
                        times.append(watched(kind, arguments.epochs, folder / "runs", url, browser))
    print(f"{os.cpu_count()} cores, load {load:.1f} at the start; medians of {arguments.rounds}")
    rows = []
    for kind, times in found.items():
        wall, work = (
            statistics.median(mine[part] / alone[part] for mine, alone in zip(times, found["nobody"], strict=True))
            for part in (0, 1)
        )
        cores = statistics.median(one[2] for one in times)
        rows.append([kind, f"{wall:.2f}", f"{work:.2f}", f"{cores:.2f}"])
    header = ["who watches", "time ÷ alone", "training's processor time ÷ alone", "cores of those who watch"]
    for line in table(header, rows):
        print(line)


if __name__ == "__main__":
    main()
