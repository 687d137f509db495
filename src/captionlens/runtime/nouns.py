"""Nouns of a model's vocabulary: which words of a caption are keywords, and what the keyword for each is.

`nouns.json` of a model directory holds them, so that captioning needs no part-of-speech tagger and works in any
language. `captionlens.export.vocabulary_nouns` makes them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from captionlens.errors import ModelError
from captionlens.files import write_text
from captionlens.runtime.caption import Word
from captionlens.runtime.vocabulary import Vocabulary

FORMAT = 1
NAME = "nouns.json"


@dataclass(frozen=True, slots=True, repr=False)
class Nouns:
    """The nouns of a vocabulary.

    Args:
        keywords: the keyword for each noun, such as "dog" for both "dog" and "dogs".
        source: what they were taken from.
    """

    keywords: Mapping[str, str]
    source: str

    def __repr__(self) -> str:
        return f"Nouns({len(self.keywords):,} from {self.source!r})"

    def keywords_of(self, words: Sequence[Word], most: int) -> tuple[str, ...]:
        """Take at most `most` keywords of a caption's words, the most certain first; each keyword once."""
        surest = sorted(words, key=lambda word: -word.certainty)  # equally certain ones stay in the caption's order
        return tuple(dict.fromkeys(self.keywords[word.text] for word in surest if word.text in self.keywords))[:most]

    def save(self, path: Path) -> None:
        """Write nouns.json."""
        content = {"format": FORMAT, "source": self.source, "nouns": dict(self.keywords)}
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path, vocabulary: Vocabulary) -> Self:
        """Read nouns.json.

        Raises:
            ModelError: the file cannot be read, is malformed, or has a word that is not in the vocabulary.
        """
        try:
            content = json.loads(path.read_text("utf-8"))
            if content["format"] != FORMAT:
                raise ModelError(path, f"is of format {content['format']!r}, wanted {FORMAT}")
            keywords, source = content["nouns"], content["source"]
            if not all(isinstance(keyword, str) and keyword for keyword in keywords.values()):
                raise ModelError(path, "has a keyword that is no text")
        except OSError as error:
            raise ModelError(path, error.strerror or str(error)) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(path, f"lacks or garbles a setting ({error})") from error
        unknown = next((word for word in keywords if word not in vocabulary), None)
        if unknown is not None:
            raise ModelError(path, f"has {unknown!r}, which the vocabulary lacks: not of one model")
        return cls(keywords, str(source))
