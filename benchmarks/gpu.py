"""The tutorial's job on a graphics card, from a clone of the repository with nothing installed but PyTorch and NumPy.

Grids and words are drawn at random; captions have the lengths of Flickr8k's, photographs five of them each. What runs
is the project's own: its batches, network and loss, with Adam in a plain loop, and the grids resident on the card.
Extraction is measured too where h5py, Pillow, safetensors and tqdm are installed: the network alone, on random
pictures, with random weights. So is fine-tuning from photographs, as with the setting `crop`: the frozen blocks of
EfficientNet-Lite2, the trained ones and the captioner, forward and backward, without the reading of files.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --eager
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import fail, finish, positive, seconds
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from captionlens.network import CaptioningNetwork
from captionlens.network.network_config import PRESETS, NetworkConfig
from captionlens.runtime.vocabulary import END, START
from captionlens.training.batches import CaptionedPhotographs, training_loader
from captionlens.training.grids import ResidentGrids
from captionlens.training.objectives.cross_entropy import CrossEntropy

# Flickr8k's 30,000 training captions: how many have 2, 3, 4 ... words.
LENGTHS = (15, 125, 340, 854, 1948, 2501, 2916, 3319, 3309, 3133, 2773, 2330, 1865, 1339, 979, 684, 518, 370, 213,
           138, 105, 80, 51, 36, 19, 10, 9, 8, 5, 3, 2, 2, 0, 0, 0, 1)  # fmt: skip
VOCABULARY = 5004
EACH = 5  # captions of a photograph
BATCH, LEARNING_RATE, GRADIENT_CLIP = 64, 1e-3, 5.0  # as preset `tutorial`
EXTRACTED, REPEATS = 64, 10  # photographs in a batch, and batches
TUNED_BLOCKS = (6, 20)  # of 21
TUNED_PHOTOGRAPHS, TUNED_SIZE = 20, 320  # in a batch, and pixels a side


class RandomGrids:
    """Grids of photographs named by numbers, drawn from few."""

    def __init__(self, places: int, channels: int) -> None:
        self.grids = np.random.default_rng(0).random((256, places, channels), np.float32).astype(np.float16)

    def __contains__(self, key: str) -> bool:
        return True

    def read(self, keys: Iterable[str]) -> NDArray[np.float16]:
        """Grids (n, L, D)."""
        return self.grids[[int(key) % len(self.grids) for key in keys]]


class RandomPhotographs(CaptionedPhotographs):
    """Photographs with random captions of real lengths, commoner words with lower numbers."""

    def __init__(self, captions: int, grids: RandomGrids) -> None:
        random = np.random.default_rng(1)
        shares = np.array(LENGTHS) / sum(LENGTHS)
        lengths = 2 + random.choice(len(LENGTHS), (max(1, captions // EACH), EACH), p=shares)
        self.store = grids
        self.mirrored, self.targets, self.blanked, self.masses = [], {}, {}, {}
        self.balance = self.distillation = 0.0
        self.items = [
            (str(number), [self._caption(random, length) for length in sorted(of_photograph, reverse=True)])
            for number, of_photograph in enumerate(lengths.tolist())
        ]
        self.draws = [1.0] * len(self.items)

    @staticmethod
    def _caption(random: np.random.Generator, length: int) -> list[int]:
        words = np.minimum(random.zipf(1.2, length) + END, VOCABULARY - 1)
        return [START, *words.tolist(), END]


def main() -> None:
    parser = argparse.ArgumentParser(description="The tutorial's job on a graphics card.")
    parser.add_argument("--device", default="cuda", help="cuda (default) or cpu")
    parser.add_argument("--captions", type=positive, default=30000, help="default: 30000")
    parser.add_argument("--epochs", type=positive, default=20, help="default: 20")
    parser.add_argument("--grid", type=positive, nargs=2, default=(64, 2048), metavar=("PLACES", "CHANNELS"))
    parser.add_argument("--eager", action="store_true", help="without PyTorch's compiler")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        fail("this PyTorch sees no CUDA card")
    device = torch.device(options.device)
    if options.eager:
        torch.compiler.set_stance("force_eager")
    parts: dict[str, float] = {}
    epochs, captions = train(options, device, parts)
    result = {
        "benchmark": "gpu",
        "machine": {
            "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "eager": options.eager,
        "captions_per_second": captions / median(epochs),  # the first epoch compiles
        "epoch_seconds": epochs,
        "training_seconds": sum(epochs),
        "seconds": parts,
        "peak_memory_mib": torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None,
        "extraction_photographs_per_second": extraction(device),
        "finetuning_photographs_per_second": finetuning(device),
    }
    print(f"\n{options.epochs} epochs of {captions} captions: {result['training_seconds']:.1f} s")
    for part, taken in parts.items():
        print(f"  {part}: {taken:.1f} s")
    for name, rate in result["extraction_photographs_per_second"].items():
        print(f"{name}: {rate:,.0f} photographs/s through the network")
    for blocks, rate in result["finetuning_photographs_per_second"].items():
        print(f"fine-tuning {blocks} blocks: {rate:,.0f} photographs/s")
    finish(result)


def train(options: argparse.Namespace, device: torch.device, parts: dict[str, float]) -> tuple[list[float], int]:
    """Seconds of each epoch, and its captions; `parts` gets those of each part.

    A card works behind the program's back: the seconds of the parts are the program's, and what it waits for in the
    end of an epoch is the rest of the card's work.
    """
    torch.manual_seed(1)
    places, channels = options.grid
    data = RandomPhotographs(options.captions, RandomGrids(places, channels))
    with timed(parts, "grids to the card, before the first epoch"):
        data.store = ResidentGrids(data.store, [key for key, _ in data.items], device)
    config = NetworkConfig(vocabulary=VOCABULARY, rows=places, columns=1, channels=channels, **PRESETS["tutorial"])
    network = CaptioningNetwork(config).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0, fused=True)
    epochs = []
    for epoch in range(options.epochs):
        begin = time.perf_counter()
        losses = []
        loader = iter(training_loader(data, captions=BATCH, seed=1, epoch=epoch))
        while True:
            with timed(parts, "batches"):
                batch = next(loader, None)
            if batch is None:
                break
            with timed(parts, "forward"):
                with torch.autocast(device.type, torch.bfloat16):
                    teacher = network.teach(batch.features, batch.captions.to(device))
                    loss, mean, _ = CrossEntropy().loss(teacher, batch)
                losses.append(mean)
            with timed(parts, "backward"):
                loss.backward()
            with timed(parts, "optimiser"):
                torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_CLIP)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        with timed(parts, "rest of the card's work"):
            epoch_loss = float(torch.stack(losses).mean())
        epochs.append(time.perf_counter() - begin)
        print(f"epoch {epoch + 1}: {epochs[-1]:.2f} s, loss {epoch_loss:.3f}", flush=True)
    return epochs, data.caption_count


def extraction(device: torch.device) -> dict[str, float]:
    """Photographs a second through each backbone; empty where packages are missing."""
    try:
        from captionlens.features.backbones.efficientnet_lite import EfficientNetLite
        from captionlens.features.backbones.inception_v3 import InceptionV3
        from captionlens.features.extract import Prepared
    except ModuleNotFoundError as error:
        print(f"extraction is not measured: {error}", file=sys.stderr)
        return {}
    rates = {}
    networks: Sequence[tuple[str, Callable[[], Any]]] = (
        ("inception_v3", lambda: InceptionV3(count_include_pad=True)),
        ("efficientnet_lite2", lambda: EfficientNetLite("efficientnet_lite2")),
    )
    for name, make in networks:
        backbone = make().eval()
        size = backbone.preprocessing.size
        pixels = np.random.default_rng(0).integers(0, 256, (EXTRACTED, size, size, 3), np.uint8)
        run = Prepared(backbone, device.type, torch.bfloat16)
        # A pass ends with the grids in the program's memory.
        rates[name] = EXTRACTED / median(seconds(partial(run, pixels), REPEATS, warm_up=2))
    return rates


def finetuning(device: torch.device) -> dict[int, float]:
    """Photographs a second in training from photographs, by the number of blocks that are trained."""
    try:
        from captionlens.features.backbones.efficientnet_lite import EfficientNetLite
        from captionlens.features.extract import Prepared
    except ModuleNotFoundError:  # told by `extraction`
        return {}
    rates = {}
    for blocks in TUNED_BLOCKS:
        backbone = EfficientNetLite("efficientnet_lite2", TUNED_SIZE).eval()
        frozen, tail = backbone.split(blocks)
        rows, columns = backbone.grid
        sizes = NetworkConfig(VOCABULARY, rows, columns, backbone.channels, **PRESETS["base"])
        network = CaptioningNetwork(sizes, tail).to(device).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)
        trunk = Prepared(frozen, device.type, torch.bfloat16)
        pixels = np.random.default_rng(0).integers(0, 256, (TUNED_PHOTOGRAPHS, TUNED_SIZE, TUNED_SIZE, 3), np.uint8)
        data = RandomPhotographs(TUNED_PHOTOGRAPHS * EACH, RandomGrids(1, 1))
        batch = data.collate(data.items[:TUNED_PHOTOGRAPHS])

        def step() -> None:
            with torch.autocast(device.type, torch.bfloat16):
                teacher = network.teach(trunk.grids(pixels), batch.captions.to(device))  # noqa: B023 (called at once)
                loss = CrossEntropy().loss(teacher, batch).total  # noqa: B023
            loss.backward()
            optimizer.step()  # noqa: B023
            optimizer.zero_grad(set_to_none=True)  # noqa: B023
            loss.item()  # waits for the card

        rates[blocks] = TUNED_PHOTOGRAPHS / median(seconds(step, REPEATS, warm_up=2))
    return rates


@contextmanager
def timed(parts: dict[str, float], part: str) -> Iterator[None]:
    """Add the seconds of a block to those of a part."""
    begin = time.perf_counter()
    try:
        yield
    finally:
        parts[part] = parts.get(part, 0.0) + time.perf_counter() - begin


if __name__ == "__main__":
    main()
