"""A bank of equal multilayer perceptrons without biases, trained side by side.

Shapes: N networks, B images, d_l inputs of layer l; weights W_l [N, d_l, d_{l+1}], so a layer is a W. The inputs of all
layers are what the rules protect: row x of layer l's input matrix meets W_l as x W_l.

    a_0 = x,  a_{l+1} = φ(a_l W_l),  z = a_L W_L                     φ = relu, leaky relu (slope 0.01) or tanh
    δ_L = (softmax(z) − onehot) / B over the classes that compete        gradient of the mean cross-entropy
    ∂W_l = a_lᵀ δ_l,  δ_{l−1} = (δ_l W_lᵀ) ⊙ φ'(a_l)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SLOPE = 0.01


class Network:
    """Weights of N networks; float32.

    Args:
        sizes: [d_0, …, d_L, classes].
        seeds: one a network; equal seeds, equal weights. He et al. 2015 for relu, Glorot-like 1/d for tanh.
    """

    def __init__(self, sizes: Sequence[int], seeds: Sequence[int], activation: str = "relu") -> None:
        self.sizes, self.activation = tuple(sizes), activation
        gain = 1.0 if activation == "tanh" else 2.0
        drawn = {seed: self._drawn(seed, gain) for seed in dict.fromkeys(seeds)}
        self.weights = [
            np.stack([drawn[seed][layer] for seed in seeds]) for layer in range(len(self.sizes) - 1)
        ]  # [N, d_l, d_{l+1}]

    def _drawn(self, seed: int, gain: float) -> list[np.ndarray]:
        random = np.random.default_rng([seed, 3])
        return [
            (random.standard_normal((inputs, outputs)) * np.sqrt(gain / inputs)).astype(np.float32)
            for inputs, outputs in zip(self.sizes, self.sizes[1:])
        ]

    def __len__(self) -> int:
        return len(self.weights[0])

    def forward(self, images: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Inputs of every layer, [N, B, d_l] each (the first as given), and logits z [N, B, classes].

        images: [N, B, d_0], or [1, B, d_0] for all networks alike.
        """
        inputs = [images]
        for weight in self.weights[:-1]:
            inputs.append(self._activate(inputs[-1] @ weight))
        return inputs, inputs[-1] @ self.weights[-1]

    def gradients(self, inputs: Sequence[np.ndarray], error: np.ndarray) -> list[np.ndarray]:
        """∂W_l, [N, d_l, d_{l+1}] each, from δ_L [N, B, classes]."""
        found: list[np.ndarray] = []
        for layer in range(len(self.weights) - 1, -1, -1):
            found.append(inputs[layer].swapaxes(-1, -2) @ error)
            if layer:
                error = error @ self.weights[layer].swapaxes(-1, -2)
                error *= self._slope(inputs[layer])
        return found[::-1]

    def errors(self, inputs: Sequence[np.ndarray], error: np.ndarray) -> list[np.ndarray]:
        """δ_l of every layer, [N, B, d_{l+1}] each: for squared gradients image by image."""
        found = [error]
        for layer in range(len(self.weights) - 1, 0, -1):
            error = (error @ self.weights[layer].swapaxes(-1, -2)) * self._slope(inputs[layer])
            found.append(error)
        return found[::-1]

    def _activate(self, z: np.ndarray) -> np.ndarray:
        if self.activation == "tanh":
            return np.tanh(z)
        return np.maximum(z, SLOPE * z if self.activation == "leaky" else 0)

    def _slope(self, activated: np.ndarray) -> np.ndarray:
        """φ' from the activation itself."""
        if self.activation == "tanh":
            return 1 - activated * activated
        return activated > 0 if self.activation == "relu" else np.where(activated > 0, np.float32(1), np.float32(SLOPE))


def softmax(logits: np.ndarray, competing: np.ndarray | None = None) -> np.ndarray:
    """Probabilities over the last axis; `competing` [..., classes] bool: all others have none."""
    if competing is not None:
        logits = np.where(competing, logits, -np.inf)
    shifted = logits - logits.max(-1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(-1, keepdims=True)
    return shifted


def cross_entropy_error(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """δ_L = (p − onehot) / B [N, B, classes]: the gradient of the mean cross-entropy with respect to the logits.

    targets: onehot [N or 1, B, classes].
    """
    error = probabilities - targets
    error *= np.float32(1 / error.shape[-2])
    return error


def cross_entropy(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Mean of −log p(y) over the images, nats [N]."""
    return -np.log(np.maximum((probabilities * targets).sum(-1), 1e-12)).mean(-1)
