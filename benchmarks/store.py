"""How fast random batches are read: the feature store against one `.npy` file a photograph, as the tutorial has it.

Both hold the same random grids of 64 places with 2048 numbers. Ours are float16 in shards of many photographs, mapped
into memory; the tutorial's are float32, one `np.save` a photograph, read by `np.load`. So ours are half of the bytes.
Two more rows tell how much that alone does: `.npy` files in float16, and our batches widened to float32 by torch, as
training does after reading.

One measurement reads every photograph once, in batches, in a random order that is new each time. Warm: all files are
in the system's page cache. Cold: the files are first dropped from it, and the time includes opening the store anew.
The column of what came from the disk shows whether they really were dropped; below a virtual machine there may be
another cache.

With `--peer`, an interpreter that has TensorFlow reads the tutorial's files by `tf.data` too.

    python benchmarks/store.py --peer tensorflow-env/bin/python
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import finish, machine, peak_memory_mib, per_second, positive, run_peer, table
from numpy.typing import NDArray

from captionlens.features.store import SHARD, FeatureStore, StoreIndex

ROWS, COLUMNS, CHANNELS = 8, 8, 2048  # InceptionV3's grid
NUMBERS = ROWS * COLUMNS * CHANNELS
OURS, WIDENED = "feature store, float16", "feature store, widened to float32"
NPY, NPY_HALF, TF_DATA = "np.load, float32 files", "np.load, float16 files", "tf.data, float32 files"

Read = Callable[[NDArray[np.int64]], object]


@dataclass(frozen=True)
class Way:
    """One way to keep the grids and to read them."""

    name: str
    folder: Path
    photograph_bytes: int  # on disk
    open: Callable[[], Read]  # returns what reads the batch of photographs with the given numbers


@dataclass
class Measured:
    """What was measured of one way, a value for each pass over all photographs."""

    warm: list[float]  # seconds
    cold: list[float]  # seconds
    from_disk: list[float]  # MiB, of the cold passes


def main() -> None:
    parser = argparse.ArgumentParser(description="Random batches from the feature store and from .npy files.")
    parser.add_argument("--photographs", type=positive, default=2000, help="1 MiB of disk each (default: 2000)")
    parser.add_argument("--batch", type=positive, default=64, help="photographs a batch (default: 64)")
    parser.add_argument("--repeats", type=positive, default=5, help="measurements of each (default: 5)")
    parser.add_argument("--folder", type=Path, help="where to make the temporary files (default: the system's place)")
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter of an environment with TensorFlow")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        ways = make_files(Path(folder), options.photographs)
        os.sync()  # what is not written yet cannot be dropped from the page cache
        check_equal(ways, options.photographs)
        random = np.random.default_rng(1)
        orders = [random.permutation(options.photographs) for _ in range(options.repeats + 1)]
        measured = {way.name: Measured([], [], []) for way in ways}
        measure_warm(ways, orders, options.batch, measured)
        measure_cold(ways, orders[1:], options.batch, measured)
        tf_data = None
        if options.peer:
            files = next(way.folder for way in ways if way.name == NPY)
            arguments = (files, "--batch", options.batch, "--repeats", options.repeats)
            tf_data = run_peer(options.peer, "npy_files.py", *arguments)

    results = {way.name: summary(way, measured[way.name], options.photographs) for way in ways}
    rows = dict(results)
    if tf_data is not None:
        rows[TF_DATA] = tf_data
    columns = {
        "warm photographs/s": "photographs_per_second",
        "MB/s": "megabytes_per_second",
        "cold photographs/s": "cold_photographs_per_second",
        "cold MB/s": "cold_megabytes_per_second",
        "MiB from disk": "cold_mib_from_disk",
    }
    print(f"{options.photographs} photographs, batches of {options.batch}, medians of {options.repeats}")
    print(table(["", *columns], [[name, *(row[key] for key in columns.values())] for name, row in rows.items()]))
    ours, peer = results[OURS], results[NPY]
    finish(
        {
            "benchmark": "store",
            "machine": machine(),
            "photographs": options.photographs,
            "batch": options.batch,
            "ours": ours,
            "ours_float32": results[WIDENED],
            "peer": peer,
            "peer_float16": results[NPY_HALF],
            "peer_tf_data": tf_data,
            "ratio": ours["photographs_per_second"] / peer["photographs_per_second"],
            "ratio_cold": ours["cold_photographs_per_second"] / peer["cold_photographs_per_second"],
            "peak_memory_mib": peak_memory_mib(),
        }
    )


def make_files(folder: Path, photographs: int) -> list[Way]:
    """Write the same random grids in each form."""
    index = StoreIndex("random", "random", ROWS, COLUMNS, CHANNELS)
    store = FeatureStore.create(folder / "store", index)
    single, half = folder / "float32", folder / "float16"
    single.mkdir()
    half.mkdir()
    random = np.random.default_rng(0)
    for begin in range(0, photographs, SHARD):
        numbers = range(begin, min(begin + SHARD, photographs))
        shape = (len(numbers), ROWS * COLUMNS, CHANNELS)
        grids = random.standard_normal(shape, np.float32).astype(np.float16)
        store.append([_name(number) for number in numbers], grids)
        for number, grid in zip(numbers, grids, strict=True):
            np.save(single / _name(number), grid.astype(np.float32))
            np.save(half / _name(number), grid)

    def read_files(files: Path) -> Read:
        return lambda numbers: np.stack([np.load(files / f"{_name(number)}.npy") for number in numbers])

    def open_store() -> Callable[[NDArray[np.int64]], NDArray[np.float16]]:
        opened = FeatureStore.open(store.folder)
        return lambda numbers: opened.read(_name(number) for number in numbers)

    def open_widened() -> Read:
        read = open_store()
        return lambda numbers: torch.from_numpy(read(numbers)).float()

    return [
        Way(OURS, store.folder, 2 * NUMBERS, open_store),
        Way(WIDENED, store.folder, 2 * NUMBERS, open_widened),
        Way(NPY, single, 4 * NUMBERS, lambda: read_files(single)),
        Way(NPY_HALF, half, 2 * NUMBERS, lambda: read_files(half)),
    ]


def _name(number: int) -> str:
    return f"photograph-{number:06d}"


def check_equal(ways: Sequence[Way], photographs: int) -> None:
    """Every way must read the same numbers."""
    numbers = np.unique([photographs - 1, photographs // 2, 0])
    grids = [np.asarray(way.open()(numbers)) for way in ways]
    for grid in grids:
        np.testing.assert_array_equal(grid, grids[0])


def read_all(read: Read, order: NDArray[np.int64], batch: int) -> None:
    """Read every photograph once."""
    for begin in range(0, len(order), batch):
        read(order[begin : begin + batch])


def measure_warm(
    ways: Sequence[Way], orders: Sequence[NDArray[np.int64]], batch: int, measured: dict[str, Measured]
) -> None:
    """Time a pass in each order, the ways in turn; the first order only fills the page cache."""
    readers = {way.name: way.open() for way in ways}
    for number, order in enumerate(orders):
        for name, read in readers.items():
            begin = time.perf_counter()
            read_all(read, order, batch)
            if number:
                measured[name].warm.append(time.perf_counter() - begin)


def measure_cold(
    ways: Sequence[Way], orders: Sequence[NDArray[np.int64]], batch: int, measured: dict[str, Measured]
) -> None:
    """Time a pass in each order, the ways in turn, each after its files were dropped from the page cache."""
    for order in orders:
        for way in ways:
            # No store is open here: pages that are mapped would stay in the cache.
            drop_from_cache(way.folder)
            blocks = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
            begin = time.perf_counter()
            read_all(way.open(), order, batch)
            measured[way.name].cold.append(time.perf_counter() - begin)
            blocks = resource.getrusage(resource.RUSAGE_SELF).ru_inblock - blocks
            measured[way.name].from_disk.append(blocks * 512 / 2**20)  # a block has 512 bytes, whatever the disk


def drop_from_cache(folder: Path) -> None:
    """Drop all files of a folder, which must be on the disk already, from the page cache."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def summary(way: Way, measured: Measured, photographs: int) -> dict[str, Any]:
    """The results of one way."""
    megabytes = way.photograph_bytes / 1e6
    warm = per_second("photographs", photographs, measured.warm)
    cold = per_second("cold_photographs", photographs, measured.cold)
    return {
        **warm,
        "megabytes_per_second": warm["photographs_per_second"] * megabytes,
        **cold,
        "cold_megabytes_per_second": cold["cold_photographs_per_second"] * megabytes,
        "cold_mib_from_disk": median(measured.from_disk),
        "photograph_bytes": way.photograph_bytes,
    }


if __name__ == "__main__":
    main()
