"""`plastiscope playground`: train small networks on a whole task stream, one per threshold and seed."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cl_core.cli.options import add_json, add_runs
from cl_core.config import ConfigError, nearest, parse_pair, parse_value
from cl_core.playground import Outcome, PlaygroundConfig, TaskOutcome, at_strength, train_bank
from cl_core.playground.frontier import text_of
from cl_core.playground.settings import PROJECTIONS, RULES, STREAMS, slider_of
from cl_core.store import write_atomically
from cl_core.sweeps.pareto import spread

EXAMPLE = """examples:
  plastiscope playground --energy 0.95 --seeds 0,1,2
  plastiscope playground --frontier 0.5,0.8,0.9,0.95,0.99,0.999 --seeds 0,1,2 --json
  plastiscope playground --rule replay --set images=100 --stream rotated-digits
  plastiscope playground --energy 0.9,0.95,0.99 --keep by-layer     # one threshold a layer, kept as a run

A network of 64-64-64-10 units learns ten tasks in about half a second on one core. `--set` takes every other setting:
width, depth, activation, learning_rate, epochs, batch_size, similarity, energy_growth, ewc_lambda, images, …"""
MEASURES = ("final_average_accuracy", "learning_accuracy", "forgetting")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rule", default="gpm", help=f"what protects old tasks: {', '.join(RULES)} (default: gpm)")
    parser.add_argument("--energy", metavar="ε", help="protected share of old inputs' energy; or one per layer")
    parser.add_argument("--stream", default="permuted-digits", help=f"{', '.join(STREAMS)} (default: permuted-digits)")
    parser.add_argument("--tasks", type=int, help="number of tasks (default: 10; split-digits: 5)")
    parser.add_argument("--seeds", default="0", metavar="0,1,2", help="one network each (default: 0)")
    parser.add_argument("--frontier", metavar="a,b,c", help="values of the rule's strength (ε, λ or images)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other setting")
    parser.add_argument("--keep", metavar="NAME", help="write each network as a run below --runs")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write the frontier as one HTML file with a live slider"
    )
    add_runs(parser)
    add_json(parser)
    parser.epilog = EXAMPLE


def execute(arguments: argparse.Namespace) -> int:
    started = time.perf_counter()
    configs = asked(arguments)
    check_targets(configs, arguments)
    outcomes = trained(configs, quiet=arguments.json)
    seconds = round(time.perf_counter() - started, 3)
    if arguments.keep:
        kept(configs, arguments.runs, arguments.keep, quiet=arguments.json)
    if arguments.html:
        write_html(outcomes, arguments.html, quiet=arguments.json)
    config = configs[0]
    if arguments.json:
        results = [outcome.reported() for outcome in outcomes]
        print(
            json.dumps(
                {
                    "rule": config.rule,
                    "stream": config.stream,
                    "tasks": config.tasks,
                    "seconds": seconds,
                    "readout": outcomes[0].readouts[0],
                    "settings": config.settings(),
                    "results": results,
                }
            )
        )
    else:
        print_table(outcomes, seconds)
    return 0


def asked(arguments: argparse.Namespace) -> list[PlaygroundConfig]:
    """One config per strength and seed, strengths outermost. Raises ConfigError."""
    rule, stream = (text.replace("_", "-") for text in (arguments.rule, arguments.stream))
    for name, known, what in ((rule, RULES, "rule"), (stream, STREAMS, "stream of the playground")):
        if name not in known:
            raise ConfigError(nearest(name, known, what))
    settings: dict[str, Any] = dict(parse_pair(text) for text in arguments.set)
    if arguments.energy is not None and (arguments.frontier is not None or "energy" in settings):
        raise ConfigError("--energy, --frontier and --set energy=… say the same thing; give one of them")
    if arguments.energy is not None and rule not in PROJECTIONS:
        raise ConfigError(f"rule {rule!r} has no energy threshold; --energy goes with {', '.join(PROJECTIONS)}")
    settings |= {"rule": rule, "stream": stream}
    settings["tasks"] = arguments.tasks if arguments.tasks is not None else (5 if stream == "split-digits" else 10)
    if arguments.energy is not None:
        settings["energy"] = _energies(arguments.energy)
    base = PlaygroundConfig.of(settings)
    if arguments.frontier is None:
        strengths = [base]
    else:
        strengths = [at_strength(base, value) for value in _numbers(arguments.frontier, "--frontier", float)]
    seeds = _numbers(arguments.seeds, "--seeds", int)
    return [dataclasses.replace(config, seed=seed) for config in strengths for seed in seeds]


def _energies(text: str) -> Any:
    values = _numbers(text, "--energy", float)
    return values[0] if len(values) == 1 else tuple(values)


def _numbers(text: str, option: str, kind: type) -> list[Any]:
    found = [parse_value(part.strip()) for part in text.split(",") if part.strip()]
    if not found or any(isinstance(v, bool) or not isinstance(v, (int, float)) or kind(v) != v for v in found):
        wanted = "whole numbers" if kind is int else "numbers"
        raise ConfigError(f"{option} takes {wanted} separated by commas, got {text!r}")
    return [kind(v) for v in found]


def check_targets(configs: Sequence[PlaygroundConfig], arguments: argparse.Namespace) -> None:
    """Check output paths before training. Raises ConfigError."""
    if arguments.html and not arguments.html.absolute().parent.is_dir():
        raise ConfigError(f"--html {arguments.html}: there is no folder {arguments.html.absolute().parent}")
    if arguments.keep:
        if arguments.keep != Path(arguments.keep).name or arguments.keep.startswith("."):
            raise ConfigError(f"--keep takes a plain folder name, got {arguments.keep!r}")
        for name in names_of(configs, arguments.keep):
            if (arguments.runs / name).exists():
                raise ConfigError(f"{arguments.runs / name} is taken; choose another name for --keep")


def trained(configs: Sequence[PlaygroundConfig], *, quiet: bool) -> list[Outcome]:
    """Train all networks, with a progress line on a terminal."""
    outcomes = [Outcome(config) for config in configs]
    total = sum(config.tasks for config in configs)
    shown = not quiet and sys.stderr.isatty()
    for done, (place, outcome) in enumerate(train_bank(configs), start=1):
        outcomes[place].tasks.append(outcome)
        if shown:
            print(f"\r{_progress(outcome, done, total)}", end="" if done < total else "\r\x1b[K", file=sys.stderr)
    return outcomes


def _progress(outcome: TaskOutcome, done: int, total: int) -> str:
    return f"T{outcome.task + 1} learned, {100 * done // total} %"


def print_table(outcomes: Sequence[Outcome], seconds: float) -> None:
    """Mean over seeds, with several seeds also the sample standard deviation; a matrix for a single network."""
    config = outcomes[0].config
    slider, seeds = slider_of(config), list(dict.fromkeys(o.config.seed for o in outcomes))
    said = f"seed {seeds[0]}" if len(seeds) == 1 else f"mean ± sd over {len(seeds)} seeds"
    print(f"{config.rule} on {config.stream}, {config.tasks} tasks, {said}, {seconds:.1f} s")
    print(
        f"accuracy in percent ({outcomes[0].readouts[0]}); free: input directions of each layer left free at the end\n"
    )
    label = slider.setting if slider else "rule"
    print(f"{label:>12} {'final':>14} {'learning':>14} {'forgetting':>14}   free by layer")
    best: tuple[float, str] | None = None
    for group in grouped(outcomes):
        name = text_of(group[0].config)
        columns = [[o.numbers()[measure] for o in group] for measure in MEASURES]
        free = [sum(o.tasks[-1].free[layer] for o in group) / len(group) for layer in range(config.layers)]
        left = " ".join(f"{v:.2f}" for v in free) if config.rule in PROJECTIONS else "–"
        print(f"{name:>12} " + " ".join(f"{told(c):>14}" for c in columns) + f"   {left}")
        final = [v for v in columns[0] if v is not None]
        if final and (best is None or sum(final) / len(final) > best[0]):
            best = (sum(final) / len(final), name)
    if best is not None and len(outcomes) > len(seeds):
        print(f"\nbest {label}: {best[1]}, final average accuracy {best[0]:.1f} %")
    if len(outcomes) == 1:
        print("\nafter \\ on " + "".join(f"{f'T{j + 1}':>7}" for j in range(config.tasks)))
        for outcome in outcomes[0].tasks:
            row = outcome.rows[outcomes[0].readouts[0]]
            print(f"{f'T{outcome.task + 1}':<10} " + "".join(f"{value:>7.1f}" for value in row))


def grouped(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    """Outcomes that differ only in the seed, in order."""
    found: dict[PlaygroundConfig, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(dataclasses.replace(outcome.config, seed=0), []).append(outcome)
    return list(found.values())


def told(values: Sequence[float | None]) -> str:
    """mean ± sample standard deviation over seeds; – if not measured."""
    known = [v for v in values if v is not None]
    return str(spread(known)) if known else "–"


def write_html(outcomes: Sequence[Outcome], file: Path, *, quiet: bool) -> None:
    """The frontier as one page whose slider works without a server."""
    from importlib import import_module

    page = import_module("dashboard.playground_page").frontier_page(
        outcomes
    )  # imported by name because cl_core never depends on the dashboard
    write_atomically(file, page.encode())
    if not quiet:
        print(f"\nwrote {file} ({len(page) / 1e6:.2f} MB)")


def kept(configs: Sequence[PlaygroundConfig], runs: Path, name: str, *, quiet: bool) -> None:
    """Write every network as a run, named by what differs."""
    from cl_core.playground.recording import keep

    for config, called in zip(configs, names_of(configs, name)):
        folder = keep(config, runs, called)
        if not quiet:
            print(f"kept {folder.path}")


def names_of(configs: Sequence[PlaygroundConfig], name: str) -> list[str]:
    """One name per network, with what differs."""
    found = []
    for config in configs:
        parts = [name]
        if len({text_of(c) for c in configs}) > 1:
            parts.append(text_of(config).replace(", ", "-"))
        if len({c.seed for c in configs}) > 1:
            parts.append(f"seed{config.seed}")
        found.append("-".join(parts))
    return found
