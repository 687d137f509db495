"""Reader of COCO captions, 2014 and 2017: the unpacked official archives, or one annotation file.

Chen et al., "Microsoft COCO Captions: Data Collection and Evaluation Server" (2015). The official train and
val files are the splits train and val; no captions of the test photographs were ever published.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from captionlens.datasets.gathering import Gathering
from captionlens.datasets.reading import read_json
from captionlens.errors import DatasetError

_NAME = re.compile(r"captions_(train|val|test)(\d*)\.json")
YEARS = ("2014", "2017")


def annotation_files(root: Path) -> list[Path]:
    """The `captions_*.json` of a COCO folder, in `annotations/` or in the folder itself."""
    for folder in (root / "annotations", root):
        files = sorted(folder.glob("captions_*.json"))
        if files:
            return files
    return []


def read_coco(root: Path, gathering: Gathering, year: str | None = None, encoding: str | None = None) -> None:
    """Read the captions of a COCO folder, as far as its files and photographs are there.

    Args:
        year: "2014" or "2017" where the folder holds both.
        encoding: of the files, where it is not UTF-8.

    Raises:
        DatasetError: no annotation file, a malformed one, or both years at once.
    """
    files = annotation_files(root)
    if not files:
        raise DatasetError(root, "no annotations/captions_*.json")
    years = {found[2] for file in files if (found := _NAME.fullmatch(file.name))} & set(YEARS)
    if year is None and len(years) > 1:
        # Both years are the same 123,287 photographs, split differently, and must not be mixed. The folders of
        # photographs usually tell which year is meant.
        with_photographs = [y for y in YEARS if _photograph_folders(root, f"train{y}", f"val{y}")]
        if len(with_photographs) != 1:
            raise DatasetError(root, "holds COCO 2014 and 2017: tell --layout coco2014 or coco2017")
        year = with_photographs[0]
    if year is not None:
        files = [file for file in files if file.stem.endswith(year)]
        if not files:
            raise DatasetError(root, f"no annotations/captions_*{year}.json")
    for file in files:
        read_coco_file(root, file, gathering, encoding)


def read_coco_file(root: Path, file: Path, gathering: Gathering, encoding: str | None = None) -> None:
    """Read one file in COCO's captions format; its photographs are searched in `train2014/` and the like.

    The split is the one in the file's name (`captions_val2017.json`), else it is left open.

    Raises:
        DatasetError: the file is malformed, or not of this format.
    """
    content = read_json(file, encoding)
    images, annotations = _parts(file, content)
    found = _NAME.fullmatch(file.name)
    split = found[1] if found else None
    own = _photograph_folders(root, found[1] + found[2]) if found else []
    folders = [*own, *[folder for folder in (root / "images", root) if folder.is_dir()]]
    names: dict[str, str] = {}  # by id
    for position, image in enumerate(images):
        at = f", images[{position}]"
        number = _id(image, "id")
        name = image.get("file_name") if number is not None else None
        if number is None:
            gathering.malformed(file, at, "an image without id")
        elif not isinstance(name, str):
            gathering.malformed(file, at, "an image without file_name")
        elif names.setdefault(number, name) != name:
            gathering.malformed(file, at, f"image {number} is {names[number]} before, and {name} here")
        else:
            gathering.photograph((file, number), name, folders, file=file, source_id=number, split=split)
    for position, annotation in enumerate(annotations):
        at = f", annotations[{position}]"
        number = _id(annotation, "image_id")
        if number is None:
            gathering.malformed(file, at, "an annotation without image_id")
        elif not gathering.knows((file, number)):
            gathering.malformed(file, at, f"image {number} is not among the images")
        else:
            gathering.caption((file, number), annotation.get("caption"), file=file, at=at)


def _parts(file: Path, content: Any) -> tuple[Sequence[Any], Sequence[Any]]:
    if not isinstance(content, dict):
        raise DatasetError(file, "not COCO's captions format: want an object with images and annotations")
    for part in ("images", "annotations"):
        if not isinstance(content.get(part), list):
            raise DatasetError(file, f"not COCO's captions format: no list {part!r}")
    return content["images"], content["annotations"]


def _photograph_folders(root: Path, *names: str) -> list[Path]:
    folders = [parent / name for name in names for parent in (root, root / "images")]
    return [folder for folder in folders if folder.is_dir()]


def _id(entry: Any, key: str) -> str | None:
    """An id as text: programs that write such files make numbers of texts, texts of numbers, and 7.0 of 7."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else None
