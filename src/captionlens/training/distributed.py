"""Several processes that train one captioner, started by torchrun: who is who, and what the first does for all."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

# The others wait while the first downloads a data set and extracts its features. Should the first die, torchrun ends
# them all.
_PATIENCE = timedelta(days=7)

Anything = TypeVar("Anything")


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes that train together, as one of them sees them.

    Attributes:
        rank: of this process, from 0.
        count: of processes on all machines.
        local_count: of processes on this machine.
    """

    rank: int = 0
    count: int = 1
    local_count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process speaks to the user and writes files."""
        return self.rank == 0

    def from_first(self, work: Callable[[], Anything]) -> Anything:
        """What `work` gives in the first process; the others wait for it and do nothing themselves.

        Raises:
            Exception: in the first process, what `work` raised there.
            SystemExit: in the others, then: the first has told the user what is wrong.
        """
        if self.count == 1:
            return work()
        done: list[Any] = [False, None]  # whether it was done, and what it gave
        try:
            if self.first:
                done = [True, work()]
        finally:
            distributed.broadcast_object_list(done, src=0, device=torch.device("cpu"))
        if not done[0]:
            raise SystemExit(1)
        result: Anything = done[1]
        return result

    def gather(self, part: Anything) -> list[Anything]:
        """The parts of all processes, in the order of their ranks, in each of them."""
        parts: list[Anything] = [part] * self.count
        if self.count > 1:
            distributed.all_gather_object(parts, part)
        return parts

    def total(self, numbers: Tensor) -> Tensor:
        """The sums of these numbers over all processes, in each of them."""
        numbers = numbers.clone()
        if self.count > 1:
            distributed.all_reduce(numbers)
        return numbers


ALONE = Processes()


@contextmanager
def started_processes() -> Iterator[Processes]:
    """The processes that torchrun started, connected as long as the block lasts; `ALONE` without torchrun."""
    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        yield ALONE
        return
    # Gloo carries what is said between processes, NCCL the gradients of cards.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    local_count = int(os.environ["LOCAL_WORLD_SIZE"])  # torchrun's
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), local_count)
    finally:
        distributed.destroy_process_group()


def _end_with(parent: int) -> None:
    """End this process when torchrun was killed: it would write into a run folder that somebody else goes on with."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
