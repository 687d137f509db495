"""How fast a captioner is trained: ours against the tutorial's step in TensorFlow, on the same captions.

Ours is `captionlens.training.module.CaptioningModule` driven by Lightning, as `captionlens train` drives it: reading,
teacher forcing, backward pass, clipping and Adam, without validation. Captions are those of a real data set, grids are
random, 8 x 8 places with 2048 numbers as InceptionV3's. `plain` is the same network in float32 and in plain automatic
differentiation, without our compiled loops.

With `--peer`, an interpreter that has TensorFlow trains the tutorial's network on the same captions and grids, once
with the whole step compiled into a graph and once without; `ratio` compares with the graph. Half of our measurements
are made before the peer's and half after.

The floor of a step is the time of its matrix products' operations at the rate of a large product (2048 x 2048 x 2048,
in the number format of the step, measured in the same run), plus that of the bytes that it cannot help moving at the
rate of a large copy: grids read once; each weight and its two moments read and written, its gradient written and read;
the logits written and read, their gradient written and read twice. `--profile` also tells where the time goes.

`--curve N` trains both for N epochs on real grids instead (`--store`) and prints the loss a word after each.

    python benchmarks/training.py ../shared/data/flickr8k --peer tensorflow-env/bin/python --profile
    python benchmarks/training.py DATASET --curve 4 --store RUN/features --peer tensorflow-env/bin/python
"""

import argparse
import itertools
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from common import copy_rate, fail, finish, machine, matmul_rate, peak_memory_mib, positive, run_peer, table
from numpy.typing import NDArray
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from captionlens.datasets import Record, read_dataset
from captionlens.errors import CaptionlensError
from captionlens.features.backbones.base import has_fast_bfloat16
from captionlens.features.extract import accelerator
from captionlens.features.store import FeatureStore, StoreIndex
from captionlens.memory import keep_freed_memory
from captionlens.network import CaptioningNetwork, loss, recurrence
from captionlens.runtime.vocabulary import PAD, Vocabulary
from captionlens.training.batches import Batch, CaptionedPhotographs
from captionlens.training.config import PRESETS, TrainingConfig, make_config
from captionlens.training.module import CaptioningModule, caption_loss

ROWS, COLUMNS, CHANNELS = 8, 8, 2048  # InceptionV3's grid
GRIDS = 512  # different random grids
# Whose own time belongs to what, by the beginning of the operation's name; the first that fits.
PARTS = (
    ("attention, forward and back", ("kernels.look",)),
    ("GRU's elementwise part", ("kernels.move", "kernels.carry")),
    ("cross-entropy", ("kernels.cross", "aten::amax", "aten::_log_softmax", "aten::nll_loss")),
    ("matrix products", ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")),
    ("reading and collating", ("reading",)),
    ("Adam", ("aten::_fused_adam", "Optimizer")),
    ("clipping", ("aten::_foreach", "aten::linalg_vector_norm")),
    ("casts and copies", ("aten::copy_", "aten::_to_copy", "aten::clone", "aten::cat", "aten::index")),
    ("other operations on tensors", ("aten::", "torch::", "_Unroll", "_CrossEntropy", "autograd::")),
)
REST = "Python, Lightning and all else"


@dataclass(frozen=True)
class Job:
    """What is trained on what."""

    config: TrainingConfig
    vocabulary: Vocabulary
    training: CaptionedPhotographs
    validation: CaptionedPhotographs
    grid: StoreIndex
    precision: Any
    device: str

    def module(self) -> CaptioningModule:
        """A captioner to train, with the weights that its seed draws."""
        torch.manual_seed(self.config.seed)
        grid = self.grid
        sizes = {"rows": grid.rows, "columns": grid.columns, "channels": grid.channels}
        network = CaptioningNetwork(self.config.network_config(vocabulary=len(self.vocabulary), **sizes))
        return CaptioningModule(network, self.config, self.training, self.validation, self.vocabulary, lambda _: 0.0)


class RepeatedGrids:
    """A store's grids under the photographs' numbers, over and over."""

    def __init__(self, store: FeatureStore, keys: Sequence[str]) -> None:
        self.store, self.keys = store, keys
        self.index = store.index
        self.numbers: dict[str, int] = {}

    def __contains__(self, key: str) -> bool:
        self.numbers.setdefault(key, len(self.numbers))
        return True

    def read(self, keys: Iterable[str]) -> NDArray[np.float16]:
        """Grids (B, L, D)."""
        return self.store.read(self.keys[self.numbers[key] % len(self.keys)] for key in keys)


class Watch(pl.Callback):
    """Calls `segment` with the number of each segment of `batches` batches that ended, until it returns False."""

    def __init__(self, batches: int, segment: Callable[[int, list[Batch]], bool]) -> None:
        self.batches, self.segment = batches, segment
        self.seen: list[Batch] = []
        self.number = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count."""
        self.seen.append(batch)
        if len(self.seen) == self.batches:
            trainer.should_stop = not self.segment(self.number, self.seen)
            self.number += 1
            self.seen = []


def main() -> None:
    parser = argparse.ArgumentParser(description="Teacher forcing on real captions.")
    parser.add_argument("dataset", help="of any layout")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="tutorial", help="default: tutorial")
    parser.add_argument("--max-captions", type=positive, default=30000, help="of the data set (default: 30000)")
    parser.add_argument("--batches", type=positive, default=60, help="in a measurement (default: 60)")
    parser.add_argument("--repeats", type=positive, default=6, help="measurements of each (default: 6)")
    parser.add_argument("--devices", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--plain", action="store_true", help="measure plain automatic differentiation too")
    parser.add_argument("--profile", action="store_true", help="tell where the time of a step goes")
    parser.add_argument("--curve", type=positive, metavar="EPOCHS", help="compare losses, not speed; needs --store")
    parser.add_argument("--store", type=Path, help="a feature store with the grids of the data set")
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter of an environment with TensorFlow")
    options = parser.parse_args()
    if options.curve and options.store is None:
        fail("--curve: needs the grids of the data set (--store)")

    quiet()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        try:
            job = prepare(options, Path(folder))
        except CaptionlensError as error:
            fail(str(error))
        if options.curve:
            compare_curves(job, options, Path(folder))
        else:
            compare_speed(job, options, Path(folder))


def quiet() -> None:
    """Lightning's advice is for other readers."""
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def prepare(options: argparse.Namespace, folder: Path) -> Job:
    """Captions and grids; without a store, random grids in a store of their own."""
    dataset = read_dataset(options.dataset, max_captions=options.max_captions)
    training, validation = dataset.split("train"), dataset.split("val")
    config = make_config(options.preset)
    vocabulary = Vocabulary.build(
        (caption for record in training for caption in record.captions),
        size=config.vocabulary_size,
        min_count=config.min_count,
    )
    store: Any = random_store(folder / "store") if options.store is None else FeatureStore.open(options.store)
    device = accelerator(options.devices)

    def captioned(records: Sequence[Record]) -> CaptionedPhotographs:
        data = CaptionedPhotographs(records, store, vocabulary, config.max_words)
        if data.missing:
            fail(f"--store {options.store}: has no grids of {data.missing} photographs")
        return data

    return Job(
        config=config,
        vocabulary=vocabulary,
        training=captioned(training),
        validation=captioned(validation),
        grid=store.index,
        precision="bf16-mixed" if device == "cuda" or has_fast_bfloat16() else "32-true",
        device=device,
    )


def random_store(folder: Path) -> RepeatedGrids:
    """Random grids that stand for those of all photographs."""
    store = FeatureStore.create(folder, StoreIndex("random", "random", ROWS, COLUMNS, CHANNELS))
    random = np.random.default_rng(0)
    keys = [str(number) for number in range(GRIDS)]
    store.append(keys, random.random((GRIDS, ROWS * COLUMNS, CHANNELS), np.float32).astype(np.float16))
    return RepeatedGrids(store, keys)


def write_for_peer(job: Job, folder: Path, *, validation: bool) -> None:
    """The captions as padded numbers, and the grids, as files that TensorFlow's process reads."""
    splits = {"": job.training} | ({"validation_": job.validation} if validation else {})
    longest = max(len(captions[0]) for data in splits.values() for _, captions in data.items)
    for name, data in splits.items():
        flat = [(row, caption) for row, (_, captions) in enumerate(data.items) for caption in captions]
        padded = np.full((len(flat), longest), PAD, np.int32)
        for row, (_, caption) in enumerate(flat):
            padded[row, : len(caption)] = caption
        np.save(folder / f"{name}captions.npy", padded)
        np.save(folder / f"{name}photographs.npy", np.array([row for row, _ in flat]))
        count = min(GRIDS, len(data)) if isinstance(data.store, RepeatedGrids) else len(data)
        shape = (count, job.grid.rows * job.grid.columns, job.grid.channels)
        grids = np.lib.format.open_memmap(folder / f"{name}grids.npy", "w+", np.float16, shape)
        for begin in range(0, count, GRIDS):
            grids[begin : begin + GRIDS] = data.store.read(key for key, _ in data.items[begin : begin + GRIDS])
        grids.flush()


def trainer_for(job: Job, callback: pl.Callback, epochs: int, precision: Any = None) -> pl.Trainer:
    """As `captionlens.training.fit` sets it up, but for what is written to files."""
    return pl.Trainer(
        accelerator=job.device,
        devices=1,
        precision=precision or job.precision,
        max_epochs=epochs,
        limit_val_batches=0,
        gradient_clip_val=job.config.gradient_clip,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
    )


def speed(job: Job, batches: int, repeats: int, precision: Any = None) -> list[dict[str, float]]:
    """Captions, tokens and steps of each measured segment, a second."""
    results = []
    clock = 0.0

    def segment(number: int, seen: list[Batch]) -> bool:
        nonlocal clock
        if job.device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        elapsed, clock = now - clock, now
        if number:  # the first warms up
            captions = sum(batch.caption_count for batch in seen)
            tokens = sum(int((batch.captions[:, :, 1:] != PAD).sum()) for batch in seen)
            results.append({"captions": captions / elapsed, "tokens": tokens / elapsed, "seconds": elapsed / len(seen)})
            clock = time.perf_counter()  # counting does not count
        return number < repeats

    trainer_for(job, Watch(batches, segment), 1000, precision).fit(job.module())
    return results


def compare_speed(job: Job, options: argparse.Namespace, folder: Path) -> None:
    """The tables and the last line of a comparison of speed."""
    first_half = (options.repeats + 1) // 2
    measured = speed(job, options.batches, first_half)
    graph = eager = None
    if options.peer:
        write_for_peer(job, folder, validation=False)
        arguments = (folder, "--vocabulary", len(job.vocabulary), "--repeats", options.repeats)
        graph = run_peer(options.peer, "tf_tutorial.py", "graph", *arguments, "--batches", 5)
        eager = run_peer(options.peer, "tf_tutorial.py", "eager", *arguments, "--batches", 2)
    measured += speed(job, options.batches, options.repeats - first_half) if options.repeats > first_half else []
    ours = {
        "captions_per_second": median(row["captions"] for row in measured),
        "captions_per_second_measurements": [row["captions"] for row in measured],
        "tokens_per_second": median(row["tokens"] for row in measured),
        "step_milliseconds": 1e3 * median(row["seconds"] for row in measured),
        "peak_memory_mib": peak_memory_mib(),
    }
    floor = floor_of(job)
    floor["share_of_floor"] = floor["floor_milliseconds"] / ours["step_milliseconds"]
    plain = plain_speed(job, options) if options.plain else None
    parts = profile_step(job, options.batches) if options.profile else None

    ways = {"captionlens": ours, "plain torch, float32": plain, "TensorFlow, graph": graph, "TensorFlow, eager": eager}
    keys = ("captions_per_second", "tokens_per_second", "peak_memory_mib")
    print(
        f"preset {options.preset}, {job.training.caption_count} captions, batches of about "
        f"{job.config.batch_captions}, medians of {options.repeats}"
    )
    rows = [[name, *(way[key] for key in keys)] for name, way in ways.items() if way]
    print(table(["", "captions/s", "tokens/s", "peak MiB"], rows))
    print(
        f"\na step: {ours['step_milliseconds']:.1f} ms; floor {floor['floor_milliseconds']:.1f} ms "
        f"({floor['gigaflops_per_step']:.1f} GF at {floor['matrix_product_gigaflops_per_second']:,.0f} GF/s, "
        f"{floor['megabytes_per_step']:.0f} MB at {floor['copy_gigabytes_per_second']:.0f} GB/s): "
        f"{floor['share_of_floor']:.0%} of the floor"
    )
    if parts:
        total = sum(parts.values())
        print("\n" + table(["part of a step", "ms", "share"], [[k, v, f"{v / total:.0%}"] for k, v in parts.items()]))
    finish(
        {
            "benchmark": "training",
            "machine": machine(),
            "preset": options.preset,
            "device": job.device,
            "precision": job.precision,
            "ours": ours,
            "plain": plain,
            "peer": graph,
            "peer_eager": eager,
            "ratio": ours["captions_per_second"] / graph["captions_per_second"] if graph else None,
            "ratio_eager": ours["captions_per_second"] / eager["captions_per_second"] if eager else None,
            "floor": floor,
            "profile_milliseconds": parts,
        }
    )


def plain_speed(job: Job, options: argparse.Namespace) -> dict[str, Any]:
    """The speed without compiled loops and in float32."""
    kernels = recurrence.kernels, loss.kernels
    recurrence.kernels = loss.kernels = None  # type: ignore[assignment]
    try:
        measured = speed(job, max(1, options.batches // 6), options.repeats, precision="32-true")
    finally:
        recurrence.kernels, loss.kernels = kernels
    return {
        "captions_per_second": median(row["captions"] for row in measured),
        "tokens_per_second": median(row["tokens"] for row in measured),
        "step_milliseconds": 1e3 * median(row["seconds"] for row in measured),
        "peak_memory_mib": None,  # that of the process is ours' by now
    }


def floor_of(job: Job) -> dict[str, float]:
    """What the machine could do at best; see above."""
    module = job.module().to(job.device)
    loader = iter(module.train_dataloader())
    operations, size = [], []
    number_format = torch.bfloat16 if job.precision == "bf16-mixed" else torch.float32
    weights = sum(parameter.nbytes for parameter in module.network.parameters())
    for batch in itertools.islice(loader, 50):
        batch = module.transfer_batch_to_device(batch, torch.device(job.device), 0)
        counter = FlopCounterMode(display=False)
        with counter:
            with torch.autocast(job.device, number_format, enabled=number_format != torch.float32):
                teacher = module.network.teach(batch.features, batch.captions)
            caption_loss(teacher)[0].backward()
        logits_bytes = len(teacher.targets) * len(job.vocabulary) * number_format.itemsize
        operations.append(counter.get_total_flops())
        size.append(batch.features.nbytes + 8 * weights + 5 * logits_bytes)
        module.zero_grad()
    rate = matmul_rate(number_format, 2048, 2048, 2048)
    copy = copy_rate()
    gigaflops, gigabytes = float(np.mean(operations)) / 1e9, float(np.mean(size)) / 1e9
    return {
        "gigaflops_per_step": gigaflops,
        "megabytes_per_step": 1e3 * gigabytes,
        "matrix_product_gigaflops_per_second": rate,
        "copy_gigabytes_per_second": copy,
        "floor_milliseconds": 1e3 * (gigaflops / rate + gigabytes / copy),
    }


def profile_step(job: Job, batches: int) -> dict[str, float]:
    """Milliseconds of each part of a step; the profiler itself makes the step a little slower."""
    read = job.training.collate
    job.training.collate = named(read, "reading")  # type: ignore[method-assign]
    kernels = recurrence.kernels, loss.kernels
    if kernels[0] is not None:
        wrapped: Any = SimpleNamespace(
            **{
                name: named(getattr(kernels[0], name), f"kernels.{name}")
                for name in ("look", "look_back", "move", "move_back", "carry_back", "cross_entropy")
            }
        )
        recurrence.kernels = loss.kernels = wrapped
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if job.device == "cuda" else [])
    profiler = profile(activities=activities)
    elapsed = 0.0

    def segment(number: int, seen: list[Batch]) -> bool:
        nonlocal elapsed
        if number == 0:
            profiler.start()
            elapsed = -time.perf_counter()
            return True
        elapsed += time.perf_counter()
        profiler.stop()
        return False

    try:
        trainer_for(job, Watch(batches, segment), 1000).fit(job.module())
    finally:
        recurrence.kernels, loss.kernels = kernels
        job.training.collate = read  # type: ignore[method-assign]
    parts = dict.fromkeys([*(name for name, _ in PARTS), REST], 0.0)
    for event in profiler.key_averages():
        parts[part_of(event)] += event.self_cpu_time_total / 1e3 / batches
    parts[REST] += 1e3 * elapsed / batches - sum(parts.values())
    return parts


def named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function, under a name in the profile."""

    def call(*args: Any) -> Any:
        with record_function(name):
            return function(*args)

    return call


def part_of(event: FunctionEvent) -> str:
    """The part of a step that an operation belongs to."""
    return next((part for part, beginnings in PARTS if event.key.startswith(beginnings)), REST)


def compare_curves(job: Job, options: argparse.Namespace, folder: Path) -> None:
    """Train both for the same epochs on the same captions and grids, and print their losses."""
    ours = Curve()
    trainer_for(job, ours, options.curve).fit(job.module())
    peer = None
    if options.peer:
        write_for_peer(job, folder, validation=True)
        arguments = (folder, "--vocabulary", len(job.vocabulary), "--epochs", options.curve)
        peer = run_peer(options.peer, "tf_tutorial.py", "graph", *arguments)
    rows = [
        [row["epoch"], *(way[key] for key in ("loss", "val_loss", "seconds") for way in ways)]
        for row, *ways in zip(ours.history, ours.history, *([peer["history"]] if peer else []), strict=True)
    ]
    ways = ["ours", "TensorFlow"] if peer else ["ours"]
    heads = [f"{key}, {way}" for key in ("training loss", "validation loss", "seconds") for way in ways]
    print(table(["epoch", *heads], [[str(row[0]), *(f"{value:.3f}" for value in row[1:])] for row in rows]))
    finish(
        {
            "benchmark": "training curve",
            "machine": machine(),
            "preset": options.preset,
            "captions": job.training.caption_count,
            "ours": ours.history,
            "peer": peer,
        }
    )


class Curve(pl.Callback):
    """The losses after each epoch, in nats a word."""

    def __init__(self) -> None:
        self.history: list[dict[str, float]] = []
        self._began = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The validation loss, and all into the history."""
        seconds = time.perf_counter() - self._began
        assert isinstance(pl_module, CaptioningModule)
        pl_module.eval()
        total = words = 0.0
        with torch.no_grad():
            for batch in pl_module.val_dataloader():
                batch = pl_module.transfer_batch_to_device(batch, pl_module.device, 0)
                teacher = pl_module.kept.teach(batch.features, batch.captions)
                total += float(caption_loss(teacher)[1]) * len(teacher.targets)
                words += len(teacher.targets)
        pl_module.train()
        row = {
            "epoch": trainer.current_epoch + 1,
            "loss": float(trainer.callback_metrics["loss_epoch"]),
            "val_loss": total / words,
            "seconds": seconds,
        }
        self.history.append(row)


if __name__ == "__main__":
    main()
