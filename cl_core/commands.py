"""Commands to a running worker: pause, resume, step, stop, change a setting. Queued as files, processed in order."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Command:
    """A command to a running worker. `word` is its serialised name."""

    word: ClassVar[str] = ""

    def to_dict(self) -> dict[str, Any]:
        return {"command": self.word, **asdict(self)}


@dataclass(frozen=True)
class Pause(Command):
    """Pause after the current step."""

    word: ClassVar[str] = "pause"


@dataclass(frozen=True)
class Resume(Command):
    """Continue after a pause."""

    word: ClassVar[str] = "resume"


@dataclass(frozen=True)
class Step(Command):
    """While paused (or running: pause first), run `moments` steps of the trainer and pause again."""

    word: ClassVar[str] = "step"
    moments: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.moments, int) or self.moments < 1:
            raise ValueError(f"step takes a whole number of moments ≥ 1, got {self.moments!r}")


@dataclass(frozen=True)
class Stop(Command):
    """Save a checkpoint immediately and end; `resume` continues from exactly there."""

    word: ClassVar[str] = "stop"


@dataclass(frozen=True)
class ChangeSetting(Command):
    """Change the method's live setting `name` from the next step on. A checkpoint is saved first."""

    word: ClassVar[str] = "turn"
    name: str
    value: float | int | bool | str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not isinstance(self.value, (float, int, bool, str)):
            raise ValueError(
                f"turn takes a setting's name and a number, switch or word, got {self.name!r}, {self.value!r}"
            )
        if isinstance(self.value, float) and not math.isfinite(self.value):
            raise ValueError(f"{self.name} cannot be turned to {self.value}; give a finite number")


WORDS: dict[str, type[Command]] = {kind.word: kind for kind in (Pause, Resume, Step, Stop, ChangeSetting)}


def parse(record: Any) -> Command:
    """The command in `record` (a decoded JSON object). Raises ValueError with a one-sentence message otherwise."""
    word = record.get("command") if isinstance(record, dict) else record
    if not isinstance(record, dict) or not isinstance(word, str) or word not in WORDS:
        raise ValueError(f"unknown command {word!r}; known: {', '.join(sorted(WORDS))}")
    fields = {key: value for key, value in record.items() if key != "command"}
    try:
        return WORDS[word](**fields)
    except TypeError as error:
        raise ValueError(f"command {word!r} does not take {sorted(fields)}") from error
