"""Choice of a font by the glyphs it has: Pillow's own for ASCII, otherwise one of the system's."""

from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont

# By file name, as Pillow looks them up in the system's font folders. Broad Latin, Greek and Cyrillic first,
# then fonts with Chinese, Japanese and Korean.
SYSTEM_FONTS = (
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "LiberationSans-Regular.ttf",
    "Arial.ttf",
    "arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "STHeiti Light.ttc",
    "Arial Unicode.ttf",
    "msyh.ttc",
    "simsun.ttc",
    "msgothic.ttc",
    "malgun.ttf",
)
_NO_SUCH_LETTER = "\U0010fffe"  # a noncharacter: every font shows its "missing" box for it
_WIDEST_WORD = 200  # letters; a longer text is not a word, and slow to measure


def font_for(text: str, size: int) -> Font:
    """The first font, at `size` pixels, with a glyph for every letter of `text`; else the one that has most.

    Letters without a glyph in any font are drawn as boxes.
    """
    best, fewest = _builtin(size), len(text) + 1
    for number in range(-1, len(SYSTEM_FONTS)):
        font = _builtin(size) if number < 0 else _system(SYSTEM_FONTS[number], size)
        if font is None:
            continue
        missing = sum(not _has(font, letter) for letter in set(text) if not letter.isspace())
        if missing == 0:
            return font
        if missing < fewest:
            best, fewest = font, missing
    return best


def fit(text: str, size: int, width: float) -> tuple[str, Font]:
    """`text` and a font in which it is at most `width` pixels wide.

    The font shrinks to three quarters of `size` first; what is still too wide is cut and ends in "…".
    """
    text = clean(text)[:_WIDEST_WORD]
    smallest = max(8, round(size * 0.75))
    font = font_for(text, size)
    for smaller in range(size, smallest - 1, -1):
        font = font_for(text, smaller)
        if font.getlength(text) <= width:
            return text, font
    kept = text
    while kept and font.getlength(kept + "…") > width:
        kept = kept[:-1]
    return kept + "…", font


def clean(text: str) -> str:
    """`text` on one line: white space and control characters become single spaces."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


@lru_cache(maxsize=32)
def _builtin(size: int) -> Font:
    font = ImageFont.load_default(size)
    assert isinstance(font, Font), "Pillow was built without FreeType"
    return font


@lru_cache(maxsize=256)
def _system(name: str, size: int) -> Font | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _has(font: Font, letter: str) -> bool:
    there, missing = font.getmask(letter), font.getmask(_NO_SUCH_LETTER)
    return there.size != missing.size or bytes(there) != bytes(missing)
