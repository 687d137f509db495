"""A photograph seen in a mirror: its captions must be mirrored with it."""

import re
from collections.abc import Mapping


def mirror_pairs(words: str) -> dict[str, str]:
    """Pairs of words that trade places, `left right` say, as a mapping that goes both ways.

    Raises:
        ValueError: the words do not come in pairs, or one comes twice.
    """
    listed = words.lower().split()
    if len(listed) % 2 or len(set(listed)) != len(listed):
        raise ValueError(f"not pairs of different words: {words!r}")
    forth = dict(zip(listed[::2], listed[1::2], strict=True))
    return forth | {right: left for left, right in forth.items()}


def mirror_caption(caption: str, pairs: Mapping[str, str]) -> str:
    """A caption as true of the mirrored photograph as it was of the photograph.

    Args:
        caption: as people wrote it; all but the traded words stays as it is.
        pairs: as `mirror_pairs` gives them.
    """
    if not pairs:
        return caption
    alternatives = "|".join(re.escape(word) for word in pairs)
    # A word may be part of a compound (left-handed), but not of a longer word (bright).
    return re.sub(rf"(?<!\w)({alternatives})(?!\w)", lambda m: pairs[m[1].lower()], caption, flags=re.IGNORECASE)
