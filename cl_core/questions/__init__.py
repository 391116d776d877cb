"""Questions raised by the methods' papers, each with the runs that answer it. No torch."""

from cl_core.questions import clip_refine, fwd_prompt, gnsp, key_value, mg_clip, nsp2, nusa_cl, star_prompt
from cl_core.questions.question import (
    Courses,
    Question,
    answered,
    config_of,
    courses_of,
    finished_by_seed,
    finished_runs,
    known_runs,
    numbers_of,
    pooled_from,
    runs_of,
    runs_with,
)
from cl_core.questions.seeds import LEAST, Pooled, criteria_table, table
from cl_core.questions.stored import merged, read_answers, stored_numbers, with_stored
from cl_core.registry import lookup

FAMILIES: dict[str, tuple[Question, ...]] = {
    "NuSA-CL": nusa_cl.QUESTIONS,
    "GNSP": gnsp.QUESTIONS,
    "STAR-Prompt": star_prompt.QUESTIONS,
    "Fwd-Prompt": fwd_prompt.QUESTIONS,
    "NSP²": nsp2.QUESTIONS,
    "SplitLoRA and CODE-CL": key_value.QUESTIONS,
    "MG-CLIP": mg_clip.QUESTIONS,
    "CLIP-Refine": clip_refine.QUESTIONS,
}

QUESTIONS: dict[str, Question] = {asked.name: asked for family in FAMILIES.values() for asked in family}


def question(name: str) -> Question:
    """The question with this name. Raises ConfigError with the nearest name."""
    return lookup(QUESTIONS, name, "question")[1]


__all__ = [
    "FAMILIES",
    "LEAST",
    "QUESTIONS",
    "Courses",
    "Pooled",
    "Question",
    "answered",
    "config_of",
    "courses_of",
    "criteria_table",
    "finished_by_seed",
    "finished_runs",
    "known_runs",
    "merged",
    "numbers_of",
    "pooled_from",
    "question",
    "read_answers",
    "runs_of",
    "runs_with",
    "stored_numbers",
    "table",
    "with_stored",
]
