"""Peer of `captioning.py`: BLIP-base in transformers, captioning photographs from their files.

BLIP-base of transformers' default configuration: a ViT-B/16 at 384 pixels and a decoder of 12 layers. Its weights are
random: speed does not depend on them. Every caption has the same number of words, searched for by beam search, one
photograph at a time.

Needs torch, transformers and Pillow, not captionlens. Prints one JSON object.
"""

import argparse
import json
import os
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from PIL import Image
from transformers import BlipConfig, BlipForConditionalGeneration

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP, as BLIP's


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", type=Path, help="a file with the path of a photograph in each line")
    parser.add_argument("--beam", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=13, help="of a caption, its start and end included")
    parser.add_argument("--threads", type=int, default=0, help="0: torch's own choice")
    options = parser.parse_args()

    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(BlipConfig()).eval()
    size = model.config.vision_config.image_size
    names = options.names.read_text().splitlines()
    times = []
    lengths = set()
    for name in [names[0], *names]:  # the first only warms up
        begin = time.perf_counter()
        with torch.inference_mode():
            tokens = model.generate(
                pixel_values=read(name, size),
                min_length=options.tokens,
                max_length=options.tokens,
                num_beams=options.beam,
            )
        times.append(time.perf_counter() - begin)
        lengths.add(tokens.shape[1])
    times = times[1:]
    result = {
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "threads": torch.get_num_threads(),
        "photographs_per_second": len(times) / sum(times),
        "latency_p50_ms": 1000 * median(times),
        "seconds": times,
        "tokens": sorted(lengths),
    }
    print(json.dumps(result))


def read(name: str, size: int) -> torch.Tensor:
    """A photograph as BLIP wants it (1, 3, size, size)."""
    with Image.open(name) as image:
        pixels = np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC), np.float32)
    values = (pixels / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(values.transpose(2, 0, 1)[None].copy())


if __name__ == "__main__":
    main()
