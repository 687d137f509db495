"""Phrase boxes: Flickr30k Entities' markup and the scenes' own, whole and damaged."""

import json
from pathlib import Path

import numpy as np
import pytest

from captionlens.datasets.phrases import all_phrase_words, read_flickr30k_entities, read_scene_phrases
from captionlens.errors import DatasetError, PhrasesMissing

ANNOTATION = """<annotation>
<filename>7.jpg</filename>
<size><width>200</width><height>100</height><depth>3</depth></size>
<object><name>1</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>200</xmax><ymax>100</ymax></bndbox></object>
<object><name>2</name><name>3</name>
  <bndbox><xmin>51</xmin><ymin>26</ymin><xmax>100</xmax><ymax>75</ymax></bndbox></object>
<object><name>3</name><bndbox><xmin>101</xmin><ymin>51</ymin><xmax>150</xmax><ymax>60</ymax></bndbox></object>
<object><name>4</name><scene>1</scene><nobndbox>1</nobndbox></object>
</annotation>"""
SENTENCES = """[/EN#1/people A man] and [/EN#3/animals/other two dogs] in [/EN#4/scene a park] .
Rain on [/EN#0/notvisual the rest] and [/EN#2/other it]
"""


def write_entities(folder: Path, annotation: str = ANNOTATION, sentences: str = SENTENCES) -> Path:
    for name, text in (("Annotations/7.xml", annotation), ("Sentences/7.txt", sentences)):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def test_phrases_words_types_and_boxes(tmp_path: Path) -> None:
    first, second = read_flickr30k_entities(write_entities(tmp_path), "7")
    assert first.words == ("A", "man", "and", "two", "dogs", "in", "a", "park", ".")
    assert [(p.start, p.end, p.type) for p in first.phrases] == [(0, 2, "people"), (3, 5, "animals/other")]
    np.testing.assert_allclose(first.phrases[0].boxes, [[0, 0, 1, 1]])
    np.testing.assert_allclose(first.phrases[1].boxes, [[0.25, 0.25, 0.5, 0.75], [0.5, 0.5, 0.75, 0.6]])
    assert first.phrases[1].boxes.dtype == np.float32
    assert second.words == ("Rain", "on", "the", "rest", "and", "it")
    assert [(p.start, p.end) for p in second.phrases] == [(5, 6)]
    np.testing.assert_allclose(second.phrases[0].boxes, [[0.25, 0.25, 0.5, 0.75]])


def test_the_last_words_of_all_phrases_that_can_be_seen(tmp_path: Path) -> None:
    write_entities(tmp_path)
    (tmp_path / "Sentences" / "6.txt").write_text("[/EN#1/people damaged\n")
    assert list(all_phrase_words(tmp_path)) == [
        (("A", "man", "and", "two", "dogs", "in", "a", "park", "."), (1, 4, 7)),
        (("Rain", "on", "the", "rest", "and", "it"), (5,)),
    ]


@pytest.mark.parametrize(
    ("sentences", "cause"),
    [
        ("fine .\n[/EN#1/people A man\n", r"7\.txt: line 2: .*not closed"),
        ("[/EN#1/people A [/EN#2/other dog]]\n", r"7\.txt: line 1: .*inside another"),
        ("[/EN#one/people A man]\n", r"7\.txt: line 1: .*does not read"),
        ("[/EN#1 A man]\n", r"7\.txt: line 1: .*does not read"),
        ("a [/EN#1/people ] b\n", r"7\.txt: line 1: .*no words"),
    ],
)
def test_malformed_sentences_are_named_with_their_line(tmp_path: Path, sentences: str, cause: str) -> None:
    with pytest.raises(DatasetError, match=cause):
        read_flickr30k_entities(write_entities(tmp_path, sentences=sentences), "7")


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("</annotation>", "", r"malformed XML: .*line"),
        ("<width>200</width>", "", "no <size/width>"),
        ("<width>200</width>", "<width>wide</width>", "'wide', not a whole number"),
        ("<height>100</height>", "<height>0</height>", "200x0"),
        ("<xmin>51</xmin>", "<xmin>101</xmin>", "no area"),
        ("<xmax>100</xmax>", "", "no <xmax>"),
        ("<annotation>", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>', "forbidden XML"),
    ],
)
def test_malformed_annotations_are_named_with_their_cause(tmp_path: Path, old: str, new: str, cause: str) -> None:
    assert old in ANNOTATION
    with pytest.raises(DatasetError, match=r"7\.xml: .*" + cause):
        read_flickr30k_entities(write_entities(tmp_path, ANNOTATION.replace(old, new)), "7")


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(PhrasesMissing, match="has no phrases of 8"):
        read_flickr30k_entities(write_entities(tmp_path), "8")
    (tmp_path / "Sentences" / "8.txt").write_bytes(b"a dog .\n")
    with pytest.raises(DatasetError, match=r"8\.xml: No such file"):
        read_flickr30k_entities(tmp_path, "8")
    (tmp_path / "Sentences" / "7.txt").write_bytes(b"caf\xe9 .\n")
    with pytest.raises(DatasetError, match=r"7\.txt: is not UTF-8 text \(byte 3\)"):
        read_flickr30k_entities(tmp_path, "7")


def test_scene_phrases(tmp_path: Path) -> None:
    row = {
        "image": "images/00001.png",
        "id": "00001",
        "size": 200,
        "caption": "there is a red circle",
        "phrases": [{"start": 2, "end": 5, "box": [20, 40, 100, 120]}],
    }
    path = tmp_path / "phrases.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {"caption": "a a a a a b"}) + "\n")
    captions = read_scene_phrases(tmp_path)
    assert list(captions) == ["00001"]
    assert [" ".join(c.words) for c in captions["00001"]] == ["there is a red circle", "a a a a a b"]
    (phrase,) = captions["00001"][0].phrases
    assert (phrase.start, phrase.end, phrase.type) == (2, 5, "shape")
    np.testing.assert_allclose(phrase.boxes, [[0.1, 0.2, 0.5, 0.6]])
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {"caption": "too short"}) + "\n")
    with pytest.raises(DatasetError, match=r"phrases\.jsonl: line 2: .*phrase 2:5 of 2 words"):
        read_scene_phrases(tmp_path)
    path.write_text('{"id": "00001"\n')
    with pytest.raises(DatasetError, match=r"phrases\.jsonl: line 1"):
        read_scene_phrases(tmp_path)


def test_flickr8k_dev_has_the_published_number_of_phrases(shared_data: Path) -> None:
    flickr8k = shared_data / "flickr8k"
    names = (flickr8k / "Flickr8k_text" / "Flickr_8k.devImages.txt").read_text().split()
    captions = [
        caption
        for name in names
        for caption in read_flickr30k_entities(flickr8k / "Flickr30kEntities", name.split("_")[0])
    ]
    assert len(captions) == 5 * len(names)
    assert sum(len(caption.phrases) for caption in captions) == 13_123
    everything = np.concatenate([phrase.boxes for caption in captions for phrase in caption.phrases])
    assert everything.min() >= 0
    assert everything.max() <= 1
    assert (everything[:, :2] < everything[:, 2:]).all()
