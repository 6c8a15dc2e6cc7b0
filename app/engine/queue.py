"""What waits for the devices: crops of two classes, each in the order in which they came. No thread but the loop's."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import ceil, inf

from app.core.planner import QUIET_S, Costs, Launch, Waiting, owed_after
from app.ports import Crop, Floats

Plan = Callable[[Costs, Waiting], Launch]


@dataclass(frozen=True, slots=True)
class Embedding:
    """A crop's raw vector float32 [dim], how long the crop waited and how long its batch ran."""

    vector: Floats
    queue_s: float
    infer_s: float


@dataclass(eq=False, slots=True)
class Waiter:
    """A crop, who waits for its vector, and until when; instants are those of the loop's clock."""

    crop: Crop
    answer: "asyncio.Future[Embedding]"
    entered: float
    due: float = inf
    riding: bool = False  # a device has it


@dataclass(slots=True)
class Queue:
    """Interactive crops, and bulk ones that ride in free places and have a share of their own."""

    interactive: deque[Waiter] = field(default_factory=deque)
    bulk: deque[Waiter] = field(default_factory=deque)
    _owed: float = 0.0  # see the planner
    _last: float = -inf  # when an interactive crop came

    def __len__(self) -> int:
        return len(self.interactive) + len(self.bulk)

    def put(self, waiter: Waiter, bulk: bool) -> None:
        """Behind the others of its class."""
        if bulk:
            self.bulk.append(waiter)
        else:
            self.interactive.append(waiter)
            self._last = waiter.entered

    def take(self, plan: Plan, costs: Costs, now: float, idle: int = 1) -> list[Waiter]:
        """The next batch of a device, without those whose callers have left or whose time is up.

        idle: devices that have nothing to do, this one included; they share what waits. Requests stay together, since
        classes are taken from the front.
        """
        self.forget(now)
        if not self:
            return []
        left = [(waiter.due - now) * 1000 for waiter in self.interactive]
        mine = left[: ceil(len(left) / idle)]
        launch = plan(costs, Waiting(mine, len(self.bulk), self._owed, calm=now - self._last > QUIET_S))
        if launch.crops < 1:
            raise RuntimeError(f"{len(self)} crops wait, and the plan is to launch none")
        self._owed = owed_after(self._owed, launch, bool(self.bulk))
        batch = [self.interactive.popleft() for _ in range(launch.interactive)]
        batch += [self.bulk.popleft() for _ in range(launch.bulk)]
        for waiter in batch:
            waiter.riding = True
        return batch

    def forget(self, now: float) -> None:
        """Drop those who do not wait any longer, or will not have waited a moment from now: their own timers tell them."""
        self.interactive = _waiting(self.interactive, now)
        self.bulk = _waiting(self.bulk, now)

    def drain(self) -> list[Waiter]:
        """All of them; the queue is empty then."""
        everybody = [*self.interactive, *self.bulk]
        self.interactive.clear()
        self.bulk.clear()
        return everybody


def _waiting(waiters: Iterable[Waiter], now: float) -> deque[Waiter]:
    return deque(waiter for waiter in waiters if not waiter.answer.done() and waiter.due > now)
