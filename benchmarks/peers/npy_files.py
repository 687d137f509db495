"""Peer of `store.py`: one `.npy` file a photograph, read by `tf.data` in the tutorial's way.

The paths are shuffled, each is read by `np.load` inside `tf.numpy_function` with as many parallel calls as TensorFlow
likes, and batches are prefetched. (The tutorial shuffles after reading, which keeps 1,000 grids in memory.)

Needs TensorFlow and NumPy, not captionlens. Prints one JSON object.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path
from statistics import median

import numpy as np
import tensorflow as tf


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="of float32 .npy files of one shape")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    files = sorted(options.folder.glob("*.npy"))
    megabytes = np.load(files[0]).nbytes / 1e6  # a photograph

    def load(path: bytes) -> np.ndarray:
        grid: np.ndarray = np.load(path.decode())
        return grid

    dataset = tf.data.Dataset.from_tensor_slices([str(file) for file in files])
    dataset = dataset.shuffle(len(files))  # anew in each pass
    dataset = dataset.map(lambda path: tf.numpy_function(load, [path], tf.float32), num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(options.batch).prefetch(tf.data.AUTOTUNE)

    read_all(dataset)  # fills the page cache
    warm = [read_all(dataset) for _ in range(options.repeats)]
    cold, from_disk = [], []
    for _ in range(options.repeats):
        drop_from_cache(files)
        blocks = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
        cold.append(read_all(dataset))
        blocks = resource.getrusage(resource.RUSAGE_SELF).ru_inblock - blocks
        from_disk.append(blocks * 512 / 2**20)
    warm_rates = [len(files) / seconds for seconds in warm]
    cold_rates = [len(files) / seconds for seconds in cold]
    result = {
        "tensorflow": tf.__version__,
        "photographs_per_second": median(warm_rates),
        "photographs_per_second_measurements": warm_rates,
        "megabytes_per_second": median(warm_rates) * megabytes,
        "cold_photographs_per_second": median(cold_rates),
        "cold_photographs_per_second_measurements": cold_rates,
        "cold_megabytes_per_second": median(cold_rates) * megabytes,
        "cold_mib_from_disk": median(from_disk),
        "peak_memory_mib": peak_memory_mib(),
    }
    print(json.dumps(result))


def read_all(dataset: tf.data.Dataset) -> float:
    """The seconds of one pass."""
    begin = time.perf_counter()
    for _ in dataset:
        pass
    return time.perf_counter() - begin


def drop_from_cache(files: list[Path]) -> None:
    """Drop files from the system's page cache."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def peak_memory_mib() -> float:
    """Of this process alone; `resource.getrusage` would tell the peak of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
