"""How the process keeps its memory."""

import ctypes

# Names and numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> bool:
    """Ask glibc to keep what is freed for the next batch, instead of giving it back and asking anew.

    The tensors of a batch are freed after each step, and what is given back to the system costs a page fault for each
    4 KiB when it is asked for again. Changes nothing where the C library is another.

    Returns:
        Whether the C library was asked.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # 32 MiB is the most that glibc accepts; larger tensors are mapped one by one.
    settings = ((_M_MMAP_THRESHOLD, 1 << 25), (_M_TRIM_THRESHOLD, (1 << 31) - 1), (_M_TOP_PAD, 1 << 26))
    return all(mallopt(name, value) == 1 for name, value in settings)
