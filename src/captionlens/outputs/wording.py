"""Wording of captions for people: as a sentence for alternative text, of limited length, in a template.

What alternative text should be like: W3C, "Web Accessibility Tutorials: Images" and "alt Decision Tree" (short, no
"picture of", since screen readers say that it is a picture); 125 characters are a limit that many guides give.
"""

import re
import unicodedata
from dataclasses import dataclass, replace

from captionlens.errors import OptionError
from captionlens.outputs import PURPOSES, Purpose
from captionlens.runtime import NOT_SURE
from captionlens.runtime.caption import Caption

ALT_TEXT_CHARACTERS = 125
_PLACE = "{caption}"
_PICTURE = re.compile(r"^(an? |the )?(close up |black and white )?(picture|photo|photograph|image) (of|showing) ", re.I)
_SENTENCE_ENDS = tuple(".!?…。！？")


@dataclass(frozen=True, slots=True)
class Wording:
    """How captions are worded in all outputs.

    Args:
        purpose: `caption`, the words as the network says them, or `alt-text`: a sentence with a capital and a full
            stop, without "a picture of", in at most `max_characters`.
        template: text around every caption, which stands at `{caption}`; None: nothing.
        max_characters: longer captions, template and hedge included, are cut behind a word; None: those of the purpose.

    Raises:
        OptionError: the template has no `{caption}` or leaves no room for it, or the limit is below 10.
    """

    purpose: Purpose = "caption"
    template: str | None = None
    max_characters: int | None = None

    def __post_init__(self) -> None:
        if self.purpose not in PURPOSES:
            raise OptionError(f"purpose must be one of {', '.join(PURPOSES)}, got {self.purpose!r}")
        if self.template is not None and _PLACE not in self.template:
            raise OptionError(f"template must hold {_PLACE}, got {self.template!r}")
        if self.max_characters is not None and self.max_characters < 10:
            raise OptionError(f"max_characters must be at least 10, got {self.max_characters}")
        if self.template is not None and self.limit is not None and len(self._around("")) > self.limit - 10:
            raise OptionError(f"template leaves no room for a caption of {self.limit} characters")

    @property
    def limit(self) -> int | None:
        """Most characters; None: no limit."""
        if self.max_characters is not None or self.purpose == "caption":
            return self.max_characters
        return ALT_TEXT_CHARACTERS

    def apply(self, caption: Caption) -> Caption:
        """Word a caption; one with an error stays as it is."""
        if caption.error is not None or self == Wording():
            return caption
        text = _PICTURE.sub("", caption.text) if self.purpose == "alt-text" else caption.text
        plain = self._word(text)
        return replace(caption, text=plain, said=self._word(NOT_SURE + text) if caption.unsure else plain)

    def _word(self, text: str) -> str:
        if self.purpose == "alt-text":
            text = _sentence(text)
        whole = self._around(text)
        if self.limit is None or len(whole) <= self.limit:
            return whole
        return self._around(_cut(text, self.limit - len(self._around(""))))

    def _around(self, text: str) -> str:
        return text if self.template is None else self.template.replace(_PLACE, text)


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    if not text or text.endswith(_SENTENCE_ENDS):
        return text
    return text + ("。" if unicodedata.name(text[-1], "").startswith("CJK") else ".")


def _cut(text: str, length: int) -> str:
    """At most `length` characters of a text, to the end of a word, with an ellipsis."""
    kept = text[: length - 1]
    if " " in kept and text[length - 1 : length] != " ":
        kept = kept.rsplit(" ", 1)[0]
    return kept.rstrip(" .,") + "…"
