"""How fast photographs become grids of features, by the network alone and from JPEG files to the feature store.

Ours, for each backbone: the network alone on a prepared batch, as extraction runs it on a processor (fused,
channels-last, in bfloat16 where the processor has it), and the whole of `captionlens.features.extract.extract`, which
reads the photographs and writes a store. Beside them, on the same batch and in turn: the same network as plain torch
runs it, in float32, not fused.

The floor of a network is the sum over its convolutions of what each takes at best: its operations at the rate of a
large matrix product (2048 x 2048 x 2048, in the same number format; a sum and a product are two operations), or the
bytes of what it reads and writes at the rate of a large copy, whichever take longer. Both rates are measured in the
same run. The share of the floor is that time divided by the network's. Ours' peak memory is that of the whole
extractions.

With `--peer`, an interpreter that has TensorFlow runs Keras' InceptionV3 alone, and in the tutorial's way from the same
files to grids in memory. `ratio` and `ratio_network` compare our `inception_v3` with it.

With `--beside N`, N other processes compute all the while. Threads wait as those of `captionlens extract` do, asleep;
`OMP_WAIT_POLICY=ACTIVE` in the environment measures the other way.

InceptionV3 gets random weights where the published ones have not been downloaded: speed does not depend on them.

    python benchmarks/extraction.py --peer tensorflow-env/bin/python
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import (
    add_photographs,
    copy_rate,
    fail,
    finish,
    machine,
    matmul_rate,
    peak_memory_mib,
    per_second,
    positive,
    reset_peak_memory,
    run_peer_on,
    seconds_in_turn,
    table,
)
from numpy.typing import NDArray
from torch import Tensor, nn

from captionlens.datasets.records import Record
from captionlens.features.backbones import Backbone, load_backbone
from captionlens.features.backbones.base import has_fast_bfloat16
from captionlens.features.backbones.inception_v3 import WEIGHTS_URL, InceptionV3
from captionlens.features.backbones.weights_cache import cache_folder
from captionlens.features.extract import CPU_BATCH, Prepared, extract
from captionlens.memory import keep_freed_memory
from captionlens.threads import wait_asleep

BACKBONES = ("inception_v3", "efficientnet_lite2")
TUTORIAL_BATCH = 16
BUSY = """
import os
parent = os.getppid()
while os.getppid() == parent:
    sum(range(100_000))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Photographs to grids of features.")
    parser.add_argument(
        "--backbone", nargs="+", choices=BACKBONES, default=BACKBONES, help="one or several (default: both)"
    )
    add_photographs(parser)
    parser.add_argument(
        "--count", type=positive, default=512, help="photographs; repeated if the folder has fewer (default: 512)"
    )
    parser.add_argument("--repeats", type=positive, default=5, help="measurements of each (default: 5)")
    parser.add_argument("--beside", type=int, default=0, metavar="N", help="busy processes beside it (default: 0)")
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter of an environment with TensorFlow")
    options = parser.parse_args()
    with busy_processes(options.beside):
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """The table and the last line."""

    records = find_records(options.photographs, options.count)
    keep_freed_memory()  # as extraction does
    number_format = torch.bfloat16 if has_fast_bfloat16() else torch.float32
    ours: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for name in options.backbone:
        ours[name], plain[name] = measure(load(name), records, options.repeats, number_format)
    peer = run_keras(options.peer, records, options.repeats) if options.peer else None

    print(f"{options.count} photographs, medians of {options.repeats}")
    print(table(["", "photographs/s", "share of the floor"], table_rows(ours, plain, peer)))
    inception = ours.get("inception_v3")
    finish(
        {
            "benchmark": "extraction",
            "machine": machine(),
            "photographs": options.count,
            "beside": options.beside,
            "batch": min(CPU_BATCH, options.count),
            "number_format": str(number_format).removeprefix("torch."),
            "ours": ours,
            "plain_torch": plain,
            "peer": peer,
            "ratio": quotient(inception, peer, "photographs_per_second"),
            "ratio_network": quotient(inception, peer, "network_photographs_per_second"),
        }
    )


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes of Python that compute as long as the block lasts."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def find_records(folder: Path, count: int) -> list[Record]:
    """The first `count` photographs of a folder; where there are fewer, each several times under other names."""
    files = sorted(folder.glob("*.jpg"))
    if not files:
        fail(f"--photographs {folder}: has no .jpg files")
    for file in files[:count]:
        file.read_bytes()  # into the page cache, so that the first measurement does not read from the disk
    return [Record(file, (), "train", f"{number:06d}") for number, file in zip(range(count), itertools.cycle(files))]


def load(name: str) -> Backbone:
    """A backbone; InceptionV3 with random weights where the published ones have not been downloaded."""
    if name != "inception_v3" or (cache_folder() / Path(WEIGHTS_URL).name).is_file():
        return load_backbone(name)
    torch.manual_seed(0)
    backbone = InceptionV3(count_include_pad=True)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)  # keeps activations near 1
    return backbone.eval()


def measure(
    backbone: Backbone, records: Sequence[Record], repeats: int, number_format: torch.dtype
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The results of our way and of plain torch.

    Args:
        backbone: as loaded, not fused.
        records: the photographs.
        repeats: measurements of each.
        number_format: in which our way computes.
    """
    pixels = np.stack([backbone.preprocessing.read(record.image) for record in records[:CPU_BATCH]])
    # The machine's speed changes within minutes: its floor is measured on both sides of the network.
    before = machine_rates(number_format)
    ours, plain = network_seconds(backbone, pixels, number_format, 4 * repeats)
    rate, copied = (max(pair) for pair in zip(before, machine_rates(number_format), strict=True))
    reset_peak_memory()
    whole = extraction_seconds(backbone, records, repeats)
    peak_memory = peak_memory_mib()
    network = per_second("network_photographs", len(pixels), ours)
    floor = floor_of(backbone, len(pixels), rate, copied)
    results = {
        **per_second("photographs", len(records), whole),
        **network,
        "matrix_product_gigaflops_per_second": rate,
        "copy_gigabytes_per_second": copied,
        **floor,
        "share_of_floor": floor["floor_seconds_per_photograph"] * network["network_photographs_per_second"],
        "peak_memory_mib": peak_memory,
    }
    return results, per_second("network_photographs", len(pixels), plain)


def machine_rates(number_format: torch.dtype) -> tuple[float, float]:
    """10^9 operations a second of a large matrix product, and 10^9 bytes a second of a copy."""
    return matmul_rate(number_format, 2048, 2048, 2048), copy_rate()


def network_seconds(
    backbone: Backbone, pixels: NDArray[np.uint8], number_format: torch.dtype, repeats: int
) -> tuple[list[float], list[float]]:
    """Seconds of a batch through the network, in our way and in plain torch's."""
    prepared = Prepared(backbone, "cpu", number_format)
    batch = prepared.images(pixels)
    images = torch.from_numpy(backbone.preprocessing.normalise(pixels))  # (B, 3, H, W)
    with torch.inference_mode():
        measured = seconds_in_turn(
            {"ours": lambda: prepared.network(batch), "plain": lambda: backbone(images)}, repeats
        )
    return measured["ours"], measured["plain"]


def extraction_seconds(backbone: Backbone, records: Sequence[Record], repeats: int) -> list[float]:
    """Seconds of whole extractions, each into a new store."""
    measured = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            extraction = extract(records, folder, backbone, device="cpu", progress=False)
            measured.append(time.perf_counter() - begin)
        if extraction.unreadable:
            fail(f"a photograph cannot be read: {extraction.unreadable[0]}")
    return measured


def floor_of(backbone: Backbone, batch: int, rate: float, copy: float) -> dict[str, float]:
    """What a photograph would take at best: for each convolution its operations or its bytes, whichever take longer.

    Args:
        backbone: not fused.
        batch: photographs that share a reading of the weights.
        rate: of a large matrix product, in 10^9 operations a second.
        copy: in 10^9 bytes a second.
    """
    operations: list[float] = []
    sizes: list[float] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        operations.append(2 * weight[0].numel() * output.numel())
        sizes.append(2 * (inputs[0].numel() + output.numel() + weight.numel() / batch))  # in 16 bits each

    hooks = [module.register_forward_hook(note) for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    with torch.inference_mode():
        backbone(torch.zeros(1, 3, backbone.preprocessing.size, backbone.preprocessing.size))
    for hook in hooks:
        hook.remove()
    seconds = [max(o / rate, size / copy) / 1e9 for o, size in zip(operations, sizes, strict=True)]
    return {
        "operations_per_photograph": sum(operations),
        "bytes_per_photograph": sum(sizes),
        "floor_seconds_per_photograph": sum(seconds),
        "floor_seconds_of_operations_alone": sum(operations) / rate / 1e9,
    }


def run_keras(python: str, records: Sequence[Record], repeats: int) -> dict[str, Any]:
    """Keras' InceptionV3 over the same files."""
    photographs = [record.image for record in records]
    more = ["--batch", TUTORIAL_BATCH, "--repeats", repeats]
    return run_peer_on(photographs, python, "keras_inception.py", *more)


def table_rows(ours: dict[str, Any], plain: dict[str, Any], peer: dict[str, Any] | None) -> list[list[object]]:
    """What was measured, a row each: its name, photographs a second, the share of the floor."""
    rows: list[list[object]] = []
    for name, results in ours.items():
        network = results["network_photographs_per_second"]
        rows.append([f"{name}, network as extraction runs it", network, f"{results['share_of_floor']:.0%}"])
        rows.append([f"{name}, network in plain torch", plain[name]["network_photographs_per_second"], None])
        rows.append([f"{name}, files to store", results["photographs_per_second"], None])
    if peer is not None:
        rows.append(["Keras InceptionV3, network", peer["network_photographs_per_second"], None])
        rows.append(["Keras InceptionV3, files to grids", peer["photographs_per_second"], None])
    return rows


def quotient(ours: dict[str, Any] | None, peer: dict[str, Any] | None, key: str) -> float | None:
    """How many times as much as the peer's ours is; None where one of them was not measured."""
    return None if ours is None or peer is None else float(ours[key] / peer[key])


if __name__ == "__main__":
    if wait_asleep():  # read when PyTorch was loaded, above: start anew
        os.execv(sys.executable, sys.orig_argv)
    main()
