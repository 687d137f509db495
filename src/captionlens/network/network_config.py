"""The sizes and choices that make a captioning network, and the presets."""

from dataclasses import asdict, dataclass
from typing import Any

from captionlens.errors import OptionError

_SIZES = ("vocabulary", "rows", "columns", "channels", "memory", "embedding", "units", "attention")
_CHOICES = {"initial_state": ("zero", "mean"), "cell": ("gru", "lstm"), "attention_kind": ("soft", "hard")}


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
    cell: str = "gru"  # or "lstm"
    scalar_gate: bool = False  # the gate is one number, as the paper has it, not one for each value of the context
    attention_kind: str = "soft"  # or "hard": one place a word ("Show, Attend and Tell", 4.1)
    sentinel: bool = False  # may look at nothing: adaptive attention (Lu et al., "Knowing When to Look", CVPR 2017)
    heads: int = 1  # of the attention, which share its units and the values of the places among them

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise OptionError(f"{name} must be {' or '.join(known)}, got {getattr(self, name)!r}")
        if not 0 <= self.dropout < 1:
            raise OptionError(f"dropout must be in [0, 1), got {self.dropout}")
        for name in (*_SIZES, "heads"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("memory", "attention"):
            if getattr(self, name) % self.heads:
                raise OptionError(f"heads must divide {name}: {getattr(self, name)} by {self.heads} leaves a rest")
        if self.scalar_gate and not self.gated_context:
            raise OptionError("scalar_gate is the form of a gate: it needs gated_context")
        if self.attention_kind == "hard" and (self.heads > 1 or self.sentinel):
            raise OptionError("attention_kind hard looks at one place: it goes with neither heads nor sentinel")
        if self.heads > 1 and self.sentinel:
            raise OptionError("sentinel goes with one head only: it is one more place of a single attention")

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
    # Xu et al., "Show, Attend and Tell", ICML 2015; the sizes of the layers are not in the paper.
    "show-attend-tell": {
        "memory": 512,
        "embedding": 512,
        "initial_state": "mean",
        "gated_context": True,
        "scalar_gate": True,
        "deep_output": True,
        "dropout": 0.5,
        "cell": "lstm",
    },
}
