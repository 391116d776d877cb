"""Records the user's own training loop as a run that every page can open: `Recorder(folder, model, tasks=[…])`.

recorder.py    the loop's side: step, end_task, project; what is said as events
modules.py     chosen modules: second moments of their inputs, what a task changed, the projection of steps
attention.py   attention of timm, open_clip and nn.MultiheadAttention on probes
evaluation.py  accuracy over a loader, features of probe images
"""

from cl_core.recorder.recorder import Recorder

__all__ = ["Recorder"]
