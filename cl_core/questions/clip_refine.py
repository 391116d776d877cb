"""Whether narrowing the modality gap before a stream, as CLIP-Refine (arXiv:2504.12717) does, changes what the stream
makes a CLIP forget. Ours: the paper asks about zero-shot accuracy, not about forgetting. No torch.
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
    """The gap before the first task, and what the stream came to."""
    measured = events(folder, ModalityGapMeasured)
    before = [event for event in measured if event.clock.task < 0] or measured[:1]
    zero_shot = summarise(folder).zero_shot
    return {
        "gap before T1": before[0].length if before else None,
        "before T1, %": mean(zero_shot) if zero_shot else None,
        **domain_results_of(folder),
    }


def narrowed(numbers: seeds.Numbers) -> float | None:
    """Percent by which the refined gap is shorter."""
    mine, plain = numbers["refined"]["gap before T1"], numbers[PLAIN]["gap before T1"]
    return None if mine is None or not plain else 100 * (1 - mine / plain)


QUESTIONS = (
    Question(
        "clip-refine-forgetting",
        "Does narrowing the modality gap before a stream change what is forgotten?",
        "CLIP-Refine pulls images and their captions together before anything else is learned. The same stream is "
        "then fine-tuned with and without it. Because the preparation also shows the model more pairs of its own "
        "world, a run with the distillation alone, without the pull on the gap, stands beside both.",
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
