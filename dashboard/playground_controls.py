"""The Playground's controls by URL key: titles, defaults, and the values for a given network."""

from __future__ import annotations

from typing import Any

from cl_core.playground.settings import DEPTHS, PlaygroundConfig, slider_of, strength_of

RULE_TITLES = {
    "gpm": "GPM",
    "sgp": "SGP",
    "adam-nscl": "Adam-NSCL",
    "ewc": "EWC",
    "replay": "Replay",
    "joint": "Joint training",
    "none": "No protection",
}
STREAM_TITLES = {"permuted-digits": "Permuted", "rotated-digits": "Rotated", "split-digits": "Split"}
CUT_TITLES = {"energy": "what ε leaves over", "multiple": "up to a multiple of the smallest eigenvalue (paper)"}
STRENGTH_KEYS = {"energy": "epsilon", "ewc_lambda": "lambda", "images": "images", "nscl_multiple": "multiple"}
SWITCHES = ("bylayer", "predict")
USUAL = PlaygroundConfig()
USUAL_VALUES: dict[str, Any] = {
    "protect": RULE_TITLES[USUAL.rule],
    "digits": STREAM_TITLES[USUAL.stream],
    "tasks": USUAL.tasks,
    "parts": 5,  # tasks of split digits
    "similarity": "0",
    "seed": USUAL.seed,
    "depth": USUAL.depth,
    "width": USUAL.width,
    "activation": USUAL.activation,
    "rate": "0.15",
    "epochs": USUAL.epochs,
    "batch": "64",
    "cut": CUT_TITLES[USUAL.nscl_cut],
    "alpha": "10",
    "growth": "0",
    "epsilon": "0.95",
    "lambda": "1",
    "images": "200",
    "multiple": "10",
    **dict.fromkeys(SWITCHES, False),
    **{f"eps{layer}": "0.95" for layer in range(1, DEPTHS[1] + 2)},
}


def controls_of(config: PlaygroundConfig) -> dict[str, str]:
    """Return the controls' values for this network as strings, without those at their defaults."""
    slider, strength = slider_of(config), strength_of(config)
    said: dict[str, Any] = {
        "protect": RULE_TITLES[config.rule],
        "digits": STREAM_TITLES[config.stream],
        "parts" if config.stream == "split-digits" else "tasks": config.tasks,
        "similarity": f"{config.similarity:g}",
        "seed": config.seed,
        "depth": config.depth,
        "width": config.width,
        "activation": config.activation,
        "rate": f"{config.learning_rate:g}",
        "epochs": config.epochs,
        "batch": str(config.batch_size),
        "cut": CUT_TITLES[config.nscl_cut],
        "alpha": f"{config.sgp_alpha:g}",
        "growth": f"{config.energy_growth:g}",
    }
    if slider is not None and strength is not None:
        said[STRENGTH_KEYS[slider.setting]] = slider.text(strength)
    if isinstance(config.energy, tuple):
        said |= {"bylayer": "true"} | {f"eps{n}": f"{value:g}" for n, value in enumerate(config.energy, start=1)}
    return {key: str(value) for key, value in said.items() if str(value) != str(USUAL_VALUES[key])}
