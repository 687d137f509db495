"""The vocabulary: words and their indices, stored as a `tokenizer.json` that the `tokenizers` library opens."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captionlens.errors import ModelError, OptionError
from captionlens.files import write_text

SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")
PAD, START, END, UNK = range(4)

# The characters that TensorFlow's tutorial filters: each becomes a space. The apostrophe stays: "don't" is a word.
FILTERED = '!"#$%&()*+.,-/:;=?@[\\]^_`{|}~'
_SEPARATORS = "\x1c\x1d\x1e\x1f"  # white space to Python, but not to the `tokenizers` library
_TO_SPACE = str.maketrans(dict.fromkeys(FILTERED + _SEPARATORS, " "))


def split_words(text: str) -> list[str]:
    """Tokenise a caption: lower-case it, filter punctuation, split at white space."""
    # Python alone lower-cases a sigma at the end of a word to the final form.
    return text.replace("Σ", "σ").lower().translate(_TO_SPACE).split()


@dataclass(frozen=True, slots=True, repr=False)
class Vocabulary:
    """The vocabulary of a captioner. Indices 0 to 3 are SPECIALS, in that order."""

    tokens: tuple[str, ...]
    _numbers: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.tokens[: len(SPECIALS)] != SPECIALS:
            raise OptionError(f"a vocabulary starts with {SPECIALS}, got {self.tokens[:4]}")
        if len(set(self.tokens)) != len(self.tokens):
            raise OptionError("a vocabulary holds every word once")
        object.__setattr__(self, "_numbers", {token: number for number, token in enumerate(self.tokens)})

    @classmethod
    def build(cls, captions: Iterable[str], *, size: int = 5000, min_count: int = 1) -> "Vocabulary":
        """Take the `size` most frequent words that occur at least `min_count` times; ties in order of appearance.

        Raises:
            OptionError: `size` is not positive, or no word is left.
        """
        if size < 1:
            raise OptionError(f"size must be at least 1, got {size}")
        counts = Counter(word for caption in captions for word in split_words(caption))
        for special in SPECIALS:
            counts.pop(special, None)
        common = [word for word, count in counts.most_common(size) if count >= min_count]
        if not common:
            raise OptionError(f"no word of the captions occurs at least {min_count} times")
        return cls((*SPECIALS, *common))

    def __repr__(self) -> str:
        first = ", ".join(self.tokens[len(SPECIALS) : len(SPECIALS) + 5])
        return f"Vocabulary({len(self):,} words: {first}, ...)"

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, word: str) -> bool:
        return word in self._numbers

    def encode(self, caption: str) -> list[int]:
        """Indices of `<start>`, the words (unknown ones as `<unk>`) and `<end>`."""
        # A caption that spells out a special token must not be able to end itself.
        numbers = (self._numbers.get(word, UNK) for word in split_words(caption))
        return [START, *(UNK if number < UNK else number for number in numbers), END]

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Words of `numbers` up to the first `<end>`, without `<start>` and `<pad>`."""
        text = []
        for number in numbers:
            if number == END:
                break
            if number not in (PAD, START):
                text.append(self.tokens[number])
        return text

    def text(self, tokens: Sequence[str]) -> str:
        """Join words into a sentence."""
        return " ".join(tokens)

    def save(self, path: str | Path) -> None:
        """Write `tokenizer.json`."""
        write_text(path, json.dumps(self._to_tokenizer(), ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """Read a `tokenizer.json` written by `save`.

        Raises:
            ModelError: the file is missing or malformed.
        """
        try:
            numbers: dict[str, int] = json.loads(Path(path).read_text("utf-8"))["model"]["vocab"]
            if sorted(numbers.values()) != list(range(len(numbers))):
                raise ModelError(path, "the words' numbers have gaps")
            return cls(tuple(sorted(numbers, key=numbers.__getitem__)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(path, f"is not a word-level tokenizer ({error})") from error
        except OptionError as error:
            raise ModelError(path, str(error)) from error

    def _to_tokenizer(self) -> dict[str, Any]:
        """The form of the `tokenizers` library's WordLevel tokenizer.

        The specials are not among its `added_tokens`, which are matched in the text before anything else: a caption
        that spells out `<end>` would end there.
        """
        punctuation = "[" + "".join("\\" + character for character in FILTERED) + _SEPARATORS + "]"
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": {
                "type": "Sequence",
                "normalizers": [
                    {"type": "Lowercase"},
                    {"type": "Replace", "pattern": {"Regex": punctuation}, "content": " "},
                    {
                        "type": "Replace",
                        "pattern": {"Regex": r"(?<!\S)<(?:pad|start|end)>(?!\S)"},
                        "content": "<unk>",
                    },
                ],
            },
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [
                    {"SpecialToken": {"id": "<start>", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"SpecialToken": {"id": "<end>", "type_id": 0}},
                ],
                "pair": [
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"Sequence": {"id": "B", "type_id": 1}},
                ],
                "special_tokens": {
                    token: {"id": token, "ids": [number], "tokens": [token]}
                    for token, number in (("<start>", START), ("<end>", END))
                },
            },
            "decoder": {
                "type": "Sequence",
                "decoders": [
                    {"type": "Replace", "pattern": {"Regex": r"\A<(?:pad|start|end)>\z"}, "content": ""},
                    {"type": "WordPiece", "prefix": "##", "cleanup": False},  # a space before each word
                    {"type": "Fuse"},
                    {"type": "Replace", "pattern": {"Regex": r"\A +| +\z"}, "content": ""},
                ],
            },
            "model": {"type": "WordLevel", "vocab": dict(self._numbers), "unk_token": "<unk>"},
        }
