"""What only C does: wait without letting go of the GIL, write to fd 1 behind Python's back, end the process."""

import ctypes
import os
import signal
import time
from typing import NoReturn

# PyDLL, unlike CDLL, keeps the GIL. A mutex, unlike a sleep, is not left early for a signal that has a handler:
# in the binding too Python's handlers wait until `run` returns, and only a signal's default action ends a hung one.
_libc = ctypes.PyDLL(None)
_mutex = (ctypes.c_long * 16)()
_libc.pthread_mutex_lock(_mutex)


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


def wait(seconds: float) -> None:
    """No other Python thread runs meanwhile."""
    if seconds > 0:
        until = time.time_ns() + int(seconds * 1e9)
        _libc.pthread_mutex_timedlock(_mutex, ctypes.byref(_Timespec(until // 10**9, until % 10**9)))


def hang() -> NoReturn:
    """For ever; see above."""
    while True:
        _libc.pthread_mutex_lock(_mutex)


def crash(number: signal.Signals) -> NoReturn:
    """The process ends by the signal."""
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)  # not faulthandler's
    os.kill(os.getpid(), number)
    hang()


def log(level: str, text: str) -> None:
    """Where C++ streams write: fd 1, whatever sys.stdout is."""
    os.write(1, f"[{level}] {text}\n".encode())


def bytes_at(address: int, size: int) -> bytes:
    """What lies there now, whether or not anybody owns it."""
    return ctypes.string_at(address, size)
