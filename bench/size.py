"""Large runs and many of them: what pages, `show`, `list`, export and report take beside a small run.

    python -m bench.size [--only small tasks steps images classes pictures folder] [--runs FOLDER]

Invented runs of the real writer: 50 tasks × 24 layers; 100,000 steps; 64 probe images a task; 300 classes; 10,000 test
images whose answers are followed; 1,000 runs in a folder. Seconds of this process on the processor, pages by
Streamlit's own test harness in a fresh process each time (the first page also pays for imports; it is drawn once
before).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bench.meters import table
from cl_core.store import RunFolder
from tests.invented_run import LIFELIKE, Plan, moments
from tests.recording import recorded

ROOT = Path(__file__).resolve().parents[1]
PLANS = {
    "small": LIFELIKE,
    "tasks": Plan(tasks=50, epochs=2, steps=5, depth=24, heads=8, grid=4, width=1024, prompts=8, probes=4),
    "steps": Plan(tasks=10, epochs=10, steps=1000, depth=6, heads=3, grid=4, width=192, prompts=8, probes=6),
    "images": replace(LIFELIKE, probes=64, tasks=10),
    "classes": replace(LIFELIKE, tasks=10, classes=30, probes=60, images=200),
    "pictures": replace(LIFELIKE, tasks=10, classes=10, images=1000),
}
PAGES = ("start", "run", "spectra", "attention", "forgetting", "whatif", "compare", "questions", "export")


def made(runs: Path, name: str) -> RunFolder:
    """The run, written once: a kept folder of runs is used again."""
    folder = RunFolder(runs / name)
    if not folder.config_file.is_file():
        plan = PLANS[name]
        together: list[list[object]] = []
        for moment in moments(plan):  # a hundred moments a commit: the same rows, sooner
            if not together or len(together[-1]) > 100:
                together.append([])
            together[-1].extend(moment)
        recorded(runs, replace(plan.config, name=name), together)  # type: ignore[arg-type]
    return folder


def many(runs: Path, count: int = 1000) -> Path:
    """A folder of so many small runs."""
    folder = runs / "many"
    if not folder.is_dir():
        one = made(runs, "small")
        for number in range(count):
            copied = folder / f"run-{number:04d}"
            shutil.copytree(one.path, copied)
            config = json.loads((copied / "config.json").read_text("utf-8"))
            (copied / "config.json").write_text(json.dumps({**config, "name": copied.name, "seed": number}), "utf-8")
    return folder


def seconds(command: list[str], runs: Path) -> float:
    """Of a command of ours, process start included."""
    environment = {**os.environ, "PLASTISCOPE_RUNS": str(runs), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    before = os.times()
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    after = os.times()
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return after.children_user + after.children_system - before.children_user - before.children_system


def opened(runs: Path, run: str, pages: tuple[str, ...]) -> list[tuple[float, float]]:
    """(first, again) of each page: seconds on the processor until it is drawn."""
    command = [sys.executable, "-m", "bench.size", "--pages", *pages, "--run", run, "--runs", str(runs)]
    environment = {**os.environ, "PLASTISCOPE_RUNS": str(runs), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return [tuple(pair) for pair in json.loads(done.stdout.splitlines()[-1])]


def draw_pages(run: str, pages: list[str]) -> list[tuple[float, float]]:
    from streamlit.testing.v1 import AppTest

    import dashboard.view_state

    entry = Path(dashboard.view_state.__file__).parent / "entry" / "navigation.py"

    def drawn(app: AppTest) -> float:
        began = time.process_time()
        app.run()
        assert not app.exception, [e.value for e in app.exception]
        return time.process_time() - began

    drawn(AppTest.from_file(str(entry), default_timeout=300))  # imports
    found = []
    for page in pages:
        app = AppTest.from_file(str(entry), default_timeout=300)
        app.query_params["run"] = run
        if page != "start":
            app.switch_page(str(dashboard.view_state.page_file(f"pages/{page}.py")))
        found.append((drawn(app), drawn(app)))
    return found


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--only", nargs="+", choices=[*PLANS, "folder"], default=[*PLANS, "folder"])
    cli.add_argument("--runs", type=Path, help="keep the invented runs there; default: a folder that is removed")
    cli.add_argument("--pages", nargs="+", help=argparse.SUPPRESS)
    cli.add_argument("--run", help=argparse.SUPPRESS)
    arguments = cli.parse_args()
    if arguments.pages:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            found = draw_pages(arguments.run, arguments.pages)
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as temporary:
        runs = arguments.runs or Path(temporary)
        header = ["run", "MB", "show", "export", "report", *PAGES]
        rows = []
        for name in [name for name in arguments.only if name in PLANS]:
            folder = made(runs, name)
            size = sum(path.stat().st_size for path in folder.path.rglob("*") if path.is_file())
            show = seconds(["-m", "cl_core", "show", name, "--json"], runs)
            out = runs / f"{name}-out"
            export = seconds(["-m", "cl_core", "export", name, "--out", str(out)], runs)
            report = seconds(["-m", "cl_core", "report", name, "--out", str(out) + ".html"], runs)
            pages = [f"{first:.2f} / {again:.2f}" for first, again in opened(runs, name, PAGES)]
            rows.append([name, f"{size / 1e6:.0f}", f"{show:.2f}", f"{export:.2f}", f"{report:.2f}", *pages])
            print(rows[-1], flush=True)
        for line in table(header, rows):
            print(line)
        if "folder" in arguments.only:
            folder = many(runs)
            print(f"list of 1,000 runs: {seconds(['-m', 'cl_core', 'list', '--json'], folder):.2f} s")
            for page, (first, again) in zip(PAGES, opened(folder, "run-0000", PAGES), strict=True):
                print(f"page {page} beside 1,000 runs: {first:.2f} s, again {again:.2f} s", flush=True)


if __name__ == "__main__":
    main()
