"""python -m dashboard.lessons FILE.md …    what is wrong with a lesson; without files: what lessons may use

Exit status 1 if a file has a mistake or claims what its runs do not show.
"""

from __future__ import annotations

import sys
from inspect import getdoc, signature
from pathlib import Path

from dashboard.lessons.facts import FACTS
from dashboard.lessons.figures import FIGURES
from dashboard.lessons.glossary import TERMS
from dashboard.lessons.lesson import LessonError, RunMissing
from dashboard.lessons.loader import read


def main(files: list[str]) -> int:
    if not files:
        print("Facts")
        for name, fact in FACTS.items():
            print(f"  {name}({', '.join(signature(fact).parameters)}): {(getdoc(fact) or '').splitlines()[0]}")
        print("Figures\n  " + "\n  ".join(sorted(FIGURES)))
        print("Words\n  " + ", ".join(TERMS))
        return 0
    return max(check(Path(file)) for file in files)


def check(file: Path) -> int:
    """0 if the lesson can be shown and what it claims holds."""
    try:
        lesson = read(file)
        runs = lesson.open()
        broken = []
        for step in lesson.steps:
            for drawing in step.drawings:
                lesson.figure(drawing, runs)
            failed = lesson.told(step, runs).broken
            broken += [f"{file.name}, step '{step.title}': '{claim}' does not hold" for claim in failed]
    except (LessonError, RunMissing) as error:
        print(error)
        return 1
    print("\n".join(broken) or f"{file.name}: {len(lesson.steps)} steps, fine")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
