"""Peer of `training.py` and `curves.py`: the tutorial's captioner, trained in TensorFlow as the tutorial trains it.

An encoder (dense, ReLU), additive attention, a GRU and two dense layers; every caption of a batch goes word by word to
the longest caption of all, padding is masked in the loss, each caption has its photograph's grid to itself, and Adam
has its usual settings. As in the tutorial, the GRU starts each word from zeros: the state of the word before reaches
the next only through the attention. `graph` compiles the whole step by `tf.function`, `eager` does not.

The folder holds what training.py wrote: `captions.npy` (K, T) padded with 0 and `photographs.npy` (K,), the row of each
caption's grid in `grids.npy` (P, L, D); and for `--epochs` the same of the validation split, as `validation_*.npy`.
Where there are fewer grids than photographs, they are repeated.

Needs TensorFlow and NumPy, not captionlens. Prints one JSON object.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import tensorflow as tf

EMBEDDING, UNITS, BATCH = 256, 512, 64
layers = tf.keras.layers


class Captioner(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """The tutorial's encoder, attention and decoder."""

    def __init__(self, vocabulary: int, places: int, channels: int, words: int, seed: int) -> None:
        super().__init__()
        tf.keras.utils.set_random_seed(seed)
        self.words = words
        self.encoder = layers.Dense(EMBEDDING, activation="relu")
        self.embedding = layers.Embedding(vocabulary, EMBEDDING)
        self.key_layer, self.query_layer = layers.Dense(UNITS), layers.Dense(UNITS)
        self.score_layer = layers.Dense(1)
        self.gru = layers.GRU(UNITS, return_sequences=True, return_state=True)
        self.hidden_layer, self.output_layer = layers.Dense(UNITS), layers.Dense(vocabulary)
        self.optimizer = tf.keras.optimizers.Adam()
        self.losses = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
        # Makes the variables.
        self.decode(tf.zeros((1, 1), tf.int32), self.encoder(tf.zeros((1, places, channels))), tf.zeros((1, UNITS)))
        parts = [self.encoder, self.embedding, self.key_layer, self.query_layer, self.score_layer, self.gru]
        parts += [self.hidden_layer, self.output_layer]
        self.weights = [variable for part in parts for variable in part.trainable_variables]
        self.optimizer.build(self.weights)

    def decode(self, word: tf.Tensor, memory: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One word (B, 1) further: logits (B, V) and the next state (B, H)."""
        inside = tf.nn.tanh(self.key_layer(memory) + self.query_layer(tf.expand_dims(state, 1)))
        attention = tf.nn.softmax(self.score_layer(inside), axis=1)  # (B, L, 1)
        context = tf.reduce_sum(attention * memory, axis=1)
        output, state = self.gru(tf.concat([tf.expand_dims(context, 1), self.embedding(word)], -1))
        return self.output_layer(self.hidden_layer(tf.reshape(output, (-1, UNITS)))), state

    def loss(self, grids: tf.Tensor, captions: tf.Tensor) -> tf.Tensor:
        """The sum over words of the mean over captions of the masked cross-entropy."""
        memory = self.encoder(grids)
        state = tf.zeros((captions.shape[0], UNITS))
        total = 0.0
        for time_step in range(1, self.words):
            logits, state = self.decode(captions[:, time_step - 1 : time_step], memory, state)
            target = captions[:, time_step]
            total += tf.reduce_mean(self.losses(target, logits) * tf.cast(target != 0, tf.float32))
        return total

    def train(self, grids: tf.Tensor, captions: tf.Tensor) -> tf.Tensor:
        """One step of Adam."""
        with tf.GradientTape() as tape:
            loss = self.loss(grids, captions)
        self.optimizer.apply_gradients(zip(tape.gradient(loss, self.weights), self.weights, strict=True))
        return loss


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=("graph", "eager"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--vocabulary", type=int, required=True)
    parser.add_argument("--batches", type=int, default=10, help="in each measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=0, help="train for these instead of measuring the speed")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    captions, photographs, grids = (np.load(options.folder / f"{name}.npy", mmap_mode="r") for name in (
        "captions", "photographs", "grids"
    ))  # fmt: skip
    _, places, channels = grids.shape
    captioner = Captioner(options.vocabulary, places, channels, captions.shape[1], options.seed)
    train = tf.function(captioner.train) if options.mode == "graph" else captioner.train
    batches = shuffled(captions, photographs, grids, np.random.default_rng(options.seed))
    result: dict[str, Any] = {"tensorflow": tf.__version__, "mode": options.mode, "words_padded_to": captions.shape[1]}
    if options.epochs:
        result["history"] = learn(captioner, train, batches, len(captions) // BATCH, options)
    else:
        result |= measure(train, batches, captions, options)
    result["peak_memory_mib"] = peak_memory_mib()
    print(json.dumps(result))


def shuffled(
    captions: np.ndarray, photographs: np.ndarray, grids: np.ndarray, random: np.random.Generator
) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    """Batches of grids (B, L, D) and captions (B, T), epoch after epoch; what does not fill a batch is left out."""
    while True:
        order = random.permutation(len(captions))
        for begin in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[begin : begin + BATCH]
            features = grids[photographs[rows] % len(grids)].astype(np.float32)
            yield tf.constant(features), tf.constant(captions[rows])


def measure(
    train: Callable[..., tf.Tensor],
    batches: Iterator[tuple[tf.Tensor, tf.Tensor]],
    captions: np.ndarray,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """The speed, after a first batch that compiles."""
    begin = time.perf_counter()
    train(*next(batches)).numpy()
    first = time.perf_counter() - begin
    rates = []
    for _ in range(options.repeats):
        begin = time.perf_counter()
        for _ in range(options.batches):
            loss = train(*next(batches))
        loss.numpy()
        rates.append(options.batches * BATCH / (time.perf_counter() - begin))
    tokens_per_caption = float((captions[:, 1:] != 0).sum(1).mean())
    return {
        "captions_per_second": median(rates),
        "captions_per_second_measurements": rates,
        "tokens_per_second": median(rates) * tokens_per_caption,
        "first_batch_seconds": first,
    }


def learn(
    captioner: Captioner,
    train: Callable[..., tf.Tensor],
    batches: Iterator[tuple[tf.Tensor, tf.Tensor]],
    steps: int,
    options: argparse.Namespace,
) -> list[dict[str, float]]:
    """Train; after each epoch the loss a word in nats, of training (while it changed) and of validation."""
    validation_captions, validation_photographs = (
        np.load(options.folder / f"validation_{name}.npy") for name in ("captions", "photographs")
    )
    validation_grids = np.load(options.folder / "validation_grids.npy", mmap_mode="r")
    loss_of = tf.function(captioner.loss)
    history = []
    for epoch in range(1, options.epochs + 1):
        begin = time.perf_counter()
        total = words = 0.0
        for _ in range(steps):
            grids, captions = next(batches)
            total += float(train(grids, captions)) * len(captions)
            words += float(tf.math.count_nonzero(captions[:, 1:]))
        seconds = time.perf_counter() - begin
        validation_total = 0.0
        whole = len(validation_captions) // BATCH * BATCH
        for first in range(0, whole, BATCH):
            rows = slice(first, first + BATCH)
            grids = validation_grids[validation_photographs[rows]].astype(np.float32)
            validation_total += float(loss_of(tf.constant(grids), tf.constant(validation_captions[rows]))) * BATCH
        validation_words = np.count_nonzero(validation_captions[:whole, 1:])
        history.append(
            {
                "epoch": epoch,
                "loss": total / words,
                "val_loss": validation_total / validation_words,
                "seconds": seconds,
            }
        )
        print(history[-1], file=sys.stderr, flush=True)
    return history


def peak_memory_mib() -> float:
    """Of this process alone; `resource.getrusage` would tell the peak of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
