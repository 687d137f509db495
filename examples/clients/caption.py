"""Captions for photographs from a running `captionlens serve`, with Python's standard library.

    python caption.py holiday/*.jpg
    python caption.py --where photo.jpg      # also where the network looked for every word

CAPTIONLENS_URL is where the service is, by default http://127.0.0.1:8000, and CAPTIONLENS_TOKEN the token it wants, if
it wants one. Prints path<TAB>caption a line. What fails is told on stderr, the others go on, and the exit code is 1.
"""

import argparse
import json
import mimetypes
import os
import sys
import time
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

URL = os.environ.get("CAPTIONLENS_URL", "http://127.0.0.1:8000").rstrip("/")
TOKEN = os.environ.get("CAPTIONLENS_TOKEN", "")
TRIES = 5
MOST_WAITING = 60  # seconds between two of them


def caption(path: str, **query: Any) -> dict[str, Any]:
    """What the service answers for the photograph at `path`; `query` as in its documentation, such as beam=5.

    Raises:
        OSError: the file cannot be read, the service cannot be reached, or (HTTPError) it answers with a problem.
    """
    kind = mimetypes.guess_type(path)[0] or ""
    headers = {"Content-Type": kind if kind.startswith("image/") else "application/octet-stream"}
    if TOKEN:
        headers["Authorization"] = f"Bearer {TOKEN}"
    request = Request(f"{URL}/v1/caption?{urlencode(query)}", Path(path).read_bytes(), headers)
    for left in reversed(range(TRIES)):
        try:
            with urlopen(request, timeout=120) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except HTTPError as error:
            # 429: this client asks too often. 503: too many are waiting. Both say when it may go better.
            if error.code not in (429, 503) or not left:
                raise
            wanted = error.headers.get("Retry-After", "")
            time.sleep(min(int(wanted) if wanted.isdecimal() else 1, MOST_WAITING))
    raise AssertionError("unreachable")


def detail(error: Exception) -> str:
    """What went wrong, for a person."""
    if isinstance(error, HTTPError):
        try:
            return f"{json.load(error)['detail']} (status {error.code})"
        except (ValueError, KeyError, TypeError):  # not from the service, but from a proxy before it
            return str(error)
    reason = getattr(error, "reason", error)  # URLError wraps what the system said
    if isinstance(reason, (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)):
        # urllib sends all before it reads what was answered meanwhile, and then it may be too late.
        return "the service hung up before all was sent: the photograph is too large, or the token wrong"
    return getattr(reason, "strerror", None) or str(reason)


def strongest(attention: list[list[float]]) -> tuple[int, int, float]:
    """The cell where the network looked most: its row and column, counted from 1 at the top left, and its share."""
    cells = ((row, column, share) for row, shares in enumerate(attention, 1) for column, share in enumerate(shares, 1))
    return max(cells, key=lambda cell: cell[2])


def main() -> int:
    """Caption what the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(description="Caption photographs with a running `captionlens serve`.")
    parser.add_argument("photographs", nargs="+", metavar="PHOTOGRAPH")
    parser.add_argument("--where", action="store_true", help="also tell where the network looked for every word")
    arguments = parser.parse_args()
    failed = False
    for path in arguments.photographs:
        try:
            found = caption(path, attention="true") if arguments.where else caption(path)
        except (OSError, HTTPException, ValueError) as error:
            print(f"{path}: {detail(error)}", file=sys.stderr)
            failed = True
            continue
        print(path, found["caption"], sep="\t")
        if arguments.where:
            for word in found["words"]:
                row, column, share = strongest(word["attention"])
                print(f"  {word['text']}: row {row}, column {column} ({share:.0%})")
    return 1 if failed else 0


if __name__ == "__main__":
    # Names of files need not be UTF-8.
    sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    sys.exit(main())
