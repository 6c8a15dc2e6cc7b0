"""The command `reid` (`python -m app`)."""

import ctypes
import os
from contextlib import suppress

# glibc keeps what threads free, and learns to keep ever larger pieces: a check or a calibration would leave 100 MB behind
# (`make soak`). M_ARENA_MAX, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD, see mallopt(3).
with suppress(OSError, AttributeError):  # another C library
    for option, value in ((-8, 2), (-3, 256 * 1024), (-1, 256 * 1024)):
        ctypes.CDLL(None).mallopt(option, value)

# FAISS starts OpenMP threads per search, which makes one query slower; it reads this before it is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from app.cli import main

if __name__ == "__main__":
    main()
