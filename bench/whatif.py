"""How long a moved threshold takes on the server: from the slider's new value to everything the What if page sends.

    python -m bench.whatif [RUN] [--moves 20] [--rule energy]

RUN is a run folder (default: the bundled NSP² recording). Every move is a whole run of the page in this process, as
Streamlit runs it after a drag is let go, without a browser; the parts below it are timed alone. The first draw, which
imports and reads, is told apart. While dragging nothing is asked of the server at all.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from cl_core.assets import recordings_folder
from cl_core.cli.whatif import stored
from cl_core.store import RunFolder
from cl_core.whatif import RULES, Threshold, best, positions, predict
from dashboard import view_state
from dashboard.figures.whatif import against_threshold, at_equal_freedom, slider_table
from dashboard.run_log import log_of

Times = list[tuple[float, float]]  # milliseconds by the clock, and of this process on a processor


def timed(work: Callable[[], object]) -> tuple[float, float]:
    clock, busy = time.perf_counter(), time.process_time()
    work()
    return 1000 * (time.perf_counter() - clock), 1000 * (time.process_time() - busy)


def told(name: str, found: Times) -> str:
    """Where others work on the machine as well the CPU's time is the one to compare."""
    clock, busy = ([pair[i] for pair in found] for i in (0, 1))
    return (
        f"{name:<40} clock: median {statistics.median(clock):7.1f} ms, worst {max(clock):7.1f} ms; "
        f"processor: median {statistics.median(busy):6.1f} ms; {len(found)} times"
    )


def page_moves(folder: RunFolder, rule: str, moves: int) -> tuple[float, Times]:
    """Seconds of the first draw, and each later move."""
    from streamlit.testing.v1 import AppTest

    if folder.path.parent.resolve() != recordings_folder().resolve():
        os.environ["PLASTISCOPE_RUNS"] = str(folder.path.parent)
    app = AppTest.from_file(str(Path(view_state.__file__).parent / "entry" / "navigation.py"), default_timeout=120)
    app.query_params["run"] = folder.name
    app.run()
    app.switch_page(str(view_state.page_file("pages/whatif.py")))
    started = time.perf_counter()
    app.run()
    first = time.perf_counter() - started
    app.session_state["rule"] = RULES[rule].title
    app.run()
    options = app.select_slider(key="tau").options
    chosen = itertools.cycle(options[len(options) // 3 :: 7])
    found = []
    for _ in range(moves):
        app.select_slider(key="tau").set_value(next(chosen))
        found.append(timed(app.run))
        assert not app.exception, [e.value for e in app.exception]
    return first, found


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("run", nargs="?", type=Path, default=recordings_folder() / "nsp2-split-digits")
    asked.add_argument("--moves", type=int, default=20)
    asked.add_argument("--rule", default="energy", choices=[name for name, rule in RULES.items() if rule.takes_value])
    arguments = asked.parse_args()
    folder = RunFolder(arguments.run)
    boundary = best(stored(folder))
    assert boundary is not None, f"{folder.name} holds no spectra"
    threshold, steps = Threshold(arguments.rule, 0.9), [*positions(arguments.rule)]
    known = "with" if boundary.energies is not None else "without"
    print(f"{folder.name}: {len(boundary.layers)} layers × {boundary.width} directions, {known} a stored update")
    log_of(folder).advance()
    for name, work in (
        ("one prediction", lambda: predict(boundary, threshold)),
        (f"bars at all {len(steps)} positions", lambda: slider_table(boundary, threshold, steps)),
        ("figure against the threshold", lambda: against_threshold(boundary, threshold)),
        ("figure at equal freedom", lambda: at_equal_freedom(boundary, threshold)),
    ):
        work()
        print(told(name, [timed(work) for _ in range(arguments.moves)]))
    first, found = page_moves(folder, arguments.rule, arguments.moves)
    print(f"{'first draw of the page':<40} {first:.2f} s")
    print(told("a moved threshold, whole page", found))


if __name__ == "__main__":
    main()
