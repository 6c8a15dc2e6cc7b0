"""The worker's side: open an embedder, then embed what lies in the shared memory until told to stop, or left alone.

    python -m app.adapters.worker CONNECTION MEMORY LARGEST DIM      (both are inherited descriptors)

A worker whose parent is gone ends: in order where it can, and at the end of the time for what it does where that hangs.

Everything happens in the main thread: what a device's library binds to a thread stays with it. Standard output belongs
to that library; the way to the parent is a descriptor of its own. The working directory is private to this process, and
emptied after each failure, since a library may leave the pictures it was working on there.
"""

import logging
import shutil
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from app.adapters.worker.shared import Done, Failed, Opened, Question, SharedBatch
from app.errors import DeviceLost, ReidError
from app.ports import Embedder

log = logging.getLogger("app.adapters.worker")
_GRACE_S = 3.0  # the parent comes first where it still is
_LAST_S = 30.0  # for closing, where nobody has asked for it


def main(connection: Connection, batch: SharedBatch) -> None:
    """Serve one parent. Returns when told to, when the parent is gone, or when the device is lost."""
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        _work(connection, batch)


def _work(connection: Connection, batch: SharedBatch) -> None:
    sys.path[:] = connection.recv()  # before the opener, whose module may lie on the parent's path only
    opener = _asked(connection)
    try:
        embedder: Embedder = opener()
    except Exception as error:
        connection.send(_failure(error, lost=True))
        return
    try:
        connection.send(Opened(embedder.fingerprint, embedder.dim, embedder.batch_sizes))
        _serve(connection, batch, embedder)
    finally:
        _end_within(_LAST_S)
        embedder.close()
        empty(Path.cwd())


def _serve(connection: Connection, batch: SharedBatch, embedder: Embedder) -> None:
    while (count := _asked(connection)) is not None:
        try:
            batch.vectors[:count] = embedder.embed(batch.crops[:count])
        except Exception as error:
            empty(Path.cwd())
            failed = _failure(error)
            connection.send(failed)
            if failed.lost:
                return
        else:
            connection.send(Done(embedder.last_run))


def _asked(connection: Connection) -> Any:
    """The next question. Whoever is idle waits as long as it takes."""
    _end_within(0)
    question: Question = connection.recv()
    _end_within(question.within_s + _GRACE_S)
    return question.what


def _end_within(seconds: float) -> None:
    """Let the kernel end this process then; 0: never. Nobody else ends one that hangs and whose parent was killed.

    While a library holds the interpreter's lock no handler of Python's runs, and the alarm's default action needs none.
    """
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _failure(error: Exception, lost: bool = False) -> Failed:
    """What the parent is told. A mistake of ours keeps its traceback, on standard error."""
    if isinstance(error, ReidError):
        return Failed(error, lost or isinstance(error, DeviceLost))
    log.error("the embedder failed", exc_info=error)
    return Failed(DeviceLost(f"the embedder failed: {type(error).__name__}: {error}"), lost=True)


def empty(folder: Path) -> None:
    """Remove whatever lies in a folder."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # A signal to a whole service, as systemd sends it, is for the parent, which finishes its work with this process first.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    _connection, _memory, _largest, _dim = (int(argument) for argument in sys.argv[1:])
    main(Connection(_connection), SharedBatch(_memory, _largest, _dim))
