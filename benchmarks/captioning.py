"""How fast and how small captioning is, for who has photographs and wants captions.

- Cold start: `captionlens caption` on one photograph as a process of its own, and `import captionlens` alone.
- Latency: `Captioner.caption`, one photograph of 640 x 480 pixels after the other, and by part: reading and preparing
  it, the backbone, the search.
- Throughput over folders with `Captioner.caption_many`: small photographs (224 pixels), photographs of 640 x 480, and
  JPEGs of 12 megapixels (4000 x 3000).
- Memory: the peak of this process, which does all of that except the cold start.

The photographs of other sizes are made of those of `--photographs`, with some noise, without which large ones would be
too easy to decode.

With `--peer`, an interpreter that has torch and transformers captions the same 640 x 480 photographs with BLIP-base of
random weights, as long captions and as wide a beam, by turns with ours. `ratio` compares photographs a second.

`--endurance N` captions N small photographs, the folder again and again, and tells what memory the process holds after
the first tenth and at the end.

    python benchmarks/captioning.py --peer blip-env/bin/python
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

from common import (
    add_photographs,
    fail,
    finish,
    machine,
    memory_mib,
    peak_memory_mib,
    per_second,
    percentile,
    positive,
    reset_peak_memory,
    resized,
    run_peer_on,
    seconds,
    seconds_in_turn,
    table,
)

import captionlens
from captionlens.runtime.decoding import decode

SIZES = {"224 px": (224, 224), "640 x 480": (640, 480), "12 megapixels": (4000, 3000)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Photographs to captions.")
    add_photographs(parser)
    parser.add_argument("--count", type=positive, default=320, help="photographs of a folder (default: 320)")
    parser.add_argument("--large", type=positive, default=64, help="of them with 12 megapixels (default: 64)")
    parser.add_argument("--model", help="a model directory (default: the captioner that comes along)")
    parser.add_argument("--beam", type=positive, default=3)
    parser.add_argument("--batch-size", type=positive, default=16)
    parser.add_argument("--threads", type=int, default=0, help="of the network; 0: one a core")
    parser.add_argument("--repeats", type=positive, default=5, help="measurements of each (default: 5)")
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter of an environment with torch and transformers")
    parser.add_argument("--peer-photographs", type=positive, default=8, help="a turn, of two (default: 8)")
    parser.add_argument("--endurance", type=positive, metavar="N", help="caption N photographs and watch the memory")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        files = photographs(options.photographs, options.count, Path(scratch), options.large)
        reset_peak_memory()  # making them took more than captioning
        cold = {
            "import": seconds(lambda: run_python("-c", "import captionlens"), options.repeats),
            "caption": seconds(lambda: run_python(*cold_command(files["640 x 480"][0], options)), options.repeats),
        }
        captioner = captionlens.load(options.model, threads=options.threads)
        search = captionlens.DecodingOptions(
            options.beam, captioner.options.length_penalty, captioner.options.max_words
        )
        latency = latencies(captioner, files["640 x 480"], search)
        folders = throughput(captioner, files, search, options)
        lengths = [len(caption.words) for caption in captioner.caption_many(files["640 x 480"], options=search)]
        peak = peak_memory_mib()
        beside = None
        if options.peer:
            beside = side_by_side(captioner, files["640 x 480"], search, round(fmean(lengths)), options)
        endurance = endure(captioner, files["224 px"], search, options) if options.endurance else None

    show(cold, latency, folders, beside, endurance, peak)
    whole = latency["whole"]
    finish(
        {
            "benchmark": "captioning",
            "machine": machine(),
            "model": captioner.name,
            "image_size": captioner.preprocessing.size,
            "beam": options.beam,
            "threads": options.threads,
            "words_per_caption": fmean(lengths),
            "ours": beside["ours"] if beside else folders["640 x 480"],
            "peer": beside["peer"] if beside else None,
            "ratio": beside["ratio"] if beside else None,
            "folders": folders,
            "latency_p50_ms": percentile(whole, 50),
            "latency_p99_ms": percentile(whole, 99),
            "latency_by_part": {
                part: {"p50_ms": percentile(times, 50), "p99_ms": percentile(times, 99)}
                for part, times in latency.items()
            },
            "import_s": median(cold["import"]),
            "cold_start_s": median(cold["caption"]),
            "cold_start_measurements": cold["caption"],
            "peak_mb": peak * 2**20 / 1e6,
            "endurance": endurance,
        }
    )


def photographs(folder: Path, count: int, scratch: Path, large: int) -> dict[str, list[Path]]:
    """Photographs of each of SIZES, made of those of a folder; each several times where the folder has fewer."""
    found = sorted(folder.glob("*.jpg"))
    if not found:
        fail(f"--photographs {folder}: has no .jpg files")
    files = {}
    for name, size in SIZES.items():
        wanted = min(large, count) if name == "12 megapixels" else count
        files[name] = resized(found, size, wanted, scratch / name.replace(" ", "-"))
    return files


def run_python(*arguments: str) -> None:
    """A fresh interpreter, which must end well."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def cold_command(photograph: Path, options: argparse.Namespace) -> list[str]:
    command = ["-m", "captionlens", "caption", str(photograph), "--beam", str(options.beam)]
    return command + (["--model", options.model] if options.model else [])


def latencies(
    captioner: captionlens.Captioner, files: Sequence[Path], search: captionlens.DecodingOptions
) -> dict[str, list[float]]:
    """Seconds of captioning one photograph after the other, and of its parts in a round of their own."""
    part_of: dict[str, list[float]] = {"whole": [], "decode": [], "encode": [], "search": []}
    captioner.caption(files[0], search)
    for file in files:
        part_of["whole"] += seconds(partial(captioner.caption, file, search), repeats=1, warm_up=0)
    held: dict[str, Any] = {}

    def read(file: Path) -> None:
        held["images"] = captioner.preprocessing.normalise(captioner.preprocessing.read(file)[None])

    def encode() -> None:
        held["features"] = captioner.network.encode(held["images"])

    for file in files:
        part_of["decode"] += seconds(partial(read, file), repeats=1, warm_up=0)
        part_of["encode"] += seconds(encode, repeats=1, warm_up=0)
        part_of["search"] += seconds(lambda: decode(captioner.network, held["features"], search), repeats=1, warm_up=0)
    return part_of


def throughput(
    captioner: captionlens.Captioner,
    files: dict[str, list[Path]],
    search: captionlens.DecodingOptions,
    options: argparse.Namespace,
) -> dict[str, dict[str, Any]]:
    """Photographs a second of each size, by turns."""
    times = seconds_in_turn(
        {name: partial(caption_all, captioner, some, search, options) for name, some in files.items()},
        options.repeats,
    )
    return {name: per_second("photographs", len(files[name]), times[name]) for name in files}


def caption_all(
    captioner: captionlens.Captioner,
    files: Sequence[Path],
    search: captionlens.DecodingOptions,
    options: argparse.Namespace,
) -> None:
    for caption in captioner.caption_many(files, batch_size=options.batch_size, options=search):
        if caption.error is not None:
            fail(str(caption.error))


def side_by_side(
    captioner: captionlens.Captioner,
    files: list[Path],
    search: captionlens.DecodingOptions,
    words: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Ours and the peer by turns: ours, peer, ours, peer, ours."""
    ours = []
    peers = []
    for turn in range(3):
        ours += seconds(lambda: caption_all(captioner, files, search, options), repeats=1)
        if turn < 2:
            names = files[turn * options.peer_photographs : (turn + 1) * options.peer_photographs]
            more = ["--beam", options.beam, "--tokens", words + 2, "--threads", options.threads]
            peers.append(run_peer_on(names, options.peer, "blip_base.py", *more))
    our = per_second("photographs", len(files), ours)
    peer = peers[0] | {
        "photographs_per_second": fmean(run["photographs_per_second"] for run in peers),
        "latency_p50_ms": fmean(run["latency_p50_ms"] for run in peers),
        "seconds": [time for run in peers for time in run["seconds"]],
    }
    return {"ours": our, "peer": peer, "ratio": our["photographs_per_second"] / peer["photographs_per_second"]}


def endure(
    captioner: captionlens.Captioner,
    files: Sequence[Path],
    search: captionlens.DecodingOptions,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """The memory held after a tenth of many photographs, and after all of them."""
    count = options.endurance
    many = itertools.islice(itertools.cycle(files), count)
    captions = captioner.caption_many(many, batch_size=options.batch_size, options=search)
    held = []
    for number, _ in enumerate(captions, start=1):
        if number in (max(count // 10, 1), count):
            held.append(memory_mib())
    return {"photographs": count, "mib_after_a_tenth": held[0], "mib_at_the_end": held[-1], "ratio": held[-1] / held[0]}


def show(
    cold: dict[str, list[float]],
    latency: dict[str, list[float]],
    folders: dict[str, dict[str, Any]],
    beside: dict[str, Any] | None,
    endurance: dict[str, Any] | None,
    peak: float,
) -> None:
    print(
        f"import captionlens {median(cold['import']):.3f} s, caption of one photograph {median(cold['caption']):.3f} s"
    )
    rows = [[part, percentile(times, 50), percentile(times, 99)] for part, times in latency.items()]
    print(table(["latency, 640 x 480", "p50 ms", "p99 ms"], rows))
    print(table(["folder", "photographs/s"], [[name, row["photographs_per_second"]] for name, row in folders.items()]))
    print(f"peak memory {peak:.0f} MiB")
    if beside:
        ours, peer = (beside[name]["photographs_per_second"] for name in ("ours", "peer"))
        print(f"ours {ours:.3g}, BLIP-base {peer:.3g} photographs/s: {beside['ratio']:.1f} times as many")
    if endurance:
        print(
            f"memory after a tenth of {endurance['photographs']} photographs {endurance['mib_after_a_tenth']:.0f} MiB, "
            f"at the end {endurance['mib_at_the_end']:.0f} MiB"
        )


if __name__ == "__main__":
    main()
