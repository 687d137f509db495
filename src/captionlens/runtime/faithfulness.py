"""Whether a word depended on the places its attention shows: they are blanked out, and its probability is asked again.

A map shows which places went into a word, not that the word came from them. The network itself can tell: what does it
think of the word without these places? (Region perturbation: Samek, Binder, Montavon, Lapuschkin and Müller,
"Evaluating the visualization of what a deep neural network has learned", IEEE Transactions on Neural Networks and
Learning Systems, 2017; here all places go at once, and the words before stay as they are.) Any blank disturbs a network
a little, so as large a part where it looked least is blanked too, as a control.
"""

from dataclasses import dataclass

LEAST_FALL = 0.1  # of a word's probability that must go for the word to depend on the picture


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """A word's probability, in [0, 1], after the same words before it: with the whole photograph and with parts of it.

    `probability` is that of the whole photograph, `blanked` that without the places the word looked at most, `control`
    that without as large a part where it looked least.
    """

    probability: float
    blanked: float
    control: float

    @property
    def fall(self) -> float:
        """How much probability goes with what the word looked at; negative where it rises."""
        return self.probability - self.blanked

    @property
    def control_fall(self) -> float:
        """How much goes with as large a part that the word did not look at."""
        return self.probability - self.control

    @property
    def falls_more(self) -> bool:
        """Whether the attended part matters more to the word than the control."""
        return self.blanked < self.control

    @property
    def depends_on_picture(self) -> bool:
        """Whether more than a tenth of the probability goes with what the word looked at, and more than with the
        control."""
        return self.fall > LEAST_FALL * self.probability and self.falls_more
