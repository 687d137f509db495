"""Configuration of the captioning network: sizes, options and presets."""

from dataclasses import asdict, dataclass
from typing import Any

from captionlens.errors import OptionError

_SIZES = ("vocabulary", "rows", "columns", "channels", "memory", "embedding", "units", "attention")
_CHOICES = {"initial_state": ("zero", "mean"), "cell": ("gru", "lstm"), "attention_kind": ("soft", "hard")}


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """The hyperparameters of `CaptioningNetwork`. The defaults are the tutorial's."""

    vocabulary: int  # words, specials included
    rows: int  # of the grid
    columns: int
    channels: int  # of the backbone's features
    memory: int = 256  # size of an encoded place
    embedding: int = 256
    units: int = 512  # of the recurrent state
    attention: int = 512  # units inside the additive attention
    initial_state: str = "zero"  # or "mean": from the mean of the encoded places
    positions: bool = False  # add learned row and column embeddings to the places, so that "left of" can be learnt
    word_query: bool = False  # the attention's query reads the previous word too, not the state alone
    gated_context: bool = False  # scale the context by a gate of the state ("Show, Attend and Tell", 4.2.1)
    deep_output: bool = False  # logits from state, context and previous word together, not from the state alone
    dropout: float = 0.0
    cell: str = "gru"  # or "lstm"
    scalar_gate: bool = False  # one gate for the whole context, as in the paper, not one per value
    attention_kind: str = "soft"  # or "hard": one place a word ("Show, Attend and Tell", 4.1)
    sentinel: bool = False  # adaptive attention, with a visual sentinel (Lu et al., "Knowing When to Look", CVPR 2017)
    heads: int = 1  # of the attention; its units and the values of the places are divided among them

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
        """L, the number of places of the grid."""
        return self.rows * self.columns

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


# The changes of each preset to the defaults above.
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
    # Xu et al., "Show, Attend and Tell", ICML 2015; the paper does not give the sizes of the layers.
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
