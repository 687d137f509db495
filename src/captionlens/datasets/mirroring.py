"""Mirroring of captions together with their photographs: the words for left and right are swapped."""

import re
from collections.abc import Mapping


def mirror_pairs(words: str) -> dict[str, str]:
    """Parse pairs of words to swap, `left right` say, to a mapping in both directions.

    Raises:
        ValueError: the number of words is odd, or a word occurs twice.
    """
    listed = words.lower().split()
    if len(listed) % 2 or len(set(listed)) != len(listed):
        raise ValueError(f"not pairs of different words: {words!r}")
    forth = dict(zip(listed[::2], listed[1::2], strict=True))
    return forth | {right: left for left, right in forth.items()}


def mirror_caption(caption: str, pairs: Mapping[str, str]) -> str:
    """Swap words so that the caption describes the mirrored photograph.

    Args:
        caption: untokenised; everything but the swapped words stays as it is.
        pairs: of `mirror_pairs`.
    """
    if not pairs:
        return caption
    alternatives = "|".join(re.escape(word) for word in pairs)
    # A word may be part of a compound (left-handed), but not of a longer word (bright).
    return re.sub(rf"(?<!\w)({alternatives})(?!\w)", lambda m: pairs[m[1].lower()], caption, flags=re.IGNORECASE)
