"""What protects old tasks: one file a paper."""

from __future__ import annotations

from collections.abc import Sequence

from cl_core.playground.network import Network
from cl_core.playground.rules.adam_nscl import AdamNSCL
from cl_core.playground.rules.ewc import EWC
from cl_core.playground.rules.gpm import GPM
from cl_core.playground.rules.replay import Joint, Replay
from cl_core.playground.rules.rule import Rule, of
from cl_core.playground.rules.sgp import SGP
from cl_core.playground.settings import PlaygroundConfig

_BY_NAME: dict[str, type[Rule]] = {
    "none": Rule,
    "gpm": GPM,
    "sgp": SGP,
    "adam-nscl": AdamNSCL,
    "ewc": EWC,
    "replay": Replay,
    "joint": Joint,
}


def rule_for(configs: Sequence[PlaygroundConfig], network: Network) -> Rule:
    """The rule of a bank: one config a network, alike but for strength."""
    return _BY_NAME[configs[0].rule](configs, network)


__all__ = ["Rule", "of", "rule_for"]
