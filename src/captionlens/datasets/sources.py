"""Download sources of the known data sets: addresses, sizes and checksums of their archives.

The sizes and MD5 sums of COCO's archives are those that its server states (a file stored in one piece has its
MD5 as ETag) and that other projects have published for years. For Flickr8k only the MD5 sums are published;
its sizes come from the server. In addition, every unpacked file is checked against its CRC in the archive.
"""

import os
import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from captionlens.errors import DownloadError, OptionError

MIRROR_VARIABLE = "CAPTIONLENS_MIRROR"


@dataclass(frozen=True, slots=True)
class Archive:
    """One zip file of a data set."""

    url: str
    members: tuple[str, ...]  # patterns of the names to unpack
    into: str = ""  # the folder inside the data set's to unpack it into
    size: int | None = None  # bytes, where published
    checksum: str | None = None  # "md5:..." or "sha256:...", where published

    @property
    def name(self) -> str:
        """Name of the file, the last part of its address."""
        return urlsplit(self.url).path.rsplit("/", 1)[-1]

    def wants(self, member: str) -> bool:
        """Whether to unpack a file of that name inside the archive."""
        # Archives packed on a Mac hold a metadata file beside every file.
        return "__MACOSX" not in member and any(fnmatchcase(member, pattern) for pattern in self.members)


@dataclass(frozen=True, slots=True)
class Source:
    """A known data set."""

    name: str
    archives: tuple[Archive, ...]
    by_hand: str = ""  # instructions for files that cannot be downloaded
    marks: tuple[str, ...] = ()  # files or folders that show that it is there, if it is downloaded by hand


def _coco(year: str, sizes: tuple[int, int, int], md5s: tuple[str, str, str]) -> Source:
    server = "http://images.cocodataset.org"
    paths = (
        (f"annotations/annotations_trainval{year}.zip", "annotations/captions_*.json"),
        (f"zips/val{year}.zip", f"val{year}/*.jpg"),
        (f"zips/train{year}.zip", f"train{year}/*.jpg"),
    )
    return Source(
        f"coco{year}",
        tuple(
            Archive(f"{server}/{path}", (members,), size=size, checksum=f"md5:{md5}")
            for (path, members), size, md5 in zip(paths, sizes, md5s, strict=True)
        ),
    )


_FLICKR8K = "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k"
_FLICKR30K = """\
Flickr30k is not downloadable: its authors hand it out against a form, and it may not be passed on.
  1. Ask for it at https://shannon.cs.illinois.edu/DenotationGraph/ (University of Illinois).
  2. Unpack it so that {folder} holds results_20130124.token and flickr30k-images/.
  3. Run this again, or give the folder's path instead of the name."""

SOURCES = {
    source.name: source
    for source in (
        _coco(
            "2014",
            (252_872_794, 6_645_013_297, 13_510_573_713),
            (
                "0a379cfc70b0e71301e0f377548639bd",
                "a3d79f5ed8d289b7a7554ce06a5782b3",
                "0da8c0bd3d6becc4dcb32757491aca88",
            ),
        ),
        _coco(
            "2017",
            (252_907_541, 815_585_330, 19_336_861_798),
            (
                "f4bbac642086de4f52a3fdda2de5fa2c",
                "442b8da7639aecaf257c1dceb8ba8c80",
                "cced6f7f71b7629ddf16f17bbcfab6b2",
            ),
        ),
        Source(
            "flickr8k",
            (
                Archive(
                    f"{_FLICKR8K}/Flickr8k_text.zip",
                    ("Flickr8k.token.txt", "Flickr_8k.*Images.txt"),
                    into="Flickr8k_text",
                    checksum="md5:bf6c1abcb8e4a833b7f922104de18627",
                ),
                Archive(
                    f"{_FLICKR8K}/Flickr8k_Dataset.zip",
                    ("Flicker8k_Dataset/*.jpg",),
                    checksum="md5:f18a1e2920de5bd84dae7cf08ec78978",
                ),
            ),
        ),
        Source("flickr30k", (), _FLICKR30K, ("results_20130124.token", "results.csv", "dataset_flickr30k.json")),
    )
}


def known_source(name: str) -> Source:
    """Find a known data set by its name.

    Raises:
        OptionError: the name is unknown.
    """
    if name not in SOURCES:
        raise OptionError(f"unknown data set {name!r}: use one of {', '.join(SOURCES)}")
    return SOURCES[name]


def mirror() -> str | None:
    """Address in `CAPTIONLENS_MIRROR`, which replaces the servers of all data sets.

    The path of each archive's address is appended: `http://mirror.example/coco` has
    `http://mirror.example/coco/zips/train2014.zip`.

    Raises:
        OptionError: it is not an http or https address.
    """
    address = os.environ.get(MIRROR_VARIABLE, "").strip()
    if address and urlsplit(address).scheme not in ("http", "https"):
        raise OptionError(f"{MIRROR_VARIABLE} must start with http:// or https://, got {address!r}")
    return address or None


def on_mirror(archive: Archive, address: str, sums: dict[str, str]) -> Archive:
    """Make the source of an archive on a mirror.

    A mirror may serve a smaller data set of the same form, to which the published sizes and sums do not apply. Its own
    `SHA256SUMS` is used instead, or without one the size that its server states.
    """
    path = urlsplit(archive.url).path.lstrip("/")
    checksum = sums.get(path) or sums.get(archive.name)
    url = f"{address.rstrip('/')}/{path}"
    return replace(archive, url=url, size=None, checksum=checksum and f"sha256:{checksum}")


def parse_sums(text: str, url: str) -> dict[str, str]:
    """Parse the output of `sha256sum` to SHA-256 by file name.

    Raises:
        DownloadError: a line is malformed.
    """
    sums = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        found = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](.+)", line.strip())
        if found is None:
            raise DownloadError(f"{url}: line {number} is not of the form 'SHA256  NAME'")
        sums[found[2].removeprefix("./")] = found[1].lower()
    return sums
