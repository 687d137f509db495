"""Output of captions: text and JSON formats, sidecar files, figures, the HTML report."""

from typing import Literal, get_args

FORMATS = ("text", "json", "jsonl", "csv", "coco")  # of the captions, see `outputs.formats`
Spreadsheet = Literal["comma", "semicolon"]  # of csv: between the cells of a table for spreadsheet programs
SPREADSHEETS = get_args(Spreadsheet)
Sidecar = Literal["txt", "xmp"]  # see `outputs.sidecar`
OnExisting = Literal["skip", "fill", "overwrite", "error"]  # where there is a caption already
SIDECARS, ON_EXISTING = get_args(Sidecar), get_args(OnExisting)
SidecarNames = Literal["auto", "stem", "name"]  # photo.xmp or photo.jpg.xmp, see `outputs.sidecar`
SIDECAR_NAMES = get_args(SidecarNames)

EMBEDDED_AT_MOST = 200  # photographs inside the HTML report; those of a longer one are files beside it
Purpose = Literal["caption", "alt-text"]  # what captions are worded for, see `outputs.wording`
PURPOSES = get_args(Purpose)
