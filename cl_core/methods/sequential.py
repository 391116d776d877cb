"""VPT-Seq: deep prompts trained on one task after another, nothing protected. The forgetting reference.

Parts: `prompted`.

The baseline of Lu et al., NeurIPS 2024, arXiv:2406.05658: NSP² with both projections and the prompt-distribution loss
off, everything else equal. With `prompt_length = 0` the features are frozen and only heads are trained: a strong
reference.
"""

from __future__ import annotations

from typing import final

from cl_core.methods.parts.prompted import PromptedMethod


@final
class Sequential(PromptedMethod):
    """Masked cross-entropy on the current task's classes; prompts are unconstrained."""
