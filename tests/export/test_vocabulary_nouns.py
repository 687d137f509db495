"""Nouns of a vocabulary: from the ends of phrases, and from lists in any language."""

from pathlib import Path

import pytest

from captionlens.datasets.scenes import draw_scenes
from captionlens.errors import DatasetError, FileError
from captionlens.export.vocabulary_nouns import nouns_of_list, nouns_of_phrases
from captionlens.runtime.vocabulary import SPECIALS, Vocabulary


def vocabulary(words: str) -> Vocabulary:
    return Vocabulary((*SPECIALS, *words.split()))


def entities(folder: Path, sentences: str) -> Path:
    (folder / "Annotations").mkdir()
    (folder / "Sentences").mkdir()
    (folder / "Sentences" / "7.txt").write_text(sentences)
    return folder


def test_nouns_are_what_ends_phrases(tmp_path: Path) -> None:
    folder = entities(
        tmp_path,
        """[/EN#1/people Two men] surf near [/EN#2/scene the rocks] .
[/EN#1/people A man] surfs on [/EN#0/notvisual air] ; [/EN#3/other the surf] ; [/EN#4/other Surf] .
[/EN#2/people A rock climber] with [/EN#5/clothing glasses] and [/EN#5/other a glass] on [/EN#2/scene rock] .
[/EN#6/people Someone] looks at [/EN#7/scene a park] .
""",
    )
    known = vocabulary("a men man surf surfs rocks rock climber glasses glass climbers park someone air on dogs")
    found = nouns_of_phrases(folder, known)
    assert found.source == tmp_path.name
    assert found.keywords == {
        "men": "man",
        "man": "man",
        "surf": "surf",  # two of three; "surfs" is never one here
        "rocks": "rock",
        "rock": "rock",  # one of two, but two of three with the plural
        "climber": "climber",
        "glasses": "glasses",  # not several of a glass
        "glass": "glass",
        "climbers": "climber",  # never said, as its singular
        "park": "park",  # has no box
    }


def test_scenes_have_phrases_too(tmp_path: Path) -> None:
    found = nouns_of_phrases(draw_scenes(tmp_path / "scenes", images=5, seed=0, size=64), vocabulary("a red circle is"))
    assert found.keywords == {"circle": "circle"}


def test_folders_without_phrases_or_without_words_of_the_model(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has neither Annotations/ and Sentences/"):
        nouns_of_phrases(tmp_path, vocabulary("dog"))
    with pytest.raises(FileError, match="no phrase that ends with a word of the model"):
        nouns_of_phrases(entities(tmp_path, "[/EN#1/people A man] .\n"), vocabulary("hund"))


def test_a_list_in_english_gives_plurals_too(tmp_path: Path) -> None:
    path = tmp_path / "nouns.txt"
    path.write_text("\ufeffDog\n\nhot dog\nwoods\nwood\nbuses\nunicorn\n", "utf-8")
    found = nouns_of_list(path, vocabulary("a dog dogs runs woods wood buses hot"))
    assert found.source == "nouns.txt"
    assert found.keywords == {"dog": "dog", "dogs": "dog", "woods": "woods", "wood": "wood", "buses": "buses"}


def test_a_list_in_another_language_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "noms.txt"
    path.write_text("chien\nchiens\tchien\nver\nchâteaux\tchâteau fort\nΟΔΟΣ\n", "utf-8")
    french = vocabulary("un chien chiens vers châteaux οδοσ οδος")
    exact = nouns_of_list(path, french, exact=True)
    assert exact.keywords == {"chien": "chien", "chiens": "chien", "châteaux": "château fort", "οδοσ": "οδοσ"}
    assert nouns_of_list(path, french).keywords == dict(exact.keywords) | {"vers": "ver"}  # "towards", but "worms" here


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"\xffdog", r"nouns\.txt: is not UTF-8 text \(byte 0\)"),
        (b"cat\ndog\ta;b", r"nouns\.txt: line 2: the keyword 'a;b' has a ;"),
        (b"dog\ta\x01b", r"line 1: the keyword 'a\\x01b' has"),
        (b"dog\t" + "狗".encode() * 22, r"line 1: the keyword '狗+' has .* more than 64 bytes"),
        (b"unicorn\n", r"nouns\.txt: has no noun that the model knows; it takes a noun a line"),
    ],
)
def test_lists_that_are_none(content: bytes, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "nouns.txt"
    path.write_bytes(content)
    with pytest.raises(FileError, match=cause):
        nouns_of_list(path, vocabulary("dog"))
    with pytest.raises(FileError, match="none: No such file"):
        nouns_of_list(tmp_path / "none", vocabulary("dog"))
