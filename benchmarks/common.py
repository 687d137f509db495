"""What the benchmarks share: the machine, the clock, the table, the peer's process and the last line.

The benchmarks run on Linux. Nothing here imports torch before it is needed, so that a benchmark that does without it
does not count it in its peak memory.
"""

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import torch

PEERS = Path(__file__).parent / "peers"
PROJECT = Path(__file__).parent.parent
EXAMPLES = PROJECT / "examples" / "photographs"
_FLICKR8K = PROJECT.parent / "shared" / "data" / "flickr8k" / "Flicker8k_Dataset"
_NOISE = 6.0  # standard deviation, of 255, in photographs that are made
_QUALITY = 92  # of their JPEGs
PHOTOGRAPHS = _FLICKR8K if _FLICKR8K.is_dir() else EXAMPLES


def machine() -> dict[str, Any]:
    """What the numbers were measured on, and with."""
    packages = ("captionlens", "numpy", "pillow", "torch", "onnxruntime")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),  # those that this process may use
        "python": platform.python_version(),
        **{package: _version(package) for package in packages},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # captioning does without torch
        return None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()  # ARM's /proc/cpuinfo has no name


def positive(text: str) -> int:
    """An option's value as a whole number of at least 1; argparse tells the user of a ValueError."""
    value = int(text)
    if value < 1:
        raise ValueError(f"{value} is less than 1")
    return value


def add_photographs(parser: argparse.ArgumentParser) -> None:
    """The option --photographs, a folder."""
    parser.add_argument(
        "--photographs",
        type=Path,
        default=PHOTOGRAPHS,
        metavar="FOLDER",
        help="of .jpg files (default: Flickr8k's in ../shared/data, or else the examples)",
    )


def percentile(times: Sequence[float], part: float) -> float:
    """Of seconds, in milliseconds."""
    import numpy as np

    return float(np.percentile(times, part)) * 1000


def seconds(function: Callable[[], object], repeats: int, warm_up: int = 1) -> list[float]:
    """The seconds of each of `repeats` calls, after `warm_up` calls that do not count."""
    return seconds_in_turn({"": function}, repeats, warm_up)[""]


def seconds_in_turn(
    functions: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """As `seconds`, of several functions by name, called in turn: a change of the machine's speed meets them all."""
    measured: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(warm_up + repeats):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            elapsed = time.perf_counter() - begin
            if number >= warm_up:
                measured[name].append(elapsed)
    return measured


def per_second(what: str, count: float, times: Sequence[float]) -> dict[str, Any]:
    """How many of `what` were done in a second, where `count` took each of `times`: the median, and each one."""
    rates = [count / time_taken for time_taken in times]
    return {f"{what}_per_second": median(rates), f"{what}_per_second_measurements": rates}


def peak_memory_mib() -> float:
    """The most memory this process, without those it started, has held; mapped files are included.

    Not from `resource.getrusage`: there, a process inherits the peak of the one that started it.
    """
    return _status_mib("VmHWM:")


def memory_mib(process: int | str = "self") -> float:
    """The memory that a process holds now, mapped files included."""
    return _status_mib("VmRSS:", process)


def _status_mib(name: str, process: int | str = "self") -> float:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/{process}/status has no {name}")


def reset_peak_memory() -> None:
    """Let `peak_memory_mib` start anew from what the process holds now."""
    Path("/proc/self/clear_refs").write_text("5")


def matmul_rate(dtype: "torch.dtype", m: int, k: int, n: int) -> float:
    """How fast torch multiplies (m, k) by (k, n), in 10^9 operations a second; a sum and a product are two.

    The best of three medians: a floor is what the machine can do when nothing disturbs it.
    """
    import torch

    a, b = torch.rand(m, k).to(dtype), torch.rand(k, n).to(dtype)
    result = torch.empty(m, n, dtype=dtype)
    fastest = min(median(seconds(lambda: torch.mm(a, b, out=result), repeats=5)) for _ in range(3))
    return 2 * m * k * n / fastest / 1e9


def copy_rate() -> float:
    """How fast torch copies 256 MiB, in 10^9 bytes a second, read and written; the best of three medians."""
    import torch

    source = torch.ones(256 * 2**20, dtype=torch.uint8)
    target = torch.zeros_like(source)
    fastest = min(median(seconds(lambda: target.copy_(source), repeats=5)) for _ in range(3))
    return 2 * source.nbytes / fastest / 1e9


def resized(found: Sequence[Path], size: tuple[int, int], count: int, folder: Path) -> list[Path]:
    """JPEGs of `size` made of photographs, each several times where there are fewer than `count`.

    With some noise: shrunk and enlarged photographs would be easier to decode than those of a camera.
    """
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    noise = random.normal(0, _NOISE, (size[1], size[0], 3)).astype(np.float32)
    folder.mkdir(parents=True)
    made = []
    for number, file in zip(range(count), itertools.cycle(found), strict=False):
        path = folder / f"{number:05d}.jpg"
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC), np.float32) + noise
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=_QUALITY)
        made.append(path)
    return made


def run_peer(python: str, script: str, *args: object) -> dict[str, Any]:
    """Run a script of `peers/` with another environment's interpreter.

    Returns:
        The JSON object that is its last line. If there is none, the benchmark ends here with exit code 2.
    """
    command = [python, str(PEERS / script), *map(str, args)]
    try:
        process = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        fail(f"--peer {python}: cannot be run ({error.strerror})")
    if process.returncode:
        fail(f"{process.stderr.rstrip()}\n\nThe peer {script} failed under {python}, exit code {process.returncode}.")
    try:
        result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        fail(f"{process.stdout.rstrip()}\n\nThe peer {script} ended without a line of JSON.")
    return result


def run_peer_on(photographs: Sequence[Path], python: str, script: str, *args: object) -> dict[str, Any]:
    """As `run_peer`; the first argument of the script is a file with the path of a photograph in each line."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as names:
        names.writelines(f"{photograph.resolve()}\n" for photograph in photographs)
        names.flush()
        return run_peer(python, script, names.name, *args)


def fail(message: str) -> NoReturn:
    """End the benchmark with a message on stderr and exit code 2."""
    print(message, file=sys.stderr)
    raise SystemExit(2)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned plain text: the first column to the left, the others, which hold numbers, to the right."""
    lines = [list(headings), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(text.rjust(w) for text, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def finish(result: dict[str, Any]) -> None:
    """Print the result as the last line, one JSON object."""
    print(json.dumps(result), flush=True)
