"""Memory allocation of the process: tuning of glibc's malloc for training."""

import ctypes

# Names and numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the next batch instead of returning it to the system.

    The tensors of a batch are freed after each step. Memory returned to the system costs a page fault for each 4 KiB
    when it is allocated again. With another C library nothing changes.

    Returns:
        Whether glibc was there to be set.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # 32 MiB is the most that glibc accepts; larger tensors are mapped one by one.
    settings = ((_M_MMAP_THRESHOLD, 1 << 25), (_M_TRIM_THRESHOLD, (1 << 31) - 1), (_M_TOP_PAD, 1 << 26))
    return all(mallopt(name, value) == 1 for name, value in settings)
