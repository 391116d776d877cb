"""Placement of labels next to marks in a plane: nearly coincident marks share a label, others are placed without
overlap.

The width of the figure is not known; distances are computed for a narrow page and only grow on a wide one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

SIZE = (620.0, 340.0)  # assumed size of the plot in pixels
NEAR = 14.0  # maximum distance in pixels of marks that share a label
MARK = 8.0  # half a mark's side, pixels
LETTER, HEIGHT = 6.4, 15.0  # of the labels' type, pixels
SPARE = 48.0  # pixels by which a label may extend into the margin
WORDS = 4  # maximum names in a shared label; beyond that, their number

Box = tuple[float, float, float, float]  # left, right, bottom, top


@dataclass(frozen=True)
class Label:
    """A label: its data point, and its offset in pixels, right and up."""

    x: float
    y: float
    text: str
    xanchor: str
    right: float
    up: float


def place_labels(
    marks: Sequence[tuple[float, float, str]],
    *,
    x: tuple[float, float],
    y: tuple[float, float],
    taken: list[Box] | None = None,
    paths: Sequence[Sequence[tuple[float, float]]] = (),
) -> tuple[list[Label], list[str]]:
    """Labels for `marks` that fit without overlap, and the texts that did not fit.

    Args:
        marks: (x, y, text) in data units; a mark with an empty text takes space but has no label.
        x, y: ranges of the axes.
        taken: occupied boxes in pixels; boxes of new labels are added.
        paths: lines in data units, which labels cross only if there is no better position.
    """
    taken = [] if taken is None else taken

    def pixels(a: float, b: float) -> tuple[float, float]:
        return (a - x[0]) / (x[1] - x[0]) * SIZE[0], (b - y[0]) / (y[1] - y[0]) * SIZE[1]

    places = [pixels(a, b) for a, b, _ in marks]
    drawn = [dot for path in paths for dot in _dotted([pixels(*point) for point in path])]
    found: list[Label] = []
    left_out: list[str] = []
    for group in _near(places):
        names = list(dict.fromkeys(marks[i][2] for i in group if marks[i][2]))
        if not names:
            continue
        text = ", ".join(names[:WORDS]) + (f", {len(names) - WORDS} more" if len(names) > WORDS else "")
        left_out += names[WORDS:]
        own = [places[i] for i in group]
        hung = group[-1]
        others = [_square(place) for i, place in enumerate(places) if i not in group] + taken
        free = [
            (box, xanchor)
            for box, xanchor in _candidates(own, LETTER * len(text))
            if _inside(box) and not any(_meet(box, other) for other in others)
        ]
        if not free:
            left_out += names[:WORDS]
            continue
        box, xanchor = min(free, key=lambda place: sum(_meet(place[0], dot) for dot in drawn))
        taken.append(box)
        edge = {"left": box[0], "right": box[1]}.get(xanchor, (box[0] + box[1]) / 2)
        right, up = edge - places[hung][0], (box[2] + box[3]) / 2 - places[hung][1]
        found.append(Label(*marks[hung][:2], text, xanchor, round(right, 1), round(up, 1)))
    return found, left_out


def _near(places: Sequence[tuple[float, float]]) -> list[list[int]]:
    """Indices grouped by single linkage, in the order of the marks."""
    group = list(range(len(places)))
    for i, j in combinations(range(len(places)), 2):
        if (places[i][0] - places[j][0]) ** 2 + (places[i][1] - places[j][1]) ** 2 <= NEAR**2:
            group = [group[i] if g == group[j] else g for g in group]
    return [[i for i, g in enumerate(group) if g == wanted] for wanted in dict.fromkeys(group)]


def _candidates(own: Sequence[tuple[float, float]], width: float) -> list[tuple[Box, str]]:
    """Candidate boxes around the marks `own`, the preferred position first."""
    left, right = min(p[0] for p in own) - MARK, max(p[0] for p in own) + MARK
    low, high = min(p[1] for p in own), max(p[1] for p in own)
    centre, middle = (left + right) / 2, (low + high) / 2
    found = []
    for bottom in (high, low - HEIGHT, middle - HEIGHT / 2):
        found.append(((right, right + width, bottom, bottom + HEIGHT), "left"))
        found.append(((left - width, left, bottom, bottom + HEIGHT), "right"))
    for bottom in (high + MARK, low - MARK - HEIGHT):
        found.append(((centre - width / 2, centre + width / 2, bottom, bottom + HEIGHT), "center"))
    return found


def _dotted(path: Sequence[tuple[float, float]], every: float = 6.0) -> list[Box]:
    """A line approximated by small boxes."""
    found = []
    for (a, b), (c, d) in pairwise(path):
        count = max(1, round(((c - a) ** 2 + (d - b) ** 2) ** 0.5 / every))
        for k in range(count + 1):
            at, up = a + (c - a) * k / count, b + (d - b) * k / count
            found.append((at - 1, at + 1, up - 1, up + 1))
    return found


def _square(place: tuple[float, float]) -> Box:
    return (place[0] - MARK, place[0] + MARK, place[1] - MARK, place[1] + MARK)


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def _inside(box: Box) -> bool:
    return box[0] >= -SPARE and box[1] <= SIZE[0] + SPARE and box[2] >= 0 and box[3] <= SIZE[1] + HEIGHT


def shortened(labels: Sequence[str], most: int = 26) -> dict[str, str]:
    """Labels without what all of them begin with, up to a sign like "-" or ": ", and without the words that all of them
    end with; of what is left the first and the last of at most `most` signs."""
    start, kept = 0, list(labels)
    if len(labels) > 1:
        for place, signs in enumerate(zip(*labels)):
            if len(set(signs)) > 1:
                break
            start = place + 1 if signs[0] in "-_:," else start
        words = [label[start:].split() for label in labels]
        while all(len(one) > 1 for one in words) and len({one[-1] for one in words}) == 1:
            words = [one[:-1] for one in words]
        kept = [" ".join(one) for one in words]
        if not all(kept):
            kept = list(labels)
    head, tail = most // 2, most - most // 2 - 1
    return {
        label: text if len(text) <= most else f"{text[:head].rstrip()}…{text[-tail:].lstrip()}"
        for label, text in zip(labels, kept, strict=True)
    }
