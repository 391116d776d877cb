"""Copies of a CLIP's parameters that a method changes: the model itself stays as it was pre-trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:  # only the type is needed, and open_clip takes seconds to import
    from cl_core.backbones.clip import ClipBackbone


class ClipWeights(nn.Module):
    """Parameters of a CLIP by their open_clip names, as adapted so far; a component that a method owns.

    In `state_dict` and `get_parameter` a name's dots are written as slashes, because modules split names at dots.
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
        """Let gradients reach these and no others; the trained ones under the names `get_parameter` knows, the
        component being called `prefix`."""
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
    """The parameters in which these maps lie, each once, in order."""
    return list(dict.fromkeys(backbone.linear_map(name).parameter for name in maps))


def key(name: str) -> str:
    """A map's name as an attribute of a module can be called."""
    return name.replace(".", "_")
