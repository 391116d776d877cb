"""Joint training: the same prompts and optimiser on the union of all tasks, once. The upper reference.

Parts: `prompted`.

The same number of epochs, so the same number of steps; one head over all classes. Only the last row of the accuracy
matrix exists: there is no "after task 2". It has seen all tasks, so it is no reference for accuracies before a task is
learned.
"""

from __future__ import annotations

from typing import ClassVar, final

from cl_core.methods.parts.prompted import PromptedMethod


@final
class Joint(PromptedMethod):
    """Plain cross-entropy over all classes."""

    trains_on_all: ClassVar[bool] = True
