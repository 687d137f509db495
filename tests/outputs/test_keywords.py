"""Keywords in metadata: ours come and go, those of people and other programs stay, and none is there twice."""

import json
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from captionlens.files import stamp
from captionlens.outputs import OnExisting, xmp
from captionlens.outputs.embedded import Embedded
from captionlens.outputs.keywords import Change, change
from captionlens.outputs.sidecar import Sidecars, write_sidecar
from captionlens.runtime.caption import Caption
from captionlens.runtime.photograph import Photograph
from helpers.paths import REPOSITORY

PHOTOGRAPH = sorted((REPOSITORY / "examples" / "photographs").glob("*.jpg"))[0]
with_exiftool = pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
SUBJECT = "{http://purl.org/dc/elements/1.1/}subject"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
PACKET = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"{attributes}>{content}</rdf:Description>'
    "</rdf:RDF></x:xmpmeta>"
)


def bag(content: bytes) -> list[str | None]:
    """The keywords of a packet, which has one bag."""
    (subject,) = ElementTree.fromstring(content).iter(SUBJECT)
    (list_,) = subject
    return [item.text for item in list_]


def test_a_change_touches_our_keywords_only() -> None:
    assert change([], "", ["dog", "grass"]) == Change(("dog", "grass"), (), "dog;grass")
    assert change(["Dog", "Anna"], "", ["dog", "grass"]) == Change(("grass",), (), "grass")  # hers stays hers
    assert change(["Dog", "Anna", "grass"], "grass", ["cat"]) == Change(("cat",), ("grass",), "cat")
    assert change(["dog", "grass"], "dog;grass", ["grass", "dog"]) == Change((), (), "grass;dog")
    assert change(["dog"], "dog", ["Dog"]) == Change((), (), "Dog")
    assert change(["dog"], "dog", []) == Change((), ("dog",), "")
    # What a person has removed comes back only when all is to be written again.
    assert change(["dog"], "dog;train", ["dog", "train"]) == Change((), (), "dog;train")
    assert change(["dog"], "dog;train", ["dog", "train"], again=True) == Change(("train",), (), "dog;train")


@pytest.mark.parametrize(
    ("attributes", "content", "theirs"),
    [
        ("", "", []),
        ("", "<dc:subject><rdf:Bag><rdf:li>Dog</rdf:li><rdf:li>&amp;</rdf:li></rdf:Bag></dc:subject>", ["Dog", "&"]),
        ("", "<dc:subject><rdf:Seq><rdf:li>one</rdf:li></rdf:Seq></dc:subject>", ["one"]),
        ("", "<dc:subject><rdf:Bag/></dc:subject>", []),
        ("", "<dc:subject>one</dc:subject>", ["one"]),
        (' dc:subject="one"', "", ["one"]),
    ],
)  # fmt: skip
def test_keywords_join_those_in_a_packet(attributes: str, content: str, theirs: list[str]) -> None:
    packet = PACKET.format(attributes=attributes, content=content).encode()
    first = xmp.Packet(packet).describe("x", keywords=["dog", "<狗>"])
    ours = [word for word in ("dog", "<狗>") if word not in {their.lower() for their in theirs}]
    assert bag(first) == [*theirs, *ours]
    assert xmp.Packet(first).found.keywords == ";".join(ours)
    assert xmp.Packet(first).describe("x", keywords=["dog", "<狗>"]) == first
    assert bag(xmp.Packet(first).describe("x", keywords=["cat"])) == [*theirs, "cat"]
    assert bag(xmp.Packet(first).describe("x")) == [*theirs, *ours]  # not asked for
    assert xmp.Packet(packet).found.keywords is None


def captions(folder: Path) -> Callable[..., Caption]:
    """What makes captions of one photograph, as its file is now."""
    path = folder / "a.jpg"
    shutil.copy(PHOTOGRAPH, path)

    def caption(*keywords: str, text: str = "a dog") -> Caption:
        photograph = Photograph(path)
        photograph.file = stamp(path)
        return Caption(text, path=str(path), photograph=photograph, model="small", keywords=keywords)

    return caption


def test_sidecars_get_keywords_once(tmp_path: Path) -> None:
    caption = captions(tmp_path)
    before = Sidecars("xmp")
    before.write(caption("dog"))  # nobody asked for keywords
    sidecar = tmp_path / "a.xmp"
    assert SUBJECT.encode()[-7:] not in sidecar.read_bytes()
    photograph = caption().known_photograph()
    sink = Sidecars("xmp", keywords=True)
    assert before.has(photograph)
    assert not sink.has(photograph)
    sink.write(caption("dog", "grass"))
    assert bag(sidecar.read_bytes()) == ["dog", "grass"]
    assert sink.has(photograph)
    sidecar.write_bytes(sidecar.read_bytes().replace(b">grass</", b">Anna</", 1))
    (tmp_path / "a.jpg").touch()
    assert not sink.has(caption().known_photograph())
    sink.write(caption("grass", "cat"))
    assert bag(sidecar.read_bytes()) == ["Anna", "cat"]
    Sidecars("xmp", "overwrite", keywords=True).write(caption("grass", "cat"))
    assert bag(sidecar.read_bytes()) == ["Anna", "cat", "grass"]
    text = Sidecars("txt", keywords=True)
    text.write(caption("dog"))
    assert text.has(caption().known_photograph())
    assert (tmp_path / "a.txt").read_text() == "a dog\n"


@pytest.mark.parametrize("on_existing", ["skip", "fill", "overwrite"])
def test_keywords_beside_somebody_elses_caption(on_existing: OnExisting, tmp_path: Path) -> None:
    caption = captions(tmp_path)
    sidecar = tmp_path / "a.xmp"
    theirs = xmp.Packet(PACKET.format(attributes=' dc:subject="Anna"', content="").encode()).describe("my words")
    sidecar.write_bytes(theirs)
    sink = Sidecars("xmp", on_existing, keywords=True)
    sink.write(caption("dog"))
    if on_existing == "skip":
        assert sidecar.read_bytes() == theirs
    else:
        assert bag(sidecar.read_bytes()) == ["Anna", "dog"]
        assert xmp.Packet(sidecar.read_bytes()).found.description == ("my words" if on_existing == "fill" else "a dog")
    assert sink.has(caption().known_photograph()) == (on_existing != "overwrite")


def test_an_unsure_caption_leaves_no_keywords(tmp_path: Path) -> None:
    caption = captions(tmp_path)
    write_sidecar(tmp_path / "a.jpg", caption("dog"), "xmp")
    assert bag((tmp_path / "a.xmp").read_bytes()) == ["dog"]
    write_sidecar(tmp_path / "a.jpg", replace(caption("train"), unsure=True), "xmp", "overwrite")
    assert bag((tmp_path / "a.xmp").read_bytes()) == []
    assert Sidecars("xmp", keywords=True).has(caption().known_photograph())


def exiftool(path: Path, *arguments: str) -> Sequence[object]:
    """XMP's and IPTC's keywords of a photograph, after what the arguments change."""
    if arguments:
        subprocess.run(["exiftool", "-q", "-overwrite_original", *arguments, path], check=True)
    command = ["exiftool", "-j", "-G1", "-XMP-dc:Subject", "-IPTC:Keywords", "-IPTC:CodedCharacterSet", str(path)]
    (found,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return [found.get(name) for name in ("XMP-dc:Subject", "IPTC:Keywords", "IPTC:CodedCharacterSet")]


@with_exiftool
def test_keywords_are_embedded_among_others(tmp_path: Path) -> None:
    caption = captions(tmp_path)
    path = tmp_path / "a.jpg"
    plain, sink = Embedded(), Embedded(keywords=True)
    plain.write(caption("dog"))
    assert exiftool(path) == [None, None, "UTF8"]
    assert plain.has(caption().known_photograph())
    assert not sink.has(caption().known_photograph())
    sink.write(caption("dog", "狗", "grass"))
    assert exiftool(path) == [["dog", "狗", "grass"]] * 2 + ["UTF8"]
    assert sink.has(caption().known_photograph())
    exiftool(path, "-XMP-dc:Subject+=Anna", "-IPTC:Keywords+=Cat", "-XMP-dc:Subject-=grass", "-IPTC:Keywords-=grass")
    assert not sink.has(caption().known_photograph())  # it has changed
    sink.write(caption("cat", "grass", "dog"))
    assert exiftool(path) == [["dog", "Anna"], ["dog", "Cat"], "UTF8"]
    sink.write(replace(caption("train"), unsure=True))  # not changed since
    assert exiftool(path)[0] == ["dog", "Anna"]
    path.touch()
    sink.write(replace(caption("train"), unsure=True))
    assert exiftool(path) == ["Anna", "Cat", "UTF8"]
    assert sink.has(caption().known_photograph())
    plain.close()
    sink.close()


@with_exiftool
def test_keywords_in_photographs_of_other_kinds(tmp_path: Path) -> None:
    caption = captions(tmp_path)
    path = tmp_path / "a.jpg"
    exiftool(path, "-IPTC:Keywords=Käse", "-IPTC:Headline=x")  # in Latin 1, as nothing says otherwise
    fill = Embedded("fill", keywords=True)
    fill.write(caption("dog", "狗"))
    assert exiftool(path) == [["dog", "狗"], ["Käse", "dog"], None]
    assert fill.has(caption().known_photograph())
    png = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(png)
    fill.write(replace(caption("dog"), path=str(png)))
    assert exiftool(png) == ["dog", None, None]
    fill.close()
