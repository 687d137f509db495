"""Captioning without torch: photographs, vocabulary, decoding, the model directory, and the Captioner."""
