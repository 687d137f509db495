"""What training minimises, one file an objective.

Each is a frozen dataclass of its settings with a method `loss`: the term that it adds, its weight and the batch's
shares included. `training.module` chooses those that a run asks for, and adds them up.
"""

from typing import Protocol

from torch import Tensor

from captionlens.network import Teacher
from captionlens.training.batch import Batch


class Objective(Protocol):
    """A term of the loss that is made of teacher forcing and of what stands in a batch."""

    def loss(self, teacher: Teacher, batch: Batch) -> Tensor:
        """The term, of one number."""
        ...
