"""The attention figure: the photograph, then a copy per word under the word's attention map."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from captionlens.drawing import fonts, heatmap
from captionlens.drawing.heatmap import Style
from captionlens.errors import OptionError

_INK, _FAINT, _PAPER = (26, 26, 26), (118, 118, 118), (255, 255, 255)
_MOST_COLUMNS, _WIDEST_ROW = 8, 7.0  # pictures in a row, and tiles that they may be wide together


def attention_figure(
    image: Image.Image,
    words: Sequence[str],
    attention: NDArray[np.float32],
    *,
    certainties: Sequence[float] | None = None,
    columns: int | None = None,
    title: str | None = None,
    style: Style = "heat",
    tile: int = 224,
) -> Image.Image:
    """Draw the photograph, then a copy per word with the word's map over it and the word above it.

    Args:
        image: the photograph, of any mode.
        words: the caption's words, N of them; none gives the photograph alone.
        attention: maps (N, R, C) >= 0.
        certainties: confidence or probability of each word, in [0, 1]; shown small beside the word.
        columns: pictures in a row; by default as many as give even rows of moderate width.
        title: one or more lines above the pictures.
        style: of the maps, see `heatmap.overlay`.
        tile: side, in pixels, of a square with about the area of one picture.

    Returns:
        A PIL image of mode RGB on white.

    Raises:
        OptionError: the style is not known, or `columns` or `tile` is too small.
        ValueError: the numbers of maps or certainties and words differ, or a map is not valid.
    """
    heatmap.check_style(style)
    if columns is not None and columns < 1:
        raise OptionError(f"columns must be at least 1, got {columns}")
    if tile < 16:
        raise OptionError(f"tile must be at least 16 pixels, got {tile}")
    if len(attention) != len(words):
        raise ValueError(f"{len(words)} words need as many maps, got {len(attention)}")
    if certainties is not None and len(certainties) != len(words):
        raise ValueError(f"{len(words)} words need as many certainties, got {len(certainties)}")

    photo = image.convert("RGB").resize(_picture_size(image.size, tile), Image.Resampling.LANCZOS, reducing_gap=3.0)
    count = len(words) + 1
    cell_width = max(photo.width, round(tile * 0.6))  # room for a word above a narrow picture
    columns = min(columns, count) if columns is not None else _even_columns(count, cell_width / tile)
    rows = math.ceil(count / columns)

    text_size = max(11, round(tile / 13))
    label, gap, margin = round(text_size * 1.65), max(6, round(tile / 16)), max(8, round(tile / 11))
    cell_height = label + photo.height
    width = 2 * margin + columns * cell_width + (columns - 1) * gap
    lines = _wrap(title, round(text_size * 1.25), width - 2 * margin) if title else []
    head = len(lines) * round(text_size * 1.75) + (gap // 2 if lines else 0)
    height = 2 * margin + head + rows * cell_height + (rows - 1) * gap - (label if count == 1 else 0)

    canvas = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        text, font = fonts.fit(line, round(text_size * 1.25), width - 2 * margin)
        draw.text((margin, margin + number * round(text_size * 1.75)), text, _INK, font)
    for place in range(count):
        row, column = divmod(place, columns)
        left = margin + column * (cell_width + gap) + (cell_width - photo.width) // 2
        top = margin + head + row * (cell_height + gap) + (label if count > 1 else 0)
        if place == 0:
            canvas.paste(photo, (left, top))
            continue
        # The photograph already has its final size: the overlay must not reduce it again.
        marked = heatmap.overlay(photo, attention[place - 1], style=style, max_side=max(photo.size))
        canvas.paste(marked, (left, top))
        certainty = None if certainties is None else certainties[place - 1]
        text_left = margin + column * (cell_width + gap) if photo.width < cell_width else left
        _write_label(draw, words[place - 1], certainty, (text_left, top), cell_width, text_size)
    return canvas


def _picture_size(size: tuple[int, int], tile: int) -> tuple[int, int]:
    """Width and height with the area of a square of side `tile`, no side longer than twice that."""
    width, height = size
    scale = min(tile / math.sqrt(width * height), 2 * tile / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _even_columns(count: int, cell_width: float) -> int:
    """Number of columns, each `cell_width` tiles wide, that leaves the last row nearly full."""
    most = min(_MOST_COLUMNS, max(1, int(_WIDEST_ROW / cell_width)))
    rows = math.ceil(count / most)
    return math.ceil(count / rows)


def _write_label(
    draw: ImageDraw.ImageDraw,
    word: str,
    certainty: float | None,
    corner: tuple[int, int],
    width: int,
    size: int,
) -> None:
    """Write the word above its picture, whose upper left corner is `corner`, and the certainty at the right."""
    left, top = corner
    baseline = top - round(size * 0.45)
    room = float(width)
    if certainty is not None:
        percent, font = fonts.fit(f"{certainty:.0%}", max(9, round(size * 0.72)), width)
        draw.text((left + width, baseline), percent, _FAINT, font, anchor="rs")
        room -= font.getlength(percent) + size * 0.5
    text, font = fonts.fit(word, size, room)
    draw.text((left, baseline), text, _INK, font, anchor="ls")


def _wrap(text: str, size: int, width: int) -> list[str]:
    """Break `text` into lines of at most `width` pixels: at spaces, or inside words that are too long."""
    text = fonts.clean(text)
    font = fonts.font_for(text, size)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        lines.append("")
        for letter in word:  # Chinese has no spaces
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines
