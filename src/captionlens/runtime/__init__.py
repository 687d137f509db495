"""Captioning without torch: photographs, vocabulary, decoding, the model directory, and the Captioner."""

import os

# ONNX Runtime's official builds (1.32: its Privacy.md) keep a database of how they are used in the user's home and
# send it to their makers, unless this is set before they are loaded. Whoever wants that sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
