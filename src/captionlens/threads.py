"""How threads wait for each other."""

import os

_ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


def wait_asleep() -> bool:
    """Let OpenMP's threads sleep while they wait for each other, instead of asking over and over.

    A thread that asks over and over takes its core from others: beside other work it keeps away the very thread that it
    waits for. OpenMP reads this when PyTorch is loaded; call it before. What the user has set of it stays.

    Returns:
        Whether anything was set.
    """
    if _ASLEEP.keys() & os.environ.keys():
        return False
    os.environ.update(_ASLEEP)
    return True
