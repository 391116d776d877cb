"""Settings of the Playground, described once for command line, page and URL."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cl_core.config import ConfigError, check_settings, from_mapping, setting

RULES = {
    "none": "plain gradient descent, nothing protected",
    "gpm": "gradient projection memory: no step along directions that hold the share ε of old inputs' energy",
    "sgp": "scaled gradient projection: the same directions, each blocked only as far as it mattered",
    "adam-nscl": "Adam steps projected onto the null space of all old inputs' covariance",
    "ewc": "elastic weight consolidation: weights pulled back to where old tasks needed them",
    "replay": "a few stored images of old tasks in every step",
    "joint": "every task trained together with all earlier ones: the upper reference",
}
PROJECTIONS = ("gpm", "sgp", "adam-nscl")  # rules that protect directions
STREAMS = {
    "permuted-digits": "the same ten digits, pixels shuffled differently in every task",
    "rotated-digits": "the same ten digits, turned further in every task",
    "split-digits": "two to five digits a task, one head a task",
}
ACTIVATIONS = ("relu", "leaky", "tanh")
DEPTHS = (1, 4)


@dataclass(frozen=True)
class Strength:
    """The setting that one slider moves for a rule, from nothing protected to everything."""

    setting: str  # of PlaygroundConfig
    label: str
    positions: tuple[float, ...]
    usual: float
    frontier: tuple[float, ...]  # those that "Draw the frontier" trains

    def text(self, value: float) -> str:
        """A position as the slider, the URL and the tables spell it."""
        return str(int(value)) if value == int(value) else f"{value:g}"


ENERGY = Strength(
    "energy",
    "Energy kept for old tasks (ε)",
    (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.84, 0.88, 0.9, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985,
     0.99, 0.995, 0.999, 1.0),
    0.95,
    (0, 0.5, 0.7, 0.8, 0.88, 0.92, 0.95, 0.98, 1.0),
)  # fmt: skip
_STRENGTHS: dict[str, Strength | None] = {
    "none": None,
    "joint": None,
    "gpm": ENERGY,
    "sgp": ENERGY,
    "adam-nscl": ENERGY,
    "ewc": Strength(
        "ewc_lambda",
        "Penalty on moving important weights (λ)",
        (0, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 10_000, 100_000),
        1,
        (0, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 1000),
    ),
    "replay": Strength(
        "images",
        "Images of old tasks kept in all",
        (0, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000),
        200,
        (0, 20, 100, 500, 2000),
    ),
}
MULTIPLE = Strength(
    "nscl_multiple",
    "Eigenvalues up to this multiple of the smallest are called zero (a)",
    (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000),
    10,
    (1, 5, 10, 50, 100, 500, 1000, 10_000),
)


@dataclass(frozen=True)
class PlaygroundConfig:
    """One network on one stream under one rule: with equal settings the same bits come out on the same machine."""

    rule: str = setting("gpm", choices=tuple(RULES), help="what protects old tasks")
    stream: str = setting("permuted-digits", choices=tuple(STREAMS), help="where the tasks come from")
    tasks: int = setting(10, low=2, high=20, help="number of tasks (split-digits: at most 5)")
    similarity: float = setting(
        0.0,
        low=0.0,
        high=1.0,
        help="permuted: share of pixels that stay in place; rotated: 1 = all upright, 0 = up to 180° (not for split)",
    )
    energy: float | tuple = setting(
        0.95, help="ε, share of old inputs' energy that is protected: one number, or one a layer"
    )
    energy_growth: float = setting(
        0.0, low=0.0, high=0.1, help="ε grows by this after every task, up to 1 (the paper's)"
    )
    sgp_alpha: float = setting(10.0, low=0.0, high=1e9, help="α of SGP's importance (0: linear, ∞: GPM)")
    nscl_cut: str = setting(
        "energy",
        choices=("energy", "multiple"),
        help="Adam-NSCL's null space: what ε leaves over, or all eigenvalues up to a multiple of the smallest (paper)",
    )
    nscl_multiple: float = setting(10.0, low=1.0, high=1e6, help="that multiple, a")
    nscl_normalised: bool = setting(False, help="divide the projector by its Frobenius norm, as the release does")
    adam_rate: float = setting(0.003, low=1e-6, high=1.0, help="learning rate of Adam-NSCL's Adam")
    ewc_lambda: float = setting(1.0, low=0.0, high=1e9, help="λ, weight of EWC's penalty")
    images: int = setting(200, low=0, high=100_000, help="images of old tasks that replay keeps in all")
    width: int = setting(64, low=2, high=256, help="units of every hidden layer")
    depth: int = setting(2, low=DEPTHS[0], high=DEPTHS[1], help="hidden layers")
    activation: str = setting("relu", choices=ACTIVATIONS, help="of the hidden layers")
    learning_rate: float = setting(0.15, low=1e-4, high=10.0, help="of plain gradient descent")
    epochs: int = setting(10, low=1, high=100, help="passes over a task's training images")
    batch_size: int = setting(64, low=1, high=1297, help="images a step")
    seed: int = setting(0, low=0, high=2**31 - 1, help="permutations, initial weights and batches")

    def __post_init__(self) -> None:
        if isinstance(self.energy, list):
            object.__setattr__(self, "energy", tuple(self.energy))
        if isinstance(self.energy, tuple) and len(self.energy) == 1:
            object.__setattr__(self, "energy", self.energy[0])
        check_settings(self)
        if isinstance(self.energy, tuple) and len(self.energy) != self.layers:
            raise ConfigError(
                f"energy takes one number or one a layer: {self.layers} for {self.depth} hidden layers and the output, "
                f"got {len(self.energy)}"
            )
        for value in self.energies:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ConfigError(f"energy is a share from 0 to 1, got {value!r}")
        if self.stream == "split-digits" and self.tasks > 5:
            raise ConfigError(
                f"split-digits has ten digits, at least two a task: tasks must be at most 5, got {self.tasks}"
            )
        if self.stream == "split-digits" and self.similarity:
            raise ConfigError("split-digits has no similarity: its tasks are different digits; leave it at 0")

    @property
    def layers(self) -> int:
        """Weight matrices: one into every hidden layer, and the output."""
        return self.depth + 1

    @property
    def energies(self) -> tuple[float, ...]:
        """ε of every layer."""
        return self.energy if isinstance(self.energy, tuple) else (self.energy,) * self.layers

    def settings(self) -> dict[str, Any]:
        """All settings as plain values; equal mappings, equal results."""
        record = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        record["energy"] = list(self.energy) if isinstance(self.energy, tuple) else self.energy
        return record

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> PlaygroundConfig:
        """From plain values; unknown names are refused with the nearest known one. Raises ConfigError."""
        return from_mapping(cls, settings, "the playground")


def slider_of(config: PlaygroundConfig) -> Strength | None:
    """The setting that the slider moves; None for a rule without one."""
    if config.rule == "adam-nscl" and config.nscl_cut == "multiple":
        return MULTIPLE
    return _STRENGTHS[config.rule]


def strength_of(config: PlaygroundConfig) -> float | None:
    """Where the slider stands; None for a rule without one, or where every layer has its own ε."""
    slider = slider_of(config)
    value = None if slider is None else getattr(config, slider.setting)
    return None if isinstance(value, tuple) else value


def at_strength(config: PlaygroundConfig, value: float) -> PlaygroundConfig:
    """The same settings with the slider at `value`. Raises ConfigError for a rule without one."""
    slider = slider_of(config)
    if slider is None:
        raise ConfigError(f"rule {config.rule!r} has no strength to choose")
    chosen: dict[str, Any] = {slider.setting: int(value) if slider.setting == "images" else float(value)}
    return dataclasses.replace(config, **chosen)
