"""An embedder in a process of its own: the same answers, and whatever happens over there is an error here, in time."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from app.adapters.memory import MemoryEmbedder
from app.adapters.worker import Deadlines, WorkerEmbedder
from app.adapters.worker.embedder import PREFIX
from app.adapters.worker.shared import Question, SharedBatch
from app.errors import BadDevice, DeviceFailed, DeviceLost, ReidError
from app.ports import Embedder, RunTimes
from tests.adapters import worker_openers as openers
from tests.adapters.worker_openers import batch_for

DIM = MemoryEmbedder().dim
CROPS = np.random.default_rng(1).integers(0, 200, (8, 256, 128, 3), dtype=np.uint8)
QUICK = Deadlines(open_s=30, run_s=30, close_s=5)


@pytest.fixture(autouse=True)
def scratch_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where scratch folders are made, so that what is left of them can be seen."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@contextmanager
def working(opener: Callable[[], Embedder], deadlines: Deadlines = QUICK) -> Iterator[WorkerEmbedder]:
    worker = WorkerEmbedder("chip", opener, 8, DIM, deadlines)
    try:
        yield worker
    finally:
        worker.close()


def left(root: Path) -> list[Path]:
    return list(root.glob(PREFIX + "*"))


def gone(pid: int) -> bool:
    """Whether the process has ended and was waited for."""
    return not Path(f"/proc/{pid}").exists()


def test_vectors_are_those_of_the_embedder_itself(scratch_root: Path) -> None:
    with working(openers.sound) as worker:
        assert (worker.fingerprint, worker.dim, worker.batch_sizes) == (MemoryEmbedder.fingerprint, 13, (1, 2, 4, 8))
        for count in (8, 3, 1):
            assert np.array_equal(worker.embed(CROPS[:count]), MemoryEmbedder().embed(CROPS[:count]))
        assert np.array_equal(worker.embed(list(CROPS[:3])), MemoryEmbedder().embed(CROPS[:3]))
        assert left(scratch_root)
        pid = worker.process_id
    assert gone(pid)
    assert not left(scratch_root)


def test_times_on_the_device_come_over() -> None:
    with working(openers.scripted) as worker:
        assert worker.last_run is None
        worker.embed(CROPS[:1])
        assert worker.last_run == RunTimes(1.5, 2.5)


@pytest.mark.parametrize(
    ("opener", "error", "sentence"),
    [
        (openers.refusing, BadDevice, "no such chip"),
        (openers.mistaken, DeviceLost, "KeyError"),
        (openers.dying_at_the_door, DeviceLost, "status 3"),
    ],
)
def test_what_keeps_it_from_opening_is_the_error(
    opener: Callable[[], Embedder], error: type[ReidError], sentence: str, scratch_root: Path
) -> None:
    with pytest.raises(error, match=sentence):
        WorkerEmbedder("chip", opener, 8, DIM, QUICK)
    assert not left(scratch_root)


def test_a_worker_that_hangs_while_opening_is_killed(scratch_root: Path) -> None:
    with pytest.raises(DeviceLost, match=r"did not open the model within 1 s; its process was killed"):
        WorkerEmbedder("chip", openers.hanging_at_the_door, 8, DIM, Deadlines(1, 30, 5))
    assert not left(scratch_root)


def test_a_batch_that_fails_leaves_the_worker_at_work() -> None:
    with working(openers.scripted) as worker:
        with pytest.raises(DeviceFailed, match="this batch only"):
            worker.embed(batch_for(openers.FAIL))
        assert len(worker.embed(CROPS)) == 8


def test_a_lost_device_ends_the_worker_in_order_and_nothing_of_the_pictures_is_left(scratch_root: Path) -> None:
    heard: list[str] = []

    def interpret(error: ReidError, printed: Sequence[str]) -> ReidError:
        heard.extend(printed)
        return DeviceLost(f"{error}, for 507015")

    worker = WorkerEmbedder("chip", openers.scripted, 8, DIM, QUICK, interpret)
    with pytest.raises(DeviceLost, match="the chip is gone, for 507015"):
        worker.embed(batch_for(openers.LOSE))
    assert heard == ["[ERROR] aicore exception 507015", "closed in order"]
    assert gone(worker.process_id)
    assert not left(scratch_root)
    worker.close()  # once more is no harm


def test_a_worker_that_crashes_is_an_error_with_its_signal(scratch_root: Path) -> None:
    worker = WorkerEmbedder("chip", openers.scripted, 8, DIM, QUICK)
    with pytest.raises(DeviceLost, match="ended by SIGSEGV"):
        worker.embed(batch_for(openers.CRASH))
    with pytest.raises(DeviceLost, match="ended by SIGSEGV"):
        worker.embed(CROPS)
    assert not left(scratch_root)


def test_a_worker_that_hangs_is_killed_at_its_deadline(scratch_root: Path) -> None:
    worker = WorkerEmbedder("chip", openers.scripted, 8, DIM, Deadlines(30, 0.5, 5))
    with pytest.raises(DeviceLost, match=r"did not embed a batch within 0\.5 s"):
        worker.embed(batch_for(openers.HANG))
    assert gone(worker.process_id)
    assert not left(scratch_root)


def test_a_mistake_in_the_embedder_replaces_the_worker() -> None:
    worker = WorkerEmbedder("chip", openers.scripted, 8, DIM, QUICK)
    with pytest.raises(DeviceLost, match="ValueError: not one of our errors"):
        worker.embed(batch_for(openers.BLAME))


def test_a_library_may_print_as_much_as_it_likes() -> None:
    with working(openers.scripted) as worker:
        assert len(worker.embed(batch_for(openers.BABBLE))) == 1


def test_it_lives_in_a_private_folder_and_a_session_of_its_own(
    scratch_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "app.adapters.worker")
    with working(openers.scripted) as worker:
        worker.embed(batch_for(openers.SAY_WHERE))
        pid = worker.process_id
    line = next(record.getMessage() for record in caplog.records if str(scratch_root) in record.getMessage())
    folder, mode, session, own = line.removeprefix("chip printed: ").split()
    assert Path(folder).name.startswith(PREFIX)
    assert mode == "700"
    assert int(session) == int(own) == pid  # Ctrl-C in the parent's terminal does not reach it


def test_whoever_waits_may_be_told_to_wait_no_longer(scratch_root: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(DeviceLost, match="chip was to open the model, which was given up; its process was killed"):
        WorkerEmbedder("chip", openers.hanging_at_the_door, 8, DIM, QUICK, stop=stop)
    assert not left(scratch_root)


def test_a_worker_that_is_idle_is_closed_in_order_though_all_else_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "app.adapters.worker")
    stop = threading.Event()
    worker = WorkerEmbedder("chip", openers.scripted, 8, DIM, QUICK, stop=stop)
    stop.set()
    worker.close()
    assert "chip printed: closed in order" in caplog.messages


def test_a_process_that_cannot_be_had_now_is_worth_another_try_and_nothing_is_left(
    scratch_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_descriptors()
    with monkeypatch.context() as machine:
        machine.setattr(sys, "executable", str(scratch_root / "python"))  # as when the kernel has no process to give
        with pytest.raises(DeviceLost, match="chip: a process for it cannot be started: "):
            WorkerEmbedder("chip", openers.sound, 8, DIM, QUICK)
    assert not left(scratch_root)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch_root / "full"))
    with pytest.raises(DeviceLost, match=r"chip: a process for it cannot be started: .*full"):
        WorkerEmbedder("chip", openers.sound, 8, DIM, QUICK)
    assert open_descriptors() == before


def open_descriptors() -> int:
    """How many this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_signal_that_is_meant_for_the_service_does_not_end_its_worker() -> None:
    with working(openers.sound) as worker:
        os.kill(worker.process_id, signal.SIGTERM)  # systemd sends it to every process of a service at once
        assert len(worker.embed(CROPS)) == 8


def test_a_worker_whose_parent_goes_while_it_opens_closes_what_it_has_opened(scratch_root: Path) -> None:
    ours, theirs = socket.socketpair()
    memory = SharedBatch.reserve(8, DIM)
    arguments = [str(number) for number in (theirs.fileno(), memory, 8, DIM)]
    command = [sys.executable, "-m", "app.adapters.worker", *arguments]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=scratch_root, pass_fds=(theirs.fileno(), memory))
    with ours, theirs:
        parent = Connection(ours.detach())
        parent.send(sys.path)
        parent.send(Question(openers.scripted, 30.0))
        parent.close()
    os.close(memory)
    assert worker.communicate()[0] == b"closed in order\n"
    assert worker.returncode == 0


WITHOUT_PYTHONPATH = """
import sys
sys.path[:] = {path!r}
from app.adapters.worker import WorkerEmbedder
from tests.adapters import worker_openers
WorkerEmbedder("chip", worker_openers.sound, 8, 13).close()
"""


def test_a_parent_without_pythonpath_has_a_worker_without_it(scratch_root: Path) -> None:
    (scratch_root / "numpy.py").write_text("raise ImportError('a package of the toolkit')")
    script, environment = WITHOUT_PYTHONPATH.format(path=sys.path), {**os.environ, "PYTHONPATH": str(scratch_root)}
    subprocess.run([sys.executable, "-E", "-c", script], env=environment, check=True)


PARENT = """
import sys, time
sys.path[:] = {path!r}
from app.adapters.worker import Deadlines, WorkerEmbedder
from tests.adapters import worker_openers
worker = WorkerEmbedder("chip", worker_openers.scripted, 8, 13, Deadlines(run_s=1.0))
print(worker.process_id, flush=True)
{then}
time.sleep(60)
"""


@contextmanager
def parent_that(then: str, scratch_root: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process that starts a worker, whose id comes along, and goes on as told."""
    script, environment = PARENT.format(path=sys.path, then=then), {**os.environ, "TMPDIR": str(scratch_root)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout
        yield parent, int(parent.stdout.readline())


def until(true: Callable[[], object]) -> None:
    """Returns when it is, within ten seconds."""
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_worker_whose_parent_was_killed_ends_and_its_folder_is_cleared_by_the_next(scratch_root: Path) -> None:
    with parent_that("pass", scratch_root) as (parent, pid):
        parent.kill()
    until(lambda: gone(pid))
    (folder,) = left(scratch_root)
    (folder / "dump.bin").write_bytes(b"pixels")
    os.utime(folder, (0, 0))  # as old as what a server of yesterday left
    with working(openers.sound):
        assert not folder.exists()
        (mine,) = left(scratch_root)
        os.utime(mine, (0, 0))
        with working(openers.sound):
            assert mine.exists()  # in use


def test_a_worker_that_hangs_and_whose_parent_was_killed_ends_all_the_same(scratch_root: Path) -> None:
    with parent_that("worker.embed(worker_openers.batch_for(worker_openers.HANG))", scratch_root) as (parent, pid):
        until(lambda: list(scratch_root.glob("*/hanging")))
        parent.kill()
    until(lambda: gone(pid))  # a second for the batch, three of grace
