"""The worker's side: open an embedder, then embed what lies in the shared memory until told to stop, or left alone.

    python -m app.adapters.worker CONNECTION MEMORY LARGEST DIM      (both are inherited descriptors)

Everything happens in the main thread: what a device's library binds to a thread stays with it. Standard output belongs
to that library; the way to the parent is a descriptor of its own. The working directory is private to this process, and
emptied after each failure, since a library may leave the pictures it was working on there.
"""

import logging
import shutil
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from app.adapters.worker.shared import Done, Failed, Opened, SharedBatch
from app.errors import DeviceLost, ReidError
from app.ports import Embedder

log = logging.getLogger("app.adapters.worker")


def main(connection: Connection, batch: SharedBatch) -> None:
    """Serve one parent. Returns when told to, when the parent is gone, or when the device is lost."""
    sys.path[:] = connection.recv()  # before the opener, whose module may lie on the parent's path only
    opener: Callable[[], Embedder] = connection.recv()
    try:
        embedder = opener()
    except Exception as error:
        connection.send(_failure(error, lost=True))
        return
    connection.send(Opened(embedder.fingerprint, embedder.dim, embedder.batch_sizes))
    try:
        _serve(connection, batch, embedder)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone
    finally:
        embedder.close()
        empty(Path.cwd())


def _serve(connection: Connection, batch: SharedBatch, embedder: Embedder) -> None:
    while (count := connection.recv()) is not None:
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
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    _connection, _memory, _largest, _dim = (int(argument) for argument in sys.argv[1:])
    main(Connection(_connection), SharedBatch(_memory, _largest, _dim))
