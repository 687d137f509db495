"""Reader of Karpathy's splits of COCO, Flickr8k and Flickr30k (`dataset_coco.json` and the like).

Karpathy, Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions" (CVPR 2015). Most papers report
on these splits. An image is one object with `filename`, `filepath` (COCO only), `split` and `sentences`, each with
`raw` and `tokens`. The split `restval` is the part of COCO's val photographs that is used for training.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from captionlens.datasets.gathering import Gathering
from captionlens.datasets.reading import read_json
from captionlens.datasets.records import split_name
from captionlens.errors import DatasetError, OptionError

_FOLDERS = (
    "images",
    "Flicker8k_Dataset",
    "Flickr8k_Dataset",
    "Images",
    "flickr30k-images",
    "flickr30k_images",
    "train2014",
    "val2014",
)


# Files that lie in data sets of Hugging Face.
_OTHERS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json")


def annotation_files(root: Path) -> list[Path]:
    """The `dataset*.json` of a folder."""
    return sorted(file for file in root.glob("dataset*.json") if file.name not in _OTHERS)


def annotation_file(root: Path) -> Path:
    """The one `dataset*.json` of a folder.

    Raises:
        DatasetError: none, or more than one.
    """
    files = annotation_files(root)
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise DatasetError(root, f"want one dataset_*.json, found {names}; or give the path of the file")
    return files[0]


def read_karpathy_file(root: Path, file: Path, gathering: Gathering, encoding: str | None = None) -> None:
    """Read one file of this format; photographs are beside it, in `filepath`, in `images/`, or in both.

    Raises:
        DatasetError: the file is malformed, or not of this format.
    """
    content = read_json(file, encoding)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise DatasetError(file, "not Karpathy's format: want an object with a list 'images'")
    folders = [root, *[root / name for name in _FOLDERS if (root / name).is_dir()]]
    for position, image in enumerate(images):
        at = f", images[{position}]"
        if not isinstance(image, dict) or not isinstance(image.get("filename"), str):
            gathering.malformed(file, at, "an image without filename")
            continue
        try:
            split = split_name(image["split"]) if isinstance(image.get("split"), str) else None
        except OptionError as error:
            gathering.bad_split(file, at, error)
            continue
        key, name = (file, position), image["filename"]
        inside = [folder / str(image["filepath"]) for folder in folders] if image.get("filepath") else []
        gathering.photograph(key, name, [*inside, *folders], file=file, at=at, source_id=_source_id(image), split=split)
        sentences = image.get("sentences")
        for sentence in sentences if isinstance(sentences, list) else []:
            gathering.caption(key, _text(sentence), file=file, at=at)


def _source_id(image: dict[str, Any]) -> str:
    cocoid = image.get("cocoid")
    return str(cocoid) if cocoid is not None else PurePosixPath(image["filename"].replace("\\", "/")).stem


def _text(sentence: Any) -> object:
    if not isinstance(sentence, dict):
        return 0  # anything but text is counted as malformed
    raw, tokens = sentence.get("raw"), sentence.get("tokens")
    if raw is None and isinstance(tokens, list):
        return " ".join(str(token) for token in tokens)
    return raw
