"""Inference without torch: reading photographs, vocabulary, decoding, model directories, and the `Captioner`."""

import os

# ONNX Runtime's official builds (1.32: its Privacy.md) record usage in a database in the user's home and send it to
# their makers, unless this is set before they are loaded. Users who want the telemetry set it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from typing import Literal, get_args

Unsure = Literal["mark", "withhold", "show"]  # what becomes of captions that a calibrated model is unsure of
UNSURE: tuple[Unsure, ...] = get_args(Unsure)
NOT_SURE = "not sure: "  # before captions of photographs that the captioner may not know

# Of photographs in folders; what a file is, its content tells.
EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".mpo", ".avif"}
    | {".heic", ".heif", ".hif"}
)
RAW_EXTENSIONS = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl"}
    | {".srw", ".x3f"}
)
