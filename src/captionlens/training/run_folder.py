"""Run folders: the configuration and state of a training run, and the rules for resuming it.

config.yaml        the model's name, the data set and every setting
features/          the feature store, unless another was named
teachers/          what the teachers say of the training set
tokenizer.json     the vocabulary
history.csv        losses and CIDEr-D of each epoch
samples.jsonl      captions of a few validation photographs after each epoch
logs/              TensorBoard's and CSV logs
last.ckpt          the checkpoint to resume from
best.safetensors   the weights of the kept epoch, best.json its figures
loss.png           the loss plot
model/             the exported captioner
summary.json       seconds of each stage, captions per second, the kept epoch; written last
"""

import math
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import yaml
from torch import Tensor

from captionlens.errors import FileError, OptionError, RunError
from captionlens.export.card import check_name
from captionlens.files import write_text
from captionlens.training.config import SELF_CRITICAL, TrainingConfig, make_config, read_yaml

# Settings that may change when a run is resumed; all others determine the meaning of the weights.
_CHANGEABLE = frozenset(
    {"epochs", "gradient_clip", "label_smoothing", "doubly_stochastic", "attention_entropy"}
    | {"reinforce_weight", "reinforce_entropy"}
    | {"beam", "length_penalty", "validation_photographs"}
)


@dataclass(frozen=True, slots=True)
class DataSettings:
    """The photographs and captions that a run is trained on."""

    datasets: tuple[str, ...]
    layouts: tuple[str, ...] = ()  # one for all data sets, or one for each; none: they are recognised
    delimiter: str | None = None  # of tables, as are the next two
    columns: tuple[tuple[str, str], ...] = ()  # roles and names
    encoding: str | None = None
    weights: tuple[float, ...] = ()  # how often each data set's photographs are drawn in an epoch; none: once
    max_captions: int | None = None
    split_seed: int = 1  # of max_captions, and of the splits if the data set has none
    features: str | None = None  # a store outside the run folder
    backbone_weights: str | None = None
    boxes: str | None = None  # a folder with the boxes of phrases
    from_run: str | None = None  # the run whose kept weights this one starts from
    teachers: tuple[str, ...] = ()  # runs whose captioners teach this one

    @property
    def trained_on(self) -> str:
        """Names of the data sets: the last parts of their paths."""
        return ", ".join(Path(dataset).name for dataset in self.datasets)

    @property
    def draws(self) -> tuple[float, ...]:
        """How often a photograph of each data set is drawn in an epoch."""
        return self.weights or (1.0,) * len(self.datasets)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML."""
        return {name: _as_lists(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "DataSettings":
        """Settings from `to_dict`, or from a run of version 0.1, which had one `dataset` and one `layout`."""
        values = dict(content)
        if "dataset" in values:
            layout = values.pop("layout", None)
            values |= {"datasets": [values.pop("dataset")], "layouts": [layout] if layout else []}
        settings: dict[str, Any] = {name: _as_tuples(value) for name, value in values.items()}
        return cls(**settings)


def _as_lists(value: Any) -> Any:
    return [_as_lists(part) for part in value] if isinstance(value, tuple) else value


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(part) for part in value) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of a run and its configuration."""

    path: Path
    data: DataSettings
    config: TrainingConfig
    name: str | None = None  # of the model; None: the folder's

    @property
    def model_name(self) -> str:
        """Name of the exported model."""
        return self.name or self.path.resolve().name

    @property
    def model(self) -> Path:
        """Path of the model directory that training exports."""
        return self.path / "model"

    @property
    def features(self) -> Path:
        """Path of the feature store."""
        return Path(self.data.features) if self.data.features else self.path / "features"

    @property
    def checkpoint(self) -> Path | None:
        """Path of the checkpoint to resume from, if there is one."""
        path = self.path / "last.ckpt"
        return path if path.exists() else None

    @property
    def finished(self) -> bool:
        """Whether the run is complete."""
        return (self.path / "summary.json").exists()

    def save(self) -> None:
        """Write config.yaml."""
        content = {"name": self.name, "data": self.data.to_dict(), "training": self.config.to_dict()}
        write_text(self.path / "config.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))

    def forget(self) -> None:
        """Remove what `start_run` has made, of a run that could not begin."""
        (self.path / "config.yaml").unlink(missing_ok=True)
        with suppress(OSError):  # it holds features
            self.path.rmdir()


def open_run(path: Path) -> RunFolder:
    """Open an existing run.

    Raises:
        RunError: there is none, or its config.yaml is damaged.
    """
    if not (path / "config.yaml").exists():
        raise RunError(path, "is not a run folder (no config.yaml)")
    try:
        content = read_yaml(path / "config.yaml")
        training = dict(content["training"])
        config = make_config(training.pop("preset"), training)
        return RunFolder(path, DataSettings.from_dict(content["data"]), config, content.get("name"))
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(path / "config.yaml", f"is damaged ({error})") from error
    except FileError as error:
        raise RunError(error.path, error.cause) from error


def kept_weights(run: Path) -> dict[str, Tensor]:
    """Load the weights of the kept epoch of the run in a folder, by their names.

    Raises:
        RunError: the run has no finished epoch, or the file is damaged.
    """
    path = run / "best.safetensors"
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise RunError(run, "has no best.safetensors: no epoch was trained to its end") from None
    except (OSError, safetensors.SafetensorError) as error:
        raise RunError(path, f"cannot be read ({error})") from error


def start_run(path: Path, data: DataSettings, config: TrainingConfig, name: str | None = None) -> RunFolder:
    """Start a new run, or open the unfinished one with the same settings.

    Raises:
        OptionError: a setting requires data or a run to start from, and none is named; or the name is not valid.
        RunError: the folder holds something else; the message gives the differences.
    """
    for wish in ("attention_supervision", "blanking"):
        if getattr(config, wish) and data.boxes is None:
            raise OptionError(f"{wish} needs the boxes of the training photographs: name them with --boxes")
    if config.objective == SELF_CRITICAL and data.from_run is None:
        raise OptionError(f"objective {SELF_CRITICAL} goes on with a trained captioner: name its run with --from RUN")
    if config.starting_temperature != 1 and data.from_run is None:
        raise OptionError("starting_temperature is of a captioner to start from: name its run with --from RUN")
    if config.crop and config.blanking:
        raise OptionError("crop and blanking do not go together: blanked photographs are not cropped")
    if config.crop and config.distillation:
        raise OptionError("crop and distillation do not go together: teachers know the whole photographs")
    for wish in ("distillation", "teacher_captions"):
        if getattr(config, wish) and not data.teachers:
            raise OptionError(f"{wish} needs trained captioners to learn from: name their runs with --teacher")
    if data.teachers and not (config.distillation or config.teacher_captions):
        raise OptionError("--teacher changes nothing without the settings distillation or teacher_captions")
    _check_weights(data)
    if name is not None:
        check_name(name)
    run = RunFolder(path, data, config, name)
    if (path / "config.yaml").exists():
        before = open_run(path)
        differences = _differences(before, run)
        if differences:
            raise RunError(
                path,
                f"holds a run with other settings ({'; '.join(differences)}): choose another folder or --resume",
            )
        return before
    if path.exists() and (not path.is_dir() or any(child.name != "features" for child in path.iterdir())):
        raise RunError(path, "is there already and is not a run: choose another folder")
    path.mkdir(parents=True, exist_ok=True)
    run.save()
    return run


def resume_run(path: Path, changes: dict[str, Any], name: str | None = None) -> RunFolder:
    """Resume a run, possibly with some settings or the model's name changed.

    Raises:
        RunError: there is no run, or a change concerns a setting that determines the meaning of the weights.
        OptionError: the name is not valid.
    """
    run = open_run(path)
    if name is not None:
        check_name(name)
    settings = run.config.to_dict()
    preset = str(settings.pop("preset"))
    if changes.get("preset", preset) != preset:
        raise RunError(path, "preset cannot change in the middle of a run")
    changes = {setting: value for setting, value in changes.items() if setting != "preset"}
    config = make_config(preset, settings, changes)
    changed = _changed(run.config.to_dict(), config.to_dict())
    fixed = [setting for setting in changed if setting not in _CHANGEABLE]
    if fixed:
        raise RunError(path, f"{fixed[0]} cannot change in the middle of a run")
    schedule = run.config.schedule
    if "epochs" in changed and schedule != "constant" and run.checkpoint:
        raise RunError(path, f"epochs cannot change in the middle of a {schedule} schedule, which plans all its steps")
    resumed = replace(run, config=config, name=name or run.name)
    if resumed != run:
        # With changed settings the run is no longer complete.
        (path / "summary.json").unlink(missing_ok=True)
        resumed.save()
    return resumed


def _check_weights(data: DataSettings) -> None:
    if len(data.draws) != len(data.datasets):
        raise OptionError(f"--weights wants one number for each data set: {len(data.datasets)}, got {len(data.draws)}")
    if not all(0 < weight < math.inf for weight in data.draws):
        raise OptionError(f"--weights must be above 0, got {', '.join(map(str, data.draws))}")


def _differences(before: RunFolder, now: RunFolder) -> list[str]:
    old, new = ({"name": run.name} | run.data.to_dict() | run.config.to_dict() for run in (before, now))
    return [f"{name} {old[name]!r}, now {new[name]!r}" for name in _changed(old, new)]


def _changed(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [name for name in old if old[name] != new[name]]
