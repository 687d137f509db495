"""Put the page together: a folder that any web server, or none but files over HTTP, can offer.

    python browser/build.py build/browser
    python -m http.server --directory build/browser

The page captions photographs in the browser itself, with ONNX Runtime Web and a model directory as it is. Its parts:
what lies beside this file; the scripts and styles of captionlens.frontend; the model; and onnxruntime-web, which is
downloaded from the npm registry once and kept beside the page. Only captionlens without extras is needed.
"""

import argparse
import shutil
import sys
import tarfile
from pathlib import Path

from captionlens.errors import CaptionlensError
from captionlens.fetch import check_sum, fetch
from captionlens.files import write_bytes, write_text
from captionlens.frontend import assets
from captionlens.runtime.model_directory import PACKAGED_MODEL, ModelDirectory

HERE = Path(__file__).parent
PAGE = ("page.css", "page.mjs", "worker.mjs", "search.mjs", "pixels.mjs", "confidence.mjs")
EXAMPLE = HERE.parent / "examples" / "photographs" / "photographer.jpg"
RUNTIME = "https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-1.30.0.tgz"  # MIT License
RUNTIME_SHA256 = "sha256:d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def build(site: Path, model: Path = PACKAGED_MODEL, *, cache: Path | None = None, progress: bool = True) -> None:
    """Write the page.

    Args:
        site: a folder; what it holds of an earlier page is replaced.
        model: a model directory.
        cache: where the archive with onnxruntime-web is kept; by default beside `site`.
        progress: show a bar while onnxruntime-web is downloaded.

    Raises:
        ModelError: the model is not whole.
        DownloadError: onnxruntime-web cannot be downloaded.
    """
    opened = ModelDirectory.open(model)
    site.mkdir(parents=True, exist_ok=True)
    _runtime(cache or site.parent, site / "onnxruntime", progress)
    for name in PAGE:
        shutil.copyfile(HERE / name, site / name)
    for name in (*assets.MODULES, *assets.STYLES):
        write_text(site / name, assets.read(name))
    shutil.copyfile(EXAMPLE, site / "example.jpg")
    shutil.rmtree(site / "model", ignore_errors=True)
    shutil.copytree(opened.folder, site / "model")
    write_text(site / "index.html", assets.fill((HERE / "index.html").read_text("utf-8")))


def _runtime(cache: Path, folder: Path, progress: bool) -> None:
    """The few files of onnxruntime-web that the page needs."""
    archive = cache / RUNTIME.rpartition("/")[2]
    if not archive.exists() or not check_sum(archive, RUNTIME_SHA256):
        archive.unlink(missing_ok=True)
        fetch(RUNTIME, archive, checksum=RUNTIME_SHA256, progress=progress)
    folder.mkdir(exist_ok=True)
    with tarfile.open(archive) as packed:
        for name in RUNTIME_FILES:
            member = packed.extractfile(f"package/dist/{name}")
            assert member is not None  # the checksum says what is in the archive
            write_bytes(folder / name, member.read())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Put the page together that captions in the browser.")
    parser.add_argument("site", type=Path, help="the folder to write, build/browser for instance")
    parser.add_argument("--model", type=Path, default=PACKAGED_MODEL, help="default: the captioner that comes along")
    options = parser.parse_args()
    try:
        build(options.site, options.model)
    except CaptionlensError as error:
        sys.exit(f"build.py: {error}")


if __name__ == "__main__":
    main()
