"""The parent's side: an `Embedder` whose work is done in another process, with a deadline on every step.

Whatever happens over there (an error, a hang, a crash) is an error here, in time. One process, one life: after
`DeviceLost` this object is only good for closing, and its owner opens another.
"""

import fcntl
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Never, TypeVar

from app.adapters.worker.shared import Done, Failed, Opened, Question, SharedBatch
from app.errors import DeviceLost, ReidError
from app.ports import Crops, Embedder, Floats, RunTimes

log = logging.getLogger(__name__)
PREFIX = "reid-worker-"
Answer = TypeVar("Answer", Opened, Done)
_REMEMBERED = 50  # lines of the library's output that may explain a failure
_LOOK_S = 0.5  # how often whoever waits for an answer looks whether it was given up
_SETTLED_S = 60.0  # a scratch folder younger than this may not be locked yet by the server that just made it


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds after which a worker that has not answered is taken for stuck and killed."""

    open_s: float = 300.0  # several models of 50 MB, from a slow disk, on a busy host
    run_s: float = 10.0  # a batch takes 30 ms at most
    close_s: float = 10.0


# Given what failed and what the library had printed, the error to raise: causes are often only in the output.
Interpret = Callable[[ReidError, Sequence[str]], ReidError]


class WorkerEmbedder:
    """`Embedder` over a worker process that was started for it alone.

    opener: a picklable function that makes the embedder, called in the worker. Called from one thread at a time.
    """

    def __init__(
        self,
        name: str,
        opener: Callable[[], Embedder],
        largest: int,
        dim: int,
        deadlines: Deadlines = Deadlines(),
        interpret: Interpret = lambda error, printed: error,
        stop: threading.Event | None = None,
    ) -> None:
        """Start the worker and open the embedder in it. Raises what the opener raises, DeviceLost where it hangs or dies.

        stop: once it is set, what the worker does is given up, and the worker killed; closing is orderly all the same.
        """
        self.last_run: RunTimes | None = None
        self._name, self._deadlines, self._interpret, self._stop = name, deadlines, interpret, stop
        self._printed: deque[str] = deque(maxlen=_REMEMBERED)
        try:
            self._begin(largest, dim)
        except OSError as error:  # no room on the disk, no process or memory to be had: that may pass
            raise DeviceLost(f"{name}: a process for it cannot be started: {error}") from error
        self._reader = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        try:
            opened = self._ask(opener, deadlines.open_s, "open the model", Opened, sys.path)
        except BaseException:
            self._process.kill()
            self._end(deadlines.close_s)
            raise
        self.fingerprint, self.dim, self.batch_sizes = opened.fingerprint, opened.dim, opened.batch_sizes

    @property
    def process_id(self) -> int:
        """Of the worker."""
        return self._process.pid

    def embed(self, crops: Crops) -> Floats:
        """uint8 [n, 256, 128, 3] to raw float32 [n, dim]; pixels go over by one copy, vectors come back by one."""
        if self._process.poll() is not None:
            self._bury(DeviceLost(f"{self._name}: {self._how_it_ended()}"))
        for place, crop in zip(self._batch.crops[: len(crops)], crops, strict=True):
            place[...] = crop
        self.last_run = self._ask(len(crops), self._deadlines.run_s, "embed a batch", Done).run
        return self._batch.vectors[: len(crops)].copy()

    def close(self) -> None:
        """Have the worker free its device and end; kill it where it does not."""
        with suppress(OSError):  # it has ended by itself
            self._connection.send(Question(None, self._deadlines.close_s))
        self._end(self._deadlines.close_s)

    def _begin(self, largest: int, dim: int) -> None:
        self._scratch = _Scratch()
        try:
            memory = SharedBatch.reserve(largest, dim)
            try:
                self._batch = SharedBatch(memory, largest, dim)
                self._connection, self._process = _start(memory, largest, dim, self._scratch.path)
            finally:
                os.close(memory)
        except BaseException:
            self._scratch.remove()
            raise

    def _ask(self, question: object, within_s: float, what: str, kind: type[Answer], *before: object) -> Answer:
        """Send a question, and get an answer of that kind in time. Raises what the worker failed with."""
        try:
            for message in (*before, Question(question, within_s)):
                self._connection.send(message)
            self._await(within_s, what)
            answer = self._connection.recv()
        except (EOFError, OSError):  # it died, and its end of the line with it
            self._wait(self._deadlines.close_s)
            self._bury(DeviceLost(f"{self._name}: {self._how_it_ended()}"))
        if isinstance(answer, Failed):
            if answer.lost:
                self._bury(answer.error)
            raise answer.error
        if not isinstance(answer, kind):
            raise RuntimeError(f"a worker asked to {what} answered {answer!r}")
        return answer

    def _await(self, within_s: float, what: str) -> None:
        """Returns when there is an answer, or the worker has ended."""
        until = time.monotonic() + within_s
        while not self._connection.poll(max(0.0, min(_LOOK_S, until - time.monotonic()))):
            if self._stop and self._stop.is_set():
                self._process.kill()
                self._bury(DeviceLost(f"{self._name} was to {what}, which was given up; its process was killed"))
            if time.monotonic() >= until:
                self._process.kill()
                self._bury(DeviceLost(f"{self._name} did not {what} within {within_s:g} s; its process was killed"))

    def _bury(self, error: ReidError) -> Never:
        """The worker's life is over: wait for its last words, clean up behind it, and say why."""
        self._end(self._deadlines.close_s)
        raise self._interpret(error, list(self._printed)) from None

    def _end(self, within_s: float) -> None:
        self._wait(within_s)
        self._connection.close()
        self._reader.join(within_s)
        self._scratch.remove()

    def _wait(self, within_s: float) -> None:
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            log.warning("%s: process %d does not end; it is killed", self._name, self._process.pid)
            self._process.kill()
            self._process.wait()

    def _how_it_ended(self) -> str:
        status = self._process.returncode
        with suppress(ValueError, TypeError):  # a number without a name, or no status yet
            return f"its process was ended by {signal.Signals(-status).name}"
        return f"its process ended with status {status}"

    def _listen(self, output: IO[bytes]) -> None:
        """The library prints its causes to standard output: into the log, and kept for the error's sentence."""
        with output:
            for line in output:
                text = line.decode(errors="replace").rstrip()
                self._printed.append(text)
                log.info("%s printed: %s", self._name, text)


def _start(memory: int, largest: int, dim: int, scratch: Path) -> "tuple[Connection, subprocess.Popen[bytes]]":
    """A fresh interpreter, not a fork: a device's library must not be used in a forked child."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        arguments = [str(number) for number in (theirs.fileno(), memory, largest, dim)]
        process = subprocess.Popen(
            [sys.executable, *_flags(), "-m", "app.adapters.worker", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            pass_fds=(theirs.fileno(), memory),
            cwd=scratch,
            start_new_session=True,  # Ctrl-C in the terminal is for the parent, which ends its workers in order
        )
        return Connection(ours.detach()), process


def _flags() -> list[str]:
    """Where we were started without PYTHONPATH, a worker must not meet what lies on it either: CANN's Python packages."""
    return ["-E"] if sys.flags.ignore_environment else []


class _Scratch:
    """A private working directory. What a killed server left of its own is cleared away by a later one."""

    def __init__(self) -> None:
        for left in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
            _remove_if_left(left)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        # The lock says that somebody uses it; it ends with this process, whatever happens.
        self._lock = os.open(self.path, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove it with all in it; twice is once."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _remove_if_left(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # another user's, or gone meanwhile
        return
    try:
        found = os.fstat(descriptor)
        if found.st_uid == os.getuid() and time.time() - found.st_mtime > _SETTLED_S:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass  # in use
    finally:
        os.close(descriptor)
