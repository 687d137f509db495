"""Model directories: all files of a trained captioner, checked against a manifest before use.

    config.json                name, grid, sizes, decoding options and training settings
    preprocessor_config.json   preprocessing for the backbone
    tokenizer.json             the vocabulary
    model.safetensors          the weights, in half precision or eight bits
    onnx/*.onnx                the graphs backbone, start and step, with their weights in model.safetensors
    README.md                  the model card
    confidence.json            the calibration of the confidence, if there is one
    nouns.json                 the nouns of the vocabulary, for keywords, if there are any
    manifest.json              SHA-256 of each of the files above

Nothing in it is unpickled or executed.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captionlens.errors import ModelError, OptionError
from captionlens.files import sha256, sync_folder, write_text
from captionlens.runtime import confidence, nouns
from captionlens.runtime.confidence import Calibration
from captionlens.runtime.decoding import DecodingOptions
from captionlens.runtime.images import Preprocessing
from captionlens.runtime.nouns import Nouns
from captionlens.runtime.vocabulary import Vocabulary

FORMAT = 1
MANIFEST = "manifest.json"
PACKAGED_MODEL = Path(__file__).parent.parent / "models" / "captionlens-base"
GRAPHS = ("backbone", "start", "step")
WEIGHTS = "model.safetensors"
FILES = (
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    WEIGHTS,
    *(f"onnx/{graph}.onnx" for graph in GRAPHS),
    "README.md",
)
OPTIONAL = (confidence.NAME, nouns.NAME)


@dataclass(frozen=True, slots=True, repr=False)
class ModelDirectory:
    """A complete and consistent model directory."""

    folder: Path
    name: str
    config: dict[str, Any]
    grid: tuple[int, int]  # rows, columns
    decoding: DecodingOptions
    preprocessing: Preprocessing
    vocabulary: Vocabulary
    calibration: Calibration | None  # of the confidence, if the model is calibrated
    nouns: Nouns | None  # of the vocabulary, if they are known

    def __repr__(self) -> str:
        return f"ModelDirectory({str(self.folder)!r}, name={self.name!r}, {len(self.vocabulary):,} words)"

    @classmethod
    def open(cls, folder: str | Path) -> "ModelDirectory":
        """Read a model directory, and check that it is complete and that its parts agree.

        Raises:
            ModelError: a check failed; the message names the file and the fault.
        """
        folder = Path(folder)
        digests = check_manifest(folder)
        config = _read_json(folder / "config.json")
        if config.get("format") != FORMAT:
            found = config.get("format")
            raise ModelError(folder / "config.json", f"is of format {found!r}, wanted {FORMAT}")
        path = folder / "config.json"
        try:
            name = str(config["name"])
            rows, columns = (int(side) for side in config["grid"])
            decoding = DecodingOptions(**config["decoding"])
            words, channels = (int(config["network"][size]) for size in ("vocabulary", "channels"))
            path = folder / "preprocessor_config.json"
            preprocessing = Preprocessing.from_dict(_read_json(path))
        except (KeyError, TypeError, ValueError, OptionError) as error:
            raise ModelError(path, f"lacks or garbles a setting ({error})") from error
        vocabulary = Vocabulary.load(folder / "tokenizer.json")
        if len(vocabulary) != words:
            raise ModelError(
                folder / "tokenizer.json",
                f"has {len(vocabulary)} words, config.json says {words}: not of one model",
            )
        calibration = None
        if confidence.NAME in digests:
            calibration = Calibration.load(
                folder / confidence.NAME, weights=digests[WEIGHTS], vocabulary=words, channels=channels
            )
        known = Nouns.load(folder / nouns.NAME, vocabulary) if nouns.NAME in digests else None
        return cls(folder, name, config, (rows, columns), decoding, preprocessing, vocabulary, calibration, known)

    def graph(self, name: str) -> Path:
        """Path of one of GRAPHS."""
        return self.folder / "onnx" / f"{name}.onnx"

    @property
    def weights(self) -> Path:
        """Path of the weights."""
        return self.folder / WEIGHTS


def write_manifest(folder: Path) -> None:
    """Record the SHA-256 of every file; written last, it completes a directory."""
    there = (*FILES, *(name for name in OPTIONAL if (folder / name).exists()))
    digests = {name: sha256(folder / name) for name in there}
    write_text(folder / MANIFEST, json.dumps({"sha256": digests}, indent=2) + "\n")


def add_calibration(model: Path, calibration: Calibration, card: str) -> None:
    """Add a calibration to a model directory, atomically.

    Args:
        model: a complete model directory; an earlier calibration is replaced.
        calibration: of this model.
        card: the new content of its README.md.

    Raises:
        ModelError: the calibration does not fit the model.
        OSError: the draft beside it cannot be written.
    """
    with _changed(model) as draft:
        calibration.save(draft / confidence.NAME, weights=sha256(draft / WEIGHTS))
        write_text(draft / "README.md", card)


def add_nouns(model: Path, known: Nouns) -> None:
    """Add the nouns of its vocabulary to a model directory, atomically.

    Args:
        model: a complete model directory; earlier nouns are replaced.
        known: of this model.

    Raises:
        ModelError: the nouns do not fit the model.
        OSError: the draft beside it cannot be written.
    """
    with _changed(model) as draft:
        known.save(draft / nouns.NAME)


@contextmanager
def _changed(model: Path) -> Iterator[Path]:
    """Yield a copy of a model directory to change, which is then completed, checked and put in its place."""
    with drafted(model.resolve()) as draft:
        shutil.copytree(model, draft)
        yield draft
        write_manifest(draft)
        ModelDirectory.open(draft)


@contextmanager
def drafted(model: Path) -> Iterator[Path]:
    """Yield a draft folder beside a model directory; at the end of the block it is renamed to the directory's path.

    An earlier model there is replaced. On an exception it stays, and the draft is removed.

    Raises:
        ModelError: something other than a model has that path.
    """
    if model.exists() and not (model / MANIFEST).exists() and any(model.iterdir()):
        raise ModelError(model, "is there already and is not a model directory")
    draft = model.with_name(f".{model.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        yield draft
        _put_in_place(draft, model)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _put_in_place(draft: Path, model: Path) -> None:
    """Rename the finished draft to the model's path; an earlier model there is removed."""
    sync_folder(draft)
    old = model.with_name(f".{model.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if model.exists():
        model.rename(old)
    draft.rename(model)
    sync_folder(model.parent)
    shutil.rmtree(old, ignore_errors=True)


def check_manifest(folder: Path) -> dict[str, str]:
    """Compare every file with the manifest.

    Returns:
        The SHA-256 of each file.

    Raises:
        ModelError: a file is missing or was changed; the message names the first one.
    """
    if not folder.is_dir():
        raise ModelError(folder, "no such model directory")
    if not (folder / MANIFEST).exists():
        raise ModelError(folder, "is not a model directory (no manifest.json)")
    digests = _read_json(folder / MANIFEST).get("sha256")
    if not isinstance(digests, dict) or set(digests) - set(OPTIONAL) != set(FILES):
        raise ModelError(folder / MANIFEST, "does not list the files of a model directory")
    for name in digests:
        if not (folder / name).is_file():
            raise ModelError(folder / name, "is missing")
        if sha256(folder / name) != digests[name]:
            raise ModelError(folder / name, "is not the file the manifest names (damaged, or of another model)")
    return digests


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ModelError(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise ModelError(path, f"is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(path, "is not a JSON object")
    return content
