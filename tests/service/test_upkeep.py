"""Long upkeep can be broken off, and clears up behind itself before the job is said to have ended."""

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from app.adapters.memory import MemoryStore
from app.adapters.memory_audit import MemoryAudit
from app.adapters.memory_upkeep import MemoryUpkeep
from app.core.upkeep import Snapshot
from app.errors import Interrupted
from app.service.jobs import Jobs
from app.service.upkeep import Caretaker

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Slow(MemoryUpkeep):
    """A snapshot that takes until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(MemoryAudit())
        self.begun, self.cleared = threading.Event(), False

    def snapshot(self, tell: Callable[[int, int], None], stop: Callable[[], bool]) -> Snapshot:
        tell(1, 2)
        self.begun.set()
        while not stop():
            time.sleep(0.001)
        self.cleared = True
        raise Interrupted("the snapshot was given up")


async def test_a_snapshot_whose_job_is_cancelled_has_cleared_up_when_the_job_has_ended() -> None:
    store, slow = MemoryStore(), Slow()
    store.upkeep = slow
    jobs = Jobs(store.jobs, lambda: datetime.now(UTC))
    caretaker = Caretaker(store, jobs)
    jobs.start()
    job = await caretaker.snapshot(wait=0)
    await asyncio.to_thread(slow.begun.wait, 10)
    ended = await jobs.delete(job.id)
    assert ended is not None
    assert (ended.state, slow.cleared) == ("cancelled", True)
    await jobs.close()
