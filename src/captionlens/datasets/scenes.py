"""The built-in synthetic data set: pictures of coloured shapes, with captions and phrase boxes.

Its ground truth is complete, so that it shows within minutes whether training, captioning and attention work:
`scenes_truth` decides of any caption whether it is true of its picture. The folder is a table data set:

    captions.jsonl   one row per caption: {"image", "caption", "split", "id"}
    scenes.jsonl     one row per picture: {"image", "id", "size", "objects", "relation"}
                     with objects [{"shape", "colour", "box"}]
    phrases.jsonl    one row per caption: {"image", "id", "size", "caption", "phrases"}
                     with phrases [{"start", "end", "box"}]: the caption's words from start to end, exclusive
    images/          00001.png ...
    settings.json    the seed and size it was drawn with

Boxes are [left, top, right, bottom] in pixels.
"""

import json
import math
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

from captionlens.datasets.scenes_truth import (
    COLOURS,
    SHAPES,
    Scene,
    Shape,
    all_captions,
    caption_is_true,
    phrases,
    shape_words,
)
from captionlens.errors import DatasetError, OptionError
from captionlens.files import atomic_open, write_text

__all__ = [
    "Scene",
    "Shape",
    "caption_is_true",
    "compose",
    "draw",
    "draw_scenes",
    "read_scenes",
    "shape_words",
]

MIN_SIZE = 32
CAPTIONS = 5  # of a picture of two shapes; one of a single shape gets all of its four wordings
_SINGLE_SHARE = 0.2  # of the pictures show one shape only
_MARGIN = 0.03  # these are fractions of the side
_SINGLE_SIDES = (0.28, 0.42)
_PAIR_SIDES = (0.24, 0.36)
_GAPS = (0.06, 0.18)  # between two shapes, along the axis of their relation
_OFFSET = 0.08  # of their centres at most, along the other axis
_TURN = 12.0  # degrees a shape may be turned, either way
_SUPERSAMPLING = 4  # shapes are drawn this much larger and shrunk, for smooth edges
_VERSION = 1  # of the drawing; a folder of another version is refused


def draw_scenes(folder: str | Path, *, images: int, seed: int, size: int = 224, progress: bool = False) -> Path:
    """Draw the built-in data set into `folder`, and return the folder.

    Picture number i depends on the seed, the size and i alone. So a larger data set begins with the smaller one, and
    an interrupted call can be resumed. Of every ten pictures, the ninth belongs to the validation split and the tenth
    to the test split.

    Args:
        images: number of pictures, at least 1.
        seed: 0 or more; the same seed draws the same pictures and captions.
        size: side of a picture in pixels, at least 32.
        progress: show a bar on a terminal.

    Raises:
        OptionError: a number makes no sense.
        DatasetError: the folder holds something else, or scenes of another seed or size.
    """
    if images < 1:
        raise OptionError(f"images must be at least 1, got {images}")
    if seed < 0:
        raise OptionError(f"seed must be 0 or more, got {seed}")
    if size < MIN_SIZE:
        raise OptionError(f"size must be at least {MIN_SIZE} pixels, got {size}")
    folder = Path(folder)
    _claim(folder, {"version": _VERSION, "seed": seed, "size": size})
    rows: dict[str, list[dict[str, Any]]] = {"captions": [], "scenes": [], "phrases": []}
    for number in tqdm(range(1, images + 1), "scenes", unit=" pictures", disable=None if progress else True):
        scene = compose(seed, number, size)
        image_id = f"{number:05d}"
        name = f"images/{image_id}.png"
        if not (folder / name).exists():
            with atomic_open(folder / name) as file:
                draw(scene, seed, number).save(file, "PNG", compress_level=3)  # 7 % larger, in less than half the time
        row = {"image": name, "id": image_id, "size": size}
        rows["scenes"].append(row | _truth(scene))
        for caption in _choose_captions(scene, seed, number):
            rows["captions"].append({"image": name, "caption": caption, "split": _split(number), "id": image_id})
            marked = [{"start": p.start, "end": p.end, "box": list(p.box)} for p in phrases(caption, scene)]
            rows["phrases"].append(row | {"caption": caption, "phrases": marked})
    for table, content in rows.items():
        write_text(folder / f"{table}.jsonl", _json_lines(content))
    return folder


def read_scenes(folder: str | Path) -> dict[str, Scene]:
    """Read the ground truth of every picture of a folder of scenes, by picture id ('00001').

    Raises:
        DatasetError: `scenes.jsonl` is missing or malformed; the message names the file, line and cause.
    """
    path = Path(folder) / "scenes.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(path, f"cannot be read ({error})") from error
    scenes = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            shapes = []
            for item in row["objects"]:
                left, top, right, bottom = (float(side) for side in item["box"])
                shapes.append(Shape(str(item["shape"]), str(item["colour"]), (left, top, right, bottom)))
            scenes[str(row["id"])] = Scene(int(row["size"]), tuple(shapes))
        except (ValueError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise DatasetError(path, f"line {number}: not a scene ({reason})") from error
    return scenes


def compose(seed: int, number: int, size: int) -> Scene:
    """Choose the shapes, colours and positions of picture `number`, without drawing it."""
    rng = _random(seed, number, "scene")
    if rng.random() < _SINGLE_SHARE:
        side = rng.uniform(*_SINGLE_SIDES)
        x, y = (rng.uniform(_MARGIN + side / 2, 1 - _MARGIN - side / 2) for _ in range(2))
        return Scene(size, (_place(rng.choice(SHAPES), rng.choice(list(COLOURS)), x, y, side, size),))
    colours = rng.sample(list(COLOURS), 2)
    kinds = rng.choices(SHAPES, k=2)
    sides = [rng.uniform(*_PAIR_SIDES) for _ in range(2)]
    gap = rng.uniform(*_GAPS)
    # Along one axis the shapes follow one another; along the other their centres nearly agree.
    start = rng.uniform(_MARGIN, 1 - _MARGIN - sum(sides) - gap)
    along = (start + sides[0] / 2, start + sides[0] + gap + sides[1] / 2)
    edge = _MARGIN + (max(sides) + _OFFSET) / 2
    middle = rng.uniform(edge, 1 - edge)
    offset = rng.uniform(-_OFFSET, _OFFSET) / 2
    across = (middle - offset, middle + offset)
    places = list(zip(along, across, strict=True))
    if rng.random() < 0.5:
        places = [(x, y) for y, x in places]
    shapes = [
        _place(kind, colour, x, y, side, size)
        for kind, colour, (x, y), side in zip(kinds, colours, places, sides, strict=True)
    ]
    rng.shuffle(shapes)
    return Scene(size, tuple(shapes))


def draw(scene: Scene, seed: int, number: int) -> Image.Image:
    """Draw a scene as an RGB picture; seed and number determine its background and shades.

    Each shape fills its box; the background is light, plain or faintly textured.
    """
    rng = _random(seed, number, "picture")
    image = Image.fromarray(_background(rng, scene.size))
    for shape in scene.shapes:
        mask = Image.new("L", (scene.size * _SUPERSAMPLING,) * 2)
        pen = ImageDraw.Draw(mask)
        points = _outline(shape.shape, math.radians(rng.uniform(-_TURN, _TURN)))
        left, top, right, bottom = (side * _SUPERSAMPLING for side in shape.box)
        pen.polygon([(left + x * (right - left), top + y * (bottom - top)) for x, y in points], fill=255)
        colour = tuple(min(255, max(0, part + rng.randint(-10, 10))) for part in COLOURS[shape.colour])
        image.paste(colour, mask=mask.reduce(_SUPERSAMPLING))
    return image


def _random(seed: int, number: int, purpose: str) -> random.Random:
    return random.Random(f"captionlens scenes {seed} {number} {purpose}")


def _place(kind: str, colour: str, x: float, y: float, side: float, size: int) -> Shape:
    left, top, right, bottom = (
        round(edge * size, 1) for edge in (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    )
    return Shape(kind, colour, (left, top, right, bottom))


def _outline(kind: str, turn: float) -> list[tuple[float, float]]:
    """The corners of a shape turned by `turn` radians and stretched to fill [0, 1] x [0, 1]."""
    if kind == "cross":
        arm = 0.34  # half the thickness of the bars; they reach from -1 to 1
        corners = [(arm, -1.0), (arm, -arm), (1.0, -arm)]  # one quarter; the others are its turns
        points = [_turned(x, y, k * math.pi / 2) for k in range(4) for x, y in corners]
    else:
        corner_counts = {"circle": 96, "square": 4, "triangle": 3, "star": 10}
        count, inner = corner_counts[kind], 0.42 if kind == "star" else 1.0
        first = math.pi / 4 if kind == "square" else 0.0  # squares lie on a side, the others point up
        points = [
            _turned(0.0, -1.0 if corner % 2 == 0 else -inner, first + corner * math.tau / count)
            for corner in range(count)
        ]
    points = [_turned(x, y, turn) for x, y in points]
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    top, bottom = min(y for _, y in points), max(y for _, y in points)
    return [((x - left) / (right - left), (y - top) / (bottom - top)) for x, y in points]


def _turned(x: float, y: float, angle: float) -> tuple[float, float]:
    return x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)


def _background(rng: random.Random, size: int) -> NDArray[np.uint8]:
    """A light background (size, size, 3): plain, shaded, striped, cloudy or grainy."""
    base = np.array([rng.randint(218, 244) for _ in range(3)], np.float64)
    rows, columns = np.mgrid[0:size, 0:size] / size  # each (size, size), in [0, 1)
    angle = rng.uniform(0, math.tau)
    across = columns * math.cos(angle) + rows * math.sin(angle)
    kind = rng.choice(("plain", "shaded", "striped", "cloudy", "grainy"))
    if kind == "shaded":
        texture = 16 * across
    elif kind == "striped":
        texture = 7 * np.sin(across * math.tau * rng.uniform(4, 14))
    elif kind == "cloudy":
        clouds = Image.frombytes("L", (6, 6), rng.randbytes(36))
        texture = (np.asarray(clouds.resize((size, size), Image.Resampling.BICUBIC), np.float64) - 128) / 10
    elif kind == "grainy":
        grain = np.frombuffer(rng.randbytes(size * size), np.uint8).reshape(size, size)
        texture = (grain.astype(np.float64) - 128) / 14
    else:
        texture = np.zeros((size, size))
    pixels: NDArray[np.float64] = base + texture[..., None]  # (size, size, 3)
    return np.rint(pixels, out=pixels).clip(0, 255, out=pixels).astype(np.uint8)


def _choose_captions(scene: Scene, seed: int, number: int) -> list[str]:
    captions = all_captions(scene)
    return _random(seed, number, "captions").sample(captions, min(CAPTIONS, len(captions)))


def _split(number: int) -> str:
    return {9: "val", 0: "test"}.get(number % 10, "train")


def _truth(scene: Scene) -> dict[str, Any]:
    objects = [{"shape": s.shape, "colour": s.colour, "box": list(s.box)} for s in scene.shapes]
    return {"objects": objects, "relation": scene.relation}


def _json_lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _claim(folder: Path, settings: dict[str, int]) -> None:
    """Make `folder` a folder of scenes with these settings, or check that it is one."""
    path = folder / "settings.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            if any(folder.iterdir()):
                raise DatasetError(folder, "is not empty and holds no scenes; name a new folder")
            write_text(path, json.dumps(settings) + "\n")
        found = json.loads(path.read_text(encoding="utf-8"))
        (folder / "images").mkdir(exist_ok=True)
    except OSError as error:
        raise DatasetError(folder, error.strerror or str(error)) from error
    except ValueError as error:
        raise DatasetError(path, f"not the settings of a folder of scenes ({error})") from error
    if found != settings:
        raise DatasetError(folder, f"holds scenes drawn with {found}, not {settings}; name a new folder")
