"""Peer of `extraction.py`: Keras' InceptionV3, alone and in the tutorial's way from files to grids.

The tutorial reads, decodes and resizes the photographs by `tf.data`, in batches of 16, and calls the network on each.
Here the network is compiled by `tf.function`, which makes it faster than the tutorial's, and the grids are not written
to disk. Its weights are random: speed does not depend on them.

Needs TensorFlow, not captionlens. Prints one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import tensorflow as tf

SIZE = 299  # pixels a side


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", type=Path, help="a file with the path of a photograph in each line")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    names = options.names.read_text().splitlines()
    model = tf.keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    # One signature for every size of batch: the last may be smaller.
    signature = [tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32)]
    network = tf.function(lambda images: model(images, training=False), input_signature=signature)
    dataset = tf.data.Dataset.from_tensor_slices(names)
    dataset = dataset.map(load_image, num_parallel_calls=tf.data.AUTOTUNE).batch(options.batch)

    def extract() -> None:
        for images in dataset:
            grids = network(images)  # (B, 8, 8, 2048)
            tf.reshape(grids, (grids.shape[0], -1, grids.shape[3])).numpy()

    images = next(iter(dataset))
    network(images)  # compiles
    alone = [len(images) / seconds(lambda: network(images).numpy()) for _ in range(options.repeats)]
    whole = [len(names) / seconds(extract) for _ in range(options.repeats)]
    result = {
        "tensorflow": tf.__version__,
        "keras": tf.keras.__version__,
        "batch": options.batch,
        "photographs_per_second": median(whole),
        "photographs_per_second_measurements": whole,
        "network_photographs_per_second": median(alone),
        "network_photographs_per_second_measurements": alone,
        "peak_memory_mib": peak_memory_mib(),
    }
    print(json.dumps(result))


def load_image(path: tf.Tensor) -> tf.Tensor:
    """A photograph as the network wants it, as the tutorial prepares it."""
    image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
    image = tf.image.resize(image, (SIZE, SIZE))
    return tf.keras.applications.inception_v3.preprocess_input(image)


def seconds(function: Callable[[], object]) -> float:
    """The seconds of one call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def peak_memory_mib() -> float:
    """Of this process alone; `resource.getrusage` would tell the peak of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
