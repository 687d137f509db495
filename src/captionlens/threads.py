"""Waiting of OpenMP's threads for each other: asleep instead of spinning."""

import os

_ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


def wait_asleep() -> bool:
    """Let OpenMP's threads sleep while they wait for each other, instead of spinning.

    A spinning thread occupies its core. On a busy machine it keeps out the very thread that it waits for. OpenMP reads
    the setting when PyTorch is loaded, so call this before. A setting of the user's own stays.

    Returns:
        Whether anything was set.
    """
    if _ASLEEP.keys() & os.environ.keys():
        return False
    os.environ.update(_ASLEEP)
    return True
