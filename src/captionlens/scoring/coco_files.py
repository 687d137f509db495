"""Reading, writing and scoring of COCO's caption formats: results and annotations (references)."""

import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from captionlens import files
from captionlens.errors import DatasetError

ImageId = int | str
FilePath = str | PathLike[str]

_NAMED = 5  # largest number of photographs in an error message


def read_results(path: FilePath) -> dict[ImageId, str]:
    """Read a results file, `[{"image_id": ..., "caption": ...}, ...]`, to captions by image id.

    Raises:
        DatasetError: the file cannot be read, is not of that form, or has two captions for one photograph.
    """
    entries = _read_json(path)
    if not isinstance(entries, list):
        raise DatasetError(path, f"want a list of captions, got {_kind(entries)}")
    captions: dict[ImageId, str] = {}
    for number, entry in enumerate(entries):
        image_id, caption = _entry(path, f"entry {number}", entry)
        if image_id in captions:
            raise DatasetError(path, f"entry {number}: a second caption for image_id {image_id}")
        captions[image_id] = caption
    if not captions:
        raise DatasetError(path, "has no captions")
    return captions


def read_references(path: FilePath) -> dict[ImageId, list[str]]:
    """Read an annotation file, `{"annotations": [{"image_id": ..., "caption": ...}, ...]}`, to references by image id.

    Raises:
        DatasetError: the file cannot be read, or is not of that form.
    """
    content = _read_json(path)
    if not isinstance(content, dict):
        raise DatasetError(path, f"want an object with annotations, got {_kind(content)}")
    if "annotations" not in content:
        raise DatasetError(path, "has no 'annotations'")
    annotations = content["annotations"]
    if not isinstance(annotations, list):
        raise DatasetError(path, f"'annotations' must be a list, got {_kind(annotations)}")
    captions: dict[ImageId, list[str]] = {}
    for number, entry in enumerate(annotations):
        image_id, caption = _entry(path, f"annotation {number}", entry)
        captions.setdefault(image_id, []).append(caption)
    if not captions:
        raise DatasetError(path, "has no captions")
    return captions


def write_results(path: FilePath, captions: Mapping[ImageId, str]) -> None:
    """Write captions as a results file, atomically."""
    entries = [{"image_id": image_id, "caption": caption} for image_id, caption in captions.items()]
    files.write_text(path, json.dumps(entries, ensure_ascii=False) + "\n")


def write_references(path: FilePath, captions: Mapping[ImageId, Sequence[str]]) -> None:
    """Write references as an annotation file for COCO's own tools, atomically."""
    annotations = [
        {"image_id": image_id, "caption": caption} for image_id, texts in captions.items() for caption in texts
    ]
    content = {
        "images": [{"id": image_id} for image_id in captions],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)],
    }
    files.write_text(path, json.dumps(content, ensure_ascii=False) + "\n")


def read_pair(results: FilePath, references: FilePath) -> tuple[dict[ImageId, str], dict[ImageId, list[str]], int]:
    """Read a results file and the references of its photographs; also the number of references it has no result for.

    Raises:
        DatasetError: a file is malformed, or the results have photographs that the references lack.
    """
    captions = read_results(results)
    everything = read_references(references)
    unknown = [image_id for image_id in captions if image_id not in everything]
    if unknown:
        some = ", ".join(str(image_id) for image_id in unknown[:_NAMED]) + (", ..." if len(unknown) > _NAMED else "")
        raise DatasetError(results, f"{len(unknown)} image_ids are not in {references}: {some}")
    wanted = {image_id: everything[image_id] for image_id in captions}
    return captions, wanted, len(everything) - len(wanted)


def _read_json(path: FilePath) -> Any:
    try:
        with Path(path).open(encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise DatasetError(path, error.strerror or str(error)) from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DatasetError(path, f"is not JSON ({error})") from error


def _entry(path: FilePath, where: str, entry: Any) -> tuple[ImageId, str]:
    if not isinstance(entry, dict):
        raise DatasetError(path, f"{where}: want an object, got {_kind(entry)}")
    for name in ("image_id", "caption"):
        if name not in entry:
            raise DatasetError(path, f"{where} has no {name!r}")
    image_id, caption = entry["image_id"], entry["caption"]
    if isinstance(image_id, bool) or not isinstance(image_id, int | str):
        raise DatasetError(path, f"{where}: image_id must be a number or a name, got {image_id!r}")
    if not isinstance(caption, str):
        raise DatasetError(path, f"{where}: caption must be a text, got {_kind(caption)}")
    return image_id, caption


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "null"}
    return names.get(type(value), f"{value!r}")
