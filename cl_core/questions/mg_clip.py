"""What MG-CLIP (arXiv:2507.09118) promises: to stop by the gap, and a second classifier among images. No torch."""

from __future__ import annotations

from cl_core.questions import seeds
from cl_core.questions.question import Question
from cl_core.questions.reporting import domain_results_of

PRESET = "mg-clip-micro"
UNWATCHED = ("attention", "drift", "spectra", "weights")

QUESTIONS = (
    Question(
        "mgclip-stop",
        "Does stopping by the gap keep what is still to come, and what does it cost?",
        "A rehearsal on the first task trains until the gap has moved by a tenth; every task then gets as many epochs. "
        "With the epochs of the other methods instead, the same branches show what the rule is worth.",
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
        "Does the classifier among images make good what is not learned?",
        "Texts alone answer, or together with a head on image features that sees each task once.",
        (("both", {"preset": PRESET}), ("texts alone", {"preset": PRESET, "settings": {"fusion": "text"}})),
        unwatched=UNWATCHED,
        numbers=domain_results_of,
        criteria=(
            seeds.more("learns more", "learning, %", "both", "texts alone"),
            seeds.more("ends higher", "Last, %", "both", "texts alone"),
        ),
    ),
)
