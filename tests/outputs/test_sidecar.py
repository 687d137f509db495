"""Sidecars: the right file, whole, and nobody else's metadata lost."""

import os
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from captionlens.errors import FileError, OptionError, UnreadableImage
from captionlens.files import stamp
from captionlens.outputs import SIDECARS, Sidecar, xmp
from captionlens.outputs.sidecar import Sidecars, sidecar_path, write_sidecar
from captionlens.runtime.caption import Caption
from captionlens.runtime.photograph import Photograph

DOG = Caption('a dog & a <cat> "狗"')
NAMES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "iptc": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
}
LANG = "{http://www.w3.org/XML/1998/namespace}lang"
OURS = ("dc:description", "iptc:AltTextAccessibility")

DARKTABLE = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <!-- kept -->
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:darktable="http://darktable.sf.net/"
    xmp:Rating="4" darktable:params="one&#10;two&#9;&quot;&lt;">
   <dc:subject><rdf:Bag><rdf:li>holiday</rdf:li><rdf:li>Käse &amp; Brot</rdf:li></rdf:Bag></dc:subject>
   <dc:description>
    <rdf:Alt>
     <rdf:li xml:lang="x-default">old words</rdf:li>
     <rdf:li xml:lang="de-DE">alte Worte</rdf:li>
    </rdf:Alt>
   </dc:description>
   <darktable:history><rdf:Seq><rdf:li darktable:num="0"/></rdf:Seq></darktable:history>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""


@pytest.mark.parametrize("kind", SIDECARS)
def test_an_unsure_caption_says_so_beside_its_photograph(kind: Sidecar, tmp_path: Path) -> None:
    path = write_sidecar(tmp_path / "x.jpg", Caption("a dog", unsure=True), kind)
    assert path is not None
    assert "not sure: a dog" in path.read_text()


def languages(content: bytes, name: str) -> dict[str | None, str | None]:
    (found,) = ElementTree.fromstring(content).findall(f"rdf:RDF/rdf:Description/{name}/rdf:Alt", NAMES)
    return {item.get(LANG): item.text for item in found}


def without_ours(content: bytes) -> str:
    root = ElementTree.fromstring(content)
    for description in root.iterfind("rdf:RDF/rdf:Description", NAMES):
        for element in [*description]:
            if element.tag.startswith("{urn:captionlens:") or any(
                element in description.findall(name, NAMES) for name in OURS
            ):
                description.remove(element)
    return ElementTree.canonicalize(ElementTree.tostring(root), strip_text=True)


def test_a_new_packet_says_the_caption_twice() -> None:
    content = xmp.Packet().describe(DOG.text)
    for name in OURS:
        assert languages(content, name) == {"x-default": DOG.text}
    text = content.decode()
    assert text.startswith('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>')
    assert text.rstrip().endswith('<?xpacket end="w"?>')
    assert text.count("xmlns:dc=") == text.count("xmlns:Iptc4xmpCore=") == text.count("xmlns:rdf=") == 1


def test_everything_else_in_a_packet_is_kept() -> None:
    content = xmp.Packet(DARKTABLE.encode()).describe(DOG.text)
    assert languages(content, "dc:description") == {"x-default": DOG.text, "de-DE": "alte Worte"}
    assert languages(content, "iptc:AltTextAccessibility") == {"x-default": DOG.text}
    assert without_ours(content) == without_ours(DARKTABLE.encode())
    text = content.decode()
    assert "<!-- kept -->" in text
    assert 'darktable:params="one&#10;two&#9;' in text or "darktable:params='one&#10;two&#9;" in text


def test_writing_again_changes_nothing_but_the_words() -> None:
    source = xmp.Source("small", {"size": 5, "modified": "2026-11-27T00:00:00.000000000Z"})
    first = xmp.Packet(DARKTABLE.encode()).describe("one", source=source)
    assert xmp.Packet(first).describe("one", source=source) == first
    assert xmp.Packet(first).describe("other", source=source) == first.replace(b">one<", b">other<")
    assert b">old words</captionlens:Replaced>" in first


def test_what_was_written_is_known_again() -> None:
    modified = "2026-11-27T00:00:00.000000000Z"
    source = xmp.Source("small", {"size": 5, "modified": modified})
    theirs = xmp.Packet(DARKTABLE.encode()).found
    assert (theirs.description, theirs.alternative_text, theirs.ours, theirs.file) == ("old words", "", False, None)
    ours = xmp.Packet().describe(DOG.text, source=source)
    assert xmp.Packet(ours).found == xmp.Found(DOG.text, DOG.text, True, {"size": "5", "modified": modified})
    corrected = ours.replace(b"a dog", b"my dog", 1)
    assert xmp.Packet(corrected).found.description.startswith("my dog")
    assert not xmp.Packet(corrected).found.ours
    before = xmp.Packet().describe(DOG.text)  # as versions wrote it that recorded nothing
    assert xmp.Packet(before).found.ours


def test_filling_writes_only_what_is_empty() -> None:
    content = xmp.Packet(DARKTABLE.encode()).describe(DOG.text, fill=True)
    assert languages(content, "dc:description") == {"x-default": "old words", "de-DE": "alte Worte"}
    assert languages(content, "iptc:AltTextAccessibility") == {"x-default": DOG.text}
    assert b"Replaced" not in content


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_other_encodings_are_read(encoding: str) -> None:
    declared = DARKTABLE.replace('"UTF-8"', f'"{encoding.removesuffix("-sig")}"')
    content = xmp.Packet(declared.encode(encoding)).describe("狗")
    assert languages(content, "dc:description")["x-default"] == "狗"
    assert "Käse" in content.decode()


RDF_ONLY = '<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">{}</r:RDF>'


@pytest.mark.parametrize(
    "inside",
    [
        "",
        '<r:Description r:about=""/>',
        '<r:Description xmlns:d="http://purl.org/dc/elements/1.1/" d:description="short"/>',
        '<r:Description xmlns:d="http://purl.org/dc/elements/1.1/"><d:description>bare</d:description></r:Description>',
        '<r:Description xmlns:dc="urn:other" xmlns:rdf="urn:third" dc:description="theirs"/>',
        '<r:Description/><r:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><r:Alt/>'
        "</dc:description></r:Description>",
    ],
)
def test_unusual_packets(inside: str) -> None:
    content = xmp.Packet(RDF_ONLY.format(inside).encode()).describe("a dog")
    root = ElementTree.fromstring(content)
    for name in OURS:
        (item,) = root.findall(f"rdf:Description/{name}/rdf:Alt/rdf:li", NAMES)
        assert item.text == "a dog"
        assert item.get(LANG) == "x-default"
    for former in (b"short", b"bare"):  # somebody else's words are kept aside
        assert content.count(former) == (former.decode() in inside)
        assert (b">" + former + b"</captionlens:Replaced>" in content) == (former.decode() in inside)
    assert (b'dc:description="theirs"' in content) == ("theirs" in inside)


def test_characters_that_xml_cannot_write_are_left_out() -> None:
    content = xmp.Packet().describe("a\x00 \x0bd\udcffog\ufffe 👍")
    assert languages(content, "dc:description") == {"x-default": "a dog 👍"}


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>'


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("not xml", "not well-formed"),
        ("", "not well-formed"),
        ("<a/>", "no rdf:RDF"),
        (BOMB, "document type"),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "not well-formed"),
        (RDF_ONLY.format("<a>" * 4000 + "</a>" * 4000), "too deeply"),
    ],
    ids=["text", "empty", "xml", "bomb", "encoding", "deep"],
)
def test_what_is_no_xmp_is_refused_and_left_alone(tmp_path: Path, content: str, cause: str) -> None:
    sidecar = tmp_path / "photo.xmp"
    sidecar.write_text(content)
    with pytest.raises(FileError, match=cause) as raised:
        write_sidecar(tmp_path / "photo.jpg", DOG, "xmp", "overwrite")
    assert str(sidecar) in str(raised.value)
    assert sidecar.read_text() == content


def test_names(tmp_path: Path) -> None:
    photo = tmp_path / "my.photo.jpg"
    assert sidecar_path(photo, "txt") == tmp_path / "my.photo.txt"
    assert sidecar_path(photo, "xmp") == tmp_path / "my.photo.xmp"
    (tmp_path / "my.photo.jpg.xmp").write_text(DARKTABLE, "utf-8")
    assert sidecar_path(photo, "xmp") == tmp_path / "my.photo.jpg.xmp"
    assert sidecar_path(photo, "txt") == tmp_path / "my.photo.txt"


@pytest.mark.parametrize("kind", ["txt", "xmp"])
def test_existing_sidecars(tmp_path: Path, kind: Sidecar) -> None:
    photo = tmp_path / "photo.jpg"
    photo.touch()
    path = write_sidecar(photo, DOG, kind, "error")
    assert path is not None
    assert path == tmp_path / f"photo.{kind}"
    before = path.read_bytes()
    assert write_sidecar(photo, Caption("a cat"), kind, "skip") is None
    with pytest.raises(FileError, match="exists already"):
        write_sidecar(photo, Caption("a cat"), kind, "error")
    assert path.read_bytes() == before
    assert write_sidecar(photo, Caption("a cat"), kind, "overwrite") == path
    assert b"a cat" in path.read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {photo.name, path.name}


def test_text_is_one_line_of_utf8(tmp_path: Path) -> None:
    path = write_sidecar(tmp_path / "photo.jpg", DOG, "txt")
    assert path is not None
    assert path.read_bytes() == (DOG.text + "\n").encode()


def test_darktables_file_is_the_one_that_is_changed(tmp_path: Path) -> None:
    theirs = tmp_path / "photo.jpg.xmp"
    theirs.write_text(DARKTABLE, "utf-8")
    assert write_sidecar(tmp_path / "photo.jpg", DOG, "xmp", "overwrite") == theirs
    assert languages(theirs.read_bytes(), "dc:description")["x-default"] == DOG.text
    assert [file.name for file in tmp_path.iterdir()] == ["photo.jpg.xmp"]


def test_failures_are_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'doc'"):
        write_sidecar("photo.jpg", DOG, "doc")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="'ask'"):
        write_sidecar("photo.jpg", DOG, "txt", "ask")  # type: ignore[arg-type]
    with pytest.raises(FileError, match="missing"):
        write_sidecar(tmp_path / "missing" / "photo.jpg", DOG, "txt")
    (tmp_path / "photo.xmp").mkdir()
    with pytest.raises(FileError, match=r"photo\.xmp"):
        write_sidecar(tmp_path / "photo.jpg", DOG, "xmp", "overwrite")
    error = UnreadableImage("photo.jpg", "no such file")
    with pytest.raises(UnreadableImage):
        write_sidecar(tmp_path / "photo.jpg", Caption("", error=error), "txt")


@pytest.mark.parametrize("kind", SIDECARS)
def test_two_photographs_never_share_a_sidecar(tmp_path: Path, kind: Sidecar) -> None:
    names = ["a.jpg", "a.PNG", "b.jpg", "b.nef", "c.jpg"]
    for name in names:
        (tmp_path / name).touch()
    sink = Sidecars(kind)
    for name in names:
        sink.write(Caption(f"of {name}", path=str(tmp_path / name)))
    wanted = {name: f"{name}.{kind}" for name in names} | {"c.jpg": f"c.{kind}"}
    for name, sidecar in wanted.items():
        assert f"of {name}" in (tmp_path / sidecar).read_text()
    assert {path.name for path in tmp_path.iterdir()} == {*names, *wanted.values()}
    assert sidecar_path(tmp_path / "c.jpg", kind, "name") == tmp_path / f"c.jpg.{kind}"
    assert sidecar_path(tmp_path / "a.jpg", kind, "stem") == tmp_path / f"a.{kind}"


def test_a_sidecar_is_written_once_until_its_photograph_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")

    def photograph() -> Photograph:
        found = Photograph(path)
        found.file = stamp(path)
        return found

    sink = Sidecars("xmp")
    assert not sink.has(photograph())
    sink.write(replace(DOG, path=str(path), photograph=photograph()))
    assert sink.has(photograph())
    path.write_bytes(b"another")
    os.utime(path, ns=(0, (tmp_path / "a.xmp").stat().st_mtime_ns + 1))
    assert not sink.has(photograph())
    sink.write(Caption("a cat", path=str(path), photograph=photograph()))
    assert languages((tmp_path / "a.xmp").read_bytes(), "dc:description") == {"x-default": "a cat"}
    os.utime(path, ns=(0, (tmp_path / "a.xmp").stat().st_mtime_ns + 1))  # touched, but of the same content
    assert not sink.has(photograph())
    assert not Sidecars("xmp", "overwrite").has(photograph())


def test_what_a_person_wrote_stays(tmp_path: Path) -> None:
    photo = Photograph(tmp_path / "photo.jpg")
    (tmp_path / "photo.jpg").touch()
    sidecar = tmp_path / "photo.xmp"
    sidecar.write_text(DARKTABLE, "utf-8")
    os.utime(tmp_path / "photo.jpg", ns=(0, sidecar.stat().st_mtime_ns + 1))
    assert Sidecars("xmp", "skip").has(photo)
    assert not Sidecars("xmp", "fill").has(photo)  # it has no alternative text
    Sidecars("xmp", "fill").write(replace(DOG, path=photo.name))
    assert languages(sidecar.read_bytes(), "dc:description")["x-default"] == "old words"
    assert languages(sidecar.read_bytes(), "iptc:AltTextAccessibility") == {"x-default": DOG.text}
    assert Sidecars("xmp", "fill").has(photo)
    sink = Sidecars("xmp", "overwrite")
    sink.write(replace(DOG, path=photo.name))
    assert sink.replaced == 1
    assert b">old words</captionlens:Replaced>" in sidecar.read_bytes()
    (tmp_path / "photo.txt").write_text("")
    assert Sidecars("txt", "skip").has(photo)
    assert not Sidecars("txt", "fill").has(photo)
