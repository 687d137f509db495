"""Captions worded for people who use screen readers, and in templates."""

from pathlib import Path

import pytest

from captionlens.errors import OptionError, UnreadableImage
from captionlens.outputs.wording import Wording
from captionlens.runtime.caption import Caption
from helpers.cli import run_cli
from helpers.paths import REPOSITORY


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a dog runs across the grass", "A dog runs across the grass."),
        ("a picture of a dog", "A dog."),
        ("a black and white photo of two men", "Two men."),
        ("an image showing a street", "A street."),
        ("a man taking a picture of a dog", "A man taking a picture of a dog."),
        ("is that a dog?", "Is that a dog?"),
        ("ein hund läuft", "Ein hund läuft."),
        ("一只狗", "一只狗。"),
        ("", ""),
    ],
)
def test_alternative_text_is_a_sentence(text: str, wanted: str) -> None:
    assert Wording("alt-text").apply(Caption(text)).text == wanted


def test_an_unsure_caption_says_so() -> None:
    worded = Wording("alt-text").apply(Caption("a picture of a dog", unsure=True))
    assert (worded.text, worded.hedged) == ("A dog.", "Not sure: a dog.")
    worded = Wording(template="Photo: {caption}!").apply(Caption("a dog", unsure=True))
    assert (worded.text, worded.hedged) == ("Photo: a dog!", "Photo: not sure: a dog!")


def test_long_captions_are_cut_behind_a_word() -> None:
    long = Caption(" ".join(["a dog runs"] * 20))
    worded = Wording("alt-text").apply(long)
    assert 100 < len(worded.text) <= 125
    assert worded.text.endswith(" runs…") or worded.text.endswith(" dog…") or worded.text.endswith(" a…")
    worded = Wording(template="A photograph of {caption} (by machine)", max_characters=60).apply(long)
    assert worded.text.startswith("A photograph of a dog")
    assert worded.text.endswith("… (by machine)")
    assert len(worded.text) <= 60
    assert Wording(max_characters=10).apply(Caption("x" * 40)).text == "x" * 9 + "…"
    assert Wording(max_characters=30).apply(Caption("a dog")).text == "a dog"
    exact = Caption("a dog runs")  # of ten characters
    assert Wording(max_characters=10).apply(exact).text == "a dog runs"


def test_nothing_to_word() -> None:
    failed = Caption("", error=UnreadableImage("x.jpg", "is empty"))
    assert Wording("alt-text").apply(failed) is failed
    caption = Caption("a dog")
    assert Wording().apply(caption) is caption


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"purpose": "seo"}, "purpose must be one of"),
        ({"template": "a photograph"}, "template must hold {caption}"),
        ({"max_characters": 5}, "at least 10"),
        ({"template": "x" * 120 + "{caption}", "purpose": "alt-text"}, "no room"),
    ],
)
def test_wrong_wordings(settings: dict[str, str], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        Wording(**settings)  # type: ignore[arg-type]


def test_every_output_has_it(small_model: Path, tmp_path: Path) -> None:
    photograph = tmp_path / "a.jpg"
    photograph.write_bytes(sorted((REPOSITORY / "examples" / "photographs").glob("*.jpg"))[0].read_bytes())
    worded = ("caption", photograph, "--model", small_model, "--threads", "1", "--template", "<{caption}>")
    plain = run_cli("caption", photograph, "--model", small_model, "--threads", "1").stdout.strip()
    for form in ("text", "json", "jsonl", "csv", "coco"):
        assert f"<{plain}>" in run_cli(*worded, "--format", form).stdout
    run_cli(*worded, "--sidecar", "txt")
    assert (tmp_path / "a.txt").read_text() == f"<{plain}>\n"
    assert "template must hold" in run_cli(*worded[:-1], "nothing", code=2).stderr
