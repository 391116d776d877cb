"""The questions that the papers behind the methods raise, each with the runs that decide it. No torch here."""

from cl_core.questions import fwd_prompt, gnsp, nsp2, nusa_cl, star_prompt
from cl_core.questions.question import Answer, Question, answer_from, answered, config_of, finished_runs, known_runs
from cl_core.registry import lookup

QUESTIONS: dict[str, Question] = {
    question.name: question
    for question in (
        *nusa_cl.QUESTIONS,
        *gnsp.QUESTIONS,
        *star_prompt.QUESTIONS,
        *fwd_prompt.QUESTIONS,
        *nsp2.QUESTIONS,
    )
}


def question(name: str) -> Question:
    """The question called `name`. Raises ConfigError with the nearest name."""
    return lookup(QUESTIONS, name, "question")[1]


__all__ = [
    "QUESTIONS",
    "Answer",
    "Question",
    "answer_from",
    "answered",
    "config_of",
    "finished_runs",
    "known_runs",
    "question",
]
