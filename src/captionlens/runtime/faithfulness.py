"""Faithfulness of attention: the fall of a word's probability when the cells it attended to are blanked out.

An attention map shows which cells were weighted for a word, not that the word depends on them. So the word's
probability is recomputed without these cells. This is region perturbation (Samek, Binder, Montavon, Lapuschkin and
Müller, "Evaluating the visualization of what a deep neural network has learned", IEEE Transactions on Neural Networks
and Learning Systems, 2017), but with all cells at once and with the previous words fixed. Any blanking disturbs a
network a little, so as many of the least attended cells are blanked out as a control.
"""

from dataclasses import dataclass

LEAST_FALL = 0.1  # of a word's probability, for the word to count as depending on the picture


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """A word's probability, in [0, 1], given the same previous words and three versions of the photograph.

    `probability` is that with the whole photograph, `blanked` that without the cells the word attended to most, and
    `control` that without as many of the cells it attended to least.
    """

    probability: float
    blanked: float
    control: float

    @property
    def fall(self) -> float:
        """Loss of probability without the attended cells; negative where it rises."""
        return self.probability - self.blanked

    @property
    def control_fall(self) -> float:
        """Loss of probability without the control cells."""
        return self.probability - self.control

    @property
    def falls_more(self) -> bool:
        """Whether the attended cells matter more to the word than the control."""
        return self.blanked < self.control

    @property
    def depends_on_picture(self) -> bool:
        """Whether the word loses more than a tenth of its probability without the attended cells, and more than without
        the control."""
        return self.fall > LEAST_FALL * self.probability and self.falls_more
