"""Records the user's own training loop as a run that every page can open: `Recorder(folder, model, tasks=[…])`.

recorder.py    interface for the loop: step, end_task, project; writes the events
modules.py     watched modules: second moments of their inputs, changes by a task, projection of steps
attention.py   attention of timm, open_clip and nn.MultiheadAttention on probe images
evaluation.py  accuracy over a loader, features of probe images
"""

from cl_core.recorder.recorder import Recorder

__all__ = ["Recorder"]
