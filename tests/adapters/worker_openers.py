"""Openers for worker processes, which import them by name: embedders that misbehave in every way a library may."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from app.adapters.memory import MemoryEmbedder
from app.errors import BadDevice, DeviceFailed, DeviceLost
from app.ports import Crops, Embedder, Floats, RunTimes


def sound() -> Embedder:
    return MemoryEmbedder()


def refusing() -> Embedder:
    raise BadDevice("no such chip")


def mistaken() -> Embedder:
    raise KeyError("a mistake of ours")


def dying_at_the_door() -> Embedder:
    print("libsomething: cannot open device", flush=True)
    os._exit(3)


def hanging_at_the_door() -> Embedder:
    time.sleep(60)
    raise AssertionError("unreachable")


class Scripted(MemoryEmbedder):
    """The first pixel of a batch says what happens."""

    def embed(self, crops: Crops) -> Floats:
        self.last_run = RunTimes(1.5, 2.5)
        if act := ACTS.get(int(crops[0][0, 0, 0])):
            act()
        return super().embed(crops)

    def close(self) -> None:
        Path("/dev/stdout").write_text("closed in order\n")


def scripted() -> Embedder:
    return Scripted()


def _fail() -> None:
    raise DeviceFailed("this batch only")


def _lose() -> None:
    Path("dump.bin").write_bytes(b"pixels of a person")  # as a library does with the inputs of a failed operator
    os.write(1, b"[ERROR] aicore exception 507015\n")
    raise DeviceLost("the chip is gone")


def _crash() -> None:
    os.write(1, b"last words\n")
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang() -> None:
    Path("hanging").touch()
    time.sleep(60)


def _babble() -> None:
    for _ in range(3000):
        os.write(1, b"x" * 99 + b"\n")  # 300 kB: more than a pipe holds


def _say_where() -> None:
    os.write(1, f"{Path.cwd()} {Path().stat().st_mode & 0o777:o} {os.getsid(0)} {os.getpid()}\n".encode())


def _blame() -> None:
    raise ValueError("not one of our errors")


FAIL, LOSE, CRASH, HANG, BABBLE, SAY_WHERE, BLAME = range(200, 207)
ACTS: dict[int, Callable[[], None]] = {
    FAIL: _fail, LOSE: _lose, CRASH: _crash, HANG: _hang, BABBLE: _babble, SAY_WHERE: _say_where, BLAME: _blame,
}  # fmt: skip


def batch_for(act: int) -> np.ndarray:
    return np.full((1, 256, 128, 3), act, dtype=np.uint8)
