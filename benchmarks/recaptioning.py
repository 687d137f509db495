"""What a collection costs that is captioned again, and whether runs that are killed end like one undisturbed.

A tree of folders is made of some photographs, with what such trees have: equal names in different folders, names in
many scripts and forms, damaged and empty files, other programs' folders, links in a circle, a pipe. For every output
one copy is captioned undisturbed, then again; another copy is captioned by runs that are killed (SIGKILL) at random
moments, then by one to the end. Both copies must hold the same files with the same bytes.

    python benchmarks/recaptioning.py --count 3000 --kills 20
    python benchmarks/recaptioning.py --skips 100000          # time to find that nothing is left to caption
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import unicodedata
from pathlib import Path

from common import add_photographs, fail, finish, machine, positive, table

COMMAND = [sys.executable, "-m", "captionlens", "caption", "-r", "photographs"]
OUTPUTS = {
    "jsonl": ["--format", "jsonl", "-o", "captions.jsonl"],
    "csv": ["--format", "csv", "-o", "captions.csv"],
    "sidecar": ["--sidecar", "xmp"],
    "embed": ["--embed"],
    "explain": ["--explain", "figures"],
}
FOLDERS = ["2024", "über", unicodedata.normalize("NFD", "übersee"), "相片", "two\nlines", "-dash", "with space", "q?*"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Collections captioned again.")
    add_photographs(parser)
    parser.add_argument("--count", type=positive, default=300, help="photographs in the tree (default: 300)")
    parser.add_argument("--folders", type=positive, default=60, help="of the tree (default: 60)")
    parser.add_argument("--kills", type=int, default=5, help="runs killed for each output (default: 5)")
    parser.add_argument("--outputs", default=",".join(OUTPUTS), help=f"some of {', '.join(OUTPUTS)}")
    parser.add_argument("--skips", type=positive, help="measure instead the skipping of so many stand-in files")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: 1)")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        if options.skips:
            finish(machine() | {"files": options.skips, "seconds": round(skipping(Path(scratch), options.skips), 1)})
            return
        found = sorted(options.photographs.glob("*.jpg"))
        if not found:
            fail(f"--photographs {options.photographs}: has no .jpg files")
        make_tree(Path(scratch) / "tree", found, options.count, options.folders)
        chance = random.Random(options.seed)
        results = {
            name: measure(Path(scratch), OUTPUTS[name], options.kills, chance) for name in options.outputs.split(",")
        }
    print(table(["output", *next(iter(results.values()))], [[name, *row.values()] for name, row in results.items()]))
    finish(machine() | results)


def measure(scratch: Path, output: list[str], kills: int, chance: random.Random) -> dict[str, float]:
    """Run undisturbed, again, and killed; compare."""
    whole, killed = (scratch / name for name in ("whole", "killed"))
    for place in (whole, killed):
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run(["cp", "-a", scratch / "tree", place], check=True)
    first, said = timed(whole, output)
    second, _ = timed(whole, output)
    done = 0
    for _ in range(kills):
        process = subprocess.Popen(
            [*COMMAND, "--quiet", *output], cwd=killed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(chance.uniform(0.3, max(1.5, 2 * first / max(kills, 1))))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            done += 1
    timed(killed, output)
    one, other = contents(whole), contents(killed)
    different = sum(one.get(name) != other.get(name) for name in one.keys() | other.keys())
    named = [line for line in said.splitlines() if ".jpg: " in line]
    return {
        "first run, s": round(first, 1),
        "second run, s": round(second, 2),
        "first / second": round(first / second),
        "killed": done,
        "files": len(one),
        "different": different,
        "failures named": len(named),
        "once each": len(set(named)),
    }


def timed(place: Path, output: list[str]) -> tuple[float, str]:
    """Seconds of a whole run, and what it said on stderr."""
    begin = time.perf_counter()
    run = subprocess.run(
        [*COMMAND, "--quiet", *output], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    if run.returncode not in (0, 1):
        fail(run.stderr.decode(errors="replace"))
    return time.perf_counter() - begin, run.stderr.decode(errors="surrogateescape")


def contents(place: Path) -> dict[str, bytes]:
    """Every regular file by its path."""
    found = {}
    for folder, _, names in os.walk(place):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                found[os.path.relpath(path, place)] = path.read_bytes()
    return found


def make_tree(tree: Path, photographs: list[Path], count: int, folders: int) -> None:
    """Copy photographs into folders, and add what nobody wants to meet there."""
    root = tree / "photographs"
    for number in range(count):
        folder = root / f"{FOLDERS[number % folders % len(FOLDERS)]}{number % folders // len(FOLDERS) or ''}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{number // folders:04d}.jpg"
        if number % 50 == 7:
            content = photographs[number % len(photographs)].read_bytes()
            path.write_bytes(content[: len(content) // 3] if number % 100 == 7 else b"")
        else:
            shutil.copyfile(photographs[number % len(photographs)], path)
    shutil.copyfile(photographs[0], root / ("n" * 251 + ".jpg"))
    shutil.copyfile(photographs[1], root / ".hidden.jpg")
    (root / "._0000.jpg").write_bytes(b"\0\5\x16\7")
    (root / "@eaDir").mkdir()
    shutil.copyfile(photographs[1], root / "@eaDir" / "SYNOPHOTO_THUMB_M.jpg")
    (root / "circle").symlink_to(root, target_is_directory=True)
    os.mkfifo(root / "pipe.jpg")


def skipping(scratch: Path, count: int) -> float:
    """Seconds to find that stand-in files all have a sidecar."""
    for number in range(count):
        folder = scratch / "photographs" / f"{number // 1000:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number % 1000:03d}.jpg").touch()
        (folder / f"{number % 1000:03d}.txt").write_text("a dog\n")
    return timed(scratch, ["--sidecar", "txt"])[0]


if __name__ == "__main__":
    main()
