"""A region of a photograph, and the grid cells that lie in it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import OptionError
from captionlens.geometry.boxes import coverage

_SIDES = ("left", "top", "right", "bottom")


@dataclass(frozen=True, slots=True)
class Region:
    """A box in a photograph, its sides as fractions of width and height, from the upper left corner.

    Raises:
        OptionError: a side is outside [0, 1], or the box is empty.
    """

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        for side in _SIDES:
            if not 0 <= getattr(self, side) <= 1:  # nan neither
                raise OptionError(f"region: {side} must be in [0, 1], got {getattr(self, side)}")
        if not (self.left < self.right and self.top < self.bottom):
            raise OptionError("region: left must be less than right, and top less than bottom")

    @classmethod
    def parse(cls, text: str) -> "Region":
        """Parse `left,top,right,bottom`, as fractions of width and height.

        Raises:
            OptionError: the text does not have that form.
        """
        try:
            left, top, right, bottom = map(float, text.split(","))
        except ValueError:
            raise OptionError(f"region must be {','.join(_SIDES)}, four fractions, got {text!r}") from None
        return cls(left, top, right, bottom)

    @classmethod
    def parse_box(cls, text: str) -> "Region":
        """Parse `x,y,width,height`: upper left corner and size, as fractions of width and height.

        Raises:
            OptionError: the text does not have that form, or the box exceeds the photograph.
        """
        try:
            x, y, width, height = map(float, text.split(","))
            # In floating point, 0.7 and 0.3 may add up to slightly more than 1.
            right, bottom = (1.0 if 1 < end < 1 + 1e-9 else end for end in (x + width, y + height))
            return cls(x, y, right, bottom)
        except (ValueError, OptionError):
            wanted = "x,y,width,height of a box in the photograph, fractions of its width and height"
            raise OptionError(f"region must be {wanted}, got {text!r}") from None

    def places(self, rows: int, columns: int) -> NDArray[np.int64]:
        """Numbers of the grid cells, in row-major order, that lie in the box by at least half.

        Where there is none, they are the cells that the box covers most.
        """
        box = np.array([[self.left, self.top, self.right, self.bottom]])
        covered = coverage(box, rows, columns).ravel()
        return np.flatnonzero(covered >= min(0.5, float(covered.max())))
