"""Nouns of a model, and the keywords of its captions."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import captionlens
from captionlens.datasets.scenes import draw_scenes
from captionlens.errors import ModelError, OptionError
from captionlens.runtime.caption import Word
from captionlens.runtime.model_directory import ModelDirectory, add_nouns, write_manifest
from captionlens.runtime.nouns import Nouns
from captionlens.runtime.request import CaptionRequest
from captionlens.runtime.vocabulary import SPECIALS, Vocabulary

NOUNS = Nouns({"dog": "dog", "dogs": "dog", "grass": "grass", "ball": "ball"}, "a list")
SHAPES = Nouns({word: word for word in ("circle", "square", "star", "cross", "red", "green", "blue")}, "shapes")


def test_keywords_are_the_surest_nouns_and_each_is_one() -> None:
    said = (("a", 0.9), ("dog", 0.3), ("and", 0.8), ("dogs", 0.5), ("on", 0.9), ("grass", 0.4), ("ball", 0.4))
    words = [Word(text, probability) for text, probability in said]
    assert NOUNS.keywords_of(words, 9) == ("dog", "grass", "ball")
    assert NOUNS.keywords_of(words, 2) == ("dog", "grass")
    assert NOUNS.keywords_of([replace(word, confidence=1 - word.probability) for word in words], 2) == ("dog", "grass")
    assert NOUNS.keywords_of([replace(words[5], confidence=0.1), words[6]], 2) == ("ball", "grass")
    assert NOUNS.keywords_of(words[:1], 3) == ()


def test_nouns_are_kept_in_the_model(model: Path, tmp_path: Path) -> None:
    assert ModelDirectory.open(model).nouns is None
    add_nouns(model, SHAPES)
    assert ModelDirectory.open(model).nouns == SHAPES
    assert json.loads((model / "nouns.json").read_text())["nouns"]["circle"] == "circle"
    with pytest.raises(ModelError, match=r"nouns\.json: has 'dog', which the vocabulary lacks"):
        add_nouns(model, NOUNS)
    assert ModelDirectory.open(model).nouns == SHAPES  # as it was


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("{", "lacks or garbles a setting"),
        ("[]", "lacks or garbles a setting"),
        ('{"format": 2}', "is of format 2, wanted 1"),
        ('{"format": 1, "source": "x"}', "lacks or garbles a setting"),
        ('{"format": 1, "source": "x", "nouns": ["dog"]}', "lacks or garbles a setting"),
        ('{"format": 1, "source": "x", "nouns": {"dog": 1}}', "has a keyword that is no text"),
    ],
)
def test_a_file_of_nouns_that_is_none(content: str, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "nouns.json"
    path.write_text(content)
    with pytest.raises(ModelError, match=rf"nouns\.json: {cause}"):
        Nouns.load(path, Vocabulary((*SPECIALS, "dog")))
    with pytest.raises(ModelError, match="No such file"):
        Nouns.load(tmp_path / "none", Vocabulary((*SPECIALS, "dog")))


def test_changed_nouns_are_told(model: Path) -> None:
    add_nouns(model, SHAPES)
    (model / "nouns.json").write_text("{}")
    with pytest.raises(ModelError, match=r"nouns\.json: is not the file the manifest names"):
        ModelDirectory.open(model)
    write_manifest(model)
    with pytest.raises(ModelError, match=r"nouns\.json: lacks or garbles"):
        ModelDirectory.open(model)


def test_captions_have_keywords_when_asked(model: Path, small_model: Path, tmp_path: Path) -> None:
    add_nouns(model, SHAPES)
    captioner = captionlens.load(model, threads=1)
    scenes = sorted((draw_scenes(tmp_path / "scenes", images=6, seed=0, size=96) / "images").iterdir())
    plain = list(captioner.caption_many(scenes))
    asked = list(captioner.caption_many(scenes, options=captioner.request(keywords=2)))
    assert any(len(caption.keywords or ()) == 2 for caption in asked)
    for one, other in zip(plain, asked, strict=True):
        assert one.keywords is None
        assert "keywords" not in one.to_dict()
        nouns = sorted((word for word in other.words if word.text in SHAPES.keywords), key=lambda word: -word.certainty)
        assert other.keywords == tuple(dict.fromkeys(word.text for word in nouns))[:2]
        assert other.to_dict() == one.to_dict() | {"keywords": list(other.keywords)}
    without = captionlens.load(small_model, threads=1)
    for ask in (lambda: without.request(keywords=1), lambda: without.caption(scenes[0], CaptionRequest(keywords=1))):
        with pytest.raises(OptionError, match=r"captionlens-small does not know .*: captionlens model nouns"):
            ask()
    with pytest.raises(OptionError, match="keywords must be at least 0, got -1"):
        captioner.request(keywords=-1)
