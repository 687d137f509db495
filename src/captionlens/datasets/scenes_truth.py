"""Ground truth of the built-in scenes: their shapes and relation, their captions, and the truth of any caption.

A scene holds one coloured shape, or two that stand clearly above, below, left or right of each other.
Captions follow one small grammar, so that a generated caption can be checked against the picture:

    caption  = [opening] phrase [["is"] relation phrase]
    opening  = "there is" | "this is" | "a picture of"
    phrase   = ["a" | "an" | "the" | "one"] [colour] shape
    relation = "above" | "over" | "below" | "under" | "beneath" | ["to the"] "left of" | ["to the"] "right of"
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLOURS = {  # RGB; distinct from one another and from the light backgrounds
    "red": (214, 28, 32),
    "green": (28, 142, 52),
    "blue": (28, 78, 214),
    "yellow": (246, 206, 16),
    "purple": (122, 34, 160),
    "pink": (250, 138, 194),
    "black": (26, 26, 28),
}
OPENINGS = (("there", "is"), ("this", "is"), ("a", "picture", "of"))
ARTICLES = ("a", "an", "the", "one")
RELATION_WORDS = {
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
}
_RELATIONS = {tuple(words.split()): name for name, choices in RELATION_WORDS.items() for words in choices}


@dataclass(frozen=True, slots=True)
class Shape:
    """One coloured shape and the box it fills, in pixels."""

    shape: str  # one of SHAPES
    colour: str  # one of COLOURS
    box: Box

    @property
    def name(self) -> str:
        """Colour and shape, as in captions: 'red circle'."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture, `size` pixels a side, of one shape or two."""

    size: int
    shapes: tuple[Shape, ...]

    @property
    def relation(self) -> str | None:
        """Relation of the first shape to the second (see `relation`); None where there is a single shape."""
        return relation(self.shapes[0], self.shapes[1]) if len(self.shapes) == 2 else None


@dataclass(frozen=True, slots=True)
class Phrase:
    """The words of a caption from `start` to `end`, exclusive, and the box of the shape they name."""

    start: int
    end: int
    box: Box


def relation(first: Shape, second: Shape) -> str:
    """Relation of `first` to `second`: 'above', 'below', 'left' or 'right'.

    The axis on which their centres are further apart decides.
    """
    right = (first.box[0] + first.box[2] - second.box[0] - second.box[2]) / 2
    down = (first.box[1] + first.box[3] - second.box[1] - second.box[3]) / 2
    if abs(down) > abs(right):
        return "above" if down < 0 else "below"
    return "left" if right < 0 else "right"


def all_captions(scene: Scene) -> list[str]:
    """All captions that the data set can give a scene, in a fixed order; all are true."""
    names = [f"a {shape.name}" for shape in scene.shapes]
    if len(names) == 1:
        return [names[0], f"there is {names[0]}", f"this is {names[0]}", f"a picture of {names[0]}"]
    captions = []
    for first, second in ((0, 1), (1, 0)):
        for words in RELATION_WORDS[relation(scene.shapes[first], scene.shapes[second])]:
            told = f"{names[first]} {words} {names[second]}"
            captions += [told, f"there is {told}", f"a picture of {told}"]
            captions.append(f"{names[first]} is {words} {names[second]}")
    return captions


def caption_is_true(caption: str, scene: Scene) -> bool:
    """Whether a caption is true of a scene in every shape, colour and relation that it names.

    A caption may be incomplete ('a circle'). A relation holds between two different shapes of the scene. A caption
    outside the grammar of this module is false.

    Args:
        caption: words separated by spaces; capitals and punctuation are ignored.
        scene: the ground truth of the picture.
    """
    parsed = _parse(_words(caption))
    if parsed is None:
        return False
    first, told, second = parsed
    if told is None or second is None:
        return any(_fits(first, shape) for shape in scene.shapes)
    return any(
        relation(a, b) == told
        for a in scene.shapes
        for b in scene.shapes
        if a is not b and _fits(first, a) and _fits(second, b)
    )


def shape_words(words: Sequence[str], scene: Scene) -> list[tuple[int, Box]]:
    """Find the box of each shape word of a caption, as (index of the word, box).

    A shape word ('circle') refers to the scene's only shape of that kind. If the previous word is a colour, the shape
    must have it. Words that fit no shape of the scene, or several, are left out.

    Args:
        words: the caption's words, one by one.
        scene: the ground truth of the picture.
    """
    lowered = [word.lower().strip(".,!") for word in words]
    found = []
    for index, word in enumerate(lowered):
        if word not in SHAPES:
            continue
        before = lowered[index - 1] if index else ""
        wanted = (before if before in COLOURS else None, word)
        fitting = [shape for shape in scene.shapes if _fits(wanted, shape)]
        if len(fitting) == 1:
            found.append((index, fitting[0].box))
    return found


def phrases(caption: str, scene: Scene) -> list[Phrase]:
    """Find the phrases of a caption that name a shape of the scene: article, colour and shape, with the box."""
    words = caption.lower().split()
    found = []
    for index, box in shape_words(words, scene):
        start = index
        if start and words[start - 1] in COLOURS:
            start -= 1
        if start and words[start - 1] in ARTICLES:
            start -= 1
        found.append(Phrase(start, index + 1, box))
    return found


_Description = tuple[str | None, str]  # colour (None: any) and shape


def _fits(description: _Description, shape: Shape) -> bool:
    colour, kind = description
    return shape.shape == kind and colour in (None, shape.colour)


def _words(caption: str) -> list[str]:
    return re.findall(r"[^\s.,!]+", caption.lower())


def _parse(words: list[str]) -> tuple[_Description, str | None, _Description | None] | None:
    """Parse words to first description, relation and second description; None outside the grammar."""
    for opening in OPENINGS:
        if tuple(words[: len(opening)]) == opening:
            words = words[len(opening) :]
            break
    first, words = _take_description(words)
    if first is None:
        return None
    if not words:
        return first, None, None
    if words[0] == "is":
        words = words[1:]
    for length in range(4, 0, -1):  # 'to the left of' has four words
        told = _RELATIONS.get(tuple(words[:length]))
        if told is not None:
            second, rest = _take_description(words[length:])
            return None if second is None or rest else (first, told, second)
    return None


def _take_description(words: list[str]) -> tuple[_Description | None, list[str]]:
    """Parse the description at the beginning of `words`, None if there is none; also the words after it."""
    rest = words[1:] if words and words[0] in ARTICLES else words
    colour = rest[0] if rest and rest[0] in COLOURS else None
    if colour is not None:
        rest = rest[1:]
    if not rest or rest[0] not in SHAPES:
        return None, words
    return (colour, rest[0]), rest[1:]
