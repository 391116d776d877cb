"""The words of this program and what each means here. A term's key is in the URL: `?lesson=glossary&term=…`."""

from __future__ import annotations

from dataclasses import dataclass

PAGE = "glossary"  # what stands for it in the URL, where a lesson's name would stand


@dataclass(frozen=True)
class Term:
    """One entry. `meaning` is Markdown, one to three sentences; `also`: what else it is called."""

    key: str
    word: str
    meaning: str
    formula: str = ""
    also: tuple[str, ...] = ()
    lesson: str = ""  # where it is taught


def _of(*terms: Term) -> dict[str, Term]:
    return {term.key: term for term in sorted(terms, key=lambda term: term.word.lower())}


TERMS = _of(
    Term(
        "task",
        "Task",
        "One step of the stream: some classes, or one domain, that are learned together and then left behind. Written "
        "T1 to Tn in the order in which they come.",
        also=("experience", "session"),
        lesson="forgetting",
    ),
    Term(
        "scenario",
        "Scenario",
        "What the model is told when it is asked. *Class-incremental*: nothing, all classes seen so far compete. "
        "*Task-incremental*: which task an image is from. *Domain-incremental*: the classes stay, their looks change. "
        "CLIP streams of several domains are task-incremental: the domain is known.",
        also=("setting",),
        lesson="readouts",
    ),
    Term(
        "accuracy-matrix",
        "Accuracy matrix",
        "All accuracies of a run in one table. Rows: after training on; columns: evaluated on. Some tools print it "
        "transposed.",
        "a(i, j) = accuracy in percent on task j after training on task i",
        lesson="forgetting",
    ),
    Term(
        "final-average-accuracy",
        "Final average accuracy",
        "What the model knows at the end, on average over tasks.",
        "A_n = mean over j of a(n, j)",
        lesson="forgetting",
    ),
    Term(
        "average-incremental-accuracy",
        "Average incremental accuracy",
        "How well it stood on the way: every row's mean over the tasks seen by then, averaged over rows. Usually "
        "higher than the final average, because early rows ask about few classes.",
        "Ā = mean over i of A_i, A_i = mean over j ≤ i of a(i, j)",
        lesson="forgetting",
    ),
    Term(
        "learning-accuracy",
        "Learning accuracy",
        "How well a task stood when it had just been learned: the diagonal of the matrix, and our measure of "
        "plasticity.",
        "mean over j of a(j, j)",
        lesson="forgetting",
    ),
    Term(
        "plasticity",
        "Plasticity",
        "How well new tasks can still be learned. Measured by learning accuracy; *intransigence* is how much of it is "
        "missing against a model that learned the task alone or all tasks at once.",
        "intransigence = reference − learning accuracy",
        lesson="threshold",
    ),
    Term(
        "forgetting",
        "Forgetting",
        "How far a task has fallen from the best it ever stood at. The last task is left out: it has had no time to "
        "be forgotten. Below zero: old tasks got better.",
        "F_j = max over j ≤ i < n of a(i, j), minus a(n, j); mean over j < n",
        lesson="forgetting",
    ),
    Term(
        "stability",
        "Stability",
        "How little is forgotten. It is usually paid for with plasticity.",
        lesson="forgetting",
    ),
    Term(
        "backward-transfer",
        "Backward transfer",
        "What learning later tasks did to earlier ones; below zero is forgetting since each had just been learned.",
        "mean over j < n of a(n, j) − a(j, j)",
    ),
    Term(
        "forward-transfer",
        "Forward transfer",
        "What learning earlier tasks did to a task before it was learned itself.",
        "mean over j > 1 of a(j − 1, j) minus an untrained reference",
    ),
    Term(
        "transfer",
        "Transfer, Average, Last",
        "The three columns customary for CLIP streams: accuracy on domains before they are learned, over all of the "
        "run, and at its end.",
        "Transfer: above the diagonal, per column first; Average: all rows; Last: the last row",
        lesson="clip",
    ),
    Term(
        "zero-shot",
        "Zero-shot",
        "Answering for classes that were never trained on, by comparing an image with sentences about them. Drawn in "
        "light type in the matrix.",
        lesson="clip",
    ),
    Term(
        "readout",
        "Readout",
        "What reads the features: the method's own head, with or without the task known, or a classifier from class "
        "statistics, *stored* when each task was learned or *recomputed* at the end (a control, which looks at old "
        "training images).",
        lesson="readouts",
    ),
    Term(
        "energy-threshold",
        "Energy threshold ε",
        "Share of energy kept for old tasks as protected directions. Energy is the square of a singular value of the "
        "features, which is an eigenvalue of their second moment: it is not squared again. Higher protects more and "
        "leaves less room.",
        "the fewest leading directions with Σ λ ≥ ε Σ all λ are protected",
        also=("energy kept for old tasks",),
        lesson="threshold",
    ),
    Term(
        "knee",
        "Elbow",
        "The bend of a spectrum, where strongly used directions end. A rule that cuts there needs no number, and may "
        "leave the same count free after every task.",
        also=("knee",),
        lesson="room",
    ),
    Term(
        "protected-rank",
        "Protected rank",
        "Number of directions kept for old tasks. Protected rank and nullity add up to the width.",
        "width − nullity",
        lesson="room",
    ),
    Term(
        "nullity",
        "Nullity",
        "Number of directions left free for what comes: those to the right of the cut. Free is what the rule calls "
        "free; it is not the numerical null space.",
        "R = width − protected rank",
        also=("directions left free", "room to learn"),
        lesson="room",
    ),
    Term(
        "null-space",
        "Null space",
        "Directions that past tasks hardly use. A change confined to them hardly changes what past tasks see.",
        lesson="room",
    ),
    Term(
        "principal-directions",
        "Principal and null directions",
        "Of a weight matrix: the fewest singular directions that hold most of its squared strength, and the rest. "
        "About the weight alone; no data is asked.",
        lesson="weights",
    ),
    Term(
        "softness",
        "Strictness η",
        "How strictly a step is projected: at 1 nothing along a protected direction passes, at 0 everything does.",
        "a protected direction keeps the factor 1 − η",
        also=("softness",),
        lesson="threshold",
    ),
    Term(
        "interference",
        "Interference",
        "Size of the change that an update makes to old features. On *What if*: as a share of what the unprotected "
        "update would have made.",
        "Σ r² λ u / Σ λ u: λ energy of old features, u of the update, r what remains, direction by direction",
        lesson="threshold",
    ),
    Term(
        "attention-consistency",
        "Attention consistency",
        "Whether the model looks at the same places of an old image as before. Measured as half the sum of absolute "
        "differences of two attention rows: none is consistent, all is disjoint.",
        "½ Σ |after − before|",
    ),
    Term(
        "prompt-drift",
        "Prompt drift",
        "Distance between prompt tokens, or their distributions, at two moments.",
        "‖ΔP‖ / ‖P‖",
    ),
    Term(
        "modality-gap",
        "Modality gap",
        "Vector from the mean text embedding to the mean image embedding of a CLIP, all of unit length before the "
        "means are taken. It has a length and a direction; neither is good or bad by itself.",
        "Δ = mean x − mean t",
        lesson="clip",
    ),
    Term(
        "retrieval",
        "Retrieval, R@1 and R@5",
        "How often the right text is the first, or among the first five, that an image finds among all texts of a "
        "set; and the same from text to image.",
        also=("recall",),
        lesson="clip",
    ),
    Term(
        "boundary",
        "Boundary",
        "The moment between two tasks, with everything saved that is needed to go on from there.",
    ),
    Term(
        "fork",
        "Fork",
        "A new run that begins at a boundary of another one, with some settings changed. What both share is not "
        "trained again.",
        lesson="threshold",
    ),
    Term(
        "replay",
        "Replay",
        "Of a run: the same again with the same seed, which must give the same numbers. Of a method: old images kept "
        "and shown again. The context says which.",
    ),
    Term(
        "probe-set",
        "Probe set",
        "A few fixed test images of every task, looked at after every later one. An illustration, not a measurement.",
    ),
    Term(
        "seed",
        "Seed",
        "The number from which everything random in a run follows: order of classes, first values, batches. Results of "
        "one seed are an example; mean and spread over several are a measurement.",
        lesson="tables",
    ),
)
"""By key, in the order of the alphabet."""


def matching(wanted: str) -> list[Term]:
    """Terms that hold all of the words of `wanted`, those that have them in their name first."""
    parts = wanted.lower().split()

    def name(term: Term) -> str:
        return " ".join((term.word, *term.also)).lower()

    found = [t for t in TERMS.values() if all(p in f"{name(t)} {t.meaning} {t.formula}".lower() for p in parts)]
    return sorted(found, key=lambda term: not all(p in name(term) for p in parts))
