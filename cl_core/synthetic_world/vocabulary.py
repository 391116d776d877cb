"""What can be drawn: the attributes of a scene, their names, and the combinations kept out of training."""

from __future__ import annotations

from torch import Tensor

SHAPES = (
    "circle", "square", "triangle", "diamond", "hexagon", "star",
    "heart", "cross", "crescent", "arrow", "drop", "flower",
)  # fmt: skip
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
DIGITS = tuple("0123456789")
KINDS = SHAPES + LETTERS + DIGITS

SHAPE_KINDS = range(0, len(SHAPES))
LETTER_KINDS = range(len(SHAPES), len(SHAPES) + len(LETTERS))
DIGIT_KINDS = range(len(SHAPES) + len(LETTERS), len(KINDS))

COLOURS = {  # red, green, blue in 0..1; jittered when drawn
    "red": (0.86, 0.13, 0.15),
    "orange": (1.00, 0.55, 0.05),
    "yellow": (0.98, 0.90, 0.15),
    "green": (0.13, 0.60, 0.18),
    "cyan": (0.15, 0.82, 0.85),
    "blue": (0.12, 0.25, 0.85),
    "purple": (0.52, 0.15, 0.65),
    "pink": (0.98, 0.52, 0.75),
    "brown": (0.45, 0.26, 0.10),
    "white": (0.97, 0.97, 0.97),
    "gray": (0.52, 0.52, 0.52),
    "black": (0.04, 0.04, 0.04),
}
COLOUR_NAMES = tuple(COLOURS)
TEXTURES = ("solid", "striped", "dotted", "checkered", "hollow", "shaded")
PATTERNS = (1, 2, 3)  # textures that need room: drawn mostly on large, single objects
SIZES = ("small", "medium", "large")
COUNTS = ("one", "two", "three", "four")
POSITIONS = ("center", "left", "right", "top", "bottom")
STYLES = ("plain", "blurry", "noisy", "handwritten")
HANDWRITTEN = STYLES.index("handwritten")
BACKGROUNDS = COLOUR_NAMES

# How many values each attribute takes, in the order of `Scenes`.
ATTRIBUTE_SIZES = {
    "kind": len(KINDS),
    "colour": len(COLOURS),
    "texture": len(TEXTURES),
    "size": len(SIZES),
    "count": len(COUNTS),
    "position": len(POSITIONS),
    "background": len(BACKGROUNDS),
    "style": len(STYLES),
}


def is_held_out(kind: Tensor, colour: Tensor, texture: Tensor) -> Tensor:
    """Whether a combination is kept out of training, so that composing known attributes can be tested.

        held out  ⇔  5·kind + 7·colour + 3·texture ≡ 0  (mod 11)

    One combination in eleven; every kind, colour and texture appears on both sides, and because colours run
    through all residues, every (kind, texture) pair has at least one held-out colour.

    Args:
        kind, colour, texture: integer tensors of one broadcastable shape.

    Returns:
        boolean tensor of that shape.
    """
    return (5 * kind + 7 * colour + 3 * texture) % 11 == 0
