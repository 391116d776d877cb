"""Trained copies of CLIP's parameters; the pre-trained model itself never changes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:  # only the type is needed, and open_clip takes seconds to import
    from cl_core.backbones.clip import ClipBackbone


class ClipWeights(nn.Module):
    """Adapted parameters of CLIP by their open_clip names; a component of a method.

    In `state_dict` and `get_parameter` dots in names are replaced by slashes, because modules split names at dots.
    """

    def __init__(self, backbone: ClipBackbone, names: Iterable[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        for name in self.names:
            value = nn.Parameter(backbone.parameter(name).detach().clone(), requires_grad=False)
            self.register_parameter(name.replace(".", "/"), value)
        places = {name: backbone.linear_map(name) for name in backbone.linear_maps()}
        self._places = {name: place for name, place in places.items() if place.parameter in self.names}

    def __getitem__(self, name: str) -> nn.Parameter:
        return cast(nn.Parameter, self._parameters[name.replace(".", "/")])  # none is None

    def weights(self) -> dict[str, Tensor]:
        """Name → parameter: an adaptation's `weights`."""
        return {name: self[name] for name in self.names}

    def train_only(self, names: Iterable[str], prefix: str) -> dict[str, nn.Parameter]:
        """Enable gradients only for these; returns the trained ones under the names of `get_parameter`, with the
        component named `prefix`."""
        chosen = set(names)
        for name in self.names:
            self[name].requires_grad_(name in chosen)
        return {f"{prefix}.{name.replace('.', '/')}": self[name] for name in self.names if name in chosen}

    @property
    def device(self) -> torch.device:
        return self[self.names[0]].device

    def map(self, name: str) -> Tensor:
        """A view of the linear map "image.3.q": W [out, in]."""
        place = self._places[name]
        return self[place.parameter][place.rows]

    @torch.no_grad()
    def merge(self, name: str, update: Tensor) -> None:
        """W ← W + ΔW."""
        self.map(name).add_(update)


def attention_parameters(backbone: ClipBackbone, maps: Iterable[str]) -> list[str]:
    """The parameters that contain these maps, each once, in order."""
    return list(dict.fromkeys(backbone.linear_map(name).parameter for name in maps))


def key(name: str) -> str:
    """A map's name as a valid module attribute."""
    return name.replace(".", "_")
