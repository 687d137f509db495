"""The built-in scenes: what is drawn is what is told, and false captions are recognised."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captionlens.datasets import read_dataset
from captionlens.datasets.phrases import read_scene_phrases
from captionlens.datasets.scenes import compose, draw, draw_scenes, read_scenes
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
from helpers.cli import run_cli

CIRCLE_BOX = (80.0, 10.0, 140.0, 70.0)
SQUARE_BOX = (70.0, 100.0, 130.0, 160.0)
CIRCLE_ABOVE_SQUARE = Scene(224, (Shape("circle", "red", CIRCLE_BOX), Shape("square", "blue", SQUARE_BOX)))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_scenes(tmp_path_factory.mktemp("scenes") / "set", images=20, seed=5, size=96)


@pytest.mark.parametrize(
    "caption",
    [
        "a red circle above a blue square",
        "A red circle is over a blue square.",
        "there is a blue square below a red circle",
        "a picture of a blue square beneath a red circle",
        "the square is under the circle",
        "a red circle",
        "there is a square",
        "one blue square",
    ],
)
def test_true_captions(caption: str) -> None:
    assert caption_is_true(caption, CIRCLE_ABOVE_SQUARE)


@pytest.mark.parametrize(
    "caption",
    [
        "a green circle above a blue square",  # wrong colour
        "a blue circle above a red square",  # colours swapped
        "a red circle below a blue square",  # relation swapped
        "a blue square above a red circle",  # shapes swapped
        "a red circle left of a blue square",  # wrong axis
        "a red circle to the right of a blue square",
        "a red triangle above a blue square",  # absent shape
        "a red circle above a red circle",  # nothing is above itself
        "a circle above a circle",
        "a star",
        "",
        "a red",
        "red",
        "a red circle is",
        "a red circle above",
        "a red circle above a blue",
        "a red circle a blue square",
        "a red circle near a blue square",
        "a red circle above a blue square above a red circle",
        "a red circle <unk> a blue square",
        "there is",
        "a dog runs across the grass",
    ],
)
def test_false_and_unreadable_captions(caption: str) -> None:
    assert not caption_is_true(caption, CIRCLE_ABOVE_SQUARE)


def test_every_wording_is_true_and_becomes_false_with_any_word_changed() -> None:
    """Each colour, shape and relation word of each wording is swapped for another that does not fit."""
    opposite = {"above": "below", "over": "under", "below": "above", "under": "over", "beneath": "over"}
    opposite |= {"left": "right", "right": "left"}
    changed = 0
    for number in range(1, 60):
        scene = compose(3, number, 224)
        colours = {shape.colour for shape in scene.shapes}
        for caption in all_captions(scene):
            assert caption_is_true(caption, scene), caption
            words = caption.split()
            for index, word in enumerate(words):
                if word in COLOURS:
                    other = next(colour for colour in COLOURS if colour not in colours)
                elif word in SHAPES:
                    present = {shape.shape for shape in scene.shapes}
                    other = next(shape for shape in SHAPES if shape not in present)
                elif word in opposite:
                    other = opposite[word]
                else:
                    continue
                false = " ".join([*words[:index], other, *words[index + 1 :]])
                assert not caption_is_true(false, scene), false
                changed += 1
    assert changed > 1000


def test_shape_words_point_at_the_shape_they_name() -> None:
    scene = CIRCLE_ABOVE_SQUARE
    words = ["there", "is", "a", "blue", "square", "below", "a", "red", "circle", "."]
    assert shape_words(words, scene) == [(4, SQUARE_BOX), (8, CIRCLE_BOX)]
    assert shape_words(["Circle"], scene) == [(0, CIRCLE_BOX)]
    assert shape_words(["a", "green", "circle", "and", "a", "star"], scene) == []
    twins = Scene(224, (Shape("star", "red", CIRCLE_BOX), Shape("star", "black", SQUARE_BOX)))
    assert shape_words(["a", "star", "above", "a", "black", "star"], twins) == [(5, SQUARE_BOX)]


def test_phrases_hold_article_colour_and_shape() -> None:
    found = phrases("a picture of a red circle above the square", CIRCLE_ABOVE_SQUARE)
    assert [(phrase.start, phrase.end, phrase.box) for phrase in found] == [
        (3, 6, CIRCLE_BOX),
        (7, 9, SQUARE_BOX),
    ]


def test_composition_is_clear() -> None:
    """Shapes are large, inside the picture and apart; centres nearly agree on the other axis."""
    seen = set()
    for number in range(1, 400):
        scene = compose(0, number, 100)
        for shape in scene.shapes:
            left, top, right, bottom = shape.box
            assert 2.5 <= left < right <= 97.5
            assert 2.5 <= top < bottom <= 97.5
            assert right - left >= 23.5
            assert right - left == pytest.approx(bottom - top, abs=0.3)
            seen |= {shape.shape, shape.colour}
        seen.add(str(scene.relation))
        if len(scene.shapes) == 2:
            a, b = (np.array(shape.box) for shape in scene.shapes)
            assert scene.shapes[0].colour != scene.shapes[1].colour
            gaps = np.maximum(a[:2], b[:2]) - np.minimum(a[2:], b[2:])  # per axis; positive: apart
            distances = np.abs((a[:2] + a[2:]) - (b[:2] + b[2:])) / 2
            assert gaps.max() >= 5.5
            assert distances.max() > 25
            assert distances.min() <= 8.5
    assert seen == {*SHAPES, *COLOURS, "above", "below", "left", "right", "None"}


def test_colours_are_far_from_one_another_and_from_the_background() -> None:
    for (one, a), (other, b) in combinations(COLOURS.items(), 2):
        assert np.linalg.norm(np.subtract(a, b)) > 100, (one, other)
    for name, colour in COLOURS.items():
        assert min(colour) < 150, name  # backgrounds are light in all three parts


def test_drawn_shapes_fill_their_boxes_with_their_colour() -> None:
    for number in range(1, 40):
        scene = compose(1, number, 224)
        pixels = np.asarray(draw(scene, 1, number), np.int64)  # (224, 224, 3)
        assert pixels.shape == (224, 224, 3)
        for shape in scene.shapes:
            distance = np.abs(pixels - np.array(COLOURS[shape.colour])).max(axis=2)
            rows_, columns = np.nonzero(distance <= 10)  # shades differ by 10 at most
            found = (columns.min(), rows_.min(), columns.max() + 1, rows_.max() + 1)
            # A corner that ends in a thin tip fades out before the box ends.
            np.testing.assert_allclose(found, shape.box, atol=4)
            area = len(rows_) / ((shape.box[2] - shape.box[0]) * (shape.box[3] - shape.box[1]))
            assert area > 0.25


def test_the_tables_agree_with_one_another(drawn: Path) -> None:
    captions, truth = rows(drawn / "captions.jsonl"), rows(drawn / "scenes.jsonl")
    scenes, boxed = read_scenes(drawn), read_scene_phrases(drawn)
    assert len(truth) == len(scenes) == len(boxed) == 20
    for row in captions:
        assert set(row) == {"image", "caption", "split", "id"}
        assert row["image"] == f"images/{row['id']}.png"
        assert (drawn / row["image"]).is_file()
        assert caption_is_true(row["caption"], scenes[row["id"]])
    for number, row in enumerate(truth, 1):
        assert scenes[row["id"]] == compose(5, number, 96)
        assert row["relation"] == scenes[row["id"]].relation
        told = [c["caption"] for c in captions if c["id"] == row["id"]]
        assert len(told) == len(set(told)) == (5 if len(row["objects"]) == 2 else 4)
        for caption, phrased in zip(told, boxed[row["id"]], strict=True):
            assert " ".join(phrased.words) == caption
            assert len(phrased.phrases) == len(row["objects"])
            for phrase in phrased.phrases:
                named = " ".join(phrased.words[phrase.start : phrase.end])
                (box,) = (o["box"] for o in row["objects"] if f"a {o['colour']} {o['shape']}" == named)
                np.testing.assert_allclose(phrase.boxes, np.array([box]) / 96, atol=1e-6)


def test_splits_are_by_picture(drawn: Path) -> None:
    by_picture: dict[str, set[str]] = {}
    for row in rows(drawn / "captions.jsonl"):
        by_picture.setdefault(row["id"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in by_picture.values())
    sizes = [sum(splits == {name} for splits in by_picture.values()) for name in ("train", "val", "test")]
    assert sizes == [16, 2, 2]


def test_the_table_reader_reads_them(drawn: Path) -> None:
    dataset = read_dataset(drawn)
    assert (dataset.layout, dataset.problems) == ("table", ())
    assert dataset.split_sizes() == {"train": 16, "val": 2, "test": 2}
    scenes = read_scenes(drawn)
    assert {record.source_id for record in dataset.records} == set(scenes)
    for record in dataset.records:
        assert all(caption_is_true(caption, scenes[record.source_id]) for caption in record.captions)


def test_same_seed_same_bytes_and_a_smaller_set_is_a_prefix(drawn: Path, tmp_path: Path) -> None:
    again = content(draw_scenes(tmp_path / "again", images=20, seed=5, size=96))
    assert again == content(drawn)
    smaller = draw_scenes(tmp_path / "smaller", images=7, seed=5, size=96)
    for name, data in content(smaller).items():
        assert again[name].startswith(data)
    assert content(draw_scenes(smaller, images=20, seed=5, size=96)) == again  # it grows, too
    other = content(draw_scenes(tmp_path / "other", images=20, seed=6, size=96))
    assert all(other[name] != again[name] for name in again)


def test_an_interrupted_call_is_taken_up(drawn: Path, tmp_path: Path) -> None:
    folder = draw_scenes(tmp_path / "set", images=20, seed=5, size=96)
    for name in ("images/00011.png", "captions.jsonl", "phrases.jsonl"):
        (folder / name).unlink()
    before = (folder / "images" / "00003.png").stat().st_mtime_ns
    draw_scenes(folder, images=20, seed=5, size=96)
    assert content(folder) == content(drawn)
    assert (folder / "images" / "00003.png").stat().st_mtime_ns == before


def test_folders_with_something_else_are_left_alone(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"'seed': 5.* not .*'seed': 6"):
        draw_scenes(drawn, images=1, seed=6, size=96)
    (tmp_path / "holiday.txt").write_text("mine")
    with pytest.raises(DatasetError, match="not empty"):
        draw_scenes(tmp_path, images=1, seed=6)
    with pytest.raises(DatasetError, match=r"holiday\.txt"):
        draw_scenes(tmp_path / "holiday.txt", images=1, seed=6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holiday.txt"]


def test_bad_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"images .* 0"):
        draw_scenes(tmp_path, images=0, seed=1)
    with pytest.raises(OptionError, match=r"seed .* -1"):
        draw_scenes(tmp_path, images=1, seed=-1)
    with pytest.raises(OptionError, match=r"size .* 8"):
        draw_scenes(tmp_path, images=1, seed=1, size=8)


def test_damaged_truth_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"scenes\.jsonl: cannot be read"):
        read_scenes(tmp_path)
    draw_scenes(tmp_path / "set", images=2, seed=0, size=32)
    path = tmp_path / "set" / "scenes.jsonl"
    path.write_text(path.read_text().splitlines()[0] + '\n{"id": "00002"}\n')
    with pytest.raises(DatasetError, match=r"scenes\.jsonl: line 2: .*objects"):
        read_scenes(tmp_path / "set")


def test_command(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    arguments = ["data", "scenes", folder, "--images", "3", "--seed", "2", "--size", "64"]
    result = run_cli(*arguments)
    assert result.stdout == ""
    assert "3 pictures" in result.stderr
    with Image.open(folder / "images" / "00003.png") as image:
        assert (image.size, image.mode) == ((64, 64), "RGB")
    assert run_cli(*arguments, "--quiet").output == ""
    run_cli("data", "scenes", folder, code=2)
    run_cli("data", "scenes", folder, "--images", "0", code=2)
