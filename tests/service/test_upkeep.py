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
from app.core.audit import Erasure
from app.core.records import Collection, Filter
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


class Held(MemoryStore):
    """Erases wait for `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def erase(self, name: str, where: Filter) -> Erasure:
        assert self.go.wait(60)
        return super().erase(name, where)


async def test_erases_that_wait_for_one_another_leave_threads_to_others() -> None:
    store = Held()
    store.put_collection(Collection("lobby", "print", 2, False, datetime.now(UTC)))
    caretaker = Caretaker(store, Jobs(store.jobs, lambda: datetime.now(UTC)))
    erases = [asyncio.create_task(caretaker.erase("lobby", Filter())) for _ in range(40)]  # more than there are threads
    for _ in erases:
        await asyncio.sleep(0)  # all of them have asked
    try:
        async with asyncio.timeout(30):
            assert await asyncio.to_thread(lambda: True)
    finally:
        store.go.set()
    assert {erasure.items for erasure in await asyncio.gather(*erases)} == {0}
