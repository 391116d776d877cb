"""Whether narrowing the modality gap before a stream, as in CLIP-Refine (arXiv:2504.12717), changes forgetting. This
question is ours; the paper studies zero-shot accuracy. No torch.
"""

from __future__ import annotations

from cl_core.events import ModalityGapMeasured
from cl_core.questions import seeds
from cl_core.questions.question import Question
from cl_core.questions.reporting import domain_results_of, events, mean
from cl_core.store import RunFolder
from cl_core.summary import summarise

NARROWER = 10.0  # percent by which the gap must have shrunk before the first task
ARMS = {"refined": {}, "distilled alone": {"alignment": 0.0}, "as pre-trained": {"refine_epochs": 0}}
PLAIN = "as pre-trained"


def numbers_of(folder: RunFolder) -> dict[str, float | None]:
    """The gap before the first task, and the results on the stream."""
    measured = events(folder, ModalityGapMeasured)
    before = [event for event in measured if event.clock.task < 0] or measured[:1]
    zero_shot = summarise(folder).zero_shot
    return {
        "gap before T1": before[0].length if before else None,
        "before T1, %": mean(zero_shot) if zero_shot else None,
        **domain_results_of(folder),
    }


def narrowed(numbers: seeds.Numbers) -> float | None:
    """Reduction of the gap in percent."""
    mine, plain = numbers["refined"]["gap before T1"], numbers[PLAIN]["gap before T1"]
    return None if mine is None or not plain else 100 * (1 - mine / plain)


QUESTIONS = (
    Question(
        "clip-refine-forgetting",
        "Does narrowing the modality gap before a stream change forgetting?",
        "CLIP-Refine pulls images and their captions together before the first task. The same stream is "
        "then fine-tuned with and without it. Because the preparation also trains on additional pairs from the "
        "pre-training distribution, a run with distillation alone, which does not narrow the gap, is the control.",
        tuple((arm, {"preset": "clip-refine-micro", "settings": settings}) for arm, settings in ARMS.items()),
        unwatched=("spectra", "attention", "drift", "selection", "weights"),
        numbers=numbers_of,
        criteria=(
            seeds.Criterion("the gap is narrower before the first task", narrowed, NARROWER, "%"),
            seeds.less("less is forgotten than as pre-trained", "forgetting, pp", "refined", PLAIN),
            seeds.less(
                "less is forgotten than with the distillation alone", "forgetting, pp", "refined", "distilled alone"
            ),
        ),
    ),
)
