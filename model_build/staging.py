"""A model directory on its way: built aside, moved in whole, and written by one build at a time."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.core.manifest import MANIFEST_FILE
from app.errors import BadModelDirectory
from app.files import sync, whole_file

PARTIAL = ".partial-"


@contextmanager
def staging(directory: Path) -> Iterator[Path]:
    """A scratch folder inside `directory`, where a build puts its files before `publish` moves them out.

    Inside, since a directory may be a mounted volume and files move at once only within one. What an interrupted build
    left there is cleared away. A directory that did not exist before is gone again after a failure.
    Raises BadModelDirectory where the directory cannot be written, or while another build writes it.
    """
    created = not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory):
            for left in directory.glob(PARTIAL + "*"):
                shutil.rmtree(left)
            with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=directory) as scratch:
                yield Path(scratch)
    except BrokenPipeError:  # the reader of our progress has left; the directory is not to blame
        raise
    except OSError as error:
        raise BadModelDirectory(f"{directory} cannot be written: {error.strerror or error}") from error
    finally:
        if created and directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


def publish(scratch: Path, directory: Path, stale: set[str], meanwhile: str | None = None) -> None:
    """Move a finished build out of its scratch folder, manifest last.

    The old manifest goes first: stopped at any moment, the directory holds a whole model or none. Where part of it stays
    as it is, `meanwhile` is that part's manifest, and there is a model at every moment. Files named in `stale` (the old
    manifest's) that the new build does not have are removed at the end.
    """
    for file in scratch.iterdir():
        sync(file)
    if meanwhile is None:
        (directory / MANIFEST_FILE).unlink(missing_ok=True)
    else:
        with whole_file(directory / MANIFEST_FILE) as temporary:
            temporary.write_text(meanwhile, encoding="utf-8")
    sync(directory)
    names = sorted(file.name for file in scratch.iterdir())
    for name in (*(n for n in names if n != MANIFEST_FILE), MANIFEST_FILE):
        if name == MANIFEST_FILE:
            sync(directory)  # the files it names are there to stay before it is
        os.replace(scratch / name, directory / name)
    sync(directory)
    for file in (directory / name for name in stale - set(names)):
        if file.is_file():
            file.unlink()


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    # The lock keeps two builds from mixing their files; it ends with the process, whatever happens to it.
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadModelDirectory(f"{directory} is being written by another process") from error
        yield
    finally:
        os.close(descriptor)
