"""What a teacher said of training images, kept from the first time each is seen and looked up by number afterwards.

Shapes: n images, B of a batch, c outputs of the teacher.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class TeacherTable(nn.Module):
    """Numbers of images and a row of answers each; empty between tasks. Part of a run's state: a resumed run must not
    ask again, because a batch of another size rounds differently."""

    keys: Tensor
    answers: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("answers", torch.zeros(0, 0))
        self._rows: dict[int, int] = {}  # derived: number → row
        self.register_load_state_dict_pre_hook(_take_sizes)

    def find(self, ids: Tensor | None) -> Tensor | None:
        """Answers [B, c] for images with these numbers [B]; None if one of them is not known."""
        if len(self._rows) != len(self.keys):
            self._rows = {number: row for row, number in enumerate(self.keys.tolist())}
        rows = [] if ids is None else [self._rows.get(number, -1) for number in ids.tolist()]
        return None if min(rows, default=-1) < 0 else self.answers[rows]

    def keep(self, ids: Tensor | None, answers: Tensor) -> None:
        """Take in answers [B, c] for images with these numbers [B]; those without numbers are not kept."""
        numbers = [] if ids is None else ids.tolist()
        new = {number: place for place, number in enumerate(numbers) if number not in self._rows}
        if not new:
            return
        self._rows.update({number: len(self._rows) + place for place, number in enumerate(new)})
        self.keys = torch.cat([self.keys, torch.tensor(list(new), device=self.keys.device)])
        rows = answers[list(new.values())]
        self.answers = torch.cat([self.answers, rows]) if len(self.answers) else rows

    def clear(self) -> None:
        self.keys, self.answers, self._rows = self.keys[:0], self.answers[:0, :0], {}


def _take_sizes(table: TeacherTable, state: dict[str, Tensor], prefix: str, *others: Any) -> None:
    """Before loading: as many rows and columns as the state holds."""
    table._rows = {}
    for name in ("keys", "answers"):
        if prefix + name in state:
            setattr(table, name, torch.empty_like(state[prefix + name], device=table.keys.device))
