"""How fast a captioner is trained: ours against the tutorial's step in TensorFlow, on the same captions.

Ours is `captionlens.training.module.CaptioningModule` driven by Lightning, as `captionlens train` drives it: reading,
teacher forcing, backward pass, clipping and Adam, without validation. Captions are those of a real data set, grids are
random, 8 x 8 places with 2048 numbers as InceptionV3's. `plain` is the same network in float32 and in plain automatic
differentiation, without our compiled loops.

With `--peer`, an interpreter that has TensorFlow trains the tutorial's network on the same captions and grids, once
with the whole step compiled into a graph and once without; `ratio` compares with the graph. Half of our measurements
are made before the peer's and half after. `curves.py` compares what both learn.

The floor of a step is the time of its matrix products' operations at the rate of a large product (2048 x 2048 x 2048,
in the number format of the step, measured in the same run), plus that of the bytes that it cannot help moving at the
rate of a large copy: grids read once; each weight and its two moments read and written, its gradient written and read;
the logits written and read, their gradient written and read twice. `--profile` also tells where the time goes.

    python benchmarks/training.py ../shared/data/flickr8k --peer tensorflow-env/bin/python --profile
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import lightning.pytorch as pl
import numpy as np
import torch
from common import copy_rate, finish, machine, matmul_rate, peak_memory_mib, positive, run_peer, table
from job import Job, job_options, prepare, write_for_peer
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from captionlens.network import attention_kernels, cell_kernels, compiled_loops, cross_entropy_kernels
from captionlens.training.objectives.cross_entropy import CrossEntropy

ENOUGH = 1000  # epochs: training ends when enough was measured
# Whose own time belongs to what, by the beginning of the operation's name; the first that fits.
PARTS = (
    ("attention, forward and back", ("kernels.attend", "kernels.select_places", "kernels.scalar_gate")),
    ("the cell's elementwise part", ("kernels.gru", "kernels.lstm")),
    ("cross-entropy", ("kernels.cross_entropy", "aten::_log_softmax", "aten::nll_loss")),
    ("matrix products", ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")),
    ("reading and collating", ("reading",)),
    ("Adam", ("aten::_fused_adam", "Optimizer")),
    ("clipping", ("aten::_foreach", "aten::linalg_vector_norm")),
    ("casts and copies", ("aten::copy_", "aten::_to_copy", "aten::clone", "aten::cat", "aten::index")),
    ("other operations on tensors", ("aten::", "torch::", "_Unroll", "_CrossEntropy", "autograd::")),
)
REST = "Python, Lightning and all else"
LOOPS = (
    (attention_kernels, ("attend", "attend_backward", "select_places", "scalar_gate_backward")),
    (cell_kernels, ("gru_step", "gru_backward", "gru_carry_backward")),
    (cell_kernels, ("lstm_step", "lstm_backward", "lstm_carry_backward")),
    (cross_entropy_kernels, ("cross_entropy",)),
)


class Watch(pl.Callback):
    """Calls `segment` with the number of each segment of `batches` batches that ended, until it returns False.

    It is also given the captions and the words to predict of each of the segment's batches.
    """

    def __init__(self, batches: int, segment: Callable[[int, list[tuple[int, int]]], bool]) -> None:
        self.batches, self.segment = batches, segment
        self.seen: list[tuple[int, int]] = []
        self.number = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count."""
        self.seen.append((batch.caption_count, batch.word_count))
        if len(self.seen) == self.batches:
            trainer.should_stop = not self.segment(self.number, self.seen)
            self.number += 1
            self.seen = []


def main() -> None:
    parser = job_options("Teacher forcing on real captions.")
    parser.add_argument("--batches", type=positive, default=60, help="in a measurement (default: 60)")
    parser.add_argument("--repeats", type=positive, default=6, help="measurements of each (default: 6)")
    parser.add_argument("--plain", action="store_true", help="measure plain automatic differentiation too")
    parser.add_argument("--profile", action="store_true", help="tell where the time of a step goes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(prepare(options, Path(folder)), options, Path(folder))


def speed(job: Job, batches: int, repeats: int, precision: Any = None) -> list[dict[str, float]]:
    """Captions, tokens and steps of each measured segment, a second."""
    results = []
    clock = 0.0

    def segment(number: int, seen: list[tuple[int, int]]) -> bool:
        nonlocal clock
        if job.device == "cuda":
            torch.cuda.synchronize()
        elapsed = time.perf_counter() - clock
        if number:  # the first warms up
            captions, tokens = (sum(counts) for counts in zip(*seen, strict=True))
            results.append({"captions": captions / elapsed, "tokens": tokens / elapsed, "seconds": elapsed / len(seen)})
        clock = time.perf_counter()
        return number < repeats

    job.trainer(Watch(batches, segment), ENOUGH, precision).fit(job.module())
    return results


def rates(measured: list[dict[str, float]]) -> dict[str, Any]:
    """What `speed` measured, in medians."""
    return {
        "captions_per_second": median(row["captions"] for row in measured),
        "captions_per_second_measurements": [row["captions"] for row in measured],
        "tokens_per_second": median(row["tokens"] for row in measured),
        "step_milliseconds": 1e3 * median(row["seconds"] for row in measured),
    }


def compare(job: Job, options: argparse.Namespace, folder: Path) -> None:
    """The tables and the last line of a comparison of speed."""
    first_half = (options.repeats + 1) // 2
    measured = speed(job, options.batches, first_half)
    graph = eager = None
    if options.peer:
        write_for_peer(job, folder, validation=False)
        arguments = (folder, "--vocabulary", len(job.vocabulary), "--repeats", options.repeats)
        graph = run_peer(options.peer, "tf_tutorial.py", "graph", *arguments, "--batches", 5)
        eager = run_peer(options.peer, "tf_tutorial.py", "eager", *arguments, "--batches", 2)
    if options.repeats > first_half:
        measured += speed(job, options.batches, options.repeats - first_half)
    ours = rates(measured) | {"peak_memory_mib": peak_memory_mib()}
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
    with patch.object(compiled_loops, "serve", return_value=False):
        measured = speed(job, max(1, options.batches // 6), options.repeats, precision="32-true")
    return rates(measured) | {"peak_memory_mib": None}  # that of the process is ours' by now


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
            CrossEntropy().loss(teacher, batch).total.backward()
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


@contextmanager
def named_loops() -> Iterator[None]:
    """The compiled loops, each under its name in the profile."""
    with ExitStack() as patches:
        for module, names in LOOPS:
            for name in names:
                patches.enter_context(patch.object(module, name, named(getattr(module, name), f"kernels.{name}")))
        yield


def profile_step(job: Job, batches: int) -> dict[str, float]:
    """Milliseconds of each part of a step; the profiler itself makes the step a little slower."""
    read = job.training.collate
    job.training.collate = named(read, "reading")  # type: ignore[method-assign]
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if job.device == "cuda" else [])
    profiler = profile(activities=activities)
    elapsed = 0.0

    def segment(number: int, seen: list[tuple[int, int]]) -> bool:
        nonlocal elapsed
        if number == 0:
            profiler.start()
            elapsed = -time.perf_counter()
            return True
        elapsed += time.perf_counter()
        profiler.stop()
        return False

    try:
        with named_loops():
            job.trainer(Watch(batches, segment), ENOUGH).fit(job.module())
    finally:
        job.training.collate = read  # type: ignore[method-assign]
    parts = dict.fromkeys([*(name for name, _ in PARTS), REST], 0.0)
    for event in profiler.key_averages():
        parts[part_of(event)] += event.self_cpu_time_total / 1e3 / batches
    parts[REST] += 1e3 * elapsed / batches - sum(parts.values())
    return parts


def named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function, under a name in the profile."""

    def call(*args: Any, **options: Any) -> Any:
        with record_function(name):
            return function(*args, **options)

    return call


def part_of(event: FunctionEvent) -> str:
    """The part of a step that an operation belongs to."""
    return next((part for part, beginnings in PARTS if event.key.startswith(beginnings)), REST)


if __name__ == "__main__":
    main()
