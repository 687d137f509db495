"""A small COCO 2014 in the form of the official archives, and a web server that can misbehave."""

import hashlib
import io
import json
import os
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

COLOURS = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 60, 220), "yellow": (240, 220, 40)}
SHAPES = ("circle", "square")


def small_photograph(number: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """A JPEG of one coloured shape; no two numbers below 256 give the same."""
    image = Image.new("RGB", size, (200, 200, number % 256))
    colour = COLOURS[list(COLOURS)[number % 4]]
    draw = ImageDraw.Draw(image)
    box = (10 + number % 7, 8, 40 + number % 7, 38)
    (draw.ellipse if number // 4 % 2 == 0 else draw.rectangle)(box, fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def small_captions(number: int) -> list[str]:
    """Five true captions of that photograph."""
    colour, shape = list(COLOURS)[number % 4], SHAPES[number // 4 % 2]
    thing = f"{colour} {shape}"
    return [
        f"a {thing}",
        f"A {thing}.",
        f"there is a {thing}",
        f"one {thing} on grey",
        f"a picture of a {thing}",
    ]


def captions_json(images: list[tuple[int, str]]) -> dict[str, Any]:
    """COCO's captions format for photographs `(number, file_name)`."""
    annotations = [
        {"image_id": number, "id": 5 * number + k, "caption": caption}
        for number, _ in images
        for k, caption in enumerate(small_captions(number))
    ]
    entries = [{"id": number, "file_name": name, "width": 64, "height": 48} for number, name in images]
    return {"info": {}, "images": entries, "licenses": [], "annotations": annotations}


def make_small_coco2014(folder: Path, images: int = 24) -> None:
    """Write `zips/*2014.zip`, `annotations/annotations_trainval2014.zip` and `SHA256SUMS`.

    Two thirds of the `images` are train, the others val.
    """
    parts = {"train": range(1, images * 2 // 3 + 1), "val": range(images * 2 // 3 + 1, images + 1)}
    for name in ("zips", "annotations"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    annotations = folder / "annotations" / "annotations_trainval2014.zip"
    with zipfile.ZipFile(annotations, "w", zipfile.ZIP_DEFLATED) as packed:
        for split, numbers in parts.items():
            listed = [(number, f"COCO_{split}2014_{number:012d}.jpg") for number in numbers]
            packed.writestr(f"annotations/captions_{split}2014.json", json.dumps(captions_json(listed)))
            packed.writestr(f"annotations/instances_{split}2014.json", "{}")
            with zipfile.ZipFile(folder / "zips" / f"{split}2014.zip", "w") as photographs:
                photographs.writestr(f"{split}2014/", "")
                for number, name in listed:
                    photographs.writestr(f"{split}2014/{name}", small_photograph(number))
    write_sums(folder)


def write_sums(folder: Path) -> None:
    """Write `SHA256SUMS` over all zip files below `folder`."""
    files = sorted(folder.rglob("*.zip"))
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder).as_posix()}" for file in files
    ]
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")


@dataclass
class Misbehaviour:
    """What a server does wrong; by default nothing. May be changed while it runs."""

    drop_after: int | None = None  # close the connection after so many bytes of a file
    drops: int = 1_000_000  # so many times
    ignore_ranges: bool = False  # 200 with the whole file, whatever was asked for
    ignore_if_range: bool = False  # 206 although the file has changed
    extra_length: int = 0  # add to Content-Length
    chunked: bool = False  # no Content-Length at all
    no_validator: bool = False  # neither ETag nor Last-Modified
    statuses: list[int] = field(default_factory=list)  # the first answers
    redirect: str | None = None  # the address everything is redirected to
    pause: float = 0.0  # seconds between two pieces of 4 KiB
    hang: float = 0.0  # seconds before the first byte


class Address(str):
    """The server's URL, with what it was asked and what it does wrong."""

    requests: list[tuple[str, str | None]]  # path and Range of each
    misbehaviour: Misbehaviour


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path, address: Address, *args: Any) -> None:
        self.folder, self.address_ = folder, address
        super().__init__(*args)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        wrong = self.address_.misbehaviour
        path, span = self.path.lstrip("/"), self.headers.get("Range")
        self.address_.requests.append((path, span))
        if wrong.statuses:
            return self._plain(wrong.statuses.pop(0))
        if wrong.redirect is not None:
            return self._plain(302, {"Location": wrong.redirect})
        file = self.folder / path
        if not file.is_file():
            return self._plain(404)
        content = file.read_bytes()
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        same = wrong.ignore_if_range or self.headers.get("If-Range") in (None, etag)
        start = 0
        if span and same and not wrong.ignore_ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", span)[1])  # type: ignore[index]
            if start >= len(content):
                return self._plain(416, {"Content-Range": f"bytes */{len(content)}"})
        time.sleep(wrong.hang)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if not wrong.no_validator:
            self.send_header("ETag", etag)
        if wrong.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(content) - start + wrong.extra_length))
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        return self._send(content[start:], wrong)

    def _send(self, content: bytes, wrong: Misbehaviour) -> None:
        if wrong.drop_after is not None and wrong.drops > 0 and len(content) > wrong.drop_after:
            wrong.drops -= 1
            content, finish = content[: wrong.drop_after], False
        else:
            finish = True
        if wrong.extra_length < 0:
            content = content[: wrong.extra_length]
        step = 4096 if wrong.pause else max(1, len(content))
        for begin in range(0, len(content), step):
            piece = content[begin : begin + step]
            if wrong.chunked:
                piece = b"%x\r\n%s\r\n" % (len(piece), piece)
            self.wfile.write(piece)
            time.sleep(wrong.pause)
        if wrong.chunked and finish:
            self.wfile.write(b"0\r\n\r\n")

    def _plain(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", "Connection": "close", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that was killed is part of the tests


@contextmanager
def serve(folder: Path, **misbehaviour: Any) -> Iterator[Address]:
    """Serve `folder` on 127.0.0.1; yields the URL, which ends with a slash."""
    handler = partial(_Handler, folder)
    server = _Server(("127.0.0.1", 0), handler)
    address = Address(f"http://127.0.0.1:{server.server_address[1]}/")
    address.requests, address.misbehaviour = [], Misbehaviour(**misbehaviour)
    server.RequestHandlerClass = partial(_Handler, folder, address)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    bypass = os.environ.get("no_proxy")
    os.environ["no_proxy"] = "127.0.0.1"  # a proxy of the surroundings has no business here
    try:
        yield address
    finally:
        if bypass is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = bypass
        server.shutdown()
        thread.join()
        server.server_close()
