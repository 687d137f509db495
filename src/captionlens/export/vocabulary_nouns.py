"""Nouns of a model's vocabulary, from a list of nouns or from the phrases of a data set.

In Flickr30k Entities (Plummer et al., IJCV 2017) a phrase ends with its head noun: "a set of [stairs]".
"""

from collections import Counter
from collections.abc import Set
from pathlib import Path

from captionlens.datasets.phrases import all_phrase_words
from captionlens.errors import FileError
from captionlens.runtime.nouns import Nouns
from captionlens.runtime.vocabulary import SPECIALS, Vocabulary, split_words
from captionlens.scoring.grounding import singular

# What ends phrases and describes no photograph: pronouns, sides and quantities.
_EMPTY = frozenset({
    "one", "ones", "other", "others", "another", "each", "both", "someone", "somebody", "something", "everyone",
    "everything", "anyone", "anything", "nothing", "he", "him", "himself", "she", "her", "herself", "it", "itself",
    "they", "them", "themselves", "who", "which", "that", "there", "left", "right", "front", "back", "top", "middle",
    "end", "side", "way", "lot", "lots",
})  # fmt: skip
# Plurals that mean something else than several of their singular.
_PLURAL_ONLY = frozenset({
    "arts", "clothes", "glasses", "goods", "jeans", "lights", "overalls", "pajamas", "pants", "shades", "shorts",
    "skies", "stairs", "tights", "trunks", "waters", "woods",
})  # fmt: skip
_LONGEST = 64  # bytes of a keyword of IPTC-IIM 4.2, data set 2:25


def nouns_of_phrases(folder: Path, vocabulary: Vocabulary) -> Nouns:
    """Find the nouns of an English vocabulary: words that mostly end a phrase.

    A word is one if more than half of its occurrences end a phrase; or more than half of those of its singular and
    plural together, and at least a quarter of its own. "Swings" can be a verb, and "rock" stand before "climber".

    Args:
        folder: of Flickr30k Entities, or of drawn scenes, see `datasets.phrases.phrase_reader`.
        vocabulary: of the model.

    Raises:
        DatasetError: the folder has no phrases.
        FileError: no word of the vocabulary ends one.
    """
    said, ending = Counter[str](), Counter[str]()
    for words, ends in all_phrase_words(folder):
        tokens = [split_words(word) for word in words]
        said.update(token for word in tokens for token in word)
        ending.update(tokens[end][-1] for end in ends if tokens[end])
    all_said, all_ending = _by_singular(said), _by_singular(ending)

    def is_noun(word: str) -> bool:
        if word in _EMPTY or not word.isalpha():
            return False
        together = 2 * all_ending[singular(word)] > all_said[singular(word)]
        return 2 * ending[word] > said[word] or (together and 4 * ending[word] >= said[word])

    found = [word for word in vocabulary.tokens[len(SPECIALS) :] if is_noun(word)]
    if not found:
        raise FileError(folder, "has no phrase that ends with a word of the model")
    return Nouns(_with_singulars(found, set(found)), folder.resolve().name)


def nouns_of_list(path: Path, vocabulary: Vocabulary, *, exact: bool = False) -> Nouns:
    """Find the words of a vocabulary that are in a list of nouns.

    Args:
        path: a text file in UTF-8 with a noun a line, and after a tab the keyword for it where that is another word.
        vocabulary: of the model, in any language.
        exact: only the words of the list are nouns; else English plurals of its nouns are, too.

    Raises:
        FileError: the file cannot be read, a keyword cannot be one, or no noun is in the vocabulary.
    """
    listed = _read_list(path)
    known = vocabulary.tokens[len(SPECIALS) :]
    found = [word for word in known if word in listed or (not exact and singular(word) in listed)]
    if not found:
        raise FileError(path, "has no noun that the model knows; it takes a noun a line, in the model's language")
    keywords = {word: word for word in found} if exact else _with_singulars(found, set(listed))
    return Nouns(keywords | {word: listed[word] for word in found if listed.get(word)}, path.name)


def _with_singulars(words: list[str], nouns: Set[str]) -> dict[str, str]:
    """The keyword for each word: its singular, if that is among the nouns."""
    return {word: singular(word) if singular(word) in nouns and word not in _PLURAL_ONLY else word for word in words}


def _by_singular(counts: Counter[str]) -> Counter[str]:
    together = Counter[str]()
    for word, count in counts.items():
        together[singular(word)] += count
    return together


def _read_list(path: Path) -> dict[str, str]:
    """The nouns of a list, as the vocabulary spells them, with the keyword where one is given."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise FileError(path, f"is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise FileError(path, error.strerror or str(error)) from error
    listed = {}
    for number, line in enumerate(lines, 1):
        noun, _, keyword = (part.strip() for part in line.partition("\t"))
        if ";" in keyword or not keyword.isprintable() or len(keyword.encode()) > _LONGEST:
            cause = f"has a ; or a control character, or more than {_LONGEST} bytes"
            raise FileError(path, f"line {number}: the keyword {keyword!r} {cause}")
        listed[" ".join(split_words(noun))] = keyword
    return listed
