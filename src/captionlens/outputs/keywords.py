"""Keywords among those of others: which ones captionlens adds to a photograph's, and which of its own it takes back.

A photograph's keywords are a set that people and programs share. captionlens records those it added, so that it removes
no other ones, and does not add again what a person has removed.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from captionlens.runtime.caption import Caption

SEPARATOR = ";"  # in our record and in tables; no keyword has it


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a photograph's keywords."""

    added: tuple[str, ...]
    removed: tuple[str, ...]  # of those that captionlens added before
    record: str  # those that captionlens has added by now, joined by SEPARATOR


def change(there: Iterable[str], record: str, wanted: Iterable[str], *, again: bool = False) -> Change:
    """Compute how keywords change with a new caption; capitals make no other keyword.

    Args:
        there: the keywords of a photograph, whoever added them.
        record: of those that captionlens added before, see `Change`.
        wanted: the keywords of the new caption.
        again: add also what captionlens had added and a person has removed.
    """
    present = {word.casefold() for word in there}
    before = [word for word in record.split(SEPARATOR) if word]
    ours = [word for word in before if word.casefold() in present]
    refused = [] if again else [word for word in before if word.casefold() not in present]
    taken = (present - {word.casefold() for word in ours}) | {word.casefold() for word in refused}
    new = {word.casefold(): word for word in wanted if word.casefold() not in taken}
    return Change(
        added=tuple(word for folded, word in new.items() if folded not in present),
        removed=tuple(word for word in ours if word.casefold() not in new),
        record=SEPARATOR.join([*new.values(), *refused]),
    )


def to_write(caption: Caption) -> tuple[str, ...]:
    """The keywords of a caption for metadata: none of an unsure one, since a keyword cannot say "not sure"."""
    return () if caption.unsure else caption.keywords or ()
