"""A model directory: all that captioning needs, checked against its manifest before anything is used.

    config.json                what the model is: name, grid, sizes, decoding, how it was trained
    preprocessor_config.json   how the backbone wants its pictures
    tokenizer.json             its words
    model.safetensors          its weights, half precision
    onnx/*.onnx                backbone, start and step; their weights are those of model.safetensors
    README.md                  the model card
    manifest.json              SHA-256 of each of the files above

Nothing in it is ever unpickled or executed.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captionlens.errors import ModelError, OptionError
from captionlens.files import sha256, write_text
from captionlens.runtime.decoding import DecodingOptions
from captionlens.runtime.images import Preprocessing
from captionlens.runtime.vocabulary import Vocabulary

FORMAT = 1
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


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """A whole and consistent model directory."""

    folder: Path
    name: str
    config: dict[str, Any]
    grid: tuple[int, int]  # rows, columns
    decoding: DecodingOptions
    preprocessing: Preprocessing
    vocabulary: Vocabulary

    @classmethod
    def open(cls, folder: str | Path) -> "ModelDirectory":
        """Read a model directory and check that it is whole and that its parts agree.

        Raises:
            ModelError: it is not; the message names the file and what is wrong with it.
        """
        folder = Path(folder)
        check_manifest(folder)
        config = _read_json(folder / "config.json")
        if config.get("format") != FORMAT:
            found = config.get("format")
            raise ModelError(folder / "config.json", f"is of format {found!r}, wanted {FORMAT}")
        path = folder / "config.json"
        try:
            name = str(config["name"])
            rows, columns = (int(side) for side in config["grid"])
            decoding = DecodingOptions(**config["decoding"])
            words = int(config["network"]["vocabulary"])
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
        return cls(folder, name, config, (rows, columns), decoding, preprocessing, vocabulary)

    def graph(self, name: str) -> Path:
        """Path of one of GRAPHS."""
        return self.folder / "onnx" / f"{name}.onnx"

    @property
    def weights(self) -> Path:
        """Path of the weights."""
        return self.folder / WEIGHTS


def write_manifest(folder: Path) -> None:
    """Record the SHA-256 of every file; written last, it makes a directory whole."""
    digests = {name: sha256(folder / name) for name in FILES}
    write_text(folder / "manifest.json", json.dumps({"sha256": digests}, indent=2) + "\n")


def check_manifest(folder: Path) -> None:
    """Compare every file with the manifest.

    Raises:
        ModelError: the first file that is missing or was changed.
    """
    if not folder.is_dir():
        raise ModelError(folder, "no such model directory")
    if not (folder / "manifest.json").exists():
        raise ModelError(folder, "is not a model directory (no manifest.json)")
    digests = _read_json(folder / "manifest.json").get("sha256")
    if not isinstance(digests, dict) or set(digests) != set(FILES):
        raise ModelError(folder / "manifest.json", "does not list the files of a model directory")
    for name in FILES:
        if not (folder / name).is_file():
            raise ModelError(folder / name, "is missing")
        if sha256(folder / name) != digests[name]:
            raise ModelError(folder / name, "is not the file the manifest names (damaged, or of another model)")


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
