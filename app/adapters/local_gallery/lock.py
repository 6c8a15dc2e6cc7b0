"""One process, and in it one gallery, owns a data directory."""

import fcntl
import os
from pathlib import Path

from app.errors import DataDirectoryBusy, StorageFailed

LOCK = "lock"


class DirectoryLock:
    """Owns a data directory. The lock ends with the process, however it ends; the file's text says who it was."""

    def __init__(self, directory: Path) -> None:
        """Make the directory where there is none, and own it. Raises DataDirectoryBusy, StorageFailed."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageFailed(f"the data directory {directory} cannot be used: {error.strerror}") from error
        try:
            _take(self._descriptor)
        except BlockingIOError as error:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            self.release()
            raise DataDirectoryBusy(str(directory), holder or "unknown") from error
        except OSError as error:
            self.release()
            raise StorageFailed(f"the data directory {directory} cannot be locked: {error.strerror}") from error

    def release(self) -> None:
        """Let others in; a second call does nothing. The file stays: removing it would let two in."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor != -1:  # a number that was closed once may by now be another's
            os.close(descriptor)


def _take(descriptor: int) -> None:
    # flock, not lockf: it tells two openers in one process apart, and closing another descriptor does not end it.
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
