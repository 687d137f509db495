"""Configuration of a training run: hyperparameters, presets, and changes from YAML or `key=value`."""

import dataclasses
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from captionlens.datasets.mirroring import mirror_pairs
from captionlens.datasets.splits import VALIDATION_PHOTOGRAPHS
from captionlens.errors import FileError, OptionError
from captionlens.features.backbones import DEFAULT as DEFAULT_BACKBONE
from captionlens.features.backbones import check_image_size
from captionlens.network.network_config import PRESETS as NETWORK_PRESETS
from captionlens.network.network_config import NetworkConfig
from captionlens.runtime.decoding import DecodingOptions

SELF_CRITICAL = "self-critical"

_NETWORK_KEYS = {f.name for f in fields(NetworkConfig)} - {"vocabulary", "rows", "columns", "channels"}


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """The hyperparameters of training. The defaults are the tutorial's where it specifies them."""

    preset: str = "tutorial"
    objective: str = "cross-entropy"  # or "self-critical": the CIDEr-D of sampled captions, from a trained captioner
    samples: int = 5  # captions sampled per photograph by "self-critical"
    rewarded_captions: int = 1  # photographs with fewer of their own are learned by cross-entropy all the same
    starting_temperature: float = 1.0  # divides the logits of the captioner that a run starts from
    backbone: str = DEFAULT_BACKBONE
    image_size: int | None = None  # side of the backbone's input in pixels; None: as it was trained
    vocabulary_size: int = 5000
    min_count: int = 1  # rarer words become <unk>
    max_words: int = 50  # longer captions are cut
    network: dict[str, Any] = field(default_factory=dict)  # fields of NetworkConfig
    epochs: int = 20
    batch_captions: int = 64
    learning_rate: float = 1e-3
    schedule: str = "constant"  # or "one-cycle" (Smith and Topin, 2018), or "linear": falls to 0
    finetune_blocks: int = 0  # last blocks of the backbone that are trained too
    finetune_learning_rate: float = 1e-4  # of these blocks
    weight_decay: float = 0.0
    gradient_clip: float = 5.0  # largest norm of all gradients together, beyond which they are scaled down
    label_smoothing: float = 0.0
    distillation: float = 0.0  # share of each word's target that is the mean distribution of the teachers
    teacher_captions: int = 0  # photographs with fewer captions get captions of the teachers, up to so many
    photograph_balance: float = 0.0  # 0: each caption counts alike; 1: each photograph, however many captions it has
    doubly_stochastic: float = 0.0  # weight of the regulariser of "Show, Attend and Tell", section 4.2.1
    attention_entropy: float = 0.0  # weight of the entropy of each word's attention
    scheduled_sampling: float = 0.0  # highest probability that a previous word is sampled from the network
    attention_supervision: float = 0.0  # weight of the loss for attention outside the boxes of a word's phrase
    blanking: float = 0.0  # weight of the loss for words that stay likely with the boxes of their phrase blanked out
    crop: float = 0.0  # smallest part of a training photograph's area that is cropped out anew each epoch; 0: none is
    mirror: bool = False  # mirror one training photograph in two
    mirror_words: str = "left right"  # pairs of words that are then swapped
    # For hard attention: lambda_r of "Show, Attend and Tell", section 4.1, with the value of the authors' code. With 1,
    # captions fit their photographs less (docs/results.md).
    reinforce_weight: float = 0.1
    reinforce_entropy: float = 0.01  # likewise lambda_e, which rewards attention to many places
    average_decay: float = 0.0  # of the moving average of the weights that is validated and kept; 0: no average
    seed: int = 1
    beam: int = 3  # of validation, and the default of the exported captioner
    length_penalty: float = 1.0
    keep: str = "best"  # the epoch with the highest CIDEr-D, or the "last"
    validation_photographs: int = VALIDATION_PHOTOGRAPHS  # largest number in each epoch's validation

    def __post_init__(self) -> None:
        checks = (
            ("preset", self.preset in PRESETS, f"one of {', '.join(PRESETS)}"),
            ("objective", self.objective in ("cross-entropy", SELF_CRITICAL), f"cross-entropy or {SELF_CRITICAL}"),
            ("samples", self.samples >= 2, "at least 2"),  # each is compared with the others of its photograph
            ("rewarded_captions", self.rewarded_captions >= 1, "at least 1"),
            ("starting_temperature", self.starting_temperature > 0, "above 0"),
            ("schedule", self.schedule in ("constant", "one-cycle", "linear"), "constant, one-cycle or linear"),
            ("keep", self.keep in ("best", "last"), "best or last"),
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch_captions", self.batch_captions >= 1, "at least 1"),
            ("vocabulary_size", self.vocabulary_size >= 1, "at least 1"),
            ("max_words", self.max_words >= 1, "at least 1"),
            ("learning_rate", self.learning_rate > 0, "above 0"),
            ("finetune_blocks", self.finetune_blocks >= 0, "at least 0"),
            ("finetune_learning_rate", self.finetune_learning_rate > 0, "above 0"),
            ("reinforce_weight", self.reinforce_weight >= 0, "at least 0"),
            ("reinforce_entropy", self.reinforce_entropy >= 0, "at least 0"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)"),
            ("distillation", 0 <= self.distillation <= 1, "in [0, 1]"),
            ("teacher_captions", self.teacher_captions >= 0, "at least 0"),
            ("photograph_balance", 0 <= self.photograph_balance <= 1, "in [0, 1]"),
            ("scheduled_sampling", 0 <= self.scheduled_sampling <= 1, "in [0, 1]"),
            ("average_decay", 0 <= self.average_decay < 1, "in [0, 1)"),
            ("attention_supervision", self.attention_supervision >= 0, "at least 0"),
            ("blanking", self.blanking >= 0, "at least 0"),
            ("crop", 0 <= self.crop < 1, "in [0, 1)"),
            ("mirror_words", _are_pairs(self.mirror_words), "pairs of different words, as in 'left right'"),
            ("validation_photographs", self.validation_photographs >= 1, "at least 1"),
        )
        for name, fits, wanted in checks:
            if not fits:
                raise OptionError(f"{name} must be {wanted}, got {getattr(self, name)!r}")
        check_image_size(self.backbone, self.image_size)
        _ = self.decoding  # raises on invalid options
        unknown = set(self.network) - _NETWORK_KEYS
        if unknown:
            known = ", ".join(sorted(_NETWORK_KEYS))
            raise OptionError(f"unknown network setting {sorted(unknown)[0]!r}: use one of {known}")
        self.network_config(vocabulary=1, rows=1, columns=1, channels=1)

    @property
    def decoding(self) -> DecodingOptions:
        """Decoding options of validation, and the defaults of the exported captioner.

        Captions are no longer than a captioner's default, nor than those in training.
        """
        longest = min(self.max_words, DecodingOptions().max_words)
        return DecodingOptions(beam=self.beam, length_penalty=self.length_penalty, max_words=longest)

    def network_config(self, *, vocabulary: int, rows: int, columns: int, channels: int) -> NetworkConfig:
        """Configuration of the network on a grid of these sizes."""
        return NetworkConfig(vocabulary=vocabulary, rows=rows, columns=columns, channels=channels, **self.network)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML."""
        return dataclasses.asdict(self)


def _are_pairs(words: str) -> bool:
    try:
        mirror_pairs(words)
    except ValueError:
        return False
    return True


# The changes of each preset to the defaults above.
PRESETS: dict[str, dict[str, Any]] = {
    "tutorial": {},
    "base": {
        "min_count": 3,
        "epochs": 10,
        "batch_captions": 100,
        "learning_rate": 2e-3,
        "schedule": "one-cycle",
        "weight_decay": 0.01,
        "gradient_clip": 1.0,
        "label_smoothing": 0.1,
        "average_decay": 0.999,
        "length_penalty": 0.7,
    },
    # Continues from a trained captioner, whatever its network; see `starting.begin_from`.
    "self-critical": {
        "objective": SELF_CRITICAL,
        "epochs": 6,
        "batch_captions": 100,
        "learning_rate": 5e-5,
        "schedule": "linear",
        "gradient_clip": 1.0,
        "average_decay": 0.99,
        "starting_temperature": 0.6,
    },
    # Xu et al., "Show, Attend and Tell", ICML 2015: Adam, batches of 64, early stopping (here: the best epoch is kept).
    "show-attend-tell": {
        "min_count": 3,
        "learning_rate": 4e-4,
        "doubly_stochastic": 1.0,
    },
}


def make_config(preset: str, *changes: dict[str, Any]) -> TrainingConfig:
    """Make the preset's configuration and apply `changes` to it, one after the other.

    A key is a field of TrainingConfig, or `network.X` for a field of the network.

    Raises:
        OptionError: an unknown key or an invalid value; the message names it.
    """
    if preset not in PRESETS:
        raise OptionError(f"unknown preset {preset!r}: use one of {', '.join(PRESETS)}")
    values: dict[str, Any] = {**PRESETS[preset], "preset": preset, "network": dict(NETWORK_PRESETS.get(preset, {}))}
    known = {f.name: f for f in fields(TrainingConfig)}
    for change in changes:
        for key, value in change.items():
            if key == "network" and isinstance(value, dict):
                for name, setting in value.items():
                    values["network"][name] = _typed(name, setting, _network_type(name))
            elif key.startswith("network."):
                name = key.removeprefix("network.")
                values["network"][name] = _typed(name, value, _network_type(name))
            elif key in known:
                values[key] = _typed(key, value, known[key].type)
            else:
                raise OptionError(f"unknown setting {key!r}: use one of {', '.join(known)} or network.X")
    return TrainingConfig(**values)


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """Parse `key=value` strings; a value is parsed as YAML, so that 3, 0.1 and true get the expected types.

    Raises:
        OptionError: a string has no `=`.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise OptionError(f"--set wants key=value, got {setting!r}")
        values[key.strip()] = _number(yaml.safe_load(value))
    return values


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a mapping of settings from a YAML file.

    Raises:
        FileError: the file cannot be read or is not a mapping.
    """
    try:
        values = yaml.safe_load(Path(path).read_text("utf-8"))
    except OSError as error:
        raise FileError(path, error.strerror or str(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FileError(path, f"is not YAML ({error})") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise FileError(path, "holds no mapping of settings")
    return {key: _number(value) for key, value in values.items()}


def _number(value: Any) -> Any:
    """Convert text such as 1e-3, which YAML 1.1 does not take for a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _network_type(name: str) -> Any:
    """Type of a network setting; unknown settings are refused later, by name."""
    return next((f.type for f in fields(NetworkConfig) if f.name == name), None)


def _typed(key: str, value: Any, wanted: Any) -> Any:
    if wanted is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    is_bool = isinstance(value, bool)
    if wanted in (int, float, str, bool) and (not isinstance(value, wanted) or is_bool != (wanted is bool)):
        raise OptionError(f"{key} must be {wanted.__name__}, got {value!r}")
    return value
