"""Training objectives, one per file.

Each is a frozen dataclass of its settings with a method `loss`, which returns its term of the loss, multiplied by its
weight and the batch's shares. `training.module` selects and sums those of a run.
"""

from typing import Protocol

from torch import Tensor

from captionlens.network import Teacher
from captionlens.training.batch import Batch


class Objective(Protocol):
    """A term of the loss, computed from a batch and the result of teacher forcing."""

    def loss(self, teacher: Teacher, batch: Batch) -> Tensor:
        """Compute the term, a scalar."""
        ...
