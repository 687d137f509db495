"""Output of captions: text and JSON formats, sidecar files, figures, the HTML report."""

from typing import Literal, get_args

FORMATS = ("text", "json", "jsonl", "csv", "coco")  # of the captions, see `outputs.formats`
Sidecar = Literal["txt", "xmp"]  # see `outputs.sidecar`
OnExisting = Literal["skip", "overwrite", "error"]  # where a sidecar exists
SIDECARS, ON_EXISTING = get_args(Sidecar), get_args(OnExisting)

EMBEDDED_AT_MOST = 200  # photographs inside the HTML report; those of a longer one are files beside it
