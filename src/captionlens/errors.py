"""Exceptions for errors that a user can cause and mend, all derived from `CaptionlensError`.

The command line prints the message alone. Every class carries `type`, a stable slug for machine-readable output (JSON
lines, problem+json).
"""

from os import PathLike
from typing import Any


class CaptionlensError(Exception):
    """Base of all errors in the user's input or environment; a bug never raises one."""

    type = "error"


class FileError(CaptionlensError):
    """An error in one file or folder; the message reads `path: cause`."""

    type = "bad-file"

    def __init__(self, path: str | PathLike[str], cause: str) -> None:
        super().__init__(f"{path}: {cause}")
        self.path = str(path)
        self.cause = cause

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:  # so that it can be pickled out of a worker process
        return self.__class__, (self.path, self.cause)


class UnreadableImage(FileError):
    """A photograph that cannot be decoded, is truncated or too large, or has a format that is not allowed."""

    type = "unreadable-image"


class DatasetError(FileError):
    """A data set that is missing, of unknown layout, or whose files contradict each other."""

    type = "bad-dataset"


class PhrasesMissing(DatasetError):
    """A photograph without phrases with boxes: none of its files are in the folder of them."""

    type = "no-phrases"


class StoreError(FileError):
    """A feature store that is damaged or was made with another backbone, other weights or other sizes."""

    type = "bad-store"


class ModelError(FileError):
    """A model directory that is incomplete, damaged, or whose parts disagree."""

    type = "bad-model"


class RegionError(ModelError):
    """A model whose graphs cannot keep attention to a part of a photograph."""

    type = "no-regions"


class WeightsError(FileError):
    """Backbone weights that are missing or do not fit the backbone."""

    type = "bad-weights"


class RunError(FileError):
    """A training run folder that cannot be started, resumed or exported."""

    type = "bad-run"


class DownloadError(CaptionlensError):
    """A download that could not be completed, verified or unpacked."""

    type = "download-failed"


class OptionError(CaptionlensError):
    """An option with a value that makes no sense; the message names both."""

    type = "bad-option"


class DeviceError(CaptionlensError):
    """A requested device that is missing or cannot be started."""

    type = "no-device"

    def __init__(self, device: str, cause: str) -> None:
        super().__init__(f"device {device}: {cause}")
        self.device = device
        self.cause = cause

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return self.__class__, (self.device, self.cause)


class MissingExtra(CaptionlensError):
    """A missing optional dependency: the packages of an extra are not installed."""

    type = "missing-extra"

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package {package!r}: pip install 'captionlens[{extra}]'")
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return self.__class__, (self.package, self.extra)
