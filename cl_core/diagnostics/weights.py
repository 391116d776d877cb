"""Where a task's change of the weights lies, seen from the weights themselves.

For each adapted attention projection with weight W before the task and W + ΔW after it, W = U diag(σ) Vᵀ:

    k = min { j : Σ_{i≤j} σ_i² ≥ ρ Σ σ_i² }                         principal directions
    leak = ‖U_kᵀ ΔW‖ / ‖ΔW‖  and  ‖ΔW V_k‖ / ‖ΔW‖                  chance sqrt(k / d)
    effective rank = exp(−Σ p ln p),  p = σ / Σσ                    Roy and Vetterli, EUSIPCO 2007

The same is measured for every method that changes such weights, whether it has a rule about them or not.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

from cl_core.events import Clock, Event, WeightSpectrumMeasured
from cl_core.linalg import effective_rank, energy_rank


class WeightWatch(nn.Module):
    """Remembers every watched weight as it was after the task before (state) and as it was pre-trained."""

    def restore(self, buffers: dict[str, Tensor]) -> None:
        for name, value in buffers.items():
            self.register_buffer(name, value)

    @torch.no_grad()
    def measure(self, method: Any, backbone: Any, clock: Clock) -> list[Event]:
        """One event per adapted projection; nothing if the method changes none."""
        weights = method.adapted_weights(backbone)
        if not weights:
            return []
        rule, said = method.weight_rule(), []
        for name, now in weights.items():
            key, pretrained = name.replace(".", "_"), backbone.map_weight(name)
            before = getattr(self, key, pretrained)
            said.append(_compare(clock, name, pretrained.double(), before.double(), now.double(), rule))
            self.register_buffer(key, now.detach().clone())
        return said


def _compare(clock: Clock, name: str, pretrained: Tensor, before: Tensor, now: Tensor, rule: Any) -> Event:
    started = time.perf_counter()
    u, sigma, vh = torch.linalg.svd(before, full_matrices=False)
    seconds = time.perf_counter() - started
    after = torch.linalg.svdvals(now)
    u_first, sigma_first, _ = torch.linalg.svd(pretrained, full_matrices=False)
    d = len(sigma)
    k, k_first = int(energy_rank(sigma.square(), rule.rho)), int(energy_rank(sigma_first.square(), rule.rho))
    null = d - k
    written = null if rule.r_max is None else min(null, rule.r_max)
    bound = "none" if not rule.used else "r_max" if rule.r_max is not None and null > rule.r_max else "rho"
    change, total = now - before, now - pretrained
    moved = float(change.norm())
    return WeightSpectrumMeasured(
        clock,
        name,
        sigma.float().cpu().numpy(),
        after.float().cpu().numpy(),
        rule.rho,
        k,
        written,
        bound,
        rule.used,
        float(effective_rank(after)),
        float(effective_rank(sigma)),
        float((u[:, :k].mT @ change).norm()) / moved if moved else None,
        float((change @ vh[:k].mT).norm()) / moved if moved else None,
        (k / d) ** 0.5,
        float((u_first[:, :k_first].mT @ total).norm() / total.norm()) if total.norm() else None,
        float((u_first[:, :k_first].mT @ u[:, :k]).square().sum()) / min(k_first, k),
        moved / float(before.norm()),
        # Only what lay in the tail can rise past σ_k: the first k values of an untouched spectrum do not.
        int((after > sigma[k - 1] * (1 + 1e-6)).sum()) - int((sigma > sigma[k - 1] * (1 + 1e-6)).sum()),
        seconds,
    )
