"""The sizes and choices that make a captioning network, and the presets."""

from dataclasses import asdict, dataclass
from typing import Any

from captionlens.errors import OptionError


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Everything `CaptioningNetwork` needs to be built. The defaults are the tutorial's."""

    vocabulary: int  # words, specials included
    rows: int  # of the grid
    columns: int
    channels: int  # of the backbone's features
    memory: int = 256  # size of an encoded place
    embedding: int = 256
    units: int = 512  # of the recurrent state
    attention: int = 512  # units inside the additive attention
    initial_state: str = "zero"  # or "mean": from the mean of the encoded places
    positions: bool = False  # add learned row and column embeddings to the places, so that "left of" can be known
    word_query: bool = False  # look with the word before in mind too, not with the state alone
    gated_context: bool = False  # scale the context by a gate of the state ("Show, Attend and Tell", 4.2.1)
    deep_output: bool = False  # words from state, context and previous word together, not from the state alone
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.initial_state not in ("zero", "mean"):
            raise OptionError(f"initial_state must be zero or mean, got {self.initial_state!r}")
        if not 0 <= self.dropout < 1:
            raise OptionError(f"dropout must be in [0, 1), got {self.dropout}")
        for name in ("vocabulary", "rows", "columns", "channels", "memory", "embedding", "units", "attention"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def places(self) -> int:
        """L, the places of the grid."""
        return self.rows * self.columns

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


# What each preset changes of the defaults above.
PRESETS: dict[str, dict[str, Any]] = {
    "tutorial": {},
    "base": {
        "memory": 512,
        "embedding": 512,
        "initial_state": "mean",
        "gated_context": True,
        "deep_output": True,
        "dropout": 0.5,
    },
}
