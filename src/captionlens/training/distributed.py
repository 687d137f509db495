"""Distributed training under torchrun: ranks, collective operations, and work done by the first process alone."""

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

# The others wait while the first downloads a data set and extracts its features. If the first dies, torchrun ends them
# all.
_PATIENCE = timedelta(days=7)

Anything = TypeVar("Anything")


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of a distributed training, from the view of one of them.

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
        """Whether this process prints messages and writes files."""
        return self.rank == 0

    def from_first(self, work: Callable[[], Anything]) -> Anything:
        """Run `work` in the first process and broadcast its result; the others wait.

        Raises:
            Exception: in the first process, as raised by `work`.
            SystemExit: in the others, if `work` failed: the first process reports the error.
        """
        if self.count == 1:
            return work()
        done: list[Any] = [False, None]  # success, and the result
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
        """All-gather the parts of all processes, in the order of ranks."""
        parts: list[Anything] = [part] * self.count
        if self.count > 1:
            distributed.all_gather_object(parts, part)
        return parts

    def total(self, numbers: Tensor) -> Tensor:
        """All-reduce: sums of these numbers over all processes."""
        numbers = numbers.clone()
        if self.count > 1:
            distributed.all_reduce(numbers)
        return numbers


ALONE = Processes()


@contextmanager
def started_processes() -> Iterator[Processes]:
    """Connect the processes that torchrun started for the length of the block; yield `ALONE` without torchrun."""
    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        yield ALONE
        return
    # Gloo is for objects and tensors on the CPU, NCCL for gradients on GPUs.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    local_count = int(os.environ["LOCAL_WORLD_SIZE"])  # set by torchrun
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), local_count)
    finally:
        distributed.destroy_process_group()


def _end_with(parent: int) -> None:
    """End this process once torchrun was killed: it would write on in a run folder that others may resume."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
