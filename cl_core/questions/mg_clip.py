"""Claims of MG-CLIP (arXiv:2507.09118): early stopping by the gap, and a second classifier on images. No torch."""

from __future__ import annotations

from cl_core.questions import seeds
from cl_core.questions.question import Question
from cl_core.questions.reporting import domain_results_of

PRESET = "mg-clip-micro"
UNWATCHED = ("attention", "drift", "spectra", "weights")

QUESTIONS = (
    Question(
        "mgclip-stop",
        "Does stopping by the gap preserve accuracy on future tasks, and at what cost?",
        "A trial run on the first task trains until the gap has moved by a tenth; every task then gets as many epochs. "
        "The same branches with the epochs of the other methods show the effect of the rule.",
        (("stopped", {"preset": PRESET}), ("all epochs", {"preset": PRESET, "settings": {"epoch_rule": "fixed"}})),
        unwatched=UNWATCHED,
        numbers=domain_results_of,
        criteria=(
            seeds.more("keeps more Transfer", "Transfer, %", "stopped", "all epochs"),
            seeds.more("ends higher", "Last, %", "stopped", "all epochs"),
        ),
    ),
    Question(
        "mgclip-head",
        "Does the classifier on images compensate for shorter training?",
        "Classification by texts alone, or together with a head on image features trained once per task.",
        (("both", {"preset": PRESET}), ("texts alone", {"preset": PRESET, "settings": {"fusion": "text"}})),
        unwatched=UNWATCHED,
        numbers=domain_results_of,
        criteria=(
            seeds.more("learns more", "learning, %", "both", "texts alone"),
            seeds.more("ends higher", "Last, %", "both", "texts alone"),
        ),
    ),
)
