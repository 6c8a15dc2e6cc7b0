"""What a measurement is of: the machine, and the memory that this process took."""

import ctypes
import os
import platform
import re
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def described() -> dict[str, Any]:
    """The machine, as far as it decides a figure."""
    return {
        "processor": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "blas_threads": blas_threads(),
        "numpy": np.__version__,
    }


class Peak:
    """The most memory that this process had in use, above what it had when this was made.

    Linux keeps the peak (`VmHWM`), and forgets it when asked; elsewhere only the peak since the start is known.
    """

    def __init__(self) -> None:
        try:
            _CLEAR.write_text("5", encoding="ascii")  # see proc(5): resets the peak to what is in use now
            self.by = "VmHWM, reset before"
        except OSError:
            self.by = "ru_maxrss, of the whole process"
        self._before = self._peak()

    def above_start(self) -> int:
        """Bytes."""
        return self._peak() - self._before

    def _peak(self) -> int:
        if self.by.startswith("VmHWM"):
            found = re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
            if found:
                return int(found[1]) * 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024  # bytes there, KiB elsewhere


def blas_threads() -> int | None:
    """Threads of the OpenBLAS that numpy brought; None where it brought another one."""
    folder = Path(np.__file__).parent
    for library in sorted((*folder.with_name("numpy.libs").glob("*openblas*"), *folder.glob(".dylibs/*openblas*"))):
        loaded = ctypes.CDLL(str(library))
        for name in ("scipy_openblas_get_num_threads64_", "openblas_get_num_threads64_", "openblas_get_num_threads"):
            if hasattr(loaded, name):
                return int(getattr(loaded, name)())
    return None
